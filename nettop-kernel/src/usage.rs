//! Reads what all processes used: the iterator over tasks, and the ring of processes that ended. It holds descriptors of its
//! own, so that another thread than the sampler's may read.

use std::{
    io::Read as _,
    mem::offset_of,
    os::fd::OwnedFd,
    sync::{Arc, atomic::Ordering},
};

use anyhow::Context as _;
use aya::maps::{MapData, RingBuf};
use nettop_common::{ProcessUsage, Stats, TaskUsage, usage::TASK_RUNNING};

use super::{
    bpf_syscall,
    kernel::Kernel,
    mapping::Mapping,
    members::Members,
    processes::{Described, parse},
    programs::Programs,
};

/// The iterator.
pub(super) const PROGRAM: &str = "usage";
/// As much as the kernel gives at a time (`bpf_seq_read`).
const READ_BYTES: usize = 32 << 10;

/// Most processes of a reading.
pub const MAX_PROCESSES: usize = 65_536;

/// A process now: its ended and its running threads together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessReading {
    pub process: ProcessUsage,
    /// Threads in the run queue or on a CPU, and those that wait uninterruptibly, as the load average counts them.
    pub runnable: u32,
    pub blocked: u32,
}

/// All of them, by pid.
#[derive(Debug, Default)]
pub struct Reading {
    pub processes: Vec<ProcessReading>,
    /// Processes, and threads of processes that came later, for which there was no room.
    pub unread: u64,
}

/// What this kernel does not tell of processes. It is 0 in readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Untold {
    pub wait: bool,
    pub blocked_time: bool,
    pub disk: bool,
    pub memory: bool,
    pub ended: bool,
}

/// The reader.
pub struct UsageReader {
    program: OwnedFd,
    ended: RingBuf<MapData>,
    executed: RingBuf<MapData>,
    untold: Untold,
    stats: Arc<Mapping<Stats>>,
    /// Processes of the last pass.
    expected: usize,
}

impl Programs {
    /// The reader of usage, once; `None` if this kernel lacks what it reads. From then on the programs send what ended
    /// processes used.
    ///
    /// # Errors
    ///
    /// If its descriptor cannot be duplicated, or the ring cannot be mapped.
    pub fn take_usage(&mut self, kernel: &Kernel) -> anyhow::Result<Option<UsageReader>> {
        let Some((_, program)) = self.query_programs.iter().find(|(name, _)| name == PROGRAM) else { return Ok(None) };
        let (Some(ended), Some(executed)) = (self.ended_usage.take(), self.executed.take()) else { return Ok(None) };
        let has = |name: &str| self.hooks.iter().any(|hook| hook.purpose == name && hook.attached);
        let untold = Untold { ended: !has("usage at exit"), ..Untold::of(&kernel.members) };
        let program = program.try_clone().context("cannot keep the iterator over tasks")?;
        let (ended, executed) = (RingBuf::try_from(ended)?, RingBuf::try_from(executed)?);
        let reader = UsageReader { program, ended, executed, untold, stats: Arc::clone(&self.stats), expected: 0 };
        want(&self.stats, true);
        Ok(Some(reader))
    }
}

/// Has the programs send what ended processes used, or not: a ring that nobody empties would fill, and count as loss.
pub(super) fn want(stats: &Mapping<Stats>, is_wanted: bool) {
    if let Some(wanted) = stats.double_word(0, offset_of!(Stats, usage_wanted)) {
        wanted.store(is_wanted.into(), Ordering::Relaxed);
    }
}

impl Drop for UsageReader {
    fn drop(&mut self) {
        want(&self.stats, false);
    }
}

impl Untold {
    fn of(members: &Members) -> Self {
        let has = |all: &[&str]| all.iter().all(|member| members.has(member));
        Self {
            wait: !has(&["TASK_RUN_DELAY"]),
            blocked_time: !has(&["TASK_DELAYS", "DELAYS_BLOCK_IO"]),
            disk: !has(&["TASK_READ_BYTES", "TASK_WRITE_BYTES", "SIGNAL_READ_BYTES", "SIGNAL_WRITE_BYTES"]),
            memory: !has(&["MM_ANON_PAGES", "MM_FILE_PAGES", "MM_SHMEM_PAGES", "MM_SWAP_PAGES"])
                && !has(&["MM_OLD_ANON_PAGES", "MM_OLD_FILE_PAGES", "MM_OLD_SHMEM_PAGES", "MM_OLD_SWAP_PAGES"]),
            ended: false,
        }
    }
}

impl UsageReader {
    /// What the kernel does not tell.
    pub const fn untold(&self) -> Untold {
        self.untold
    }

    /// Takes what is known of processes that ended.
    pub fn take_ended(&mut self, mut each: impl FnMut(ProcessUsage)) {
        while let Some(item) = self.ended.next() {
            if item.len() == size_of::<ProcessUsage>() {
                each(bytemuck::pod_read_unaligned(&item));
            }
        }
    }

    /// Takes which programs were executed.
    pub fn take_executed(&mut self, mut each: impl FnMut(Described)) {
        while let Some(item) = self.executed.next() {
            parse(&item).into_iter().for_each(&mut each);
        }
    }

    /// All processes of this pid namespace, in one pass.
    ///
    /// # Errors
    ///
    /// If the iterator cannot be started or read, for lack of descriptors or memory. The next pass asks again.
    pub fn read(&mut self) -> anyhow::Result<Reading> {
        let mut file = bpf_syscall::iterate(&self.program)?;
        let mut pass = Pass { processes: Vec::with_capacity(self.expected + self.expected / 8), ..Pass::default() };
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                bytes => pass.take(&buffer[..bytes]),
            }
        }
        self.expected = pass.processes.len();
        Ok(pass.finish())
    }
}

