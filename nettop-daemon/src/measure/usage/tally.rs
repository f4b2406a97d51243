//! What each process used since the last reading. Counters of a process only grow; a pid that is used again is another
//! process by its start.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;
use nettop_common::{OwnerKey, ProcessUsage, Used};
use nettop_history::Usage;
use nettop_kernel::usage::{MAX_PROCESSES, ProcessReading};

/// By pid and start.
type Key = (u32, u64);

/// The end of a process may come so long after the last pass that saw it: `call_rcu` waits for 10 s where it is lazy
/// (`CONFIG_RCU_LAZY`), and longer on a busy machine.
const KEEP_NS: u64 = 15_000_000_000;
/// Passes of which bases are kept in any case.
const MIN_PASSES: usize = 2;

/// The differences.
pub struct Tally {
    /// What was counted already.
    bases: HashMap<Key, Base, RandomState>,
    /// Begins of the passes of which all bases are kept, since boot. Whoever began before the first of them has a base, or
    /// had one, and is not counted.
    begins: VecDeque<u64>,
    /// The very first.
    begun_ns: u64,
    /// Emptied, and not replaced, by [`Self::take`]: its memory is used again.
    interval: HashMap<Key, Entry, RandomState>,
    unread: u64,
}

struct Base {
    used: Used,
    /// The begin of the last pass that saw it.
    seen_ns: u64,
    /// As it was seen last: that of a process that ended may be gone.
    parent: Key,
}

/// A process, as it was seen last.
#[derive(Clone, Copy)]
pub struct Entry {
    pub process: ProcessUsage,
    pub usage: Usage,
    /// Whether it stands for more than one.
    pub is_crowd: bool,
}

/// What is left of it after an interval.
pub struct Interval {
    pub entries: Vec<Entry>,
    /// Processes for which there was no room, or of which it is not known any more what was counted already.
    pub unread: u64,
}

impl Tally {
    /// Begins with the processes that are there; `begun_ns` is a time since boot before they were read.
    pub fn new(readings: &[ProcessReading], begun_ns: u64) -> Self {
        let (bases, begins, interval) = (HashMap::default(), [begun_ns].into(), HashMap::default());
        let mut tally = Self { bases, begins, begun_ns, interval, unread: 0 };
        tally.add(readings, begun_ns, 0);
        tally.take();
        tally
    }

    /// Adds a pass over all processes, which began at `begin_ns` since boot, an interval after the last. Those that ended
    /// before it were added already, those that ended since come after it.
    pub fn add(&mut self, readings: &[ProcessReading], begin_ns: u64, interval_ms: u64) {
        for reading in readings {
            let process = &reading.process;
            let key = key_of(&process.key);
            let Some(more) = self.advance(process, begin_ns) else { continue };
            let entry = self.entry(key, process);
            entry.usage.add(&more);
            let kib = process_kib(process.rss_pages);
            entry.usage.add(&Usage {
                runnable_ms: u64::from(reading.runnable) * interval_ms,
                blocked_ms: u64::from(reading.blocked) * interval_ms,
                rss_kib_s: kib * interval_ms / 1000,
                swap_kib_s: process_kib(process.swap_pages) * interval_ms / 1000,
                rss_peak_kib: kib.max(process_kib(process.peak_pages)),
                threads: process.threads.into(),
                ..Usage::default()
            });
        }
        // Its end may be reported after the pass that misses it.
        if self.begins.back() != Some(&begin_ns) {
            self.begins.push_back(begin_ns);
        }
        let is_tight = self.bases.len() > MAX_PROCESSES / 2;
        while self.begins.len() > MIN_PASSES && (is_tight || self.begins[1].saturating_add(KEEP_NS) < begin_ns) {
            self.begins.pop_front();
        }
        let oldest_ns = self.begins[0];
        self.bases.retain(|_, base| base.seen_ns >= oldest_ns);
        if self.bases.capacity() > 4 * self.bases.len() + 1024 {
            self.bases.shrink_to(2 * self.bases.len());
        }
    }

    /// Adds a process that ended.
    pub fn add_ended(&mut self, process: &ProcessUsage) {
        let key = key_of(&process.key);
        let mut process = *process;
        let more = match self.bases.get_mut(&key) {
            Some(base) => {
                (process.parent_tgid, process.parent_start_time_ns) = base.parent;
                Some(base.advance(&process.used))
            }
            // It needs no base: no pass that begins after its end sees it.
            None => self.first(&process).map(|mut base| base.advance(&process.used)),
        };
        let Some(mut more) = more else { return };
        more.oom_kills = u64::from(process.is_oom_victim != 0);
        more.rss_peak_kib = process_kib(process.peak_pages);
        more.add(&exit(&process));
        self.entry(key, &process).usage.add(&more);
    }

    /// What was added since it was taken last.
    pub fn take(&mut self) -> Interval {
        let entries: Vec<Entry> = self.interval.drain().map(|(_, entry)| entry).collect();
        if self.interval.capacity() > 4 * entries.len() + 1024 {
            self.interval.shrink_to(2 * entries.len());
        }
        Interval { entries, unread: std::mem::take(&mut self.unread) }
    }

