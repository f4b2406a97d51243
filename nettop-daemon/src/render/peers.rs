//! What `nettopd peers` writes: a table, the document `nettop.peers/1`, and CSV.

use std::fmt::Write as _;

use nettop_model::{PeerOfProcess, PeersDocument, Snapshot, snapshot::Traffic};
use serde::Serialize;
use unicode_width::UnicodeWidthStr as _;

use crate::{
    query::format::{Peers, PeersFormat},
    render::{
        csv::{Text, records},
        process_columns::ProcessColumns,
        table::KIB,
    },
};

/// What people see in place of a peer.
const OTHER: &str = "[other]";

/// One report.
///
/// # Errors
///
/// If it cannot be encoded.
pub(super) fn encode(snapshot: &Snapshot, wanted: Peers, first: bool) -> anyhow::Result<Vec<u8>> {
    let document = PeersDocument::from_snapshot(snapshot);
    Ok(match wanted.format {
        PeersFormat::Table => text(&document, wanted.top).into_bytes(),
        PeersFormat::Csv => csv(&document, first)?,
        PeersFormat::Json => [serde_json::to_vec_pretty(&document)?, vec![b'\n']].concat(),
        PeersFormat::Ndjson => [serde_json::to_vec(&document)?, vec![b'\n']].concat(),
    })
}

const COLUMNS: [&str; 8] = ["PROGRAM", "PEER", "ROLE", "PORT", "SENT_KB", "RECEIVED_KB", "CONNECTIONS", "IDLE"];

/// The busiest of the interval; then those that moved most.
fn text(document: &PeersDocument, top: usize) -> String {
    let shown = if top == 0 { usize::MAX } else { top };
    let lines: Vec<[String; COLUMNS.len()]> =
        std::iter::once(COLUMNS.map(ToOwned::to_owned)).chain(document.peers.iter().take(shown).map(line)).collect();
    let width = |at: usize| lines.iter().map(|line| line[at].width()).max().unwrap_or(0);
    let widths: [usize; COLUMNS.len()] = std::array::from_fn(width);
    // Writing to a String does not fail.
    let mut text = format!("{}\n", document.time);
    for line in &lines {
        let mut cells = String::new();
        for (at, cell) in line.iter().enumerate() {
            let blanks = " ".repeat(widths[at].saturating_sub(cell.width()));
            // Numbers to the right.
            let [before, after] = if at < 4 { ["", blanks.as_str()] } else { [blanks.as_str(), ""] };
            let _ = write!(cells, "{before}{cell}{after} ");
        }
        let _ = writeln!(text, "{}", cells.trim_end());
    }
    let hidden = document.peers.len().saturating_sub(shown);
    if hidden > 0 {
        let _ = writeln!(text, "{hidden} more (--top 0 shows all)");
    }
    text.push('\n');
    text
}

/// What was moved since counting began.
fn line(peer: &PeerOfProcess) -> [String; COLUMNS.len()] {
    let [_, Traffic { tx, rx }] = peer.moved();
    let of = peer.peer.as_ref();
    [
        format!("{}[{}]", peer.comm, peer.pid),
        of.map_or(OTHER, |peer| &peer.address).to_owned(),
        of.map_or("-", |peer| &peer.role).to_owned(),
        of.map_or_else(
            || "-".to_owned(),
            |peer| match peer.port {
                Some(port) => format!("{port}/{}", peer.protocol),
                None => peer.protocol.to_string(),
            },
        ),
        (tx.bytes / KIB).to_string(),
        (rx.bytes / KIB).to_string(),
        peer.connections().total.to_string(),
        of.map_or_else(|| "-".to_owned(), |peer| format!("{}s", peer.idle_s)),
    ]
}

#[derive(Serialize, Default)]
struct Line<'a> {
    time: &'a str,
    interval_ms: u64,
    pid: u32,
    start_time_ns: Option<u64>,
    uid: Option<u32>,
    comm: Text<'a>,
    netns: u32,
    netns_cookie: u32,
    device: Text<'a>,
    ifindex: Option<u32>,
    role: &'a str,
    protocol: &'a str,
    address: &'a str,
    port: Option<u16>,
    idle_s: Option<u32>,
    connections: u64,
    total_connections: u64,
    tx_bytes: u64,
    tx_packets: u64,
    tx_app_bytes: u64,
    rx_bytes: u64,
    rx_packets: u64,
    rx_app_bytes: u64,
    total_tx_bytes: u64,
    total_tx_packets: u64,
    total_tx_app_bytes: u64,
    total_rx_bytes: u64,
    total_rx_packets: u64,
    total_rx_app_bytes: u64,
}

