//! Packets as documents and as CSV.

use nettop_common::{Direction, PacketEvent, packet::found};
use schemars::JsonSchema;
use serde::Serialize;

use super::text::FLAGS;
use crate::{
    clock::Clock,
    identity::escape::escape_c,
    report::{csv, evidence_name},
    sockets::Address,
    stream::head::{Head, push_json},
};

const SCHEMA: &str = "nettop.packets/1";

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

/// One packet as one device had it. Null: not known, or the protocol has none.
#[derive(Serialize, JsonSchema, Debug)]
pub struct Record {
    /// packet
    event: &'static str,
    /// RFC 3339, UTC, from the kernel's clock.
    time: String,
    /// tx or rx
    direction: &'static str,
    protocol: String,
    ip_version: u8,
    source: String,
    source_port: Option<u16>,
    destination: String,
    destination_port: Option<u16>,
    /// Letters out of UAPRSF.
    tcp_flags: Option<String>,
    /// From the IP header on; of a super-packet with its headers once.
    bytes: u32,
    /// Packets that it is on a wire.
    segments: u16,
    netns: u32,
    netns_cookie: u32,
    device: String,
    ifindex: u32,
    /// 0: the kernel.
    pid: Option<u32>,
    start_time_ns: Option<u64>,
    comm: Option<String>,
    uid: Option<u32>,
    /// user, holder, creator, listener, kernel, none
    owner: &'static str,
}

/// What a protocol of IP is called.
pub fn protocol(number: u8) -> String {
    match number {
        1 => "icmp",
        2 => "igmp",
        6 => "tcp",
        17 => "udp",
        47 => "gre",
        50 => "esp",
        58 => "icmp6",
        132 => "sctp",
        136 => "udplite",
        number => return format!("ip{number}"),
    }
    .into()
}

fn record(event: &PacketEvent, device: String, clock: &Clock) -> Record {
    // Later fragments have none.
    let has_ports =
        matches!(event.protocol, 6 | 17 | 132 | 136) && [event.source_port, event.destination_port] != [0; 2];
    let is_process = event.found < found::KERNEL;
    let is_kernel = event.found == found::KERNEL;
    let flags = || FLAGS.iter().zip("UAPRSF".chars()).filter(|(bit, _)| event.tcp_flags & **bit != 0);
    Record {
        event: "packet",
        time: clock.rfc3339(event.time_ns),
        direction: if event.direction == Direction::Tx as u8 { "tx" } else { "rx" },
        protocol: protocol(event.protocol),
        ip_version: if event.family == 0 { 4 } else { 6 },
        source: Address::from(event.source).to_string(),
        source_port: has_ports.then_some(event.source_port),
        destination: Address::from(event.destination).to_string(),
        destination_port: has_ports.then_some(event.destination_port),
        tcp_flags: (event.protocol == 6).then(|| flags().map(|(_, letter)| letter).collect()),
        bytes: event.bytes,
        segments: event.segments,
        netns: event.netns.inode,
        netns_cookie: event.netns.cookie,
        device,
        ifindex: event.ifindex,
        pid: (is_process || is_kernel).then_some(event.owner.tgid),
        start_time_ns: is_process.then_some(event.owner.start_time_ns),
        comm: if is_kernel { Some("[kernel]".into()) } else { is_process.then(|| escape_c(&event.comm)) },
        uid: is_process.then_some(event.owner.uid),
        owner: match event.found {
            found::KERNEL => "kernel",
            found::NOBODY => "none",
            evidence => evidence_name(evidence.into()),
        },
    }
}

/// Says what follows.
pub fn header(text: &mut String, hooks: &[(&'static str, String)]) {
    Head::new(SCHEMA, hooks).write(text);
}

pub fn line(text: &mut String, event: &PacketEvent, device: String, clock: &Clock) {
    push_json(text, &record(event, device, clock));
}

pub const COLUMNS: [&str; 22] = [
    "time",
    "event",
    "direction",
    "protocol",
    "ip_version",
    "source",
    "source_port",
    "destination",
    "destination_port",
    "tcp_flags",
    "bytes",
    "segments",
    "netns",
    "netns_cookie",
    "device",
    "pid",
    "start_time_ns",
    "comm",
    "uid",
    "owner",
    "events_lost",
    "runs_skipped",
];

pub fn csv_header(text: &mut String) {
    csv::push(text, COLUMNS);
}

pub fn csv_line(text: &mut String, event: &PacketEvent, device: String, clock: &Clock) {
    let record = record(event, device, clock);
    csv::push(
        text,
        [
            record.time,
            record.event.into(),
            record.direction.into(),
            record.protocol,
            record.ip_version.to_string(),
            record.source,
            csv::number(record.source_port),
            record.destination,
            csv::number(record.destination_port),
            record.tcp_flags.unwrap_or_default(),
            record.bytes.to_string(),
            record.segments.to_string(),
            record.netns.to_string(),
            record.netns_cookie.to_string(),
            csv::text(Some(&record.device)),
            csv::number(record.pid),
            csv::number(record.start_time_ns),
            csv::text(record.comm.as_deref()),
            csv::number(record.uid),
            record.owner.into(),
            String::new(),
            String::new(),
        ],
    );
}
