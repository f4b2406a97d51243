//! Connections as documents and as CSV.

use nettop_common::{ConnectionEvent, connection::kind};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Names, errno, name, outcome};
use crate::{
    clock::Clock,
    identity::escape::escape_c,
    report::csv,
    sockets::Address,
    stream::head::{Head, push_json},
};

const SCHEMA: &str = "nettop.connections/1";

/// A line of the stream: one of the first kind, then any of the others.
#[cfg(test)]
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only the schema is made of it")]
pub enum Line {
    Head(Head),
    Event(Box<Record>),
    Lost(crate::stream::head::Lost),
}

/// One event. Null: not known, or it means nothing for this kind.
#[derive(Serialize, JsonSchema, Debug)]
pub struct Record {
    /// accepted, opened, closed, failed; of UDP sent and received
    event: &'static str,
    /// RFC 3339, UTC, from the kernel's clock.
    time: String,
    pid: Option<u32>,
    start_time_ns: Option<u64>,
    comm: Option<String>,
    exe: Option<String>,
    unit: Option<String>,
    container: Option<String>,
    uid: Option<u32>,
    user: Option<String>,
    protocol: &'static str,
    ip_version: u8,
    local: String,
    local_port: u16,
    remote: String,
    remote_port: u16,
    netns: u32,
    netns_cookie: u32,
    /// Since the connection was established; of opened and failed ones, since it was asked for.
    duration_us: Option<u64>,
    /// Of TCP data, each byte once; of UDP IP packets.
    sent_bytes: Option<u64>,
    received_bytes: Option<u64>,
    /// Of UDP.
    sent_packets: Option<u64>,
    received_packets: Option<u64>,
    /// Of TCP.
    retransmits: Option<u32>,
    /// finished, aborted, reset, refused, timed out, given up, not sent, silence, …
    outcome: Option<&'static str>,
    /// Name of the error number.
    error: Option<String>,
}

fn record(event: &ConnectionEvent, packets: [u64; 2], clock: &Clock, names: &mut Names) -> Record {
    let is_known = event.owner.tgid != 0;
    let details = if is_known { names.processes.of(&event.owner, event.comm) } else { Default::default() };
    let is_closed = event.kind == kind::CLOSED;
    let is_tcp = event.protocol == 6;
    let lasts = event.kind != kind::ACCEPTED && event.begun_ns != 0;
    let user = names.users.as_mut().filter(|_| is_known).and_then(|users| users.name(event.owner.uid));
    Record {
        event: name(event.kind),
        time: clock.rfc3339(event.time_ns),
        pid: is_known.then_some(event.owner.tgid),
        start_time_ns: is_known.then_some(event.owner.start_time_ns),
        comm: is_known.then(|| escape_c(&event.comm)),
        exe: details.exe,
        unit: details.unit,
        container: details.container,
        uid: is_known.then_some(event.owner.uid),
        user,
        protocol: if is_tcp { "tcp" } else { "udp" },
        ip_version: if event.family == 2 { 4 } else { 6 },
        local: Address::from(event.local).to_string(),
        local_port: event.local_port,
        remote: Address::from(event.remote).to_string(),
        remote_port: event.remote_port,
        netns: event.netns.inode,
        netns_cookie: event.netns.cookie,
        duration_us: lasts.then(|| event.time_ns.saturating_sub(event.begun_ns) / 1000),
        sent_bytes: is_closed.then_some(event.sent_bytes),
        received_bytes: is_closed.then_some(event.received_bytes),
        sent_packets: (is_closed && !is_tcp).then_some(packets[0]),
        received_packets: (is_closed && !is_tcp).then_some(packets[1]),
        retransmits: (is_closed && is_tcp).then_some(event.retransmits),
        outcome: outcome(event),
        error: if is_tcp { errno(event.error) } else { None },
    }
}

/// Says what follows.
pub fn header(text: &mut String, hooks: &[(&'static str, String)]) {
    Head::new(SCHEMA, hooks).write(text);
}

pub fn line(text: &mut String, event: &ConnectionEvent, packets: [u64; 2], clock: &Clock, names: &mut Names) {
    push_json(text, &record(event, packets, clock, names));
}

pub const COLUMNS: [&str; 26] = [
    "time",
    "event",
    "pid",
    "start_time_ns",
    "comm",
    "exe",
    "uid",
    "user",
    "protocol",
    "ip_version",
    "local",
    "local_port",
    "remote",
    "remote_port",
    "netns",
    "netns_cookie",
    "duration_us",
    "sent_bytes",
    "received_bytes",
    "sent_packets",
    "received_packets",
    "retransmits",
    "outcome",
    "error",
    "events_lost",
    "runs_skipped",
];

pub fn csv_header(text: &mut String) {
    csv::push(text, COLUMNS);
}

pub fn csv_line(text: &mut String, event: &ConnectionEvent, packets: [u64; 2], clock: &Clock, names: &mut Names) {
    let record = record(event, packets, clock, names);
    csv::push(
        text,
        [
            record.time,
            record.event.into(),
            csv::number(record.pid),
            csv::number(record.start_time_ns),
            csv::text(record.comm.as_deref()),
            csv::text(record.exe.as_deref()),
            csv::number(record.uid),
            csv::text(record.user.as_deref()),
            record.protocol.into(),
            record.ip_version.to_string(),
            record.local,
            record.local_port.to_string(),
            record.remote,
            record.remote_port.to_string(),
            record.netns.to_string(),
            record.netns_cookie.to_string(),
            csv::number(record.duration_us),
            csv::number(record.sent_bytes),
            csv::number(record.received_bytes),
            csv::number(record.sent_packets),
            csv::number(record.received_packets),
            csv::number(record.retransmits),
            record.outcome.unwrap_or_default().into(),
            record.error.unwrap_or_default(),
            String::new(),
            String::new(),
        ],
    );
}
