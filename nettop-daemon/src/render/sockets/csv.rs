//! One line for each process that holds a socket, or one where nobody does.

use nettop_model::sockets::{Document, HolderReport, SocketReport};
use serde::Serialize;

use crate::render::csv::{Arguments, Parents, Text, records, session};

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
    exe: Text<'a>,
    script: Text<'a>,
    parents: Parents<'a>,
    cgroup: Text<'a>,
    unit: Text<'a>,
    container: Text<'a>,
    container_name: Text<'a>,
    image: Text<'a>,
    runtime: Text<'a>,
    pod: Text<'a>,
    pod_container: Text<'a>,
    workload: Text<'a>,
    login_uid: Option<u32>,
    session: Option<u32>,
    session_comm: Text<'a>,
    argv: Arguments<'a>,
}

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

fn line<'a>(document: &'a Document, socket: &'a SocketReport, holder: Option<&'a HolderReport>) -> Line<'a> {
    let (tcp, moved) = (socket.tcp.as_ref(), socket.interval.as_ref());
    let (session, session_comm) = holder.map(|holder| session(&holder.login)).unwrap_or_default();
    Line {
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
        exe: Text(holder.and_then(|holder| holder.exe.as_deref())),
        script: Text(holder.and_then(|holder| holder.script.as_deref())),
        parents: Parents(holder.map_or(&[], |holder| &holder.parents)),
        cgroup: Text(holder.and_then(|holder| holder.cgroup.as_deref())),
        unit: Text(holder.and_then(|holder| holder.unit.as_deref())),
        container: Text(holder.and_then(|holder| holder.container.as_deref())),
        container_name: Text(holder.and_then(|holder| holder.names.container_name.as_deref())),
        image: Text(holder.and_then(|holder| holder.names.image.as_deref())),
        runtime: Text(holder.and_then(|holder| holder.names.runtime.as_deref())),
        pod: Text(holder.and_then(|holder| holder.names.pod.as_deref())),
        pod_container: Text(holder.and_then(|holder| holder.names.pod_container.as_deref())),
        workload: Text(holder.and_then(|holder| holder.names.workload.as_deref())),
        login_uid: holder.and_then(|holder| holder.login.login_uid),
        session,
        session_comm,
        argv: Arguments(holder.and_then(|holder| holder.arguments.as_deref())),
    }
}
