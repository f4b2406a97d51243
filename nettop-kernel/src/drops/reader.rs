//! Reads the table of drops each interval. Counts in it only grow. Entries quiet for long go with their device or
//! namespace, or when room is needed.

use std::{collections::HashMap, mem::offset_of, sync::atomic::Ordering};

use bytemuck::Zeroable as _;
use nettop_common::{
    DropCount, DropEntry, DropKey, Netns, ProcessDrops, ProcessDropsKey, Ref, Share, Stats,
    abi::IPPROTO_TCP,
    drops::{
        attribution,
        event::{self, is_event},
    },
    share::UNLIMITED,
};

use super::{
    listeners::{Listeners, MIN_QUIET_INTERVALS},
    reading::{DropReading, DropsReading, GivenBack, What},
    reasons::{CAPTURE, Class, Reasons, class},
    share_counts::{ShareCounts, process_share},
    shrink,
};
use crate::{ledger::DeviceKey, ledger::OwnerReading, programs::Programs, recursion_misses};

/// Intervals between searches for holders of sniffers.
const SNIFFER_SEARCH_INTERVALS: u32 = 10;

struct Known {
    drop: DropReading,
    /// Intervals without a packet.
    quiet: u32,
    /// Count at the last reading.
    counted: DropCount,
    /// What it counts against, an index in [`nettop_common::share`].
    share: u32,
}

/// State between readings.
pub struct Drops {
    reasons: Reasons,
    known: HashMap<DropKey, Known>,
    locations: HashMap<u64, String>,
    other: DropCount,
    given_back: HashMap<ProcessDropsKey, GivenBack>,
    listeners: Listeners,
    /// Intervals until the next search for sniffers' holders.
    wait: u32,
}

impl Drops {
    /// Goes on with what a daemon before this one gave back.
    pub fn new(reasons: Reasons, programs: &mut Programs) -> Self {
        let mut given_back = HashMap::new();
        let noted: Vec<_> = programs.process_drops.iter().flatten().collect();
        for (noted_key, counted) in noted {
            let key: ProcessDropsKey = bytemuck::cast(noted_key);
            match OwnerReading::find(programs, key.owner) {
                Some(owner) => {
                    given_back.insert(key, GivenBack { key, owner, counted: bytemuck::cast(counted) });
                }
                None => drop(programs.process_drops.remove(&noted_key)),
            }
        }
        Self {
            reasons,
            known: HashMap::new(),
            locations: HashMap::new(),
            other: DropCount::default(),
            given_back,
            listeners: Listeners::default(),
            wait: 0,
        }
    }

