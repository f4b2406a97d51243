//! What `nettopd drops` writes: dropwatch's lines, the document `nettop.drops/1`, and CSV.

use std::{borrow::Cow, fmt::Write as _};

use nettop_model::{
    DropsDocument, Filter, Snapshot,
    drops::{DropReport, TcpReport},
    snapshot::DropAmounts,
};
use serde::Serialize;

use crate::{
    query::format::DropsFormat,
    render::csv::{Text, records},
};

/// One report of `nettopd drops`. Frees that lost nothing are left out unless `all` are wanted.
///
/// # Errors
///
/// If it cannot be encoded.
pub(super) fn encode(snapshot: &Snapshot, format: DropsFormat, all: bool, first: bool) -> anyhow::Result<Vec<u8>> {
    let document = DropsDocument::from_snapshot(snapshot, &Filter::default(), all);
    let (shown, hidden) = (&document.drops, document.lifecycle_hidden);
    Ok(match format {
        DropsFormat::Text => text(snapshot, shown, hidden, first).into_bytes(),
        DropsFormat::Csv => csv(snapshot, shown, first)?,
        DropsFormat::Json | DropsFormat::Ndjson => {
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
fn text(snapshot: &Snapshot, shown: &[Cow<'_, DropReport>], hidden: u64, first: bool) -> String {
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

#[derive(Serialize, Default)]
struct Line<'a> {
    time: &'a str,
    interval_ms: u64,
    record: &'a str,
    packets: Option<u64>,
    bytes: Option<u64>,
    total_packets: Option<u64>,
    total_bytes: Option<u64>,
    location: Text<'a>,
    reason: Text<'a>,
    reason_code: Option<u32>,
    class: &'a str,
    protocol: Text<'a>,
    netns: Option<u32>,
    netns_cookie: Option<u32>,
    device: Text<'a>,
    ifindex: Option<u32>,
    pid: Option<u32>,
    start_time_ns: Option<u64>,
    uid: Option<u32>,
    comm: Text<'a>,
    owner: &'a str,
    local_port: Option<u16>,
    event: &'a str,
}

fn csv(snapshot: &Snapshot, shown: &[Cow<'_, DropReport>], with_header: bool) -> anyhow::Result<Vec<u8>> {
    let line = |record| Line { time: &snapshot.time, interval_ms: snapshot.interval_ms, record, ..Line::default() };
    let drops = shown.iter().map(|drop| of_drop(drop, line("drop")));
    let tcp = snapshot.tcp.iter().map(|event| of_tcp(event, line("tcp")));
    let DropAmounts { interval, total } = &snapshot.other_drops;
    let other = Line {
        packets: Some(interval.packets),
        bytes: interval.bytes,
        total_packets: Some(total.packets),
        total_bytes: total.bytes,
        ..line("other")
    };
    let uncounted = Line { total_packets: Some(snapshot.uncounted_drops), ..line("uncounted") };
    records(drops.chain(tcp).chain([other, uncounted]), with_header)
}

fn of_drop<'a>(drop: &'a DropReport, line: Line<'a>) -> Line<'a> {
    Line {
        packets: Some(drop.interval.packets),
        bytes: drop.interval.bytes,
        total_packets: Some(drop.total.packets),
        total_bytes: drop.total.bytes,
        location: Text(Some(&drop.location)),
        reason: Text(Some(&drop.reason)),
        reason_code: drop.reason_code,
        class: drop.class.name(),
        protocol: Text(drop.protocol.as_deref()),
        netns: drop.netns,
        netns_cookie: drop.netns_cookie,
        device: Text(drop.device.as_deref()),
        ifindex: drop.ifindex,
        pid: drop.pid,
        start_time_ns: drop.start_time_ns,
        uid: drop.uid,
        comm: Text(drop.comm.as_deref()),
        owner: &drop.owner,
        local_port: drop.local_port,
        ..line
    }
}

fn of_tcp<'a>(event: &'a TcpReport, line: Line<'a>) -> Line<'a> {
    Line {
        packets: Some(event.count.interval),
        total_packets: Some(event.count.total),
        protocol: Text(Some("TCP")),
        netns: event.netns,
        netns_cookie: event.netns_cookie,
        device: Text(event.device.as_deref()),
        ifindex: event.ifindex,
        pid: event.pid,
        start_time_ns: event.start_time_ns,
        uid: event.uid,
        comm: Text(event.comm.as_deref()),
        event: &event.event,
        ..line
    }
}
