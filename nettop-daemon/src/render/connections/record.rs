//! Connections as documents and as CSV.

use nettop_common::{ConnectionEvent, abi::IPPROTO_TCP, connection::kind, offsets::UNKNOWN};
use nettop_model::connections::{Record, SCHEMA};
use serde::Serialize;

use super::{Names, errno, name, outcome};
use crate::{
    identity::{address::Address, details::Details},
    render::{
        csv::{self, Text},
        head::{push_head, push_json},
        process_columns::ProcessColumns,
    },
    sys::{clock::Clock, escape::escape_c},
};

fn record(event: &ConnectionEvent, packets: [u64; 2], clock: &Clock, names: &mut Names) -> Record {
    let is_known = event.owner.tgid != 0;
    let details =
        if is_known { names.processes.details_for_event(&event.owner, event.comm) } else { Details::default() };
    let device = names.device(event);
    let is_closed = event.kind == kind::CLOSED;
    let is_tcp = u16::from(event.protocol) == IPPROTO_TCP;
    let lasts = event.kind != kind::ACCEPTED && event.begun_ns != 0;
    let user = names.users.as_mut().filter(|_| is_known).and_then(|users| users.name(event.owner.uid));
    Record {
        event: name(event.kind).into(),
        time: clock.rfc3339(event.time_ns),
        pid: is_known.then_some(event.owner.tgid),
        start_time_ns: is_known.then_some(event.owner.start_time_ns),
        comm: is_known.then(|| escape_c(&event.comm)),
        process: details.into_names(names.ancestry),
        uid: is_known.then_some(event.owner.uid),
        user,
        protocol: if is_tcp { "tcp" } else { "udp" }.into(),
        ip_version: if event.family == 2 { 4 } else { 6 },
        local: Address::from(event.local).scoped(device.as_deref()),
        local_port: event.local_port,
        remote: Address::from(event.remote).scoped(device.as_deref()),
        remote_port: event.remote_port,
        netns: event.netns.inode,
        netns_cookie: event.netns.cookie,
        duration_us: lasts.then(|| event.time_ns.saturating_sub(event.begun_ns) / 1000),
        sent_bytes: is_closed.then_some(event.sent_bytes),
        received_bytes: is_closed.then_some(event.received_bytes),
        sent_packets: (is_closed && !is_tcp).then_some(packets[0]),
        received_packets: (is_closed && !is_tcp).then_some(packets[1]),
        retransmits: (is_closed && is_tcp && event.retransmits != UNKNOWN).then_some(event.retransmits),
        outcome: outcome(event).map(Into::into),
        error: if is_tcp { errno(event.error) } else { None },
    }
}

/// Appends the head.
pub fn header(text: &mut String, hooks: &[(&'static str, String)]) {
    push_head(text, SCHEMA, hooks);
}

pub fn line(text: &mut String, event: &ConnectionEvent, packets: [u64; 2], clock: &Clock, names: &mut Names) {
    push_json(text, &record(event, packets, clock, names));
}

/// Columns of an event's own, around those of its process.
pub type Columns<'a> = (OwnerColumns<'a>, ProcessColumns<'a>, ConnectionColumns<'a>);

#[derive(Serialize, Default)]
pub struct OwnerColumns<'a> {
    pid: Option<u32>,
    start_time_ns: Option<u64>,
    comm: Text<'a>,
}

#[derive(Serialize, Default)]
pub struct ConnectionColumns<'a> {
    uid: Option<u32>,
    user: Text<'a>,
    protocol: &'a str,
    ip_version: Option<u8>,
    local: &'a str,
    local_port: Option<u16>,
    remote: &'a str,
    remote_port: Option<u16>,
    netns: Option<u32>,
    netns_cookie: Option<u32>,
    duration_us: Option<u64>,
    sent_bytes: Option<u64>,
    received_bytes: Option<u64>,
    sent_packets: Option<u64>,
    received_packets: Option<u64>,
    retransmits: Option<u32>,
    outcome: Option<&'a str>,
    error: Option<&'a str>,
}

/// Appends one event.
pub fn csv_line(text: &mut String, event: &ConnectionEvent, packets: [u64; 2], clock: &Clock, names: &mut Names) {
    let record = record(event, packets, clock, names);
    csv::push_event(
        text,
        [&record.time, &record.event],
        (
            OwnerColumns { pid: record.pid, start_time_ns: record.start_time_ns, comm: Text(record.comm.as_deref()) },
            ProcessColumns::from(&record.process),
            ConnectionColumns {
                uid: record.uid,
                user: Text(record.user.as_deref()),
                protocol: &record.protocol,
                ip_version: Some(record.ip_version),
                local: &record.local,
                local_port: Some(record.local_port),
                remote: &record.remote,
                remote_port: Some(record.remote_port),
                netns: Some(record.netns),
                netns_cookie: Some(record.netns_cookie),
                duration_us: record.duration_us,
                sent_bytes: record.sent_bytes,
                received_bytes: record.received_bytes,
                sent_packets: record.sent_packets,
                received_packets: record.received_packets,
                retransmits: record.retransmits,
                outcome: record.outcome.as_deref(),
                error: record.error.as_deref(),
            },
        ),
    );
}