    /// The drops of the interval, and earlier ones still remembered. `is_gone` reports whether a device that was there
    /// 60 intervals ago has gone, or its namespace.
    pub fn read(&mut self, programs: &mut Programs, is_gone: impl Fn(DeviceKey) -> bool) -> DropsReading {
        let counts: Vec<(DropKey, DropCount, u32)> = programs
            .drops
            .iter()
            .flatten()
            .map(|(key, values)| {
                let entries = values.iter().map(|value| bytemuck::cast::<_, DropEntry>(*value));
                let share = entries.clone().map(|entry| entry.share).max().unwrap_or_default();
                (bytemuck::cast(key), total(entries.map(|entry| entry.count)), share)
            })
            .collect();
        self.name_locations(programs, &counts);
        for known in self.known.values_mut() {
            known.drop.interval = DropCount::default();
            known.quiet = known.quiet.saturating_add(1);
        }
        for (key, count, share) in &counts {
            self.note(programs, key, *count, *share);
        }
        let is_crowded = counts.len() * 4 > programs.drops_limit as usize * 3;
        self.give_back(programs, |key| {
            is_crowded || key.netns != Netns::default() && is_gone((key.netns, key.ifindex))
        });
        shrink(&mut self.known);
        self.find_sniffers(programs);
        self.add_given_back_events(programs);
        self.given_back.retain(|key, _| {
            let is_current = OwnerReading::find(programs, key.owner).is_some();
            if !is_current {
                let _ = programs.process_drops.remove(&bytemuck::cast(*key));
            }
            is_current
        });
        let (listeners, forgotten) = self.listeners.read(programs);
        for (cookie, reading) in forgotten {
            let listener = &reading.listener;
            if let Some(owner) = reading.owner.filter(|_| reading.is_current) {
                let more = ProcessDrops { drops: reading.total, retransmits: 0 };
                self.note_of_process(programs, (listener.owner, listener.netns, 0), owner, more);
            }
            let count = DropCount { packets: reading.total, bytes: 0 };
            note_given_back(programs, offset_of!(Stats, drops_given_back), count);
            // Last: a crash before it counts twice, and nothing falls.
            Listeners::remove(programs, cookie, listener.share);
        }
        let others = |index| programs.other_drops.get(&index, 0).map(|values| sum(values.iter())).unwrap_or_default();
        let (other_now, other_events) = (others(0), others(1));
        let other = difference(other_now, self.other);
        self.other = other_now;
        DropsReading {
            drops: self.known.values().map(|known| known.drop.clone()).collect(),
            listeners,
            given_back: self.given_back.values().copied().collect(),
            other,
            other_total: total([other_now, programs.stats.read(0).unwrap_or_default().drops_given_back]),
            events_uncounted: other_events.packets + programs.misses.sum_of(&recursion_misses::TCP),
            uncounted: programs.misses.sum_of(&[recursion_misses::DROPS]),
        }
    }

    /// For a sniffer's socket without an owner: it is newer than nettopd and receives by a ring, which no hook sees.
    fn find_sniffers(&mut self, programs: &Programs) {
        self.wait = self.wait.saturating_sub(1);
        let is_unknown = |known: &Known| {
            let is_capture =
                matches!(&known.drop.what, What::Drop { class: Class::Capture, reason, .. } if reason == CAPTURE);
            is_capture && known.quiet == 0 && known.drop.key.attribution == attribution::NONE
        };
        if self.wait == 0 && self.known.values().any(is_unknown) {
            self.wait = SNIFFER_SEARCH_INTERVALS;
            if let Err(error) = programs.tag_sockets() {
                tracing::debug!("no holders of sniffers: {error:#}");
            }
        }
    }

