//! What `nettopd drops` writes: dropwatch's lines, the document `nettop.drops/1`, and CSV.

use std::fmt::Write as _;

use nettop_model::{
    DropsDocument, Filter, OfProcess, ProcessNames, Snapshot,
    drops::{DropReport, TcpReport},
    snapshot::DropAmounts,
};
use serde::Serialize;

use crate::{
    query::format::{Drops, DropsFormat},
    render::{
        ancestry::ancestry,
        csv::{Text, records},
        process_columns::ProcessColumns,
    },
};

/// One report of `nettopd drops`. Frees that lost nothing are left out unless `all` are wanted.
///
/// # Errors
///
/// If it cannot be encoded.
pub(super) fn encode(snapshot: &Snapshot, wanted: Drops, first: bool) -> anyhow::Result<Vec<u8>> {
    let Drops { format, all, ancestry } = wanted;
    let document = DropsDocument::from_snapshot(snapshot, &Filter::default(), all);
    Ok(match format {
        DropsFormat::Text => text(&document, ancestry, first).into_bytes(),
        DropsFormat::Csv => csv(&document, first)?,
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
fn text(document: &DropsDocument<'_>, with_ancestry: bool, first: bool) -> String {
    let mut text = String::new();
    if first {
        text += "Monitoring for dropped packets\n";
    }
    let behind = |comm: Option<&String>, process: &ProcessNames| match comm.filter(|_| with_ancestry) {
        Some(comm) => format!("  {}", ancestry(comm, process)),
        None => String::new(),
    };
    let _ = writeln!(text, "\n{}", document.time);
    for OfProcess { report: drop, process } in document.drops.iter().filter(|drop| drop.report.interval.packets > 0) {
        let _ = writeln!(
            text,
            "{} packets dropped at {} {} {} {} {} {}{}",
            drop.interval.packets,
            drop.location,
            drop.reason,
            drop.class.name(),
            drop.protocol.as_deref().unwrap_or("-"),
            whose(drop.comm.as_deref(), drop.pid),
            drop.device.as_deref().unwrap_or("-"),
            behind(drop.comm.as_ref(), process),
        );
    }
    for OfProcess { report: event, process } in document.tcp.iter().filter(|event| event.report.count.interval > 0) {
        let what = match event.event.as_ref() {
            "retransmit" => "segments sent again",
            "reset_sent" => "resets sent",
            _ => "resets received",
        };
        let _ = writeln!(
            text,
            "{} {what} TCP {} {}{}",
            event.count.interval,
            whose(event.comm.as_deref(), event.pid),
            event.device.as_deref().unwrap_or("-"),
            behind(event.comm.as_ref(), process),
        );
    }
    let other = document.other_drops.interval.packets;
    if other > 0 {
        let _ = writeln!(text, "{other} packets dropped at other places than the table has room for");
    }
    if document.uncounted_drops > 0 {
        let _ = writeln!(text, "{} packets since the start were not counted", document.uncounted_drops);
    }
    let hidden = document.lifecycle_hidden;
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

fn csv(document: &DropsDocument<'_>, with_header: bool) -> anyhow::Result<Vec<u8>> {
    let line = |record| Line { time: &document.time, interval_ms: document.interval_ms, record, ..Line::default() };
    let drops = document.drops.iter();
    let drops = drops.map(|drop| (of_drop(&drop.report, line("drop")), ProcessColumns::from(&drop.process)));
    let tcp = document.tcp.iter();
    let tcp = tcp.map(|event| (of_tcp(&event.report, line("tcp")), ProcessColumns::from(&event.process)));
    let DropAmounts { interval, total } = &document.other_drops;
    let other = Line {
        packets: Some(interval.packets),
        bytes: interval.bytes,
        total_packets: Some(total.packets),
        total_bytes: total.bytes,
        ..line("other")
    };
    let uncounted = Line { total_packets: Some(document.uncounted_drops), ..line("uncounted") };
    let sums = [other, uncounted].map(|line| (line, ProcessColumns::default()));
    records(drops.chain(tcp).chain(sums), with_header)
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
