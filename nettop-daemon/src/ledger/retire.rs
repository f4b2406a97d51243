//! Gives back rows of processes and namespaces that are gone, and owners of processes, in two steps an interval apart.
//!
//! First the index forgets the key and the generation is bumped, so that no socket finds the slot again. A program
//! that had found it just before may still count there, so the last counters are folded only an interval later.

use std::{
    mem::offset_of,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use bytemuck::Zeroable as _;
use nettop_common::{Owner, Row, Stats, owner, row};
use nix::{errno::Errno, sys::signal::kill, unistd::Pid};
use procfs::process::Process;

use super::reader::{Flows, accumulate};
use crate::{identity, kernel::programs::Programs};

/// Intervals without a packet before a row may go.
const QUIET_INTERVALS: u8 = 2;
/// How long the rows of what is gone stay, unless the table fills: its last packets may still be on their way.
const LINGER_S: u32 = 60;
/// How often processes are looked for in /proc, in case an exit was not seen.
const SWEEP: Duration = Duration::from_secs(60);

/// What is remembered of a slot.
#[derive(Clone, Copy, Default)]
struct Slot {
    quiet: u8,
    /// By the clock that began with the ledger: an [`Instant`] would be most of the daemon's memory.
    gone_at_s: Option<u32>,
    /// The first step is done.
    leaving: bool,
}

/// The state of all retirements.
pub(super) struct Retirement {
    rows: Vec<Slot>,
    owners: Vec<Slot>,
    exited: [Flows; 2],
    began_at: Instant,
    swept_at: Instant,
    row_limit: u64,
}

impl Retirement {
    pub(super) fn new(programs: &Programs) -> Self {
        let row_limit = programs.rows.len() as u64 - u64::from(row::FIRST + row::RESERVED);
        let now = Instant::now();
        let exited = Default::default();
        Self { rows: Vec::new(), owners: Vec::new(), exited, began_at: now, swept_at: now, row_limit }
    }

    pub(super) const fn exited(&self) -> &[Flows; 2] {
        &self.exited
    }

    /// Notes what a reading saw of a row.
    pub(super) fn note(&mut self, slot: usize, is_gone: bool, busy: bool) {
        if self.rows.len() <= slot {
            self.rows.resize(slot + 1, Slot::default());
        }
        let now_s = self.now_s();
        let state = &mut self.rows[slot];
        state.quiet = if busy { 0 } else { state.quiet.saturating_add(1) };
        // A namespace that nobody could enter may be seen again.
        state.gone_at_s = is_gone.then(|| state.gone_at_s.unwrap_or(now_s));
    }

    fn now_s(&self) -> u32 {
        u32::try_from(self.began_at.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    /// Does both steps for all that is due. Returns the rows that were given back.
    pub(super) fn run(&mut self, programs: &mut Programs, owners: usize, stats: &Stats) -> Vec<usize> {
        self.sweep(programs, owners);
        let now_s = self.now_s();
        let pressed = stats.rows_in_use * 2 > self.row_limit;
        let mut back = Vec::new();
        let mut billed = vec![false; owners];
        for slot in row::FIRST as usize..self.rows.len() {
            let state = self.rows[slot];
            let Some(row) = programs.rows.read(slot).filter(|row| row.state == row::LIVE) else { continue };
            if state.leaving {
                accumulate(&mut self.exited[row.key.family as usize & 1], &row.flows);
                give_back_row(programs, slot, &row);
                self.rows[slot] = Slot::default();
                back.push(slot);
                continue;
            }
            if let Some(billed) = billed.get_mut(row.key.owner as usize) {
                *billed = true;
            }
            if due(&state, pressed, now_s) {
                // An entry that is gone already is as good.
                let _ = programs.row_index.remove(&bytemuck::cast(row.key));
                bump(programs.rows.word(slot, offset_of!(Row, generation)));
                self.rows[slot].leaving = true;
            }
        }
        self.run_owners(programs, &billed, pressed);
        back
    }

    fn run_owners(&mut self, programs: &mut Programs, billed: &[bool], pressed: bool) {
        let now_s = self.now_s();
        self.owners.resize(self.owners.len().max(billed.len()), Slot::default());
        let pressed = pressed || billed.len() * 2 > programs.owners.len();
        for (slot, billed) in billed.iter().enumerate().skip(owner::FIRST as usize) {
            let Some(entry) = programs.owners.read(slot) else { break };
            let state = &mut self.owners[slot];
            if entry.state != owner::EXITED || *billed {
                state.quiet = 0;
                continue;
            }
            if state.leaving {
                programs.owners.write(slot, Owner { generation: entry.generation, ..Owner::zeroed() });
                give_back(&mut programs.free_owners, slot);
                *state = Slot::default();
                continue;
            }
            state.gone_at_s.get_or_insert(now_s);
            // Its rows were quiet long enough, if it had any.
            state.quiet = QUIET_INTERVALS;
            if due(state, pressed, now_s) {
                let _ = programs.owner_index.remove(&bytemuck::cast(entry.key));
                bump(programs.owners.word(slot, offset_of!(Owner, generation)));
                state.leaving = true;
            }
        }
    }

    /// Marks owners whose process is gone without the exit hook having seen it, or under another uid.
    fn sweep(&mut self, programs: &Programs, owners: usize) {
        if self.swept_at.elapsed() < SWEEP {
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

fn due(state: &Slot, pressed: bool, now_s: u32) -> bool {
    let lingered = |at_s: u32| now_s.saturating_sub(at_s) >= LINGER_S;
    state.quiet >= QUIET_INTERVALS && state.gone_at_s.is_some_and(|at_s| pressed || lingered(at_s))
}

fn bump(generation: Option<&std::sync::atomic::AtomicU32>) {
    if let Some(generation) = generation {
        generation.fetch_add(1, Ordering::SeqCst);
    }
}

fn give_back_row(programs: &mut Programs, slot: usize, row: &Row) {
    programs.rows.write(slot, Row { generation: row.generation, ..Row::zeroed() });
    give_back(&mut programs.free_rows, slot);
    if row.key.owner >= owner::FIRST
        && let Some(rows_in_use) = programs.stats.double_word(0, offset_of!(Stats, rows_in_use))
    {
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
    match Process::new(pid).and_then(|process| process.stat()) {
        Ok(stat) => stat.starttime == identity::start_ticks(owner.key.start_time_ns),
        // Where /proc hides what is others' (hidepid), who may not be signalled is there.
        Err(_) => kill(Pid::from_raw(pid), None) == Err(Errno::EPERM),
    }
}
