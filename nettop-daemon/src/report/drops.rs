//! Reports of drops: what a snapshot has of them, the document `nettop.drops/1`, and dropwatch's lines.

use std::{cmp::Reverse, fmt::Write as _};

use nettop_common::{DropCount, drops::found, owner};
use serde::Serialize;

use super::{
    collect::Filter,
    csv::{number, text as safe},
    model::{DropAmount, DropAmounts, DropReport, Loss, Snapshot},
};
use crate::{
    cli::DropsFormat,
    drops::{Class, DropReading, DropsReading},
    identity::{devices::Devices, escape::escape_c},
};

/// `nettopd drops --format json`: of a snapshot, what concerns drops.
#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    version: &'static str,
    host: &'a str,
    boot_id: &'a str,
    kernel: &'a str,
    time: &'a str,
    interval_ms: u64,
    accounting_since: &'a str,
    drops: Vec<&'a DropReport>,
    /// Packets of class lifecycle in the interval that are not listed.
    lifecycle_hidden: u64,
    other_drops: DropAmounts,
    loss: &'a Loss,
}

/// All drops that the filter lets through, most of the interval first.
pub(super) fn reports(reading: &DropsReading, devices: &Devices, filter: &Filter) -> Vec<DropReport> {
    let reports = reading.drops.iter().map(|drop| report(drop, devices));
    let mut reports: Vec<DropReport> = reports.filter(|report| is_wanted(report, filter)).collect();
    reports.sort_by_key(|report| Reverse((report.interval.packets, report.total.packets)));
    reports
}

pub(super) const fn other(reading: &DropsReading) -> DropAmounts {
    DropAmounts { interval: amount(reading.other), total: amount(reading.other_total) }
}

fn is_wanted(report: &DropReport, filter: &Filter) -> bool {
    fn one_of<T: PartialEq>(wanted: &[T], found: Option<&T>) -> bool {
        wanted.is_empty() || found.is_some_and(|found| wanted.contains(found))
    }
    one_of(&filter.pids, report.pid.as_ref())
        && one_of(&filter.uids, report.uid.as_ref())
        && one_of(&filter.devices, report.device.as_ref())
}

fn report(drop: &DropReading, devices: &Devices) -> DropReport {
    let key = &drop.key;
    let netns = (key.netns.inode != 0).then_some(key.netns);
    let process = drop.owner.as_ref();
    DropReport {
        reason: drop.reason.clone(),
        reason_code: key.reason,
        class: drop.class,
        location: drop.location.clone(),
        protocol: protocol(key.protocol, key.transport),
        netns: netns.map(|netns| netns.inode),
        netns_cookie: netns.map(|netns| netns.cookie),
        device: devices.get((key.netns, key.ifindex)).map(|device| device.name.clone()),
        ifindex: (key.ifindex != 0).then_some(key.ifindex),
        pid: process.map(|owner| owner.key.tgid),
        start_time_ns: process.map(|owner| owner.key.start_time_ns),
        uid: process.map(|owner| owner.key.uid),
        comm: match process {
            Some(owner) if owner.is_kernel_thread => Some(format!("[{}]", escape_c(&owner.comm))),
            Some(owner) => Some(escape_c(&owner.comm)),
            None if key.found == found::NONE => None,
            None if key.owner.slot() == owner::OVERFLOW => Some("[overflow]".into()),
            None => Some("[kernel]".into()),
        },
        owner: match key.found {
            found::RECEIVER => "receiver",
            found::PACKET => "packet",
            _ => "none",
        },
        interval: amount(drop.interval),
        total: amount(drop.total),
    }
}

const fn amount(count: DropCount) -> DropAmount {
    DropAmount { packets: count.packets, bytes: count.bytes }
}

/// By the numbers of IEEE 802 and of IANA.
fn protocol(ethernet: u16, transport: u16) -> Option<String> {
    let name = match (ethernet, transport) {
        (0, _) => return None,
        (0x0806, _) => "ARP",
        (0x0800 | 0x86dd, 6) => "TCP",
        (0x0800 | 0x86dd, 17) => "UDP",
        (0x0800, 1) => "ICMP",
        (0x86dd, 58) => "ICMPv6",
        (0x0800 | 0x86dd, 132) => "SCTP",
        (0x0800, 0) => "IPv4",
        (0x86dd, 0) => "IPv6",
        (0x0800 | 0x86dd, number) => return Some(format!("IP protocol {number}")),
        (number, _) => return Some(format!("{number:#06x}")),
    };
    Some(name.into())
}

