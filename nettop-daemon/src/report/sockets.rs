//! `nettopd sockets`: a table for people, the document `nettop.sockets/1`, and CSV.

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Write as _,
    path::Path,
};

use nettop_common::{Netns, OwnerKey, SocketRecord};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    collect::{host_name, kernel_release, now},
    csv::{number, text as safe},
};
use crate::{
    cli::Format,
    identity::{devices::Devices, escape::escape_c, processes::Processes, users::Users},
    ledger::OwnerReading,
    sockets::{Address, Disguise, Holder, Socket},
};

/// Name and major version of the document.
const SCHEMA: &str = "nettop.sockets/1";
const AF_INET: u16 = 2;
const AF_PACKET: u16 = 17;
const IPPROTO_TCP: u16 = 6;
const TCP_LISTEN: u16 = 10;

/// All sockets at one time.
#[derive(Serialize, JsonSchema, Debug)]
pub struct Document {
    schema: &'static str,
    version: &'static str,
    host: String,
    kernel: String,
    /// RFC 3339.
    time: String,
    sockets: Vec<SocketReport>,
    /// Namespaces that could not be entered: there, sockets that nobody holds are missing.
    namespaces_unread: u64,
}

/// One socket.
#[derive(Serialize, JsonSchema, Debug)]
pub struct SocketReport {
    /// tcp, udp, udplite, raw, icmp, sctp, mptcp, packet, or the number of another.
    pub protocol: String,
    /// 4 or 6; null for packet sockets.
    pub ip_version: Option<u8>,
    /// As TCP names it; UDP and others are established or unconnected.
    pub state: &'static str,
    /// Address, and port where there are ports.
    pub local: String,
    pub remote: String,
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
    /// Everybody that holds it. None: it is the kernel's, or its program has closed it.
    pub holders: Vec<HolderReport>,
    /// The RPC program that the local portmapper has at this port.
    pub rpc_program: Option<String>,
}

/// What TCP knows of a connection.
#[derive(Serialize, JsonSchema, Debug)]
pub struct Tcp {
    pub rtt_us: u32,
    pub cwnd_segments: u32,
    pub retransmits: u32,
    pub acked_bytes: u64,
    pub received_bytes: u64,
}

/// A process that holds a socket.
#[derive(Serialize, JsonSchema, Debug)]
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
    pub processes: Processes,
    /// By IP protocol and port, in the own namespace.
    pub programs: HashMap<(u16, u16), String>,
    /// By process: pid and start time.
    pub warnings: HashMap<(u32, u64), Vec<Disguise>>,
}

/// The document of a listing.
pub fn document(sockets: &[Socket], namespaces_unread: u64, namer: &mut Namer<'_>) -> Document {
    Document {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        host: host_name(),
        kernel: kernel_release(),
        time: now(),
        sockets: sockets.iter().map(|socket| report(socket, namer)).collect(),
        namespaces_unread,
    }
}

fn report(socket: &Socket, namer: &mut Namer<'_>) -> SocketReport {
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
        state: state(record),
        local: end(record, record.local, record.local_port, &namer.services),
        remote: end(record, record.remote, record.remote_port, &namer.services),
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
        }),
        holders: socket.holders.iter().map(|holder| holder_report(holder, namer)).collect(),
        rpc_program: program,
    }
}

