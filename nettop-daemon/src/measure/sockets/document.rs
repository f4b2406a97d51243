//! `nettopd sockets`: makes the document, of which every format is made.

use std::{collections::HashMap, path::Path};

use nettop_common::{
    Direction, Netns, OwnerKey, SocketRecord, Wire,
    abi::{
        self, AF_PACKET, IPPROTO_DCCP, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_MPTCP, IPPROTO_SCTP, IPPROTO_TCP,
        IPPROTO_UDP, IPPROTO_UDPLITE, SOCK_RAW,
    },
    offsets::{UNKNOWN, UNKNOWN_64},
    ports,
};
use nettop_kernel::{boot, ledger::OwnerReading};
use nettop_model::sockets::{Amount, Document, HolderReport, Moved, ProgramWarning, SCHEMA, SocketReport, Tcp};

use crate::{
    identity::{
        address::Address,
        devices::Devices,
        host::{host_name, kernel_release},
        hosts::Hosts,
        processes::Processes,
        users::Users,
    },
    measure::sockets::{
        list::{Holder, Listing, Socket},
        warnings::warnings_of,
    },
    query::selector::ip_version,
    sys::{clock::now, escape::escape_c},
};

const fn amount(Wire { packets, bytes }: Wire) -> Amount {
    Amount { packets, bytes }
}

/// Names for what sockets have by number.
pub struct Namer<'a> {
    pub host: Netns,
    pub devices: &'a Devices,
    /// Without it numbers stay numbers.
    pub users: Option<Users>,
    pub services: HashMap<(u16, u16), String>,
    /// Of the own namespace: elsewhere the same address may be another host.
    pub hosts: Hosts,
    /// Where /proc is.
    pub proc: &'a Path,
    pub processes: Processes,
    /// By IP protocol and port, in the own namespace.
    pub programs: HashMap<(u16, u16), String>,
    /// By process: pid and start time.
    pub warnings: HashMap<(u32, u64), Vec<ProgramWarning>>,
}

/// The document of a listing.
pub fn document(listing: &Listing, namer: &mut Namer<'_>) -> Document {
    Document {
        schema: SCHEMA.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        host: host_name(),
        boot_id: boot::id(),
        kernel: kernel_release(),
        time: now(),
        interval_ms: listing.watched_ms,
        sockets: listing.sockets.iter().map(|socket| report(socket, listing, namer)).collect(),
        truncated: listing.truncated,
        namespaces_unread: listing.namespaces_unread,
        packets_uncounted: listing.packets_uncounted,
        names_unanswered: namer.hosts.unanswered,
    }
}

fn report(socket: &Socket, listing: &Listing, namer: &mut Namer<'_>) -> SocketReport {
    let record = &socket.record;
    let device = namer.devices.get((record.netns, record.ifindex));
    let program =
        namer.programs.get(&(record.protocol, record.local_port)).filter(|_| record.netns == namer.host).cloned();
    SocketReport {
        protocol: protocol(record),
        ip_version: is_inet(record).then(|| ip_version(record)),
        state: state(record).into(),
        local: end(record, record.local, record.local_port, namer),
        remote: end(record, record.remote, record.remote_port, namer),
        local_address: is_inet(record)
            .then(|| Address::from(record.local).scoped(device.map(|device| device.name.as_str()))),
        remote_address: is_inet(record)
            .then(|| Address::from(record.remote).scoped(device.map(|device| device.name.as_str()))),
        local_port: has_ports(record).then_some(record.local_port),
        remote_port: has_ports(record).then_some(record.remote_port),
        netns: record.netns.inode,
        netns_cookie: record.netns.cookie,
        device: device.map(|device| device.name.clone()),
        uid: record.uid,
        user: namer.users.as_mut().and_then(|users| users.name(record.uid)),
        inode: (record.inode != 0).then_some(record.inode),
        receive_queue: known(record.receive_queue),
        send_queue: known(record.send_queue),
        tcp: (record.has_tcp != 0).then_some(Tcp {
            rtt_us: known(record.rtt_us),
            cwnd_segments: known(record.cwnd_segments),
            retransmits: known(record.retransmits),
            acked_bytes: known_64(record.acked_bytes),
            received_bytes: known_64(record.received_bytes),
            segments_sent: known(record.segments_sent),
            segments_received: known(record.segments_received),
            data_segments_sent: known(record.data_segments_sent),
            data_segments_received: known(record.data_segments_received),
        }),
        age_ms: (record.created_ns != 0).then(|| listing.time_ns.saturating_sub(record.created_ns) / 1_000_000),
        interval: (listing.watched_ms.is_some() && has_packets(record)).then(|| Moved {
            tx: amount(record.moved[Direction::Tx as usize]),
            rx: amount(record.moved[Direction::Rx as usize]),
        }),
        holders: socket.holders.iter().map(|holder| holder_report(holder, namer)).collect(),
        rpc_program: program,
    }
}