fn csv(document: &PeersDocument, with_header: bool) -> anyhow::Result<Vec<u8>> {
    let lines = document.peers.iter().map(|peer| (of_peer(document, peer), ProcessColumns::from(&peer.process)));
    records(lines, with_header)
}

fn of_peer<'a>(document: &'a PeersDocument, peer: &'a PeerOfProcess) -> Line<'a> {
    let [interval, total] = peer.moved();
    let of = peer.peer.as_ref();
    let connections = peer.connections();
    Line {
        time: &document.time,
        interval_ms: document.interval_ms,
        pid: peer.pid,
        start_time_ns: peer.start_time_ns,
        uid: peer.uid,
        comm: Text(Some(&peer.comm)),
        netns: peer.netns,
        netns_cookie: peer.netns_cookie,
        device: Text(peer.device.as_deref()),
        ifindex: peer.ifindex,
        role: of.map_or("", |peer| &peer.role),
        protocol: of.map_or("", |peer| &peer.protocol),
        address: of.map_or("", |peer| &peer.address),
        port: of.and_then(|peer| peer.port),
        idle_s: of.map(|peer| peer.idle_s),
        connections: connections.interval,
        total_connections: connections.total,
        tx_bytes: interval.tx.bytes,
        tx_packets: interval.tx.packets,
        tx_app_bytes: interval.tx.app_bytes,
        rx_bytes: interval.rx.bytes,
        rx_packets: interval.rx.packets,
        rx_app_bytes: interval.rx.app_bytes,
        total_tx_bytes: total.tx.bytes,
        total_tx_packets: total.tx.packets,
        total_tx_app_bytes: total.tx.app_bytes,
        total_rx_bytes: total.rx.bytes,
        total_rx_packets: total.rx.packets,
        total_rx_app_bytes: total.rx.app_bytes,
    }
}

#[cfg(test)]
mod tests {
    use nettop_model::{
        peers::{PeerReport, PeersOther},
        snapshot::{Amount, Count},
    };

    use super::*;

    #[test]
    fn the_busiest_come_first_and_the_rest_is_named() {
        let moved = |bytes| Traffic { tx: Amount { bytes, packets: 1, app_bytes: 0 }, rx: Amount::default() };
        let peer = |address: &str, port, interval, total| PeerReport {
            role: if port == Some(22) { "server" } else { "client" }.into(),
            protocol: "tcp".into(),
            address: address.into(),
            port,
            connections: Count { interval: 0, total: 3 },
            idle_s: 7,
            interval: moved(interval),
            total: moved(total),
            ..PeerReport::default()
        };
        let mut snapshot = crate::example::snapshot(1);
        let row = &mut snapshot.rows[0];
        row.peers = vec![peer("192.0.2.1", Some(443), 0, 4096), peer("2001:db8::1", Some(22), 9, 1024)];
        row.peers_other = Some(PeersOther { total: moved(2048), ..PeersOther::default() });
        let shown = text(&PeersDocument::from_snapshot(&snapshot), 2);
        let expected = "\
t
PROGRAM PEER        ROLE   PORT    SENT_KB RECEIVED_KB CONNECTIONS IDLE
x[1]    2001:db8::1 server 22/tcp        1           0           3   7s
x[1]    192.0.2.1   client 443/tcp       4           0           3   7s
1 more (--top 0 shows all)

";
        assert_eq!(shown, expected);
        assert!(
            text(&PeersDocument::from_snapshot(&snapshot), 0).contains("x[1]    [other]     -      -             2")
        );
        let csv = String::from_utf8(csv(&PeersDocument::from_snapshot(&snapshot), true).unwrap()).unwrap();
        assert_eq!(csv.lines().count(), 4, "{csv}");
    }
}
