//! Gives back rows of processes, devices and namespaces that are gone, and owners of processes, in two steps an
//! interval apart.
//!
//! First the index forgets the key and the generation is incremented, so no socket finds the slot again. A program that
//! found it just before may still count there, so the last counters are added an interval later. A process leaves with
//! all its rows at once: later packets are the kernel's, and make no row for it again.

use std::{
    collections::HashMap,
    mem::offset_of,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use bytemuck::Zeroable as _;
use nettop_common::{Flow, Netns, Owner, OwnerKey, Row, RowKey, Share, Stats, owner, row};
use nix::{errno::Errno, sys::signal::kill, unistd::Pid};
use procfs::process::Process;

use super::{
    QUIET_NAMESPACE_S,
    flows::{Flows, moved},
};
use crate::{boot, ledger::Presence, places::Kind, programs::Programs};

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
}

/// An owner's rows.
#[derive(Clone, Copy, Default)]
struct Rows {
    any: bool,
    /// Some are not to go yet.
    stay: bool,
}

/// How far the tables are filled.
struct Pressure {
    stats: Stats,
    row_limit: u64,
    owner_limit: u64,
}

impl Pressure {
    fn on_row(&self, row: &Row, share: &Share) -> bool {
        match row.is_reserved {
            0 => is_pressed(share.rows, self.stats.rows_in_use, self.row_limit),
            _ => is_pressed(share.reserved_rows, self.stats.reserved_rows_in_use, row::RESERVED_ROWS.into()),
        }
    }

    fn on_owner(&self, share: &Share) -> bool {
        is_pressed(share.owners, self.stats.owners_in_use, self.owner_limit)
            || is_pressed(share.rows, self.stats.rows_in_use, self.row_limit)
    }
}

/// Whether a share has more than is free: long before its limit, and not because of other shares.
const fn is_pressed(of_share: u32, in_use: u64, limit: u64) -> bool {
    of_share as u64 > limit.saturating_sub(in_use)
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

    /// Notes a reading of a row: whether its place is there, its process lives, and anything was counted.
    pub(super) fn note(&mut self, slot: usize, key: &RowKey, place: Presence, lives: bool, is_busy: bool) {
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
        state.quiet = if is_busy { 0 } else { state.quiet.saturating_add(1) };
        state.gone = gone;
        // A namespace that nobody could enter may be seen again.
        state.gone_at_s = (gone != Gone::No).then(|| state.gone_at_s.unwrap_or(now_s));
    }

    /// Owners that were given back since the last call.
    pub(super) fn take_given_back(&mut self) -> Vec<OwnerKey> {
        std::mem::take(&mut self.given_back)
    }

    fn now_s(&self) -> u32 {
        u32::try_from(self.began_at.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    /// Does both steps for all that is due. Returns the rows that were given back.
    pub(super) fn run(&mut self, programs: &mut Programs, owners: usize) -> Vec<usize> {
        self.sweep(programs, owners);
        let now_s = self.now_s();
        self.seen_at_s.retain(|_, at_s| now_s.saturating_sub(*at_s) < 2 * QUIET_NAMESPACE_S);
        let pressure = Pressure {
            stats: programs.stats.read(0).unwrap_or_default(),
            row_limit: programs.rows.len() as u64 - u64::from(row::FIRST + row::RESERVED_ROWS + row::SPARE_SLOTS),
            owner_limit: programs.owners.len() as u64 - u64::from(owner::FIRST + row::SPARE_SLOTS),
        };
        let mut back = Vec::new();
        let mut of_owners = vec![Rows::default(); owners];
        let (mut with_place, mut with_owner) = (Vec::new(), Vec::new());
        for slot in row::FIRST as usize..self.rows.len() {
            let state = self.rows[slot];
            let Some(row) = programs.rows.read(slot).filter(|row| row.state != row::FREE) else { continue };
            if row.state == row::LEAVING {
                fold(programs, &row, &moved(&row));
                give_back_row(programs, slot, &row);
                self.rows[slot] = Slot::default();
                back.push(slot);
                continue;
            }
            let is_pressed = pressure.on_row(&row, &share_of(programs, row.share));
            let is_due = due(&state, is_pressed, now_s);
            self.rows[slot].due = is_due;
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
        with_place.retain(|(_, row)| {
            let other = RowKey { family: row.key.family ^ 1, ..row.key };
            let other = programs.row_index.get(&bytemuck::cast(other), 0).ok();
            other.is_none_or(|slot| self.rows.get(slot as usize).is_some_and(|other| other.due))
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

/// Adds a row's counters to the sums that outlive it.
fn fold(programs: &Programs, row: &Row, moved: &Flows) {
    if owner::is_repeated(row.key.owner) {
        return;
    }
    let family = row.key.family as usize & 1;
    add_flows(programs, offset_of!(Stats, exited) + family * size_of::<Flows>(), moved);
    if row.key.owner == owner::OVERFLOW {
        add_flows(programs, offset_of!(Stats, overflow_given_back), moved);
    }
}

fn add_flows(programs: &Programs, offset: usize, flows: &Flows) {
    let counters: [u64; 2 * size_of::<Flow>() / 8] = bytemuck::cast(*flows);
    for (index, counter) in counters.into_iter().enumerate() {
        if let Some(sum) = programs.stats.double_word(0, offset + index * 8) {
            sum.fetch_add(counter, Ordering::Relaxed);
        }
    }
}

/// What remains of a row or an owner in a free slot. A program that found the slot in the index may have read the
/// generation later: it must not match again.
fn freed_row(row: &Row) -> Row {
    Row { generation: row.generation.wrapping_add(1), ..Row::zeroed() }
}

fn freed_owner(entry: &Owner) -> Owner {
    Owner { generation: entry.generation.wrapping_add(1), ..Owner::zeroed() }
}

fn give_back_row(programs: &mut Programs, slot: usize, row: &Row) {
    programs.rows.write(slot, freed_row(row));
    let (in_use, of_share) = match row.is_reserved {
        0 => (offset_of!(Stats, rows_in_use), offset_of!(Share, rows)),
        _ => (offset_of!(Stats, reserved_rows_in_use), offset_of!(Share, reserved_rows)),
    };
    programs.count_down(in_use, row.share, of_share);
    give_back(&mut programs.free_rows, slot);
}

fn give_back_owner(programs: &mut Programs, slot: usize, entry: &Owner) {
    programs.owners.write(slot, freed_owner(entry));
    programs.count_down(offset_of!(Stats, owners_in_use), entry.share, offset_of!(Share, owners));
    give_back(&mut programs.free_owners, slot);
}

fn give_back(free: &mut aya::maps::Queue<aya::maps::MapData, u32>, slot: usize) {
    let pushed = u32::try_from(slot).is_ok_and(|slot| free.push(slot, 0).is_ok());
    if !pushed {
        // The queue has room for every slot, so only the queue can be broken.
        tracing::warn!("slot {slot} could not be given back and stays unused");
    }
}

fn is_alive(owner: &Owner) -> bool {
    let Ok(pid) = i32::try_from(owner.key.tgid) else { return false };
    match Process::new(pid).and_then(|process| process.stat()) {
        Ok(stat) => stat.starttime == boot::start_ticks(owner.key.start_time_ns),
        // /proc may hide other users' processes (hidepid), or there is no descriptor left to read it.
        Err(_) => kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH),
    }
}
