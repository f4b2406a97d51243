//! What processes use besides the network: an iterator over tasks, and a hook that sees a process off. The user side adds
//! the tasks of a process up, and takes differences.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext as _, helpers::generated::bpf_seq_write, macros::btf_tracepoint, programs::BtfTracePointContext,
};
use bytemuck::Zeroable as _;
use nettop_common::{ProcessUsage, TaskUsage, usage::SIGNAL_GROUP_EXIT};

use super::namespaces::Tasks;
use crate::{
    kernel::{self, probe, probe_at},
    maps::{ENDED_USAGE, count, stats},
    processes,
    task::{self, Task},
};

/// Writes a [`TaskUsage`] for each task, and behind that of a process's first task a [`ProcessUsage`].
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub fn usage(ctx: *const Tasks) -> i32 {
    // SAFETY: the context is valid for the run; the task is null in the last call.
    let Some((seq, task)) = (unsafe { Tasks::next(ctx) }) else { return 0 };
    let mut usage = TaskUsage::zeroed();
    fill_task(&mut usage, task);
    write(seq, &usage);
    if usage.is_leader != 0 {
        let mut usage = ProcessUsage::zeroed();
        fill_process(&mut usage, task);
        write(seq, &usage);
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
    // The first argument, as a number: see `Tasks::next`.
    let task: u64 = probe_at(ctx.as_ptr() as u64);
    if probe::<u64>(task, &kernel::TASK_GROUP_LEADER) != task || stats().is_none_or(|stats| stats.usage_wanted == 0) {
        return 0;
    }
    match ENDED_USAGE.reserve::<ProcessUsage>(0) {
        Some(mut entry) => {
            let usage = entry.write(ProcessUsage::zeroed());
            fill_process(usage, task);
            fill_exit(usage, task);
            // The signal struct has no sum of these.
            let delays: u64 = probe(task, &kernel::TASK_DELAYS);
            usage.used.wait_ns = probe(task, &kernel::TASK_RUN_DELAY);
            usage.used.blocked_ns = probe(delays, &kernel::DELAYS_BLOCK_IO);
            entry.submit(0);
        }
        None => count(|stats| &raw mut stats.usage_lost),
    }
    0
}

/// As `wait_task_zombie` tells it: the first task may have ended before the others.
#[inline(always)]
fn fill_exit(usage: &mut ProcessUsage, task: u64) {
    let signal: u64 = probe(task, &kernel::TASK_SIGNAL);
    let is_of_all = probe::<u32>(signal, &kernel::SIGNAL_FLAGS) & SIGNAL_GROUP_EXIT != 0;
    usage.exit_status =
        if is_of_all { probe(signal, &kernel::SIGNAL_EXIT_CODE) } else { probe(task, &kernel::TASK_EXIT_CODE) };
    usage.has_exited = 1;
}

#[inline(always)]
fn fill_task(usage: &mut TaskUsage, task: u64) {
    let delays: u64 = probe(task, &kernel::TASK_DELAYS);
    usage.tgid = probe(task, &kernel::TASK_TGID);
    usage.pid = probe(task, &kernel::TASK_PID);
    usage.state = probe(task, &kernel::TASK_STATE);
    usage.is_reader = u16::from(usage.tgid == probe(task::current_address(), &kernel::TASK_TGID));
    usage.is_leader = u16::from(probe::<u64>(task, &kernel::TASK_GROUP_LEADER) == task);
    let used = &mut usage.used;
    used.cpu_ns = probe(task, &kernel::TASK_CPU_TIME);
    used.user_ns = probe(task, &kernel::TASK_USER_TIME);
    used.system_ns = probe(task, &kernel::TASK_SYSTEM_TIME);
    used.wait_ns = probe(task, &kernel::TASK_RUN_DELAY);
    used.blocked_ns = probe(delays, &kernel::DELAYS_BLOCK_IO);
    used.major_faults = probe(task, &kernel::TASK_MAJOR_FAULTS);
    used.voluntary_switches = probe(task, &kernel::TASK_VOLUNTARY_SWITCHES);
    used.involuntary_switches = probe(task, &kernel::TASK_INVOLUNTARY_SWITCHES);
    used.read_bytes = probe(task, &kernel::TASK_READ_BYTES);
    used.write_bytes = probe(task, &kernel::TASK_WRITE_BYTES);
    used.cancelled_write_bytes = probe(task, &kernel::TASK_CANCELLED_BYTES);
}

/// With what its ended threads used, except for what the kernel does not add up.
#[inline(always)]
fn fill_process(usage: &mut ProcessUsage, task: u64) {
    let signal: u64 = probe(task, &kernel::TASK_SIGNAL);
    let mm: u64 = probe(task, &kernel::TASK_MM);
    let parent: u64 = probe(probe(task, &kernel::TASK_REAL_PARENT), &kernel::TASK_GROUP_LEADER);
    let cgroup: u64 = probe(probe(task, &kernel::TASK_CGROUPS), &kernel::CSS_SET_CGROUP);
    usage.key.start_time_ns = probe(task, &kernel::TASK_START_BOOTTIME);
    usage.key.tgid = probe(task, &kernel::TASK_TGID);
    usage.key.uid = probe(probe(task, &kernel::TASK_CRED), &kernel::CRED_UID);
    usage.comm = probe(task, &kernel::TASK_COMM);
    usage.parent_start_time_ns = probe(parent, &kernel::TASK_START_BOOTTIME);
    usage.parent_tgid = probe(parent, &kernel::TASK_TGID);
    usage.cgroup_id = probe(probe(cgroup, &kernel::CGROUP_NODE), &kernel::KERNFS_ID);
    usage.threads = probe(signal, &kernel::SIGNAL_THREADS);
    // One of the two is absent, and zero.
    let pages = |offset, old| probe::<u64>(mm, offset).wrapping_add(probe(mm, old));
    usage.rss_pages = pages(&kernel::MM_FILE_PAGES, &kernel::MM_OLD_FILE_PAGES)
        .wrapping_add(pages(&kernel::MM_ANON_PAGES, &kernel::MM_OLD_ANON_PAGES))
        .wrapping_add(pages(&kernel::MM_SHMEM_PAGES, &kernel::MM_OLD_SHMEM_PAGES));
    usage.swap_pages = pages(&kernel::MM_SWAP_PAGES, &kernel::MM_OLD_SWAP_PAGES);
    // The second is set when memory goes, by exec and at the end.
    usage.peak_pages = probe::<u64>(mm, &kernel::MM_PEAK_RSS).max(probe(signal, &kernel::SIGNAL_PEAK_RSS));
    usage.is_kernel_thread = u32::from(task::is_kernel_thread(task));
    usage.is_oom_victim = u32::from(probe::<u64>(signal, &kernel::SIGNAL_OOM_MM) != 0);
    let used = &mut usage.used;
    used.cpu_ns = probe(signal, &kernel::SIGNAL_CPU_TIME);
    used.user_ns = probe(signal, &kernel::SIGNAL_USER_TIME);
    used.system_ns = probe(signal, &kernel::SIGNAL_SYSTEM_TIME);
    used.major_faults = probe(signal, &kernel::SIGNAL_MAJOR_FAULTS);
    used.voluntary_switches = probe(signal, &kernel::SIGNAL_VOLUNTARY_SWITCHES);
    used.involuntary_switches = probe(signal, &kernel::SIGNAL_INVOLUNTARY_SWITCHES);
    used.read_bytes = probe(signal, &kernel::SIGNAL_READ_BYTES);
    used.write_bytes = probe(signal, &kernel::SIGNAL_WRITE_BYTES);
    used.cancelled_write_bytes = probe(signal, &kernel::SIGNAL_CANCELLED_BYTES);
}
