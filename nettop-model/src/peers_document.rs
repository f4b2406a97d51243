//! The document `nettop.peers/1`: the peers of a snapshot. docs/peers.schema.json is generated from these types.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ProcessNames, Snapshot, Word,
    amounts::{Count, Traffic},
    peers::{PeerReport, PeersOther},
    snapshot::{Loss, RowReport},
};

/// Name and major version of the document.
pub const SCHEMA: &str = "nettop.peers/1";
/// Most peers of a row in `nettop.snapshot/1`.
pub const MAX_PEERS: usize = 16;

/// Leaves a row so many of its peers, which come busiest first. What the others had goes to the rest.
pub fn cut_peers(row: &mut RowReport, most: usize) {
    if row.peers.len() <= most {
        return;
    }
    let other = row.peers_other.get_or_insert_default();
    for peer in row.peers.drain(most..) {
        other.add(&peer);
    }
}

/// The peers of a snapshot.
#[derive(Serialize, Deserialize, JsonSchema, Debug)]
pub struct PeersDocument {
    /// Always `nettop.peers/1`.
    pub schema: Word,
    /// Version of nettopd.
    pub version: Word,
    pub host: String,
    /// Identity of this boot; with `pid` and `start_time_ns` it names a process for all time.
    pub boot_id: String,
    pub kernel: String,
    /// End of the interval, RFC 3339.
    pub time: String,
    pub interval_ms: u64,
    /// When counting began, RFC 3339.
    pub accounting_since: String,
    /// Most bytes of the interval first, then of all.
    pub peers: Vec<PeerOfProcess>,
    pub loss: Loss,
}

/// A peer, or what a row has beside its peers.
#[derive(Serialize, Deserialize, JsonSchema, Debug)]
pub struct PeerOfProcess {
    pub pid: u32,
    pub start_time_ns: Option<u64>,
    /// Name of the thread-group leader, escaped.
    pub comm: String,
    pub uid: Option<u32>,
    pub user: Option<String>,
    pub netns: u32,
    pub netns_cookie: u32,
    pub device: Option<String>,
    pub ifindex: Option<u32>,
    /// Null for the rest.
    pub peer: Option<PeerReport>,
    /// Null for a peer.
    pub other: Option<PeersOther>,
    #[serde(flatten)]
    pub process: ProcessNames,
}

impl PeerOfProcess {
    fn new(row: &RowReport, peer: Option<PeerReport>, other: Option<PeersOther>) -> Self {
        Self {
            pid: row.pid,
            start_time_ns: row.start_time_ns,
            comm: row.comm.clone(),
            uid: row.uid,
            user: row.user.clone(),
            netns: row.netns,
            netns_cookie: row.netns_cookie,
            device: row.device.clone(),
            ifindex: row.ifindex,
            peer,
            other,
            process: row.process.clone(),
        }
    }

    /// What was counted, in the interval and in all.
    pub fn moved(&self) -> [Traffic; 2] {
        match (&self.peer, &self.other) {
            (Some(peer), _) => [peer.interval, peer.total],
            (None, Some(other)) => [other.interval, other.total],
            (None, None) => [Traffic::default(); 2],
        }
    }

    /// How many connections were new, in the interval and in all.
    pub fn connections(&self) -> Count {
        self.peer
            .as_ref()
            .map(|peer| peer.connections)
            .or(self.other.map(|other| other.connections))
            .unwrap_or_default()
    }
}

impl PeersDocument {
    /// Of a snapshot whose rows have all their peers.
    pub fn from_snapshot(snapshot: &Snapshot) -> Self {
        let of_row = |row: &RowReport| {
            let rest = row.peers_other.filter(|other| *other != PeersOther::default());
            let rest = rest.map(|other| PeerOfProcess::new(row, None, Some(other)));
            let peers = row.peers.iter().map(|peer| PeerOfProcess::new(row, Some(peer.clone()), None));
            peers.chain(rest).collect::<Vec<_>>()
        };
        let mut peers: Vec<PeerOfProcess> = snapshot.rows.iter().flat_map(of_row).collect();
        let bytes = |moved: &Traffic| moved.tx.bytes + moved.rx.bytes;
        peers.sort_by_cached_key(|peer| std::cmp::Reverse(peer.moved().map(|moved| bytes(&moved))));
        Self {
            schema: SCHEMA.into(),
            version: snapshot.version.clone(),
            host: snapshot.host.clone(),
            boot_id: snapshot.boot_id.clone(),
            kernel: snapshot.kernel.clone(),
            time: snapshot.time.clone(),
            interval_ms: snapshot.interval_ms,
            accounting_since: snapshot.accounting_since.clone(),
            peers,
            loss: snapshot.loss,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amounts::Amount;

    #[test]
    fn what_is_cut_off_is_in_the_rest() {
        let peer = |bytes| {
            let amount = Amount { bytes, packets: 1, app_bytes: bytes / 2 };
            let moved = Traffic { tx: amount, rx: Amount::default() };
            let connections = Count { interval: 1, total: 2 };
            PeerReport { connections, interval: moved, total: moved, ..PeerReport::default() }
        };
        let mut row = RowReport { peers: [800, 70, 6, 5].map(peer).into(), ..RowReport::default() };
        cut_peers(&mut row, 4);
        assert_eq!((row.peers.len(), row.peers_other), (4, None));
        cut_peers(&mut row, 2);
        let other = row.peers_other.unwrap();
        assert_eq!((row.peers.len(), other.total.tx.bytes, other.interval.tx.packets), (2, 11, 2));
        assert_eq!((other.connections.total, other.total.tx.app_bytes), (4, 5));
    }
}
