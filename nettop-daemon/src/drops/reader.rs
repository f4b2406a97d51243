//! Reads the table of drops each interval. Counts in it only grow; what was quiet for long makes room when it is needed.

use std::collections::HashMap;

use bytemuck::Zeroable as _;
use nettop_common::{
    DropCount, DropKey, Netns,
    drops::event::{self, is_event},
};

use super::{
    listeners::{ListenerReading, Listeners},
    reasons::{Class, Reasons, class},
};
use crate::{
    kernel::{misses, programs::Programs},
    ledger::OwnerReading,
};

/// Intervals after which a quiet entry may be given back.
const QUIET: u32 = 60;

/// What a count is of.
#[derive(Clone, Debug)]
pub enum What {
    Drop {
        reason: String,
        class: Class,
        location: String,
    },
    /// Of TCP's.
    Event(&'static str),
}

/// One kind of drop, or event, at one time.
#[derive(Clone, Debug)]
pub struct DropReading {
    pub key: DropKey,
    pub what: What,
    /// Of a process; what the key names otherwise is the kernel's or nobody's.
    pub owner: Option<OwnerReading>,
    pub interval: DropCount,
    pub total: DropCount,
}

/// All drops at one time.
#[derive(Clone, Default, Debug)]
pub struct DropsReading {
    pub drops: Vec<DropReading>,
    pub listeners: Vec<ListenerReading>,
    /// What the table had no room for.
    pub other: DropCount,
    /// With what it has given back.
    pub other_total: DropCount,
    /// Events for which it had no room, and runs for them that the kernel skipped.
    pub events_uncounted: u64,
    /// Runs at `kfree_skb` that the kernel skipped.
    pub uncounted: u64,
}

impl DropsReading {
    /// Namespaces of this interval's drops, each with the process that it concerned: they may have no traffic else.
    pub fn namespaces(&self) -> impl Iterator<Item = (Netns, Option<u32>)> {
        let busy = self.drops.iter().filter(|drop| drop.interval.packets > 0 && drop.key.netns != Netns::default());
        busy.map(|drop| (drop.key.netns, drop.owner.map(|owner| owner.key.tgid)))
    }
}

struct Known {
    drop: DropReading,
    /// Intervals without a packet.
    quiet: u32,
    /// What the table held when it was read last.
    counted: DropCount,
}

/// What is known from reading to reading.
pub struct Drops {
    reasons: Reasons,
    known: HashMap<DropKey, Known>,
    locations: HashMap<u64, String>,
    other: DropCount,
    /// What the table has given back.
    folded: DropCount,
    listeners: Listeners,
}

impl Drops {
    pub fn new(reasons: Reasons) -> Self {
        Self {
            reasons,
            known: HashMap::new(),
            locations: HashMap::new(),
            other: DropCount::default(),
            folded: DropCount::default(),
            listeners: Listeners::default(),
        }
    }

    /// The drops of the interval, and those before that are still remembered.
    pub fn read(&mut self, programs: &mut Programs) -> DropsReading {
        let counts: Vec<(DropKey, DropCount)> =
            programs.drops.iter().flatten().map(|(key, values)| (bytemuck::cast(key), sum(values.iter()))).collect();
        self.name_locations(programs, &counts);
        for known in self.known.values_mut() {
            known.drop.interval = DropCount::default();
            known.quiet = known.quiet.saturating_add(1);
        }
        for (key, count) in &counts {
            self.note(programs, key, *count);
        }
        if counts.len() * 4 > programs.drops_limit as usize * 3 {
            self.make_room(programs);
        }
        let listeners = self.listeners.read(programs, &mut self.folded);
        let others = |index| programs.other_drops.get(&index, 0).map(|values| sum(values.iter())).unwrap_or_default();
        let (other_now, other_events) = (others(0), others(1));
        let other = difference(other_now, self.other);
        self.other = other_now;
        DropsReading {
            drops: self.known.values().map(|known| known.drop.clone()).collect(),
            listeners,
            other,
            other_total: total([other_now, self.folded]),
            events_uncounted: other_events.packets + programs.misses.of(&misses::TCP),
            uncounted: programs.misses.of(&[misses::DROPS]),
        }
    }