/// Adds the tasks of each process up, in whatever order they come.
#[derive(Default)]
struct Pass {
    /// The begin of a record whose rest comes with the next bytes.
    rest: Vec<u8>,
    processes: Vec<ProcessReading>,
    /// Those that came before their process: pids begin anew at times.
    early: Vec<TaskUsage>,
    unread: u64,
}

impl Pass {
    fn take(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(task) = record::<TaskUsage>(&self.rest, at) {
            let mut end = at + size_of::<TaskUsage>();
            if task.is_leader != 0 {
                let Some(process) = record::<ProcessUsage>(&self.rest, end) else { break };
                let mut reading = ProcessReading { process, runnable: 0, blocked: 0 };
                reading.add(&task);
                push(&mut self.processes, reading, &mut self.unread);
                end += size_of::<ProcessUsage>();
            } else if !add_task(&mut self.processes, &task) {
                push(&mut self.early, task, &mut self.unread);
            }
            at = end;
        }
        self.rest.drain(..at);
    }

    fn finish(mut self) -> Reading {
        self.processes.sort_unstable_by_key(|reading| reading.process.key.tgid);
        for task in &self.early {
            // Or the process was not there yet, or not any more.
            add_task(&mut self.processes, task);
        }
        Reading { processes: self.processes, unread: self.unread }
    }
}

/// Adds a task to its process; false if that is not found. Most come in the order of pids.
fn add_task(processes: &mut [ProcessReading], task: &TaskUsage) -> bool {
    match processes.binary_search_by_key(&task.tgid, |reading| reading.process.key.tgid) {
        Ok(at) => processes[at].add(task),
        Err(_) => return false,
    }
    true
}

fn push<T>(all: &mut Vec<T>, one: T, unread: &mut u64) {
    if all.len() < MAX_PROCESSES { all.push(one) } else { *unread += 1 }
}

impl ProcessReading {
    fn add(&mut self, task: &TaskUsage) {
        self.process.used.add(&task.used);
        // Whoever reads runs while it does: the reading itself makes no load.
        self.runnable += u32::from(task.state == TASK_RUNNING && task.is_reader == 0);
        self.blocked += u32::from(task.is_blocked());
    }
}

fn record<T: bytemuck::Pod>(bytes: &[u8], at: usize) -> Option<T> {
    bytes.get(at..at + size_of::<T>()).map(bytemuck::pod_read_unaligned)
}

#[cfg(test)]
mod tests {
    use nettop_common::{OwnerKey, Used};

    use super::*;

    fn task(tgid: u32, pid: u32, state: u32) -> TaskUsage {
        let is_leader = u16::from(tgid == pid);
        TaskUsage {
            tgid,
            pid,
            state,
            is_reader: 0,
            is_leader,
            used: Used { cpu_ns: u64::from(pid), ..Used::default() },
        }
    }

    #[test]
    fn tasks_are_added_to_their_process_wherever_reads_end_and_in_any_order() {
        let key = |tgid| OwnerKey { tgid, ..OwnerKey::default() };
        let used = Used { cpu_ns: 1000, ..Used::default() };
        let process = |tgid| ProcessUsage { key: key(tgid), used, ..ProcessUsage::default() };
        let mut bytes = Vec::new();
        // Pids begin anew at times: a thread may come before the first one.
        bytes.extend(bytemuck::bytes_of(&task(50, 3, TASK_RUNNING)));
        bytes.extend(bytemuck::bytes_of(&TaskUsage { is_reader: 1, ..task(20, 20, TASK_RUNNING) }));
        bytes.extend(bytemuck::bytes_of(&process(20)));
        bytes.extend(bytemuck::bytes_of(&task(50, 50, 2)));
        bytes.extend(bytemuck::bytes_of(&process(50)));
        // Idle kernel threads wait uninterruptibly, too.
        bytes.extend(bytemuck::bytes_of(&task(50, 51, 0x402)));
        bytes.extend(bytemuck::bytes_of(&task(50, 52, 0x102)));
        bytes.extend(bytemuck::bytes_of(&task(60, 61, TASK_RUNNING)));
        // In the midst of `de_thread`: who has the pid is not the first task, or not yet.
        bytes.extend(bytemuck::bytes_of(&TaskUsage { is_leader: 0, ..task(70, 70, TASK_RUNNING) }));
        bytes.extend(bytemuck::bytes_of(&TaskUsage { is_leader: 1, ..task(70, 71, TASK_RUNNING) }));
        bytes.extend(bytemuck::bytes_of(&process(70)));
        for size in [1, 7, 96, bytes.len()] {
            let mut pass = Pass::default();
            bytes.chunks(size).for_each(|bytes| pass.take(bytes));
            let reading = pass.finish();
            let seen = reading
                .processes
                .iter()
                .map(|all| (all.process.key.tgid, all.process.used.cpu_ns, all.runnable, all.blocked));
            assert_eq!(reading.unread, 0);
            let expected = [(20, 1020, 0, 0), (50, 1000 + 3 + 50 + 51 + 52, 1, 2), (70, 1000 + 70 + 71, 2, 0)];
            assert_eq!(seen.collect::<Vec<_>>(), expected, "{size}");
        }
    }
}
