//! What `nettopd drops` writes: dropwatch's lines, the document `nettop.drops/1`, and CSV.

use std::fmt::Write as _;

use serde::Serialize;

use super::{
    csv::{line, number, text as safe},
    model::{DropAmounts, DropReport, Loss, Snapshot, TcpReport},
};
use crate::{cli::DropsFormat, drops::Class};

/// `nettopd drops --format json`: of a snapshot, what concerns drops.
#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    version: &'a str,
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
    uncounted_drops: u64,
    tcp: &'a [TcpReport],
    loss: &'a Loss,
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
                version: &snapshot.version,
                host: &snapshot.host,
                boot_id: &snapshot.boot_id,
                kernel: &snapshot.kernel,
                time: &snapshot.time,
                interval_ms: snapshot.interval_ms,
                accounting_since: &snapshot.accounting_since,
                drops: shown,
                lifecycle_hidden: hidden,
                other_drops: snapshot.other_drops,
                uncounted_drops: snapshot.uncounted_drops,
                tcp: &snapshot.tcp,
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

/// The only report of `nettopd drops`, as [`encode`] makes it.
///
/// # Errors
///
/// If it cannot be encoded.
pub fn encode_one(snapshot: &Snapshot, format: DropsFormat, all: bool) -> anyhow::Result<Vec<u8>> {
    encode(snapshot, format, all, true)
}

/// As dropwatch.stp prints, with what it does not know behind.
fn text(snapshot: &Snapshot, shown: &[&DropReport], hidden: u64, first: bool) -> String {
    let mut text = String::new();
    if first {
        text += "Monitoring for dropped packets\n";
    }
    let _ = writeln!(text, "\n{}", snapshot.time);
    for drop in shown.iter().filter(|drop| drop.interval.packets > 0) {
        let _ = writeln!(
            text,
            "{} packets dropped at {} {} {} {} {} {}",
            drop.interval.packets,
            drop.location,
            drop.reason,
            drop.class.name(),
            drop.protocol.as_deref().unwrap_or("-"),
            whose(drop.comm.as_deref(), drop.pid),
            drop.device.as_deref().unwrap_or("-"),
        );
    }
    for event in snapshot.tcp.iter().filter(|event| event.count.interval > 0) {
        let what = match event.event.as_ref() {
            "retransmit" => "segments sent again",
            "reset_sent" => "resets sent",
            _ => "resets received",
        };
        let _ = writeln!(
            text,
            "{} {what} TCP {} {}",
            event.count.interval,
            whose(event.comm.as_deref(), event.pid),
            event.device.as_deref().unwrap_or("-"),
        );
    }
    let other = snapshot.other_drops.interval.packets;
    if other > 0 {
        let _ = writeln!(text, "{other} packets dropped at other places than the table has room for");
    }
    if snapshot.uncounted_drops > 0 {
        let _ = writeln!(text, "{} packets since the start were not counted", snapshot.uncounted_drops);
    }
    if hidden > 0 {
        let _ = writeln!(text, "{hidden} frees lost nothing (ends of connections and the like; --all shows them)");
    }
    text
}

fn whose(comm: Option<&str>, pid: Option<u32>) -> String {
    match (comm, pid) {
        (Some(comm), Some(pid)) => format!("{comm}({pid})"),
        (Some(comm), None) => comm.to_owned(),
        (None, _) => "-".into(),
    }
}

const HEADER: [&str; 23] = [
    "time",
    "interval_ms",
    "record",
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
    "local_port",
    "event",
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
            "drop".to_owned(),
            drop.interval.packets.to_string(),
            number(drop.interval.bytes),
            drop.total.packets.to_string(),
            number(drop.total.bytes),
            safe(Some(&drop.location)),
            safe(Some(&drop.reason)),
            number(drop.reason_code),
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
            drop.owner.to_string(),
            number(drop.local_port),
            String::new(),
        ])?;
    }
    let line = |record, fields: &[(&str, String)]| line(&HEADER, snapshot, record, fields);
    for event in &snapshot.tcp {
        writer.write_record(line(
            "tcp",
            &[
                ("packets", event.count.interval.to_string()),
                ("total_packets", event.count.total.to_string()),
                ("protocol", "TCP".into()),
                ("netns", number(event.netns)),
                ("netns_cookie", number(event.netns_cookie)),
                ("device", safe(event.device.as_deref())),
                ("ifindex", number(event.ifindex)),
                ("pid", number(event.pid)),
                ("start_time_ns", number(event.start_time_ns)),
                ("uid", number(event.uid)),
                ("comm", safe(event.comm.as_deref())),
                ("event", event.event.to_string()),
            ],
        ))?;
    }
    let other = snapshot.other_drops;
    writer.write_record(line(
        "other",
        &[
            ("packets", other.interval.packets.to_string()),
            ("bytes", number(other.interval.bytes)),
            ("total_packets", other.total.packets.to_string()),
            ("total_bytes", number(other.total.bytes)),
        ],
    ))?;
    writer.write_record(line("uncounted", &[("total_packets", snapshot.uncounted_drops.to_string())]))?;
    Ok(writer.into_inner()?)
}
