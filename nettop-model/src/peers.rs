//! Who a process talked to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Word,
    amounts::{Amount, Count, Traffic},
};

/// One peer of a process on a device: an address, asked or asking, by one protocol and service port.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerReport {
    /// client, where the process asked; server, where it was asked; other, where a protocol has no ports.
    pub role: Word,
    /// tcp, udp or the like, else the number in the IP header.
    pub protocol: Word,
    /// The peer's.
    pub address: String,
    /// Of a client, the peer's; of a server, its own. Null where there are none.
    pub port: Option<u16>,
    /// Sockets with this peer alone that sent or received their first packet.
    pub connections: Count,
    /// Segments of TCP that were sent again.
    pub retransmits: Count,
    /// Whole seconds since its last traffic, as readings saw it.
    pub idle_s: u32,
    pub interval: Traffic,
    /// Since `accounting_since`, or since the peer was last made room for.
    pub total: Traffic,
}

/// What a row has beside its listed peers.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PeersOther {
    pub connections: Count,
    pub retransmits: Count,
    pub interval: Traffic,
    pub total: Traffic,
}

impl PeersOther {
    /// Adds what a peer has.
    pub const fn add(&mut self, peer: &PeerReport) {
        add_count(&mut self.connections, peer.connections);
        add_count(&mut self.retransmits, peer.retransmits);
        add_traffic(&mut self.interval, &peer.interval);
        add_traffic(&mut self.total, &peer.total);
    }
}

const fn add_count(sum: &mut Count, more: Count) {
    sum.interval += more.interval;
    sum.total += more.total;
}

const fn add_traffic(sum: &mut Traffic, more: &Traffic) {
    add_amount(&mut sum.tx, more.tx);
    add_amount(&mut sum.rx, more.rx);
}

const fn add_amount(sum: &mut Amount, more: Amount) {
    sum.bytes += more.bytes;
    sum.packets += more.packets;
    sum.app_bytes += more.app_bytes;
}
