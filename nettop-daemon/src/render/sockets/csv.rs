//! One line for each process that holds a socket, or one where nobody does.

use nettop_model::sockets::{Document, HolderReport, SocketReport};
use serde::Serialize;

use crate::render::{
    csv::{Text, records},
    process_columns::ProcessColumns,
};

#[derive(Serialize, Default)]
struct Line<'a> {
    time: &'a str,
    protocol: &'a str,
    ip_version: Option<u8>,
    state: &'a str,
    local: Text<'a>,
    remote: Text<'a>,
    local_address: Text<'a>,
    remote_address: Text<'a>,
    local_port: Option<u16>,
    remote_port: Option<u16>,
    netns: u32,
    netns_cookie: u32,
    device: Text<'a>,
    uid: u32,
    user: Text<'a>,
    inode: Option<u64>,
    receive_queue: Option<u32>,
    send_queue: Option<u32>,
    rtt_us: Option<u32>,
    cwnd_segments: Option<u32>,
    retransmits: Option<u32>,
    acked_bytes: Option<u64>,
    received_bytes: Option<u64>,
    segments_sent: Option<u32>,
    segments_received: Option<u32>,
    age_ms: Option<u64>,
    interval_ms: Option<u64>,
    tx_packets: Option<u64>,
    tx_bytes: Option<u64>,
    rx_packets: Option<u64>,
    rx_bytes: Option<u64>,
    pid: Option<u32>,
    comm: Text<'a>,
}

/// Columns of a socket, and those of a process that holds it.
type Columns<'a> = (Line<'a>, ProcessColumns<'a>);

/// Every socket, once for each holder.
///
/// # Errors
///
/// If it cannot be encoded.
pub fn csv(document: &Document) -> anyhow::Result<Vec<u8>> {
    let lines = document.sockets.iter().flat_map(|socket| {
        let holders = socket.holders.iter().map(Some).chain(socket.holders.is_empty().then_some(None));
        holders.map(|holder| line(document, socket, holder))
    });
    records(lines, true)
}

fn line<'a>(document: &'a Document, socket: &'a SocketReport, holder: Option<&'a HolderReport>) -> Columns<'a> {
    let (tcp, moved) = (socket.tcp.as_ref(), socket.interval.as_ref());
    let line = Line {
        time: &document.time,
        protocol: &socket.protocol,
        ip_version: socket.ip_version,
        state: &socket.state,
        local: Text(Some(&socket.local)),
        remote: Text(Some(&socket.remote)),
        local_address: Text(socket.local_address.as_deref()),
        remote_address: Text(socket.remote_address.as_deref()),
        local_port: socket.local_port,
        remote_port: socket.remote_port,
        netns: socket.netns,
        netns_cookie: socket.netns_cookie,
        device: Text(socket.device.as_deref()),
        uid: socket.uid,
        user: Text(socket.user.as_deref()),
        inode: socket.inode,
        receive_queue: socket.receive_queue,
        send_queue: socket.send_queue,
        rtt_us: tcp.and_then(|tcp| tcp.rtt_us),
        cwnd_segments: tcp.and_then(|tcp| tcp.cwnd_segments),
        retransmits: tcp.and_then(|tcp| tcp.retransmits),
        acked_bytes: tcp.and_then(|tcp| tcp.acked_bytes),
        received_bytes: tcp.and_then(|tcp| tcp.received_bytes),
        segments_sent: tcp.and_then(|tcp| tcp.segments_sent),
        segments_received: tcp.and_then(|tcp| tcp.segments_received),
        age_ms: socket.age_ms,
        interval_ms: document.interval_ms,
        tx_packets: moved.map(|moved| moved.tx.packets),
        tx_bytes: moved.map(|moved| moved.tx.bytes),
        rx_packets: moved.map(|moved| moved.rx.packets),
        rx_bytes: moved.map(|moved| moved.rx.bytes),
        pid: holder.map(|holder| holder.pid),
        comm: Text(holder.map(|holder| holder.comm.as_str())),
    };
    (line, holder.map_or_else(ProcessColumns::default, |holder| ProcessColumns::from(&holder.process)))
}
