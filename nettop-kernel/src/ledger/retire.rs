//! Gives back rows of processes, devices and namespaces that are gone, and owners of processes, in two steps an
//! interval apart.
//!
//! First the index forgets the key and the generation is incremented, so no socket finds the slot again. A program that
//! found it just before may still count there, so the last counters are added an interval later. A process leaves with
//! all its rows at once: later packets are the kernel's, and make no row for it again. A peer's row leaves its counters to
//! the owner's row without a peer: that one stays until it was the last.

use std::{
    collections::{HashMap, HashSet},
    mem::offset_of,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use nettop_common::{Netns, Owner, OwnerKey, Ref, Row, RowKey, Share, owner, row};
use nix::{errno::Errno, sys::signal::kill, unistd::Pid};
use procfs::process::Process;

use self::{
    give_back::{fold, fold_into, give_back_owner, give_back_row},
    pressure::Pressure,
};
use super::{QUIET_NAMESPACE_S, flows::moved};
use crate::{boot, ledger::Presence, places::Kind, programs::Programs};

mod give_back;
mod pressure;
#[cfg(test)]
mod tests;

/// Intervals without a packet before a row may go.
const MIN_QUIET_INTERVALS: u8 = 2;
/// How long the rows of gone objects stay, unless the table fills: the last packets may still be on their way.
const LINGER_S: u32 = 60;
/// How often to look up processes in /proc, in case an exit was not seen.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Why a row may go.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Gone {
    #[default]
    No,
    /// With all of its owner's.
    Owner,
    Presence,
}

/// State of a slot.
#[derive(Clone, Copy, Default)]
struct Slot {
    quiet: u8,
    gone: Gone,
    /// It may go, as of this reading.
    due: bool,
    /// Of an owner: the first step is done. Rows have a state for it.
    leaving: bool,
    /// Seconds since the ledger began: an [`Instant`] would be most of the daemon's memory.
    gone_at_s: Option<u32>,
    /// Seconds since the ledger began, of the last traffic.
    busy_at_s: u32,
}

/// An owner's rows.
#[derive(Clone, Copy, Default)]
struct Rows {
    any: bool,
    /// Some are not to go yet.
    stay: bool,
}

/// The state of all retirements.
pub(super) struct Retirement {
    rows: Vec<Slot>,
    owners: Vec<Slot>,
    /// Last sign of life in a namespace that cannot be entered.
    seen_at_s: HashMap<Netns, u32>,
    began_at: Instant,
    swept_at: Instant,
    /// Whether a process not in /proc is gone: a pid namespace hides others.
    sees_all: bool,
    /// Owners that no reading has named yet.
    given_back: Vec<OwnerKey>,
}

