//! What one reading finds of drops.

use std::collections::BTreeSet;

use nettop_common::{DropCount, DropKey, Netns, ProcessDrops, ProcessDropsKey};

use super::{listeners::ListenerReading, reasons::Class};
use crate::ledger::OwnerReading;

/// What is counted.
#[derive(Clone, Debug)]
pub enum What {
    Drop {
        reason: String,
        class: Class,
        location: String,
    },
    /// A TCP event.
    Event(&'static str),
}

/// A kind of drop, or event, at one time.
#[derive(Clone, Debug)]
pub struct DropReading {
    pub key: DropKey,
    pub what: What,
    /// Of a process; `None`: the owner in the key is the kernel or nobody.
    pub owner: Option<OwnerReading>,
    /// The slot is still the owner's.
    pub is_current: bool,
    pub interval: DropCount,
    pub total: DropCount,
}

/// All drops at one time.
#[derive(Clone, Default, Debug)]
pub struct DropsReading {
    pub drops: Vec<DropReading>,
    pub listeners: Vec<ListenerReading>,
    /// Sums of the entries given back, for processes whose owners were not.
    pub given_back: Vec<GivenBack>,
    /// What the table had no room for.
    pub other: DropCount,
    /// With drops given back.
    pub other_total: DropCount,
    /// Events without room in it, and runs for them that the kernel skipped.
    pub events_uncounted: u64,
    /// Runs at `kfree_skb` that the kernel skipped.
    pub uncounted: u64,
}

impl DropsReading {
    /// Namespaces of this interval's drops, and of processes that have a row for them, each with the process concerned:
    /// they may have no other traffic.
    pub fn namespaces(&self) -> impl Iterator<Item = (Netns, Option<u32>)> {
        let wanted = self.drops.iter().filter(|drop| drop.interval.packets > 0 || drop.is_current);
        let of_drops = wanted.map(|drop| (drop.key.netns, drop.owner));
        let listeners = self.listeners.iter().filter(|reading| reading.is_current);
        let of_listeners = listeners.map(|reading| (reading.listener.netns, reading.owner));
        let given_back = self.given_back.iter().map(|given_back| (given_back.key.netns, Some(given_back.owner)));
        let known = of_drops.chain(of_listeners).chain(given_back).filter(|(netns, _)| *netns != Netns::default());
        known.map(|(netns, owner)| (netns, owner.map(|owner| owner.key.tgid)))
    }

    /// Namespaces of all kinds, however long they have been quiet.
    pub fn all_namespaces(&self) -> BTreeSet<Netns> {
        self.drops.iter().map(|drop| drop.key.netns).filter(|netns| *netns != Netns::default()).collect()
    }
}

/// What the table has given back of one process on one device.
#[derive(Clone, Copy, Debug)]
pub struct GivenBack {
    pub key: ProcessDropsKey,
    pub owner: OwnerReading,
    pub counted: ProcessDrops,
}
