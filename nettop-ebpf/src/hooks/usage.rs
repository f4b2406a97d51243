//! What processes use besides the network: an iterator over tasks, and a hook that sees a process off. The user side adds
//! the tasks of a process up, and takes differences.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated::bpf_seq_write},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use nettop_common::{OwnerKey, ProcessUsage, TaskUsage, Used, usage::SIGNAL_GROUP_EXIT};

use super::namespaces::Tasks;
use crate::{
    kernel::{self, load, load_if_there, probe, probe_at, probe_if_there},
    maps::{ENDED_USAGE, count, stats},
    processes,
    task::Task,
};

/// Writes a [`TaskUsage`] for each task, and behind that of a process's first task a [`ProcessUsage`].
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub fn usage(ctx: *const Tasks) -> i32 {
    // SAFETY: the context is valid for the run; the task is null in the last call.
    let Some((seq, task)) = (unsafe { Tasks::next(ctx) }) else { return 0 };
    // SAFETY: it is the context's.
    let task = unsafe { KnownTask::new(task) };
    let usage = task_usage(task);
    write(seq, &usage);
    if usage.is_leader != 0 {
        write(seq, &process_usage(task));
    }
    0
}

/// Both or none: without room for the second, the kernel takes the first back, and asks for the task again.
#[inline(always)]
fn write<T>(seq: *mut c_void, usage: &T) {
    // SAFETY: the file of the run; the helper copies the value.
    unsafe { bpf_seq_write(seq.cast(), core::ptr::from_ref(usage).cast(), size_of::<T>() as u32) };
}

/// `exec_binprm`, once the process has the program: who ends before anybody reads its files in /proc has its name by this.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn process_executed(_ctx: BtfTracePointContext) -> i32 {
    if stats().is_some_and(|stats| stats.usage_wanted != 0) {
        processes::send_executed(&Task::current().key());
    }
    0
}

/// `delayed_put_task_struct`, for each task: when that of a process comes, the last of all, its signal struct has what all
/// of them used (`__exit_signal`).
#[btf_tracepoint(function = "sched_process_free")]
pub fn process_freed(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the first argument is a task.
    let task = unsafe { KnownTask::new(ctx.arg(0)) };
    if !task.is_leader() || stats().is_none_or(|stats| stats.usage_wanted == 0) {
        return 0;
    }
    match ENDED_USAGE.reserve::<ProcessUsage>(0) {
        Some(mut entry) => {
            let usage = entry.write(process_usage(task));
            fill_exit(usage, task);
            // The signal struct has no sum of these.
            usage.used.wait_ns = load_if_there(task.task.as_ptr(), &kernel::TASK_RUN_DELAY);
            usage.used.blocked_ns = task.blocked_ns();
            entry.submit(0);
        }
        None => count(|stats| &raw mut stats.usage_lost),
    }
    0
}

/// A task, and its address as a number. A pass over 5,000 processes takes twice the time if all is read through numbers, each
/// by a call of a helper; but each pointer that is loaded through another costs the verifier a search in all kernel types
/// (see [`Task::key`]).
#[derive(Clone, Copy)]
struct KnownTask {
    task: Task,
    address: u64,
}

impl KnownTask {
    /// # Safety
    ///
    /// `task` must be a `task_struct` pointer from the program's context.
    #[inline(always)]
    unsafe fn new(task: *const c_void) -> Self {
        // Behind the compiler's back: the verifier refuses to add an absent member's offset to a pointer that it knows.
        let on_stack = task as u64;
        // SAFETY: the caller's.
        Self { task: unsafe { Task::from_ptr(task) }, address: probe_at(&raw const on_stack as u64) }
    }

    #[inline(always)]
    fn is_leader(self) -> bool {
        probe::<u64>(self.address, &kernel::TASK_GROUP_LEADER) == self.address
    }

    #[inline(always)]
    fn blocked_ns(self) -> u64 {
        probe(probe(self.address, &kernel::TASK_DELAYS), &kernel::DELAYS_BLOCK_IO)
    }
}

/// As `wait_task_zombie` tells it: the first task may have ended before the others.
#[inline(always)]
fn fill_exit(usage: &mut ProcessUsage, task: KnownTask) {
    let signal: u64 = probe(task.address, &kernel::TASK_SIGNAL);
    let is_of_all = probe::<u32>(signal, &kernel::SIGNAL_FLAGS) & SIGNAL_GROUP_EXIT != 0;
    usage.exit_status =
        if is_of_all { probe(signal, &kernel::SIGNAL_EXIT_CODE) } else { probe(task.address, &kernel::TASK_EXIT_CODE) };
    usage.has_exited = 1;
}

