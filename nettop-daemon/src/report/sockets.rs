//! `nettopd sockets`: the document `nettop.sockets/1`, which every format is made of. docs/sockets.schema.json is
//! generated from these types.

mod csv;
#[cfg(test)]
mod golden;
mod table;

use std::{collections::HashMap, path::Path};

use nettop_common::{Direction, Netns, OwnerKey, SocketRecord, Wire, ports};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    collect::{boot_id, host_name, kernel_release},
    model::Word,
};
use crate::{
    cli::SocketsFormat,
    clock::now,
    identity::{devices::Devices, escape::escape_c, hosts::Hosts, processes::Processes, users::Users},
    ledger::OwnerReading,
    sockets::{Address, Disguise, Holder, Listing, Socket},
};

pub use table::Layout;

/// Name and major version of the document.
const SCHEMA: &str = "nettop.sockets/1";
const AF_INET: u16 = 2;
const AF_PACKET: u16 = 17;
const IPPROTO_TCP: u16 = 6;
const IPPROTO_MPTCP: u16 = 262;
const TCP_LISTEN: u16 = 10;

/// All sockets at one time.
#[derive(Serialize, Deserialize, JsonSchema, Debug)]
pub struct Document {
    schema: Word,
    version: Word,
    host: String,
    /// With a holder's pid and start time it names a process for all time.
    boot_id: String,
    kernel: String,
    /// RFC 3339.
    time: String,
    /// How long the listing watched; null if it did not.
    interval_ms: Option<u64>,
    sockets: Vec<SocketReport>,
    /// Namespaces that could not be entered: there, sockets that nobody holds are missing.
    namespaces_unread: u64,
    /// Packets that belong to a socket's `interval` and are not in it; null if the listing did not watch.
    packets_uncounted: Option<u64>,
    /// Addresses whose names the resolver did not tell in time.
    names_unanswered: u64,
}

/// One socket.
#[derive(Serialize, Deserialize, JsonSchema, Debug)]
pub struct SocketReport {
    /// tcp, udp, udplite, raw, icmp, sctp, mptcp, packet, or the number of another.
    pub protocol: String,
    /// 4 or 6; null for packet sockets.
    pub ip_version: Option<u8>,
    /// As TCP names it; UDP and others are established or unconnected.
    pub state: Word,
    /// Address, and port where there are ports; by name where one is known and wanted.
    pub local: String,
    pub remote: String,
    /// By number; null for packet sockets.
    pub local_address: Option<String>,
    pub remote_address: Option<String>,
    pub local_port: Option<u16>,
    pub remote_port: Option<u16>,
    pub netns: u32,
    pub netns_cookie: u32,
    /// That it is bound to.
    pub device: Option<String>,
    pub uid: u32,
    pub user: Option<String>,
    /// As /proc/PID/fd shows it.
    pub inode: Option<u64>,
    /// Bytes that the program has not taken; of a listener, connections that wait.
    pub receive_queue: u32,
    /// Bytes that were not acknowledged or sent; of a listener, how many connections may wait.
    pub send_queue: u32,
    /// Of a connection of TCP.
    pub tcp: Option<Tcp>,
    /// Since it was made; null if that was before the listing began to watch: the kernel does not keep it.
    pub age_ms: Option<u64>,
    /// On the wire, while the listing watched; null if it did not, and where packets are not counted by socket.
    pub interval: Option<Moved>,
    /// Everybody that holds it. None: it is the kernel's, or its program has closed it.
    pub holders: Vec<HolderReport>,
    /// The RPC program that the local portmapper has at this port.
    pub rpc_program: Option<String>,
}

/// What TCP knows of a connection.
#[derive(Serialize, Deserialize, JsonSchema, Debug)]
pub struct Tcp {
    pub rtt_us: u32,
    pub cwnd_segments: u32,
    pub retransmits: u32,
    /// Sent, and acknowledged.
    pub acked_bytes: u64,
    pub received_bytes: u64,
    pub segments_sent: u32,
    pub segments_received: u32,
    pub data_segments_sent: u32,
    pub data_segments_received: u32,
}

/// What a socket moved.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moved {
    pub tx: Amount,
    pub rx: Amount,
}

/// Packets on the wire, and their bytes from the IP header on.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq, Debug)]
pub struct Amount {
    pub packets: u64,
    pub bytes: u64,
}

impl From<Wire> for Amount {
    fn from(Wire { packets, bytes }: Wire) -> Self {
        Self { packets, bytes }
    }
}

/// A process that holds a socket.
#[derive(Serialize, Deserialize, JsonSchema, Debug)]
pub struct HolderReport {
    pub pid: u32,
    pub start_time_ns: u64,
    pub fd: u32,
    pub comm: String,
    pub exe: Option<String>,
    pub unit: Option<String>,
    pub container: Option<String>,
    /// Signs that the program is not what it seems.
    pub warnings: Vec<Disguise>,
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
    pub warnings: HashMap<(u32, u64), Vec<Disguise>>,
}

