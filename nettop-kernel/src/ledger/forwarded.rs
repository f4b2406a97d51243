//! Reads the table of forwarded traffic, and takes out pairs whose device is gone.

use std::{
    collections::HashMap,
    mem::offset_of,
    time::{Duration, Instant},
};

use nettop_common::{Forwarded, Netns, Pair, PairKey, Share, Stats};

use super::{Presence, QUIET_NAMESPACE_S};
use crate::programs::Programs;

/// Readings without a packet before a pair may go.
const QUIET_READINGS: u32 = 2;

/// One pair at one time.
#[derive(Clone, Copy, Debug)]
pub struct PairReading {
    pub key: PairKey,
    pub interval: Forwarded,
    pub total: Forwarded,
}

struct Known {
    total: Forwarded,
    share: u32,
    quiet: u32,
    moved_at: Instant,
}

/// State between readings.
#[derive(Default)]
pub(super) struct Pairs {
    known: HashMap<PairKey, Known>,
}

impl Pairs {
    /// All pairs. `place` reports whether a device is still there.
    pub(super) fn read(
        &mut self,
        programs: &mut Programs,
        place: impl Fn((Netns, u32)) -> Presence,
    ) -> Vec<PairReading> {
        let now = Instant::now();
        // A packet is counted on a bridge and then on its port: where the port has it, the second pass finds both.
        let mut found = Self::pass(programs);
        if found.keys().any(|key| !self.known.contains_key(key)) {
            let all = Self::pass(programs);
            found.extend(all.into_iter().filter(|(key, _)| !self.known.contains_key(key)));
        }
        self.known.retain(|key, _| found.contains_key(key));
        let mut readings = Vec::with_capacity(found.len());
        for (key, Pair { traffic: total, share, .. }) in found {
            let unknown = Known { total: Forwarded::default(), share, quiet: 0, moved_at: now };
            let known = self.known.entry(key).or_insert(unknown);
            let interval = total.since(&known.total);
            let is_busy = interval != Forwarded::default();
            (known.total, known.quiet) = (total, if is_busy { 0 } else { known.quiet.saturating_add(1) });
            if is_busy {
                known.moved_at = now;
            }
            readings.push(PairReading { key, interval, total });
        }
        self.take_out(programs, now, place);
        readings
    }

    fn pass(programs: &Programs) -> HashMap<PairKey, Pair> {
        let entries = programs.forwarded.iter().flatten();
        entries.map(|(key, value)| (bytemuck::cast(key), bytemuck::cast(value))).collect()
    }

    /// They stay known until the next reading does not find them.
    fn take_out(&self, programs: &mut Programs, now: Instant, place: impl Fn((Netns, u32)) -> Presence) {
        for (key, known) in self.known.iter().filter(|(_, known)| known.quiet >= QUIET_READINGS) {
            let places = [key.received_on, key.sent_on].map(|ifindex| place((key.netns, ifindex)));
            let is_old = now.duration_since(known.moved_at) >= Duration::from_secs(QUIET_NAMESPACE_S.into());
            let may_go = places.contains(&Presence::Gone) || is_old && places.contains(&Presence::Unknown);
            if may_go && programs.forwarded.remove(&bytemuck::cast(*key)).is_ok() {
                programs.count_down(offset_of!(Stats, pairs_in_use), known.share, offset_of!(Share, pairs));
            }
        }
    }
}