impl Retirement {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        let sees_all = Kind::Pid.is_first();
        Self {
            rows: Vec::new(),
            owners: Vec::new(),
            seen_at_s: HashMap::new(),
            began_at: now,
            swept_at: now,
            sees_all,
            given_back: Vec::new(),
        }
    }

    /// Notes a reading of a row: whether its place is there, its process lives, and anything was counted. Returns for how
    /// many seconds nothing was.
    pub(super) fn note(&mut self, slot: usize, key: &RowKey, place: Presence, lives: bool, is_busy: bool) -> u32 {
        if self.rows.len() <= slot {
            self.rows.resize(slot + 1, Slot::default());
        }
        let now_s = self.now_s();
        let is_process = key.owner >= owner::FIRST;
        let gone = match place {
            Presence::Gone => Gone::Presence,
            _ if is_process && !lives => Gone::Owner,
            Presence::Unknown => {
                let seen_at_s = self.seen_at_s.entry(key.netns).or_insert(now_s);
                if is_busy || lives {
                    *seen_at_s = now_s;
                }
                if now_s.saturating_sub(*seen_at_s) >= QUIET_NAMESPACE_S { Gone::Presence } else { Gone::No }
            }
            Presence::Present => {
                self.seen_at_s.remove(&key.netns);
                Gone::No
            }
        };
        let state = &mut self.rows[slot];
        if is_busy || state.busy_at_s == 0 {
            state.busy_at_s = now_s;
        }
        state.quiet = if is_busy { 0 } else { state.quiet.saturating_add(1) };
        state.gone = gone;
        // A namespace that nobody could enter may be seen again.
        state.gone_at_s = (gone != Gone::No).then(|| state.gone_at_s.unwrap_or(now_s));
        now_s.saturating_sub(state.busy_at_s)
    }

    /// Owners that were given back since the last call.
    pub(super) fn take_given_back(&mut self) -> Vec<OwnerKey> {
        std::mem::take(&mut self.given_back)
    }

    fn now_s(&self) -> u32 {
        u32::try_from(self.began_at.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    /// Does both steps for all that is due. Returns the rows that were given back, each with the row that has its counters
    /// now, if one has.
    pub(super) fn run(&mut self, programs: &mut Programs, owners: usize) -> Vec<(usize, Option<usize>)> {
        self.sweep(programs, owners);
        let now_s = self.now_s();
        self.seen_at_s.retain(|_, at_s| now_s.saturating_sub(*at_s) < 2 * QUIET_NAMESPACE_S);
        let back = self.give_back_leaving(programs);
        let mut pressure = Pressure::new(programs);
        let mut of_owners = vec![Rows::default(); owners];
        let (mut with_place, mut with_owner) = (Vec::new(), Vec::new());
        // Those must outlive the rows of their peers.
        let mut bases = HashSet::new();
        for slot in row::FIRST as usize..self.rows.len() {
            let state = self.rows[slot];
            let Some(row) = programs.rows.read(slot).filter(|row| row.state != row::FREE) else { continue };
            let share = share_of(programs, row.share);
            let is_due = due(&state, pressure.on_row(&row, &share), now_s);
            self.rows[slot].due = is_due;
            if let Some(base) = base_of(programs, &row) {
                bases.insert(base);
                let of_owner = programs.owners.read(row.key.owner as usize).map_or(0, |owner| owner.peers);
                let quiet_s = now_s.saturating_sub(state.busy_at_s);
                if state.gone == Gone::No
                    && state.quiet >= MIN_QUIET_INTERVALS
                    && pressure.on_peer(row.key.owner, of_owner, share.peers, quiet_s)
                {
                    take_out(programs, slot, &row);
                    continue;
                }
            }
            if let Some(rows) = of_owners.get_mut(row.key.owner as usize) {
                rows.any = true;
                rows.stay |= !is_due;
            }
            match state.gone {
                Gone::Presence if is_due => with_place.push((slot, row)),
                Gone::Owner if is_due => with_owner.push((slot, row)),
                _ => {}
            }
        }
        // Reports join both IP versions: a total of which one half leaves would fall.
        with_place.retain(|(slot, row)| {
            if row.key.peer.is_some() {
                return true;
            }
            if bases.contains(slot) {
                return false;
            }
            let other = RowKey { family: row.key.family ^ 1, ..row.key };
            let other = programs.row_index.get(&bytemuck::cast(other), 0).ok();
            other.is_none_or(|slot| {
                !bases.contains(&(slot as usize)) && self.rows.get(slot as usize).is_some_and(|other| other.due)
            })
        });
        for (slot, row) in with_place {
            take_out(programs, slot, &row);
        }
        self.run_owners(programs, &of_owners, &pressure);
        for (slot, row) in with_owner {
            if self.owners.get(row.key.owner as usize).is_some_and(|owner| owner.leaving) {
                take_out(programs, slot, &row);
            }
        }
        back
    }

    /// The second step for rows.
    fn give_back_leaving(&mut self, programs: &mut Programs) -> Vec<(usize, Option<usize>)> {
        let mut back = Vec::new();
        for slot in row::FIRST as usize..self.rows.len() {
            let state = programs.rows.word(slot, offset_of!(Row, state));
            let is_leaving = state.is_some_and(|state| state.load(Ordering::Relaxed) == row::LEAVING);
            let Some(row) = programs.rows.read(slot).filter(|_| is_leaving) else { continue };
            let base = base_of(programs, &row);
            match base {
                Some(base) => fold_into(programs, base, &row),
                None => fold(programs, &row, &moved(&row)),
            }
            give_back_row(programs, slot, &row);
            self.rows[slot] = Slot::default();
            back.push((slot, base));
        }
        back
    }

    fn run_owners(&mut self, programs: &mut Programs, of_owners: &[Rows], pressure: &Pressure) {
        let now_s = self.now_s();
        self.owners.resize(self.owners.len().max(of_owners.len()), Slot::default());
        for (slot, rows) in of_owners.iter().enumerate().skip(owner::FIRST as usize) {
            let Some(entry) = programs.owners.read(slot) else { break };
            let state = &mut self.owners[slot];
            if state.leaving {
                if !rows.any {
                    self.given_back.push(entry.key);
                    give_back_owner(programs, slot, &entry);
                    *state = Slot::default();
                }
                continue;
            }
            if entry.state != owner::EXITED || rows.stay {
                state.gone_at_s = None;
                continue;
            }
            state.gone_at_s.get_or_insert(now_s);
            // Its rows were quiet long enough, if it had any.
            state.quiet = MIN_QUIET_INTERVALS;
            let is_pressed = pressure.on_owner(&share_of(programs, entry.share));
            if rows.any || due(state, is_pressed, now_s) {
                let _ = programs.owner_index.remove(&bytemuck::cast(entry.key));
                bump(programs.owners.word(slot, offset_of!(Owner, generation)));
                state.leaving = true;
            }
        }
    }

    /// Marks owners whose process is gone unseen by the exit hook, or has another uid.
    fn sweep(&mut self, programs: &Programs, owners: usize) {
        if !self.sees_all || self.swept_at.elapsed() < SWEEP_INTERVAL {
            return;
        }
        self.swept_at = Instant::now();
        for slot in owner::FIRST as usize..owners {
            let Some(entry) = programs.owners.read(slot) else { break };
            if entry.state == owner::LIVE
                && !is_alive(&entry)
                && let Some(state) = programs.owners.word(slot, offset_of!(Owner, state))
            {
                state.store(owner::EXITED, Ordering::Relaxed);
            }
        }
    }
}

/// The row that gets the counters of a peer's row, while it is in the index.
pub(super) fn base_of(programs: &Programs, row: &Row) -> Option<usize> {
    let slot = row.base.slot() as usize;
    let base = programs.rows.read(slot).filter(|_| row.base != Ref::NONE && row.key.peer.is_some())?;
    (base.generation == row.base.generation() && base.state == row::LIVE).then_some(slot)
}

/// The first step for a row.
fn take_out(programs: &mut Programs, slot: usize, row: &Row) {
    let key = bytemuck::cast(row.key);
    // A daemon that was killed here has left a row that may share its key with a newer one.
    if programs.row_index.get(&key, 0).is_ok_and(|found| found as usize == slot) {
        let _ = programs.row_index.remove(&key);
    }
    bump(programs.rows.word(slot, offset_of!(Row, generation)));
    if let Some(state) = programs.rows.word(slot, offset_of!(Row, state)) {
        state.store(row::LEAVING, Ordering::Relaxed);
    }
}

fn due(state: &Slot, pressed: bool, now_s: u32) -> bool {
    let lingered = |at_s: u32| now_s.saturating_sub(at_s) >= LINGER_S;
    state.quiet >= MIN_QUIET_INTERVALS && state.gone_at_s.is_some_and(|at_s| pressed || lingered(at_s))
}

fn bump(generation: Option<&AtomicU32>) {
    if let Some(generation) = generation {
        generation.fetch_add(1, Ordering::SeqCst);
    }
}

fn share_of(programs: &Programs, index: u32) -> Share {
    programs.shares.read(index as usize).unwrap_or_default()
}

fn is_alive(owner: &Owner) -> bool {
    let Ok(pid) = i32::try_from(owner.key.tgid) else { return false };
    match Process::new(pid).and_then(|process| process.stat()) {
        Ok(stat) => stat.starttime == boot::start_ticks(owner.key.start_time_ns),
        // /proc may hide other users' processes (hidepid), or there is no descriptor left to read it.
        Err(_) => kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH),
    }
}
