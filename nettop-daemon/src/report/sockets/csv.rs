//! One line for each process that holds a socket, or one where nobody does.

use super::{Document, Moved, SocketReport, Tcp};
use crate::report::csv::{number, text};

const COLUMNS: [&str; 36] = [
    "time",
    "protocol",
    "ip_version",
    "state",
    "local",
    "remote",
    "local_address",
    "remote_address",
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
    "segments_sent",
    "segments_received",
    "age_ms",
    "interval_ms",
    "tx_packets",
    "tx_bytes",
    "rx_packets",
    "rx_bytes",
    "pid",
    "comm",
    "exe",
    "unit",
    "container",
];

pub fn csv(document: &Document) -> anyhow::Result<Vec<u8>> {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS)?;
    for socket in &document.sockets {
        let common = common(document, socket);
        let holders = socket.holders.iter().map(Some).chain(socket.holders.is_empty().then_some(None));
        for holder in holders {
            let own = [
                number(holder.map(|holder| holder.pid)),
                text(holder.map(|holder| holder.comm.as_str())),
                text(holder.and_then(|holder| holder.exe.as_deref())),
                text(holder.and_then(|holder| holder.unit.as_deref())),
                text(holder.and_then(|holder| holder.container.as_deref())),
            ];
            writer.write_record(common.iter().chain(&own))?;
        }
    }
    Ok(writer.into_inner()?)
}

/// What is the socket's, whoever holds it.
fn common(document: &Document, socket: &SocketReport) -> [String; 31] {
    let tcp = |value: fn(&Tcp) -> u64| number(socket.tcp.as_ref().map(value));
    let moved = |value: fn(&Moved) -> u64| number(socket.interval.as_ref().map(value));
    [
        document.time.clone(),
        socket.protocol.clone(),
        number(socket.ip_version),
        socket.state.to_string(),
        text(Some(&socket.local)),
        text(Some(&socket.remote)),
        text(socket.local_address.as_deref()),
        text(socket.remote_address.as_deref()),
        number(socket.local_port),
        number(socket.remote_port),
        socket.netns.to_string(),
        socket.netns_cookie.to_string(),
        text(socket.device.as_deref()),
        socket.uid.to_string(),
        text(socket.user.as_deref()),
        number(socket.inode),
        socket.receive_queue.to_string(),
        socket.send_queue.to_string(),
        tcp(|tcp| tcp.rtt_us.into()),
        tcp(|tcp| tcp.cwnd_segments.into()),
        tcp(|tcp| tcp.retransmits.into()),
        tcp(|tcp| tcp.acked_bytes),
        tcp(|tcp| tcp.received_bytes),
        tcp(|tcp| tcp.segments_sent.into()),
        tcp(|tcp| tcp.segments_received.into()),
        number(socket.age_ms),
        number(document.interval_ms),
        moved(|moved| moved.tx.packets),
        moved(|moved| moved.tx.bytes),
        moved(|moved| moved.rx.packets),
        moved(|moved| moved.rx.bytes),
    ]
}