    fn name_locations(&mut self, programs: &mut Programs, counts: &[(DropKey, DropCount, u32)]) {
        let mut unknown: Vec<u64> = counts.iter().map(|(key, ..)| key.location).collect();
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

    fn note(&mut self, programs: &Programs, key: &DropKey, count: DropCount, share: u32) {
        let known = self.known(key);
        known.share = share;
        let owner = OwnerReading::find(programs, known.drop.key.owner);
        // While the slot is its own: it may have another name by now.
        known.drop.is_current = owner.is_some();
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

    /// Gives back entries that were quiet for long and `may_go`. A drop between the last check and now would be lost:
    /// after so long none is expected. Totals keep the counts.
    fn give_back(&mut self, programs: &mut Programs, may_go: impl Fn(&DropKey) -> bool) {
        let mut processes = ShareCounts::default();
        self.given_back.keys().for_each(|key| processes.add(process_share(programs, key.owner)));
        let mut forgotten = Vec::new();
        self.known.retain(|key, known| {
            if known.quiet < MIN_QUIET_INTERVALS || *key == unowned_key(key.reason) || !may_go(key) {
                return true;
            }
            if known.drop.is_current && known.drop.owner.is_some() {
                let share = process_share(programs, known.drop.key.owner);
                if !processes.has_room(share, programs.drops_limit) {
                    return true;
                }
                processes.add(share);
            }
            forgotten.push((*key, known.share, known.drop.clone()));
            false
        });
        for (in_table, share, drop) in forgotten {
            let key = &drop.key;
            if let Some(owner) = drop.owner.filter(|_| drop.is_current) {
                let packets = drop.total.packets;
                let more = match drop.what {
                    What::Drop { class: Class::Lifecycle | Class::Capture, .. } => ProcessDrops::default(),
                    What::Drop { .. } => ProcessDrops { drops: packets, retransmits: 0 },
                    What::Event("retransmit") => ProcessDrops { drops: 0, retransmits: packets },
                    What::Event(_) => ProcessDrops::default(),
                };
                self.note_of_process(programs, (key.owner, key.netns, key.ifindex), owner, more);
            }
            if is_event(key.reason) {
                let offset = offset_of!(Stats, events_given_back) + event_index(key.reason) * 8;
                note_given_back_word(programs, offset, drop.total.packets);
            } else {
                note_given_back(programs, offset_of!(Stats, drops_given_back), drop.total);
            }
            // Last, as for listeners.
            if programs.drops.remove(&bytemuck::cast(in_table)).is_ok() {
                programs.count_down(offset_of!(Stats, drops_in_use), share, offset_of!(Share, drops));
            }
        }
    }

    /// Events that were given back are nobody's.
    fn add_given_back_events(&mut self, programs: &Programs) {
        let given_back = programs.stats.read(0).unwrap_or_default().events_given_back;
        for reason in [event::RETRANSMIT, event::RESET_SENT, event::RESET_RECEIVED] {
            let packets = given_back[event_index(reason)];
            if packets > 0 {
                let known = self.known(&unowned_key(reason));
                known.drop.total.packets = known.counted.packets + packets;
            }
        }
    }

    /// Adds to what was given back of a process, here and in the table for the next daemon.
    fn note_of_process(
        &mut self,
        programs: &mut Programs,
        (owner, netns, ifindex): (Ref, Netns, u32),
        reading: OwnerReading,
        more: ProcessDrops,
    ) {
        if more == ProcessDrops::default() {
            return;
        }
        let key = ProcessDropsKey { owner, netns, ifindex, padding: 0 };
        let counted = ProcessDrops::default();
        let given_back = self.given_back.entry(key).or_insert(GivenBack { key, owner: reading, counted });
        given_back.counted.drops += more.drops;
        given_back.counted.retransmits += more.retransmits;
        // Without room the row would be right until a crash.
        if let Err(error) = programs.process_drops.insert(
            bytemuck::cast::<_, [u64; 3]>(key),
            bytemuck::cast::<_, [u64; 2]>(given_back.counted),
            0,
        ) {
            tracing::debug!("drops of a process are not kept for a next daemon: {error}");
        }
    }

    fn known(&mut self, key: &DropKey) -> &mut Known {
        self.known.entry(*key).or_insert_with(|| {
            let what = what(key, &mut self.reasons, &self.locations);
            let (interval, total) = Default::default();
            let is_capture = matches!(what, What::Drop { class: Class::Capture, .. });
            let mut key = *key;
            if is_capture && key.attribution == attribution::ADDRESS {
                // A sniffer's copy is not for the packet's receiver. The kernel side knows only if there is a reason.
                (key.owner, key.attribution) = (Ref::NONE, attribution::NONE);
            }
            let drop = DropReading { key, what, owner: None, is_current: false, interval, total };
            Known { drop, quiet: 0, counted: DropCount::default(), share: UNLIMITED }
        })
    }
}

/// The sums outlive the daemon, see [`Stats`].
fn note_given_back(programs: &Programs, offset: usize, count: DropCount) {
    note_given_back_word(programs, offset + offset_of!(DropCount, packets), count.packets);
    note_given_back_word(programs, offset + offset_of!(DropCount, bytes), count.bytes);
}

fn note_given_back_word(programs: &Programs, offset: usize, more: u64) {
    if let Some(sum) = programs.stats.double_word(0, offset) {
        sum.fetch_add(more, Ordering::Relaxed);
    }
}

/// Index of an event in [`Stats`].
const fn event_index(reason: u32) -> usize {
    match reason {
        event::RETRANSMIT => 0,
        event::RESET_SENT => 1,
        _ => 2,
    }
}

/// The key of an event without further details.
fn unowned_key(event: u32) -> DropKey {
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