/// The document of a listing.
pub fn document(listing: &Listing, namer: &mut Namer<'_>) -> Document {
    Document {
        schema: SCHEMA.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        host: host_name(),
        boot_id: boot_id(),
        kernel: kernel_release(),
        time: now(),
        interval_ms: listing.watched_ms,
        sockets: listing.sockets.iter().map(|socket| report(socket, listing, namer)).collect(),
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
        ip_version: match record.family {
            AF_PACKET => None,
            AF_INET => Some(4),
            _ => Some(6),
        },
        state: state(record).into(),
        local: end(record, record.local, record.local_port, namer),
        remote: end(record, record.remote, record.remote_port, namer),
        local_address: is_inet(record).then(|| Address::from(record.local).to_string()),
        remote_address: is_inet(record).then(|| Address::from(record.remote).to_string()),
        local_port: has_ports(record).then_some(record.local_port),
        remote_port: has_ports(record).then_some(record.remote_port),
        netns: record.netns.inode,
        netns_cookie: record.netns.cookie,
        device: device.map(|device| device.name.clone()),
        uid: record.uid,
        user: namer.users.as_mut().and_then(|users| users.name(record.uid)),
        inode: (record.inode != 0).then_some(record.inode),
        receive_queue: record.receive_queue,
        send_queue: record.send_queue,
        tcp: (record.has_tcp != 0).then_some(Tcp {
            rtt_us: record.rtt_us,
            cwnd_segments: record.cwnd_segments,
            retransmits: record.retransmits,
            acked_bytes: record.acked_bytes,
            received_bytes: record.received_bytes,
            segments_sent: record.segments_sent,
            segments_received: record.segments_received,
            data_segments_sent: record.data_segments_sent,
            data_segments_received: record.data_segments_received,
        }),
        age_ms: (record.born_ns != 0).then(|| listing.time_ns.saturating_sub(record.born_ns) / 1_000_000),
        interval: (listing.watched_ms.is_some() && has_packets(record)).then(|| Moved {
            tx: record.moved[Direction::Tx as usize].into(),
            rx: record.moved[Direction::Rx as usize].into(),
        }),
        holders: socket.holders.iter().map(|holder| holder_report(holder, namer)).collect(),
        rpc_program: program,
    }
}

fn holder_report(holder: &Holder, namer: &mut Namer<'_>) -> HolderReport {
    let key = OwnerKey { start_time_ns: holder.start_time_ns, tgid: holder.tgid, uid: 0 };
    let owner = OwnerReading { key, comm: holder.comm, comm_time_ns: 0, is_kernel_thread: false, exited: false };
    let details = namer.processes.details(&owner);
    let look = || Disguise::of(namer.proc, holder.tgid, &holder.comm);
    let warnings = namer.warnings.entry((holder.tgid, holder.start_time_ns)).or_insert_with(look).clone();
    HolderReport {
        pid: holder.tgid,
        start_time_ns: holder.start_time_ns,
        fd: holder.fd,
        comm: escape_c(&holder.comm),
        exe: details.exe,
        unit: details.unit,
        container: details.container,
        warnings,
    }
}

const fn is_inet(record: &SocketRecord) -> bool {
    record.family != AF_PACKET
}

/// Frames of packet sockets are no packets of IP, those of MPTCP are its subflows', and what is left of a connection in
/// TIME_WAIT, or there of one that was asked for, is no full socket.
const fn has_packets(record: &SocketRecord) -> bool {
    is_inet(record) && record.protocol != IPPROTO_MPTCP && !matches!(record.state, 6 | 12)
}

const fn has_ports(record: &SocketRecord) -> bool {
    const SOCK_RAW: u16 = 3;
    is_inet(record) && record.kind != SOCK_RAW && matches!(record.protocol, 6 | 17 | 33 | 132 | 136 | 262)
}

fn protocol(record: &SocketRecord) -> String {
    const SOCK_RAW: u16 = 3;
    match (record.family, record.kind, record.protocol) {
        (AF_PACKET, ..) => "packet",
        (_, SOCK_RAW, _) => "raw",
        (_, _, IPPROTO_TCP) => "tcp",
        (_, _, 17) => "udp",
        (_, _, 136) => "udplite",
        (_, _, 132) => "sctp",
        (_, _, IPPROTO_MPTCP) => "mptcp",
        (_, _, 1) => "icmp",
        (_, _, 58) => "icmp6",
        (_, _, number) => return number.to_string(),
    }
    .into()
}

/// In ss's words.
const fn state(record: &SocketRecord) -> &'static str {
    match record.state {
        1 => "established",
        2 => "syn-sent",
        3 | 12 => "syn-recv",
        4 => "fin-wait-1",
        5 => "fin-wait-2",
        6 => "time-wait",
        8 => "close-wait",
        9 => "last-ack",
        TCP_LISTEN => "listen",
        11 => "closing",
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
    let shown = if is_any { "*".into() } else { name.map_or_else(|| number.to_string(), ToOwned::to_owned) };
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

/// Writes the document.
///
/// # Errors
///
/// If it cannot be encoded.
pub fn encode(document: &Document, format: SocketsFormat, layout: Layout) -> anyhow::Result<Vec<u8>> {
    Ok(match format {
        SocketsFormat::Table => table::table(document, layout).into_bytes(),
        SocketsFormat::Json => [serde_json::to_vec_pretty(document)?, vec![b'\n']].concat(),
        SocketsFormat::Ndjson => [serde_json::to_vec(document)?, vec![b'\n']].concat(),
        SocketsFormat::Csv => csv::csv(document)?,
    })
}
