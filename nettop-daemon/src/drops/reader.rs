//! Reads the table of drops each interval. Counts in it only grow; what was quiet for long makes room when it is needed.

use std::collections::HashMap;

use nettop_common::{DropCount, DropKey, Ref, owner};

use super::reasons::{Class, Reasons, class};
use crate::{
    kernel::programs::{DROPS, Programs},
    ledger::OwnerReading,
};

/// Intervals after which a quiet entry may be given back.
const QUIET: u32 = 60;

/// One kind of drop at one time.
#[derive(Clone, Debug)]
pub struct DropReading {
    pub key: DropKey,
    pub reason: String,
    pub class: Class,
    pub location: String,
    /// Of a process; what the key names otherwise is the kernel's or nobody's.
    pub owner: Option<OwnerReading>,
    pub interval: DropCount,
    pub total: DropCount,
}

/// All drops at one time.
#[derive(Clone, Default, Debug)]
pub struct DropsReading {
    pub drops: Vec<DropReading>,
    /// What the table had no room for.
    pub other: DropCount,
    pub other_total: DropCount,
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
}

impl Drops {
    pub fn new(reasons: Reasons) -> Self {
        Self { reasons, known: HashMap::new(), locations: HashMap::new(), other: DropCount::default() }
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
        if counts.len() * 4 > DROPS as usize * 3 {
            self.make_room(programs);
        }
        let other_total = programs.other_drops.get(&0, 0).map(|values| sum(values.iter())).unwrap_or_default();
        let other = difference(other_total, self.other);
        self.other = other_total;
        let drops = self.known.values().map(|known| known.drop.clone()).collect();
        DropsReading { drops, other, other_total }
    }

    fn name_locations(&mut self, programs: &mut Programs, counts: &[(DropKey, DropCount)]) {
        let mut unknown: Vec<u64> = counts.iter().map(|(key, _)| key.location).collect();
        unknown.retain(|location| !self.locations.contains_key(location));
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
        let known = self.known.entry(*key).or_insert_with(|| {
            let location = self.locations.get(&key.location);
            let location = location.cloned().unwrap_or_else(|| format!("{:#x}", key.location));
            let reason = self.reasons.name(key.reason);
            let drop = DropReading {
                key: *key,
                class: class(&reason, &location, key.protocol),
                reason,
                location,
                owner: owner(programs, key.owner),
                interval: DropCount::default(),
                total: DropCount::default(),
            };
            Known { drop, quiet: 0, counted: DropCount::default() }
        });
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
    /// so long nothing is expected.
    fn make_room(&mut self, programs: &mut Programs) {
        self.known.retain(|key, known| {
            let goes = known.quiet >= QUIET;
            if goes {
                let _ = programs.drops.remove(&bytemuck::cast(*key));
            }
            !goes
        });
    }
}

/// The process behind an owner, while its slot is still its own.
fn owner(programs: &Programs, owner: Ref) -> Option<OwnerReading> {
    let entry = programs.owners.read(owner.slot() as usize)?;
    (owner.slot() >= owner::FIRST && entry.generation == owner.generation()).then(|| OwnerReading::new(&entry))
}

fn sum<'a>(values: impl Iterator<Item = &'a [u64; 2]>) -> DropCount {
    values.fold(DropCount::default(), |sum, [packets, bytes]| DropCount {
        packets: sum.packets + packets,
        bytes: sum.bytes + bytes,
    })
}

const fn difference(now: DropCount, before: DropCount) -> DropCount {
    DropCount { packets: now.packets.saturating_sub(before.packets), bytes: now.bytes.saturating_sub(before.bytes) }
}