    fn entry(&mut self, key: Key, process: &ProcessUsage) -> &mut Entry {
        let entry =
            self.interval.entry(key).or_insert(Entry { process: *process, usage: Usage::default(), is_crowd: false });
        entry.process = *process;
        entry
    }

    /// What is new of a process that a pass saw; none if there is no room for it.
    fn advance(&mut self, process: &ProcessUsage, seen_ns: u64) -> Option<Usage> {
        let key = key_of(&process.key);
        if !self.bases.contains_key(&key) {
            if self.bases.len() >= MAX_PROCESSES {
                self.unread += 1;
                return None;
            }
            // One of which nothing is known any more counts from now on.
            let base = self.first(process).unwrap_or_else(|| Base::of(process, process.used));
            self.bases.insert(key, base);
        }
        let base = self.bases.get_mut(&key)?;
        (base.seen_ns, base.parent) = (seen_ns, (process.parent_tgid, process.parent_start_time_ns));
        Some(base.advance(&process.used))
    }

    /// The base of a process that has none: nothing, if it began since the oldest pass of which bases are kept.
    fn first(&mut self, process: &ProcessUsage) -> Option<Base> {
        let has_room = self.interval.len() < 2 * MAX_PROCESSES;
        if has_room && process.key.start_time_ns >= self.begins[0] {
            return Some(Base::of(process, Used::default()));
        }
        // What an older process used before the first pass nobody has seen.
        let is_from_before = process.key.start_time_ns < self.begun_ns && self.begins[0] == self.begun_ns;
        self.unread += u64::from(!is_from_before);
        None
    }
}

impl Base {
    const fn of(process: &ProcessUsage, used: Used) -> Self {
        Self { used, seen_ns: 0, parent: (process.parent_tgid, process.parent_start_time_ns) }
    }

    /// A thread that ends during a pass may be missed, or be seen twice: what is counted already is not counted again.
    fn advance(&mut self, now: &Used) -> Usage {
        let base = &mut self.used;
        let grow = |base: &mut u64, now: u64| {
            let more = now.saturating_sub(*base);
            *base = now.max(*base);
            more
        };
        let cpu_us = {
            let before_us = base.cpu_ns / 1000;
            grow(&mut base.cpu_ns, now.cpu_ns);
            base.cpu_ns / 1000 - before_us
        };
        let (user_ns, system_ns) = (grow(&mut base.user_ns, now.user_ns), grow(&mut base.system_ns, now.system_ns));
        let system_us =
            share(cpu_us, system_ns, user_ns).or_else(|| share(cpu_us, base.system_ns, base.user_ns)).unwrap_or(0);
        // Of these the kernel has no sum. When a thread ends, what it had falls away, and hides what others got meanwhile.
        let fall = |base: &mut u64, now: u64| now.saturating_sub(std::mem::replace(base, now)) / 1000;
        Usage {
            user_us: cpu_us - system_us,
            system_us,
            wait_us: fall(&mut base.wait_ns, now.wait_ns),
            block_io_us: fall(&mut base.blocked_ns, now.blocked_ns),
            read_bytes: grow(&mut base.read_bytes, now.read_bytes),
            write_bytes: grow(&mut base.write_bytes, now.write_bytes),
            cancelled_write_bytes: grow(&mut base.cancelled_write_bytes, now.cancelled_write_bytes),
            major_faults: grow(&mut base.major_faults, now.major_faults),
            voluntary_switches: grow(&mut base.voluntary_switches, now.voluntary_switches),
            involuntary_switches: grow(&mut base.involuntary_switches, now.involuntary_switches),
            ..Usage::default()
        }
    }
}

/// How it ended. Kernel threads end without a status.
fn exit(process: &ProcessUsage) -> Usage {
    if process.has_exited == 0 || process.is_kernel_thread != 0 {
        return Usage::default();
    }
    let status = process.exit_status;
    let is_signaled = status & 0x7f != 0;
    Usage {
        exits: 1,
        exits_signaled: is_signaled.into(),
        exits_failed: (!is_signaled && status & 0xff00 != 0).into(),
        exit_status: (status & 0xffff).into(),
        ..Usage::default()
    }
}

/// Exact time split as ticks are, like `cputime_adjust`; none without ticks.
fn share(cpu_us: u64, part_ns: u64, rest_ns: u64) -> Option<u64> {
    let all = u128::from(part_ns) + u128::from(rest_ns);
    (all > 0).then(|| u64::try_from(u128::from(cpu_us) * u128::from(part_ns) / all).unwrap_or(cpu_us))
}

const fn key_of(key: &OwnerKey) -> Key {
    (key.tgid, key.start_time_ns)
}

/// Sums over CPUs that are not exact may be below zero for a moment (`percpu_counter`).
fn process_kib(pages: u64) -> u64 {
    u64::try_from(pages.cast_signed()).unwrap_or(0).saturating_mul(procfs::page_size() / 1024)
}

#[cfg(test)]
mod tests;
