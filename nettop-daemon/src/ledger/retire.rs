//! Gives back rows and owners of processes that are gone, in two steps an interval apart.
//!
//! First the index forgets the key and the generation is bumped, so that no socket finds the slot again. A program
//! that had found it just before may still count there, so the last counters are folded only an interval later.

use std::{
    collections::HashSet,
    mem::offset_of,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use bytemuck::Zeroable as _;
use nettop_common::{Owner, Row, Stats, owner, row};
use procfs::process::Process;

use super::reader::{Flows, OwnerReading, accumulate};
use crate::{identity, kernel::programs::Programs};

/// Intervals without a packet before a row may go.
const QUIET_INTERVALS: u8 = 2;
/// How long the rows of an exited process stay, unless the table fills: its last packets may still be on their way.
const LINGER: Duration = Duration::from_secs(60);
/// How often processes are looked for in /proc, in case an exit was not seen.
const SWEEP: Duration = Duration::from_secs(60);

/// What is remembered of a slot.
#[derive(Clone, Copy, Default)]
struct Slot {
    quiet: u8,
    exited_at: Option<Instant>,
    /// The first step is done.
    leaving: bool,
}

/// The state of all retirements.
pub(super) struct Retirement {
    rows: Vec<Slot>,
    owners: Vec<Slot>,
    exited: Flows,
    swept_at: Instant,
    row_limit: u64,
}

impl Retirement {
    pub(super) fn new(programs: &Programs) -> Self {
        let row_limit = programs.rows.len() as u64 - u64::from(row::FIRST + row::RESERVED);
        Self { rows: Vec::new(), owners: Vec::new(), exited: Flows::default(), swept_at: Instant::now(), row_limit }
    }

    pub(super) const fn exited(&self) -> &Flows {
        &self.exited
    }

    /// Notes what a reading saw of a row.
    pub(super) fn note(&mut self, slot: usize, row: &Row, owner: &OwnerReading, busy: bool) {
        if self.rows.len() <= slot {
            self.rows.resize(slot + 1, Slot::default());
        }
        let state = &mut self.rows[slot];
        state.quiet = if busy { 0 } else { state.quiet.saturating_add(1) };
        if owner.exited && row.key.owner >= owner::FIRST {
            state.exited_at.get_or_insert_with(Instant::now);
        }
    }

    /// Does both steps for all that is due. Returns the rows that were given back.
    pub(super) fn run(&mut self, programs: &mut Programs, owners: &[Owner], stats: &Stats) -> Vec<usize> {
        self.sweep(programs, owners);
        let pressed = stats.rows_in_use * 2 > self.row_limit;
        let mut back = Vec::new();
        let mut billed = HashSet::new();
        for slot in row::FIRST as usize..self.rows.len() {
            let state = self.rows[slot];
            let Some(row) = programs.rows.read(slot).filter(|row| row.state == row::LIVE) else { continue };
            if state.leaving {
                accumulate(&mut self.exited, &row.flows);
                give_back_row(programs, slot, &row);
                self.rows[slot] = Slot::default();
                back.push(slot);
                continue;
            }
            billed.insert(row.key.owner);
            if due(&state, pressed) {
                // An entry that is gone already is as good.
                let _ = programs.row_index.remove(&bytemuck::cast(row.key));
                bump(programs.rows.word(slot, offset_of!(Row, generation)));
                self.rows[slot].leaving = true;
            }
        }
        self.run_owners(programs, owners, &billed, pressed);
        back
    }

    fn run_owners(&mut self, programs: &mut Programs, owners: &[Owner], billed: &HashSet<u32>, pressed: bool) {
        self.owners.resize(self.owners.len().max(owners.len()), Slot::default());
        let pressed = pressed || owners.len() * 2 > programs.owners.len();
        for (slot, entry) in owners.iter().enumerate().skip(owner::FIRST as usize) {
            let state = &mut self.owners[slot];
            if entry.state != owner::EXITED || u32::try_from(slot).is_ok_and(|slot| billed.contains(&slot)) {
                state.quiet = 0;
                continue;
            }
            if state.leaving {
                programs.owners.write(slot, Owner { generation: entry.generation, ..Owner::zeroed() });
                give_back(&mut programs.free_owners, slot);
                *state = Slot::default();
                continue;
            }
            state.exited_at.get_or_insert_with(Instant::now);
            // Its rows were quiet long enough, if it had any.
            state.quiet = QUIET_INTERVALS;
            if due(state, pressed) {
                let _ = programs.owner_index.remove(&bytemuck::cast(entry.key));
                bump(programs.owners.word(slot, offset_of!(Owner, generation)));
                state.leaving = true;
            }
        }
    }

    /// Marks owners whose process is gone without the exit hook having seen it, or under another uid.
    fn sweep(&mut self, programs: &Programs, owners: &[Owner]) {
        if self.swept_at.elapsed() < SWEEP {
            return;
        }
        self.swept_at = Instant::now();
        for (slot, entry) in owners.iter().enumerate().skip(owner::FIRST as usize) {
            if entry.state == owner::LIVE
                && !is_alive(entry)
                && let Some(state) = programs.owners.word(slot, offset_of!(Owner, state))
            {
                state.store(owner::EXITED, Ordering::Relaxed);
            }
        }
    }
}

fn due(state: &Slot, pressed: bool) -> bool {
    state.quiet >= QUIET_INTERVALS && state.exited_at.is_some_and(|at| pressed || at.elapsed() >= LINGER)
}

fn bump(generation: Option<&std::sync::atomic::AtomicU32>) {
    if let Some(generation) = generation {
        generation.fetch_add(1, Ordering::SeqCst);
    }
}

fn give_back_row(programs: &mut Programs, slot: usize, row: &Row) {
    programs.rows.write(slot, Row { generation: row.generation, ..Row::zeroed() });
    give_back(&mut programs.free_rows, slot);
    if let Some(rows_in_use) = programs.stats.double_word(0, offset_of!(Stats, rows_in_use)) {
        rows_in_use.fetch_sub(1, Ordering::Relaxed);
    }
}

fn give_back(free: &mut aya::maps::Queue<aya::maps::MapData, u32>, slot: usize) {
    let pushed = u32::try_from(slot).is_ok_and(|slot| free.push(slot, 0).is_ok());
    if !pushed {
        // The queue holds every slot there is, so it can only be out of order itself.
        tracing::warn!("slot {slot} could not be given back and stays unused");
    }
}

fn is_alive(owner: &Owner) -> bool {
    let Ok(pid) = i32::try_from(owner.key.tgid) else { return false };
    Process::new(pid)
        .and_then(|process| process.stat())
        .is_ok_and(|stat| stat.starttime == identity::start_ticks(owner.key.start_time_ns))
}
