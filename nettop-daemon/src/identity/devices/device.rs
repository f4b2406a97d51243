//! One device at one time: its identity, its counters, and what decides what they mean.

use nettop_model::snapshot::DeviceBalance;

use super::basis::{Basis, Whole};
use crate::sys::ethtool::Features;

/// A device's own counters.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counters {
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub rx_packets: u64,
}

impl Counters {
    /// Whether any of them has fallen since.
    pub const fn any_below(&self, before: &Self) -> bool {
        self.tx_bytes < before.tx_bytes
            || self.tx_packets < before.tx_packets
            || self.rx_bytes < before.rx_bytes
            || self.rx_packets < before.rx_packets
    }

    /// What was counted since then.
    pub const fn since(&self, before: &Self) -> Self {
        Self {
            tx_bytes: self.tx_bytes.saturating_sub(before.tx_bytes),
            tx_packets: self.tx_packets.saturating_sub(before.tx_packets),
            rx_bytes: self.rx_bytes.saturating_sub(before.rx_bytes),
            rx_packets: self.rx_packets.saturating_sub(before.rx_packets),
        }
    }

    /// With what was moved since.
    pub const fn plus(&self, moved: &DeviceBalance) -> Self {
        Self {
            tx_bytes: self.tx_bytes + moved.tx.bytes,
            tx_packets: self.tx_packets + moved.tx.packets,
            rx_bytes: self.rx_bytes + moved.rx.bytes,
            rx_packets: self.rx_packets + moved.rx.packets,
        }
    }

    /// None of them above these.
    pub fn at_most(&self, most: &Self) -> Self {
        Self {
            tx_bytes: self.tx_bytes.min(most.tx_bytes),
            tx_packets: self.tx_packets.min(most.tx_packets),
            rx_bytes: self.rx_bytes.min(most.rx_bytes),
            rx_packets: self.rx_packets.min(most.rx_packets),
        }
    }
}

/// What a device keeps when it moves to another namespace.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Of a software device; empty for others.
    pub kind: String,
    /// Of the link layer.
    pub address: Vec<u8>,
    /// The index of the device below, or of the other end.
    pub link: Option<u32>,
}

/// Which headers the kernel makes for a device.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum LinkLayer {
    #[default]
    Ethernet,
    Loopback,
    /// None, as of tunnels, or those of another medium.
    Other,
}

/// What decides what a device's counters count.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Setup {
    pub link_layer: LinkLayer,
    /// Of hardware; empty where it is not known.
    pub driver: String,
    /// The machine is virtual.
    pub is_virtual: bool,
    /// None where they were never asked for.
    pub features: Option<Features>,
    pub has_xdp: bool,
    pub mtu_bytes: u32,
    /// By [`nettop_common::Family`].
    pub gso_max_bytes: [u32; 2],
    /// Index of the bridge, bond or team that it is part of.
    pub master: Option<u32>,
    /// The index of `Identity::link` is one of another namespace (`IFLA_LINK_NETNSID`).
    pub is_link_elsewhere: bool,
}

/// One device at one time.
#[derive(Clone, Default, Debug)]
pub struct Device {
    pub name: String,
    pub identity: Identity,
    pub setup: Setup,
    /// By [`nettop_common::Direction`].
    pub basis: [Basis; 2],
    pub whole: Whole,
    /// Whether it counts tags of VLANs, by [`nettop_common::Direction`].
    pub counts_tags: [bool; 2],
    pub counters: Counters,
    /// The last list was not whole, and lacks it.
    pub is_unlisted: bool,
}

impl Device {
    /// Index of the device in its namespace through which it sends.
    pub fn lower(&self) -> Option<u32> {
        let has_lower = matches!(self.identity.kind.as_str(), "vlan" | "macvlan" | "macvtap" | "ipvlan" | "ipvtap");
        self.identity.link.filter(|_| has_lower && !self.setup.is_link_elsewhere)
    }

    /// Whether it is hardware.
    pub fn is_hardware(&self) -> bool {
        self.setup.link_layer == LinkLayer::Ethernet && self.identity.kind.is_empty()
    }
}
