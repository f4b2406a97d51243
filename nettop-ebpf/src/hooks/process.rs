//! Processes that change their name or cgroup, or end, so that rows get the right names and retire in time.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::{bpf_ktime_get_ns, generated::bpf_probe_read_kernel_str},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use nettop_common::owner::{EXITED, UNRECORDED, UNSENT};

use crate::{
    owners, processes,
    task::{self, Task},
};

/// `__set_task_comm`, by exec and by `PR_SET_NAME`; the task still has its old name.
#[btf_tracepoint(function = "task_rename")]
pub fn process_rename(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the first argument of this tracepoint is the task.
    let task = unsafe { Task::from_ptr(ctx.arg(0)) };
    let comm: *const c_void = ctx.arg(1);
    if task.is_leader()
        && let Some(owner) = owners::find(&task.key()).and_then(owners::get)
    {
        // SAFETY: the helper checks the source and ends the 16 bytes of the map value with a zero.
        unsafe { bpf_probe_read_kernel_str(owner.comm.as_mut_ptr().cast(), 16, comm) };
        // SAFETY: the helper has no preconditions.
        owner.comm_time_ns = unsafe { bpf_ktime_get_ns() };
        processes::record(owner, task.leader_address());
        // Of another program the kernel has no arguments yet (`begin_new_exec`): its next use of a socket records it again.
        owner.recorded = UNRECORDED;
    }
    0
}

/// `cgroup_attach_task`, of any hierarchy, once the task is in its new cgroup.
#[btf_tracepoint(function = "cgroup_attach_task")]
pub fn process_migrate(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the third argument of this tracepoint is the task.
    let task = unsafe { Task::from_ptr(ctx.arg(2)) };
    let Some(owner) = owners::find(&task.key()).and_then(owners::get) else { return 0 };
    let leader = task.leader_address();
    // A leader that has ended stays where it was, without a program (`cgroup_migrate_add_task`).
    if !task::is_exiting(leader) {
        processes::record(owner, leader);
        if owner.recorded != UNSENT {
            return 0;
        }
    }
    // What was recorded before is no longer right: it is recorded with the next use.
    owner.recorded = UNRECORDED;
    0
}

/// `do_exit`, once per thread.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn process_exit(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the first argument of this tracepoint is the task.
    let task = unsafe { Task::from_ptr(ctx.arg(0)) };
    if task.is_last_thread()
        && let Some(owner) = owners::find(&task.key()).and_then(owners::get)
    {
        owner.state = EXITED;
    }
    0
}