#[inline(always)]
fn task_usage(known: KnownTask) -> TaskUsage {
    let (task, typed) = (known.task, known.task.as_ptr());
    let tgid = task.tgid();
    TaskUsage {
        tgid,
        pid: task.pid(),
        state: load(typed, &kernel::TASK_STATE),
        is_reader: u16::from(tgid == (bpf_get_current_pid_tgid() >> 32) as u32),
        is_leader: u16::from(known.is_leader()),
        used: Used {
            cpu_ns: load(typed, &kernel::TASK_CPU_TIME),
            user_ns: load(typed, &kernel::TASK_USER_TIME),
            system_ns: load(typed, &kernel::TASK_SYSTEM_TIME),
            wait_ns: load_if_there(typed, &kernel::TASK_RUN_DELAY),
            blocked_ns: known.blocked_ns(),
            major_faults: load(typed, &kernel::TASK_MAJOR_FAULTS),
            voluntary_switches: load(typed, &kernel::TASK_VOLUNTARY_SWITCHES),
            involuntary_switches: load(typed, &kernel::TASK_INVOLUNTARY_SWITCHES),
            read_bytes: load_if_there(typed, &kernel::TASK_READ_BYTES),
            write_bytes: load_if_there(typed, &kernel::TASK_WRITE_BYTES),
            cancelled_write_bytes: load_if_there(typed, &kernel::TASK_CANCELLED_BYTES),
        },
    }
}

/// With what its ended threads used, except for what the kernel does not add up.
#[inline(always)]
fn process_usage(KnownTask { task, address }: KnownTask) -> ProcessUsage {
    let typed = task.as_ptr();
    let parent: u64 = probe(probe(address, &kernel::TASK_REAL_PARENT), &kernel::TASK_GROUP_LEADER);
    let cgroup: u64 = probe(probe(address, &kernel::TASK_CGROUPS), &kernel::CSS_SET_CGROUP);
    let mm: *const c_void = load_if_there::<u64>(typed, &kernel::TASK_MM) as _;
    // A kernel thread has none.
    let [rss_pages, swap_pages, peak_pages] = if mm.is_null() { [0; 3] } else { memory(mm) };
    let signal: *const c_void = load::<u64>(typed, &kernel::TASK_SIGNAL) as _;
    ProcessUsage {
        key: OwnerKey {
            start_time_ns: load(typed, &kernel::TASK_START_BOOTTIME),
            tgid: task.tgid(),
            uid: probe(probe(address, &kernel::TASK_CRED), &kernel::CRED_UID),
        },
        comm: probe(address, &kernel::TASK_COMM),
        parent_start_time_ns: probe(parent, &kernel::TASK_START_BOOTTIME),
        cgroup_id: probe(probe(cgroup, &kernel::CGROUP_NODE), &kernel::KERNFS_ID),
        parent_tgid: probe(parent, &kernel::TASK_TGID),
        threads: load(signal, &kernel::SIGNAL_THREADS),
        rss_pages,
        // The second is set when memory goes, by exec and at the end.
        peak_pages: peak_pages.max(load_if_there(signal, &kernel::SIGNAL_PEAK_RSS)),
        swap_pages,
        is_kernel_thread: u32::from(task.is_kernel_thread()),
        is_oom_victim: u32::from(load_if_there::<u64>(signal, &kernel::SIGNAL_OOM_MM) != 0),
        exit_status: 0,
        has_exited: 0,
        used: Used {
            cpu_ns: load(signal, &kernel::SIGNAL_CPU_TIME),
            user_ns: load(signal, &kernel::SIGNAL_USER_TIME),
            system_ns: load(signal, &kernel::SIGNAL_SYSTEM_TIME),
            wait_ns: 0,
            blocked_ns: 0,
            major_faults: load(signal, &kernel::SIGNAL_MAJOR_FAULTS),
            voluntary_switches: load(signal, &kernel::SIGNAL_VOLUNTARY_SWITCHES),
            involuntary_switches: load(signal, &kernel::SIGNAL_INVOLUNTARY_SWITCHES),
            read_bytes: load_if_there(signal, &kernel::SIGNAL_READ_BYTES),
            write_bytes: load_if_there(signal, &kernel::SIGNAL_WRITE_BYTES),
            cancelled_write_bytes: load_if_there(signal, &kernel::SIGNAL_CANCELLED_BYTES),
        },
    }
}

/// Pages that are resident and in swap, and the most that were resident.
#[inline(always)]
fn memory(mm: *const c_void) -> [u64; 3] {
    // The kernel has one of the two. Verifiers refuse the old one: its array is of a typedef (`btf_struct_walk`).
    let pages = |offset, old| -> u64 { probe_if_there(mm as u64, old).unwrap_or_else(|| load_if_there(mm, offset)) };
    let resident = pages(&kernel::MM_FILE_PAGES, &kernel::MM_OLD_FILE_PAGES)
        .wrapping_add(pages(&kernel::MM_ANON_PAGES, &kernel::MM_OLD_ANON_PAGES))
        .wrapping_add(pages(&kernel::MM_SHMEM_PAGES, &kernel::MM_OLD_SHMEM_PAGES));
    let swapped = pages(&kernel::MM_SWAP_PAGES, &kernel::MM_OLD_SWAP_PAGES);
    [resident, swapped, load_if_there(mm, &kernel::MM_PEAK_RSS)]
}
