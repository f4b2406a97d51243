//! Packets as documents and as CSV.

use nettop_common::{
    Direction, PacketEvent,
    abi::{IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE},
    packet::unowned,
    tag::attribution,
};
use nettop_model::{
    ProcessNames,
    packets::{Record, SCHEMA},
};
use serde::Serialize;

use super::{FLAGS, protocol};
use crate::{
    identity::address::Address,
    render::{
        csv::{self, Text},
        head::{push_head, push_json},
        process_columns::ProcessColumns,
    },
    sys::{clock::Clock, escape::escape_c},
};

/// Whether a packet is a process's.
pub const fn is_of_process(event: &PacketEvent) -> bool {
    event.attribution < unowned::KERNEL
}

fn record(event: &PacketEvent, device: String, process: ProcessNames, clock: &Clock) -> Record {
    // Later fragments have none.
    let has_ports = matches!(event.protocol.into(), IPPROTO_TCP | IPPROTO_UDP | IPPROTO_SCTP | IPPROTO_UDPLITE)
        && [event.source_port, event.destination_port] != [0; 2];
    let is_process = is_of_process(event);
    let is_kernel = event.attribution == unowned::KERNEL;
    let flags = || FLAGS.iter().zip("UAPRSF".chars()).filter(|(bit, _)| event.tcp_flags & **bit != 0);
    Record {
        event: "packet".into(),
        time: clock.rfc3339(event.time_ns),
        direction: if event.direction == Direction::Tx as u8 { "tx" } else { "rx" }.into(),
        protocol: protocol(event.protocol),
        ip_version: if event.family == 0 { 4 } else { 6 },
        source: Address::from(event.source).scoped(Some(&device)),
        source_port: has_ports.then_some(event.source_port),
        destination: Address::from(event.destination).scoped(Some(&device)),
        destination_port: has_ports.then_some(event.destination_port),
        tcp_flags: (u16::from(event.protocol) == IPPROTO_TCP).then(|| flags().map(|(_, letter)| letter).collect()),
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
        process,
        owner: match event.attribution {
            unowned::KERNEL => "kernel",
            unowned::NOBODY => "none",
            attribution => attribution::name(attribution.into()),
        }
        .into(),
    }
}

/// Appends the head.
pub fn header(text: &mut String, hooks: &[(&'static str, String)]) {
    push_head(text, SCHEMA, hooks);
}

pub fn line(text: &mut String, event: &PacketEvent, device: String, process: ProcessNames, clock: &Clock) {
    push_json(text, &record(event, device, process, clock));
}

/// Columns of an event's own, and those of its process.
pub type Columns<'a> = (PacketColumns<'a>, ProcessColumns<'a>);

#[derive(Serialize, Default)]
pub struct PacketColumns<'a> {
    direction: &'a str,
    protocol: &'a str,
    ip_version: Option<u8>,
    source: &'a str,
    source_port: Option<u16>,
    destination: &'a str,
    destination_port: Option<u16>,
    tcp_flags: Option<&'a str>,
    bytes: Option<u32>,
    segments: Option<u16>,
    netns: Option<u32>,
    netns_cookie: Option<u32>,
    device: Text<'a>,
    pid: Option<u32>,
    start_time_ns: Option<u64>,
    comm: Text<'a>,
    uid: Option<u32>,
    owner: &'a str,
}

/// Appends one event.
pub fn csv_line(text: &mut String, event: &PacketEvent, device: String, process: ProcessNames, clock: &Clock) {
    let record = record(event, device, process, clock);
    csv::push_event(
        text,
        [&record.time, &record.event],
        (
            PacketColumns {
                direction: &record.direction,
                protocol: &record.protocol,
                ip_version: Some(record.ip_version),
                source: &record.source,
                source_port: record.source_port,
                destination: &record.destination,
                destination_port: record.destination_port,
                tcp_flags: record.tcp_flags.as_deref(),
                bytes: Some(record.bytes),
                segments: Some(record.segments),
                netns: Some(record.netns),
                netns_cookie: Some(record.netns_cookie),
                device: Text(Some(&record.device)),
                pid: record.pid,
                start_time_ns: record.start_time_ns,
                comm: Text(record.comm.as_deref()),
                uid: record.uid,
                owner: &record.owner,
            },
            ProcessColumns::from(&record.process),
        ),
    );
}