    fn name_locations(&mut self, programs: &mut Programs, counts: &[(DropKey, DropCount)]) {
        let mut unknown: Vec<u64> = counts.iter().map(|(key, _)| key.location).collect();
        unknown.retain(|location| *location != 0 && !self.locations.contains_key(location));
        unknown.sort_unstable();
        unknown.dedup();
        if unknown.is_empty() {
            return;
        }
        match programs.symbols(&unknown) {
            Ok(names) => self.locations.extend(unknown.into_iter().zip(names)),
            Err(error) => tracing::debug!("no names of kernel functions: {error:#}"),
        }
    }

    fn note(&mut self, programs: &Programs, key: &DropKey, count: DropCount) {
        let owner = OwnerReading::of(programs, key.owner);
        let known = self.known(key);
        // While its slot is its own: it may have another name by now.
        known.drop.owner = owner.or(known.drop.owner);
        let interval = difference(count, known.counted);
        known.counted = count;
        if interval != DropCount::default() {
            known.quiet = 0;
            known.drop.interval = interval;
            known.drop.total.packets += interval.packets;
            known.drop.total.bytes += interval.bytes;
        }
    }

    /// Gives back entries that were quiet for long. Were one to come between the last look and now, it would be lost: after
    /// so long nothing is expected. Totals go on without what was known of them.
    fn make_room(&mut self, programs: &mut Programs) {
        let mut forgotten = Vec::new();
        self.known.retain(|key, known| {
            let goes = known.quiet >= QUIET && *key != nobodys(key.reason);
            if goes {
                let _ = programs.drops.remove(&bytemuck::cast(*key));
                forgotten.push((key.reason, known.drop.total));
            }
            !goes
        });
        for (reason, count) in forgotten {
            if is_event(reason) {
                let key = nobodys(reason);
                self.known(&key).drop.total = total([self.known(&key).drop.total, count]);
            } else {
                self.folded = total([self.folded, count]);
            }
        }
    }

    fn known(&mut self, key: &DropKey) -> &mut Known {
        self.known.entry(*key).or_insert_with(|| {
            let what = what(key, &mut self.reasons, &self.locations);
            let (interval, total) = Default::default();
            let drop = DropReading { key: *key, what, owner: None, interval, total };
            Known { drop, quiet: 0, counted: DropCount::default() }
        })
    }
}

/// The key of an event of which nothing else is known.
fn nobodys(event: u32) -> DropKey {
    const IPPROTO_TCP: u16 = 6;
    DropKey { reason: event, transport: IPPROTO_TCP, ..DropKey::zeroed() }
}

fn what(key: &DropKey, reasons: &mut Reasons, locations: &HashMap<u64, String>) -> What {
    if is_event(key.reason) {
        return What::Event(match key.reason {
            event::RETRANSMIT => "retransmit",
            event::RESET_SENT => "reset_sent",
            event::RESET_RECEIVED => "reset_received",
            _ => "unknown",
        });
    }
    let location = locations.get(&key.location).cloned().unwrap_or_else(|| format!("{:#x}", key.location));
    let reason = reasons.name(key.reason);
    What::Drop { class: class(&reason, &location, key.protocol), reason, location }
}

fn sum<'a>(values: impl Iterator<Item = &'a [u64; 2]>) -> DropCount {
    total(values.map(|[packets, bytes]| DropCount { packets: *packets, bytes: *bytes }))
}

fn total(counts: impl IntoIterator<Item = DropCount>) -> DropCount {
    counts.into_iter().fold(DropCount::default(), |sum, more| DropCount {
        packets: sum.packets + more.packets,
        bytes: sum.bytes + more.bytes,
    })
}

const fn difference(now: DropCount, before: DropCount) -> DropCount {
    DropCount { packets: now.packets.saturating_sub(before.packets), bytes: now.bytes.saturating_sub(before.bytes) }
}