fn holder_report(holder: &Holder, namer: &mut Namer<'_>) -> HolderReport {
    let key = OwnerKey { start_time_ns: holder.start_time_ns, tgid: holder.tgid, uid: 0 };
    let owner = OwnerReading { key, comm: holder.comm, comm_time_ns: 0, is_kernel_thread: false, exited: false };
    let details = namer.processes.details(&owner);
    let look = || warnings_of(namer.proc, holder.tgid, &holder.comm);
    let warnings = namer.warnings.entry((holder.tgid, holder.start_time_ns)).or_insert_with(look).clone();
    HolderReport {
        pid: holder.tgid,
        start_time_ns: holder.start_time_ns,
        fd: holder.fd,
        comm: escape_c(&holder.comm),
        process: details.into_names(true),
        warnings,
    }
}

const fn is_inet(record: &SocketRecord) -> bool {
    record.family != AF_PACKET
}

/// Frames of packet sockets are no IP packets, and those of MPTCP are its subflows'. A connection that is in TIME_WAIT, or
/// only requested, is no full socket.
const fn has_packets(record: &SocketRecord) -> bool {
    is_inet(record)
        && record.protocol != IPPROTO_MPTCP
        && !matches!(tcp_state(record), abi::TCP_TIME_WAIT | abi::TCP_NEW_SYN_RECV)
}

const fn has_ports(record: &SocketRecord) -> bool {
    let has_ports = matches!(
        record.protocol,
        IPPROTO_TCP | IPPROTO_UDP | IPPROTO_DCCP | IPPROTO_SCTP | IPPROTO_UDPLITE | IPPROTO_MPTCP
    );
    is_inet(record) && record.kind != SOCK_RAW && has_ports
}

fn protocol(record: &SocketRecord) -> String {
    match (record.family, record.kind, record.protocol) {
        (AF_PACKET, ..) => "packet",
        (_, SOCK_RAW, _) => "raw",
        (_, _, IPPROTO_TCP) => "tcp",
        (_, _, IPPROTO_UDP) => "udp",
        (_, _, IPPROTO_UDPLITE) => "udplite",
        (_, _, IPPROTO_SCTP) => "sctp",
        (_, _, IPPROTO_MPTCP) => "mptcp",
        (_, _, IPPROTO_ICMP) => "icmp",
        (_, _, IPPROTO_ICMPV6) => "icmp6",
        (_, _, number) => return number.to_string(),
    }
    .into()
}

/// No state is above 255.
const fn tcp_state(record: &SocketRecord) -> u8 {
    record.state as u8
}

/// In ss's words.
const fn state(record: &SocketRecord) -> &'static str {
    match tcp_state(record) {
        abi::TCP_ESTABLISHED => "established",
        abi::TCP_SYN_SENT => "syn-sent",
        abi::TCP_SYN_RECV | abi::TCP_NEW_SYN_RECV => "syn-recv",
        abi::TCP_FIN_WAIT1 => "fin-wait-1",
        abi::TCP_FIN_WAIT2 => "fin-wait-2",
        abi::TCP_TIME_WAIT => "time-wait",
        abi::TCP_CLOSE_WAIT => "close-wait",
        abi::TCP_LAST_ACK => "last-ack",
        abi::TCP_LISTEN => "listen",
        abi::TCP_CLOSING => "closing",
        _ => "unconnected",
    }
}

/// Address and port, as `10.0.0.1:80`, `[fd00::1]:80`, `*:80`, `host:http` or `10.0.0.1`.
fn end(record: &SocketRecord, address: ports::Address, port: u16, namer: &Namer<'_>) -> String {
    if !is_inet(record) {
        return "*".into();
    }
    let is_any = address == [0; 4] && record.is_v6_only == 0;
    let number = Address::from(address);
    let name = namer.hosts.name(number.0).filter(|_| record.netns == namer.host);
    let device = namer.devices.get((record.netns, record.ifindex)).map(|device| device.name.as_str());
    let shown = if is_any { "*".into() } else { name.map_or_else(|| number.scoped(device), ToOwned::to_owned) };
    if !has_ports(record) {
        return shown;
    }
    let port = match (port, namer.services.get(&(record.protocol, port))) {
        (0, _) => "*".into(),
        (_, Some(name)) => name.clone(),
        (number, None) => number.to_string(),
    };
    if shown.contains(':') { format!("[{shown}]:{port}") } else { format!("{shown}:{port}") }
}

/// Nothing where the kernel does not have it.
fn known(number: u32) -> Option<u32> {
    (number != UNKNOWN).then_some(number)
}

fn known_64(number: u64) -> Option<u64> {
    (number != UNKNOWN_64).then_some(number)
}