fn holder_report(holder: &Holder, namer: &mut Namer<'_>) -> HolderReport {
    let key = OwnerKey { start_time_ns: holder.start_time_ns, tgid: holder.tgid, uid: 0 };
    let owner = OwnerReading { key, comm: holder.comm, comm_time_ns: 0, is_kernel_thread: false, exited: false };
    let details = namer.processes.details(&owner);
    let look = || Disguise::of(Path::new("/proc"), holder.tgid, &holder.comm);
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

const fn has_ports(record: &SocketRecord) -> bool {
    const SOCK_RAW: u16 = 3;
    record.family != AF_PACKET && record.kind != SOCK_RAW && matches!(record.protocol, 6 | 17 | 33 | 132 | 136 | 262)
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
        (_, _, 262) => "mptcp",
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

/// Address and port, as `10.0.0.1:80`, `[fd00::1]:80`, `*:80` or `10.0.0.1`.
fn end(
    record: &SocketRecord,
    address: nettop_common::ports::Address,
    port: u16,
    services: &HashMap<(u16, u16), String>,
) -> String {
    if record.family == AF_PACKET {
        return "*".into();
    }
    let is_any = address == [0; 4] && record.is_v6_only == 0;
    let shown = if is_any { "*".into() } else { Address::from(address).to_string() };
    if !has_ports(record) {
        return shown;
    }
    let port = match (port, services.get(&(record.protocol, port))) {
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
pub fn encode(document: &Document, format: Format, host: Netns) -> anyhow::Result<Vec<u8>> {
    Ok(match format {
        Format::Table => table(document, host).into_bytes(),
        Format::Json => [serde_json::to_vec_pretty(document)?, vec![b'\n']].concat(),
        Format::Ndjson => [serde_json::to_vec(document)?, vec![b'\n']].concat(),
        Format::Csv => csv(document)?,
    })
}

/// Columns as wide as they need to be, the processes last.
fn table(document: &Document, host: Netns) -> String {
    const HEADER: [&str; 8] = ["PROTO", "STATE", "RECV-Q", "SEND-Q", "LOCAL", "REMOTE", "NETNS", "USER"];
    let line = |socket: &SocketReport| {
        [
            format!(
                "{}{}",
                socket.protocol,
                socket.ip_version.map_or("", |version| if version == 6 { "6" } else { "" })
            ),
            socket.state.to_owned(),
            socket.receive_queue.to_string(),
            socket.send_queue.to_string(),
            socket.device.as_ref().map_or_else(|| socket.local.clone(), |device| format!("{}%{device}", socket.local)),
            socket.remote.clone(),
            if socket.netns == host.inode { "-".into() } else { socket.netns.to_string() },
            socket.user.clone().unwrap_or_else(|| socket.uid.to_string()),
        ]
    };
    let lines: Vec<[String; 8]> = document.sockets.iter().map(line).collect();
    let mut widths = HEADER.map(str::len);
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    // Writing to a String does not fail.
    for (name, width) in HEADER.iter().zip(widths) {
        let _ = write!(text, "{name:<width$} ");
    }
    text += "PROCESS\n";
    for (line, socket) in lines.iter().zip(&document.sockets) {
        for (cell, width) in line.iter().zip(widths) {
            let _ = write!(text, "{cell:<width$} ");
        }
        let holders: Vec<String> =
            socket.holders.iter().map(|holder| format!("{}({})", holder.comm, holder.pid)).collect();
        let program = socket.rpc_program.as_ref().map(|program| format!(" [{program}]")).unwrap_or_default();
        let _ = writeln!(text, "{}{program}", if holders.is_empty() { "-".into() } else { holders.join(",") });
    }
    let mut warned = BTreeSet::new();
    for holder in document.sockets.iter().flat_map(|socket| &socket.holders) {
        for warning in &holder.warnings {
            if warned.insert((holder.pid, warning.text())) {
                let exe = holder.exe.as_deref().unwrap_or("?");
                let _ = writeln!(text, "warning: {}({}): {}: {exe}", holder.comm, holder.pid, warning.text());
            }
        }
    }
    if document.namespaces_unread > 0 {
        let _ = writeln!(text, "{} namespaces could not be entered", document.namespaces_unread);
    }
    text
}

const COLUMNS: [&str; 24] = [
    "time",
    "protocol",
    "ip_version",
    "state",
    "local",
    "remote",
    "local_port",
    "remote_port",
    "netns",
    "netns_cookie",
    "device",
    "uid",
    "user",
    "inode",
    "receive_queue",
    "send_queue",
    "rtt_us",
    "cwnd_segments",
    "retransmits",
    "acked_bytes",
    "received_bytes",
    "pid",
    "comm",
    "exe",
];

/// One line for each holder, or one where there is none.
fn csv(document: &Document) -> anyhow::Result<Vec<u8>> {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS)?;
    for socket in &document.sockets {
        let holders = socket.holders.iter().map(Some).chain(socket.holders.is_empty().then_some(None));
        for holder in holders {
            let tcp = |value: fn(&Tcp) -> u64| number(socket.tcp.as_ref().map(value));
            writer.write_record([
                document.time.clone(),
                socket.protocol.clone(),
                number(socket.ip_version),
                socket.state.to_owned(),
                safe(Some(&socket.local)),
                safe(Some(&socket.remote)),
                number(socket.local_port),
                number(socket.remote_port),
                socket.netns.to_string(),
                socket.netns_cookie.to_string(),
                safe(socket.device.as_deref()),
                socket.uid.to_string(),
                safe(socket.user.as_deref()),
                number(socket.inode),
                socket.receive_queue.to_string(),
                socket.send_queue.to_string(),
                tcp(|tcp| tcp.rtt_us.into()),
                tcp(|tcp| tcp.cwnd_segments.into()),
                tcp(|tcp| tcp.retransmits.into()),
                tcp(|tcp| tcp.acked_bytes),
                tcp(|tcp| tcp.received_bytes),
                number(holder.map(|holder| holder.pid)),
                safe(holder.map(|holder| holder.comm.as_str())),
                safe(holder.and_then(|holder| holder.exe.as_deref())),
            ])?;
        }
    }
    Ok(writer.into_inner()?)
}
