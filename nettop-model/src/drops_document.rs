//! The document `nettop.drops/1`: the drops of a snapshot. docs/drops.schema.json is generated from these types.

use std::{borrow::Cow, collections::HashMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Filter, ProcessNames, Word,
    amounts::DropAmounts,
    drops::{Class, DropReport, TcpReport},
    snapshot::{Loss, RowReport, Snapshot},
};

/// Name and major version of the document.
pub const SCHEMA: &str = "nettop.drops/1";

/// The drops of a snapshot.
#[derive(Serialize, Deserialize, JsonSchema, Debug)]
pub struct DropsDocument<'a> {
    /// Always `nettop.drops/1`.
    pub schema: Word,
    /// Version of nettopd.
    pub version: Cow<'a, str>,
    pub host: Cow<'a, str>,
    /// Identity of this boot; with `pid` and `start_time_ns` it names a process for all time.
    pub boot_id: Cow<'a, str>,
    pub kernel: Cow<'a, str>,
    /// End of the interval, RFC 3339.
    pub time: Cow<'a, str>,
    pub interval_ms: u64,
    /// When counting began, RFC 3339.
    pub accounting_since: Cow<'a, str>,
    /// Most of the interval first. Those of class lifecycle only with `--all`.
    pub drops: Vec<OfProcess<'a, DropReport>>,
    /// Packets of class lifecycle in the interval that are not listed.
    pub lifecycle_hidden: u64,
    /// Drops for which the kernel's table had no room; in `total` also those it has given back since.
    pub other_drops: DropAmounts,
    /// Drops that the kernel did not let nettopd see, since the start.
    pub uncounted_drops: u64,
    /// What TCP did about losses.
    pub tcp: Vec<OfProcess<'a, TcpReport>>,
    pub loss: Loss,
}

/// What a process lost, with what the process is. Of one whose row was given back, only its name is known.
#[derive(Serialize, Deserialize, JsonSchema, Debug)]
pub struct OfProcess<'a, T: Clone> {
    #[serde(flatten)]
    pub report: Cow<'a, T>,
    #[serde(flatten)]
    pub process: ProcessNames,
}

impl<'a> DropsDocument<'a> {
    /// Of what a filter lets through. Frees that lost nothing are left out unless `all` are wanted.
    pub fn from_snapshot(snapshot: &'a Snapshot, filter: &Filter, all: bool) -> Self {
        let processes = filter.names.processes(snapshot);
        let is_named = |process| processes.as_ref().is_none_or(|processes| processes.contains(&process));
        let wanted = snapshot.drops.iter().filter(|drop| {
            filter.admits(drop.pid, drop.uid, drop.device.as_deref()) && is_named((drop.pid, drop.start_time_ns))
        });
        let (shown, hidden): (Vec<_>, Vec<_>) = wanted.partition(|drop| all || drop.class != Class::Lifecycle);
        let tcp = snapshot.tcp.iter().filter(|event| {
            filter.admits(event.pid, event.uid, event.device.as_deref()) && is_named((event.pid, event.start_time_ns))
        });
        // Processes have many rows, and one of each is enough. As another user it may be another program.
        let rows: HashMap<_, &RowReport> =
            snapshot.rows.iter().map(|row| ((Some(row.pid), row.start_time_ns, row.uid), row)).collect();
        let process = |pid: Option<u32>, start_time_ns, uid| {
            let row = rows.get(&(pid, start_time_ns, uid)).filter(|_| pid != Some(0));
            row.map_or_else(ProcessNames::default, |row| row.process.clone())
        };
        Self {
            schema: SCHEMA.into(),
            version: Cow::Borrowed(&snapshot.version),
            host: Cow::Borrowed(&snapshot.host),
            boot_id: Cow::Borrowed(&snapshot.boot_id),
            kernel: Cow::Borrowed(&snapshot.kernel),
            time: Cow::Borrowed(&snapshot.time),
            interval_ms: snapshot.interval_ms,
            accounting_since: Cow::Borrowed(&snapshot.accounting_since),
            drops: shown
                .into_iter()
                .map(|drop| OfProcess {
                    report: Cow::Borrowed(drop),
                    process: process(drop.pid, drop.start_time_ns, drop.uid),
                })
                .collect(),
            lifecycle_hidden: hidden.into_iter().map(|drop| drop.interval.packets).sum(),
            other_drops: snapshot.other_drops,
            uncounted_drops: snapshot.uncounted_drops,
            tcp: tcp
                .map(|event| OfProcess {
                    report: Cow::Borrowed(event),
                    process: process(event.pid, event.start_time_ns, event.uid),
                })
                .collect(),
            loss: snapshot.loss,
        }
    }
}