/// One report of `nettopd drops`. Frees that lost nothing are left out unless `all` are wanted.
///
/// # Errors
///
/// If it cannot be encoded.
pub(super) fn encode(snapshot: &Snapshot, format: DropsFormat, all: bool, first: bool) -> anyhow::Result<Vec<u8>> {
    let is_shown = |drop: &&DropReport| all || drop.class != Class::Lifecycle;
    let shown: Vec<&DropReport> = snapshot.drops.iter().filter(is_shown).collect();
    let hidden: u64 = snapshot.drops.iter().filter(|drop| !is_shown(drop)).map(|drop| drop.interval.packets).sum();
    Ok(match format {
        DropsFormat::Text => text(snapshot, &shown, hidden, first).into_bytes(),
        DropsFormat::Csv => csv(snapshot, &shown, first)?,
        DropsFormat::Json | DropsFormat::Ndjson => {
            let document = Document {
                schema: "nettop.drops/1",
                version: snapshot.version,
                host: &snapshot.host,
                boot_id: &snapshot.boot_id,
                kernel: &snapshot.kernel,
                time: &snapshot.time,
                interval_ms: snapshot.interval_ms,
                accounting_since: &snapshot.accounting_since,
                drops: shown,
                lifecycle_hidden: hidden,
                other_drops: snapshot.other_drops,
                loss: &snapshot.loss,
            };
            let mut encoded = match format {
                DropsFormat::Json => serde_json::to_vec_pretty(&document)?,
                _ => serde_json::to_vec(&document)?,
            };
            encoded.push(b'\n');
            encoded
        }
    })
}

/// As dropwatch.stp prints, with what it does not know behind.
fn text(snapshot: &Snapshot, shown: &[&DropReport], hidden: u64, first: bool) -> String {
    let mut text = String::new();
    if first {
        text += "Monitoring for dropped packets\n";
    }
    let _ = writeln!(text, "\n{}", snapshot.time);
    for drop in shown.iter().filter(|drop| drop.interval.packets > 0) {
        let whose = match (&drop.comm, drop.pid) {
            (Some(comm), Some(pid)) => format!("{comm}({pid})"),
            (Some(comm), None) => comm.clone(),
            (None, _) => "-".into(),
        };
        let _ = writeln!(
            text,
            "{} packets dropped at {} {} {} {} {whose} {}",
            drop.interval.packets,
            drop.location,
            drop.reason,
            drop.class.name(),
            drop.protocol.as_deref().unwrap_or("-"),
            drop.device.as_deref().unwrap_or("-"),
        );
    }
    let other = snapshot.other_drops.interval.packets;
    if other > 0 {
        let _ = writeln!(text, "{other} packets dropped at other places than the table has room for");
    }
    if hidden > 0 {
        let _ = writeln!(text, "{hidden} frees lost nothing (ends of connections and the like; --all shows them)");
    }
    text
}

const HEADER: [&str; 20] = [
    "time",
    "interval_ms",
    "packets",
    "bytes",
    "total_packets",
    "total_bytes",
    "location",
    "reason",
    "reason_code",
    "class",
    "protocol",
    "netns",
    "netns_cookie",
    "device",
    "ifindex",
    "pid",
    "start_time_ns",
    "uid",
    "comm",
    "owner",
];

fn csv(snapshot: &Snapshot, shown: &[&DropReport], with_header: bool) -> anyhow::Result<Vec<u8>> {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    if with_header {
        writer.write_record(HEADER)?;
    }
    for drop in shown {
        writer.write_record([
            snapshot.time.clone(),
            snapshot.interval_ms.to_string(),
            drop.interval.packets.to_string(),
            drop.interval.bytes.to_string(),
            drop.total.packets.to_string(),
            drop.total.bytes.to_string(),
            safe(Some(&drop.location)),
            safe(Some(&drop.reason)),
            drop.reason_code.to_string(),
            drop.class.name().to_owned(),
            safe(drop.protocol.as_deref()),
            number(drop.netns),
            number(drop.netns_cookie),
            safe(drop.device.as_deref()),
            number(drop.ifindex),
            number(drop.pid),
            number(drop.start_time_ns),
            number(drop.uid),
            safe(drop.comm.as_deref()),
            drop.owner.to_owned(),
        ])?;
    }
    Ok(writer.into_inner()?)
}
