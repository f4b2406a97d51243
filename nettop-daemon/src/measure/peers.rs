//! Rows of one owner on one device, joined: IP versions, and peers, which are listed with it.

use std::cmp::Reverse;

use nettop_common::{
    Peer,
    abi::{IPPROTO_DCCP, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE},
    peer::role,
};
use nettop_kernel::ledger::{Change, RowReading, accumulate};
use nettop_model::{
    Word,
    peers::{PeerReport, PeersOther},
    snapshot::Count,
};

use super::traffic::traffic;
use crate::identity::address::Address;

/// All rows of an owner on a device.
pub struct Joined {
    /// What they have together.
    pub row: RowReading,
    /// Busiest first.
    pub peers: Vec<RowReading>,
    /// What has no peer.
    pub other: RowReading,
}

/// Joins rows that differ only in their IP version or their peer.
pub fn join(mut rows: Vec<RowReading>) -> Vec<Joined> {
    let place = |row: &RowReading| (row.key.owner, row.key.netns, row.key.ifindex);
    rows.sort_unstable_by_key(|row| (place(row), row.key.peer));
    rows.chunk_by(|a, b| place(a) == place(b)).filter_map(joined).collect()
}

fn joined(rows: &[RowReading]) -> Option<Joined> {
    let first = rows.first()?;
    let empty = RowReading::empty(first.key.base(), first.owner);
    let mut all = Joined { row: empty, peers: Vec::new(), other: empty };
    for row in rows {
        add(&mut all.row, row);
        match all.peers.last_mut() {
            _ if !row.key.peer.is_some() => add(&mut all.other, row),
            Some(last) if last.key.peer == row.key.peer => add(last, row),
            _ => all.peers.push(*row),
        }
    }
    all.peers.sort_by_cached_key(|row| {
        let bytes = [&row.interval, &row.total].map(|flows| {
            let traffic = traffic(flows);
            traffic.tx.bytes + traffic.rx.bytes
        });
        (Reverse(bytes), row.quiet_s, row.key.peer)
    });
    Some(all)
}

fn add(sum: &mut RowReading, more: &RowReading) {
    accumulate(&mut sum.interval, &more.interval);
    accumulate(&mut sum.total, &more.total);
    for (sum, more) in [(&mut sum.connections, more.connections), (&mut sum.retransmits, more.retransmits)] {
        sum.interval += more.interval;
        sum.total += more.total;
    }
    sum.attribution = sum.attribution.max(more.attribution);
    sum.quiet_s = sum.quiet_s.min(more.quiet_s);
}

/// A peer as it is reported, on a device of this name.
pub fn report(row: &RowReading, device: Option<&str>) -> PeerReport {
    let Peer { address, port, role, protocol } = row.key.peer;
    PeerReport {
        role: role::name(role).into(),
        protocol: protocol_name(protocol),
        address: Address::from(address).scoped(device),
        port: (role != role::OTHER).then_some(port),
        connections: count(row.connections),
        retransmits: count(row.retransmits),
        idle_s: row.quiet_s,
        interval: traffic(&row.interval),
        total: traffic(&row.total),
    }
}

/// What has no peer.
pub fn other(row: &RowReading) -> PeersOther {
    PeersOther {
        connections: count(row.connections),
        retransmits: count(row.retransmits),
        interval: traffic(&row.interval),
        total: traffic(&row.total),
    }
}

const fn count(change: Change) -> Count {
    Count { interval: change.interval, total: change.total }
}

fn protocol_name(protocol: u8) -> Word {
    match u16::from(protocol) {
        IPPROTO_TCP => "tcp".into(),
        IPPROTO_UDP => "udp".into(),
        IPPROTO_UDPLITE => "udplite".into(),
        IPPROTO_SCTP => "sctp".into(),
        IPPROTO_DCCP => "dccp".into(),
        IPPROTO_ICMP => "icmp".into(),
        IPPROTO_ICMPV6 => "icmp6".into(),
        number => number.to_string().into(),
    }
}
