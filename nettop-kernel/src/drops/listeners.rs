//! Connections that listeners refused, from each listener's own count of drops: a full accept queue has no hook on
//! every kernel, and its packets are not freed as dropped.

use std::{collections::HashMap, mem::offset_of};

use nettop_common::{Listener, Share, Stats};

use super::shrink;
use crate::{ledger::OwnerReading, programs::Programs};

/// A listener that refused something.
#[derive(Clone, Debug)]
pub struct ListenerReading {
    pub listener: Listener,
    pub owner: Option<OwnerReading>,
    /// The slot is still the owner's.
    pub is_current: bool,
    pub interval: u64,
    pub total: u64,
}

/// Intervals after which an ended listener is forgotten, and a quiet entry of the table of drops may be given back.
pub(super) const MIN_QUIET_INTERVALS: u32 = 60;

struct Known {
    reading: ListenerReading,
    has_ended: bool,
    quiet: u32,
}

/// State between readings, by cookie.
#[derive(Default)]
pub struct Listeners {
    known: HashMap<u64, Known>,
}

impl Listeners {
    /// Reads the drops of all that ever got a packet. Forgets those in the second list, by cookie: they are to be removed.
    pub fn read(&mut self, programs: &mut Programs) -> (Vec<ListenerReading>, Vec<(u64, ListenerReading)>) {
        for known in self.known.values_mut() {
            known.reading.interval = 0;
            known.quiet = known.quiet.saturating_add(1);
        }
        let found: Vec<(u64, Listener)> =
            programs.listeners.iter().flatten().map(|(cookie, listener)| (cookie, bytemuck::cast(listener))).collect();
        let open = found.iter().filter(|(_, listener)| listener.has_ended == 0);
        let sockets: Vec<u64> = open.map(|(_, listener)| listener.socket).collect();
        let answers = programs.socket_drops(&sockets).unwrap_or_else(|error| {
            tracing::debug!("no drops of listeners: {error:#}");
            vec![None; sockets.len()]
        });
        let mut answers = answers.into_iter();
        for (cookie, listener) in found {
            let answer = if listener.has_ended == 0 { answers.next().flatten() } else { None };
            // Another socket may be where it was.
            let drops_now = answer.filter(|(now, _)| *now == cookie).map(|(_, drops)| drops);
            let drops = if listener.has_ended == 0 { drops_now } else { Some(listener.drops_at_end) };
            if let Some(drops) = drops {
                self.note(programs, cookie, listener, drops);
            }
            if listener.has_ended != 0 || answer.is_some() && drops_now.is_none() {
                match self.known.get_mut(&cookie) {
                    // Until it is forgotten, its count is in the table for the next daemon, and in its share.
                    Some(known) if known.reading.total > 0 => {
                        known.has_ended = true;
                        if listener.has_ended == 0 {
                            note_end(programs, cookie, listener, known.reading.total);
                        }
                    }
                    _ => {
                        self.known.remove(&cookie);
                        Self::remove(programs, cookie, listener.share);
                    }
                }
            }
        }
        for known in self.known.values_mut() {
            known.reading.is_current = OwnerReading::find(programs, known.reading.listener.owner).is_some();
        }
        let is_forgotten = |_: &u64, known: &mut Known| known.has_ended && known.quiet >= MIN_QUIET_INTERVALS;
        let forgotten = self.known.extract_if(is_forgotten).map(|(cookie, known)| (cookie, known.reading)).collect();
        shrink(&mut self.known);
        let turned_away = self.known.values().filter(|known| known.reading.total > 0);
        (turned_away.map(|known| known.reading.clone()).collect(), forgotten)
    }

    /// Takes a listener from the table.
    pub fn remove(programs: &mut Programs, cookie: u64, share: u32) {
        if programs.listeners.remove(&cookie).is_ok() {
            let (in_use, of_share) = (offset_of!(Stats, listeners_in_use), offset_of!(Share, listeners));
            programs.count_down(in_use, share, of_share);
        }
    }

    fn note(&mut self, programs: &Programs, cookie: u64, listener: Listener, drops: u32) {
        let counted = u64::from(drops.wrapping_sub(listener.drops_before)).saturating_sub(listener.freed.into());
        let known = self.known.entry(cookie).or_insert_with(|| {
            let reading = ListenerReading { listener, owner: None, is_current: false, interval: 0, total: 0 };
            Known { reading, has_ended: false, quiet: 0 }
        });
        let reading = &mut known.reading;
        reading.listener = listener;
        reading.owner = OwnerReading::find(programs, listener.owner).or(reading.owner);
        if counted > reading.total {
            reading.interval = counted - reading.total;
            reading.total = counted;
            known.quiet = 0;
        }
    }
}

/// Notes what a listener had refused that ended unseen: one that was shut down before is no listener any more when it is
/// closed.
fn note_end(programs: &mut Programs, cookie: u64, listener: Listener, total: u64) {
    let drops_at_end =
        listener.drops_before.wrapping_add(listener.freed).wrapping_add(u32::try_from(total).unwrap_or(u32::MAX));
    let ended = Listener { drops_at_end, has_ended: 1, ..listener };
    if let Err(error) =
        programs.listeners.insert(cookie, bytemuck::cast::<_, [u64; size_of::<Listener>() / 8]>(ended), 0)
    {
        tracing::debug!("drops of a listener are not kept for a next daemon: {error}");
    }
}
