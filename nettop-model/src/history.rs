//! The document `nettop.history/1`: who it was in a period that is recorded.
//! docs/history.schema.json is generated from these types.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::resources::{Disk, Host, Resources};
use crate::{ProcessNames, Word, snapshot::Traffic};

/// Name and major version of the document.
pub const SCHEMA: &str = "nettop.history/1";

/// What was asked for. A client reads it back.
#[derive(Serialize, Deserialize, JsonSchema, Debug)]
pub struct Document {
    /// Always `nettop.history/1`.
    pub schema: Word,
    /// Of nettopd.
    pub version: Word,
    /// RFC 3339, as widened to what is kept.
    pub from: String,
    /// The first moment that is not in the period.
    pub to: String,
    /// What a row stands for, as in `--by`.
    pub by: Word,
    /// Only with `--last-boot`.
    pub last_boot: Option<LastBoot>,
    pub quality: Quality,
    /// In the order that was asked for, `--top` of them.
    pub rows: Vec<Row>,
    /// The rows beyond `--top`.
    pub others: Others,
    /// Only with `--hogs`: the worst of each measure.
    #[serde(default)]
    pub hogs: Option<Vec<Hog>>,
}

/// Who had most of a measure.
#[derive(Serialize, Deserialize, JsonSchema, Debug)]
pub struct Hog {
    /// `cpu`, `mem`, `disk`, `load` or `bytes`; `oom`, of processes that the kernel ended to free memory; `exits`, of those that
    /// ended by a signal or with a code that is not 0.
    pub measure: Word,
    /// When it had half of its highest for the first time, as far as the sparkline shows.
    pub since: Option<String>,
    /// For people.
    pub sentence: String,
    /// Its sparkline is of the measure.
    pub row: Row,
}

/// The boot before this one, with which the period ends.
#[derive(Serialize, Deserialize, JsonSchema, Debug)]
pub struct LastBoot {
    pub boot_id: String,
    /// Release of its kernel.
    pub kernel: String,
    /// End of what was recorded, RFC 3339.
    pub last: String,
    /// Whether nettopd ended on request: if not, the machine may have crashed.
    pub clean: bool,
}

/// What the answer is made of.
#[derive(Serialize, Deserialize, JsonSchema, Debug)]
pub struct Quality {
    /// What each part of the period is read from.
    pub resolution: Vec<Resolution>,
    pub period_ms: i64,
    /// Of the period, what nettopd measured.
    pub measured_ms: u64,
    /// Of that, what `--when` selected.
    pub selected_ms: u64,
    /// Where nothing was measured.
    pub gaps: Vec<Gap>,
    /// By name, as in `loss` of a snapshot: what was lost in the period.
    pub losses: BTreeMap<String, u64>,
    /// Namespaces with traffic whose devices could not be read, at most; null where that was not recorded.
    #[serde(default)]
    pub namespaces_unread: Option<u64>,
    /// How late the latest reading was.
    pub late_ms: u64,
    /// How far the clock was set, in all; negative if back.
    pub clock_step_ms: i64,
    /// Highest load average of a minute.
    pub load_peak: Option<f64>,
    /// Null where what processes use was not recorded.
    #[serde(default)]
    pub host: Option<Host>,
    /// Those with the most requests in flight first.
    #[serde(default)]
    pub disks: Vec<Disk>,
}

/// A part of the period that is kept in slots of one length.
#[derive(Serialize, Deserialize, JsonSchema, Debug)]
pub struct Resolution {
    /// Length of a slot, as `10s`.
    pub resolution: Word,
    pub from: String,
    pub to: String,
}

/// From when until when, RFC 3339.
#[derive(Serialize, Deserialize, JsonSchema, Debug)]
pub struct Gap {
    pub from: String,
    pub to: String,
}

/// What is null is not known, not the same in all that the row adds up, or not of this kind of row. `argv` only if arguments
/// were recorded, which is off unless configured (`history.arguments`).
#[derive(Serialize, Deserialize, JsonSchema, Clone, Default, Debug)]
pub struct Row {
    /// Of what the row stands for: program, unit, user, device …
    pub name: String,
    /// Only by process, as are start and `comm`.
    pub pid: Option<u32>,
    /// Since boot.
    pub start_time_ns: Option<u64>,
    pub uid: Option<u32>,
    pub user: Option<String>,
    pub comm: Option<String>,
    #[serde(flatten)]
    pub process: ProcessNames,
    pub device: Option<String>,
    /// How many the row adds up.
    pub processes: Option<usize>,
    pub sum: Traffic,
    /// The most that one process moved through one device in 10 s.
    pub tx_peak_bytes: u64,
    pub rx_peak_bytes: u64,
    /// Packets that the kernel dropped.
    pub drops: Option<u64>,
    /// Segments that TCP sent again.
    pub retransmits: Option<u64>,
    /// Of a device, both ways: what no row explains.
    pub unattributed_bytes: Option<u64>,
    /// What rows have, and the device had not counted at the end of the period.
    #[serde(default)]
    pub pending_bytes: Option<u64>,
    /// The difference, whichever is more, while it was not known how the device counts.
    #[serde(default)]
    pub undecided_bytes: Option<u64>,
    /// What its processes used besides the network; null where that was not recorded, and by device.
    #[serde(default)]
    pub resources: Option<Resources>,
    /// By equal parts of the period what the order is by: bytes, CPU time in µs, memory in KiB times s, or threads in the
    /// load average times ms; null where nothing was measured.
    pub sparkline: Vec<Option<u64>>,
}

/// What is not listed.
#[derive(Serialize, Deserialize, JsonSchema, Debug)]
pub struct Others {
    /// Of rows.
    pub number: usize,
    pub sum: Traffic,
    #[serde(default)]
    pub resources: Option<Resources>,
}
