//! Socket calls of chosen processes and their children, reported at entry and exit.
//!
//! The task's storage holds the state of a thread, so depth and time are right even if the ring buffer drops events.

mod arguments;
mod functions;

use core::ffi::c_void;

use aya_ebpf::{
    Global,
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, generated::bpf_probe_read_kernel_str},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use nettop_common::{
    abi::BPF_RB_FORCE_WAKEUP,
    offsets::ABSENT,
    trace::{CallStep, EVERYBODY, FOLLOWED, MAX_TRACED_NAMES, NamePattern, REPORTED, Step, Thread, kind},
};

use crate::{
    clock::boot_ns,
    kernel::{self, load},
    maps::{CALLS_BY_NUMBER, EVENTS, TRACED, TRACED_NAMES, count},
    processes,
    storage::THREADS,
    task::{self, Task},
};

/// Whether the arguments are reported too.
#[unsafe(no_mangle)]
static DECODE: Global<u32> = Global::new(0);
/// Whether new processes and programs are recorded.
#[unsafe(no_mangle)]
static RECORD_TRACED: Global<u32> = Global::new(0);

/// A child of a traced process is traced too, and recorded; `copy_process` is done, the child does not run yet.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn trace_fork(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: both arguments of this tracepoint are tasks.
    let (old, new) = unsafe { (Task::from_ptr(ctx.arg(0)), Task::from_ptr(ctx.arg(1))) };
    let (parent, child) = (old.tgid(), new.tgid());
    if parent == child {
        return 0;
    }
    let is_followed = how(parent).is_some_and(|how| how & FOLLOWED != 0);
    if is_followed {
        follow(child);
    }
    if RECORD_TRACED.load() != 0 && (is_followed || how(parent).is_none() && how(EVERYBODY).is_some()) {
        processes::send(&new.key(), new.leader_address());
    }
    0
}

/// A traced process executes another program, of which the kernel has all (`exec_binprm`).
#[btf_tracepoint(function = "sched_process_exec")]
pub fn trace_exec(_ctx: BtfTracePointContext) -> i32 {
    if RECORD_TRACED.load() != 0 && is_traced() {
        processes::send(&Task::current().key(), task::current_address());
    }
    0
}

/// `__set_task_comm`, by exec and by `PR_SET_NAME`.
#[btf_tracepoint(function = "task_rename")]
pub fn trace_rename(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the first argument of this tracepoint is the task.
    let task = unsafe { Task::from_ptr(ctx.arg(0)) };
    let comm: *const c_void = ctx.arg(1);
    if !task.is_leader() || how(task.tgid()).is_some() {
        return 0;
    }
    let mut name = [0u64; 2];
    // SAFETY: the helper checks the source, which may be longer, and ends the 16 bytes on the stack with a zero.
    unsafe { bpf_probe_read_kernel_str(name.as_mut_ptr().cast(), 16, comm) };
    for index in 0..MAX_TRACED_NAMES {
        if TRACED_NAMES.get(index).is_some_and(|pattern| fits(pattern, name)) {
            follow(task.tgid());
            return 0;
        }
    }
    0
}

fn fits(pattern: &NamePattern, name: [u64; 2]) -> bool {
    pattern.mask[0] != 0
        && (name[0] ^ pattern.name[0]) & pattern.mask[0] == 0
        && (name[1] ^ pattern.name[1]) & pattern.mask[1] == 0
}

/// `do_exit`, once per thread. Wakes the daemon, which may have nothing else to wait for.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn trace_exit(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the first argument of this tracepoint is the task.
    let task = unsafe { Task::from_ptr(ctx.arg(0)) };
    if task.is_last_thread()
        && TRACED.remove(task.tgid()).is_ok()
        && let Some(nothing) = EVENTS.reserve::<u64>(0)
    {
        nothing.discard(BPF_RB_FORCE_WAKEUP);
    }
    0
}

#[inline(always)]
fn how(tgid: u32) -> Option<u32> {
    // SAFETY: the value is copied at once.
    unsafe { TRACED.get(tgid) }.copied()
}

#[inline(always)]
fn follow(tgid: u32) {
    if TRACED.insert(tgid, REPORTED | FOLLOWED, 0).is_err() {
        count(|stats| &raw mut stats.traced_full);
    }
}

/// Whether to report calls of the running process.
#[inline(always)]
fn is_traced() -> bool {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    how(tgid).or_else(|| how(EVERYBODY)).is_some_and(|how| how & REPORTED != 0)
}

/// `syscall_trace_enter`, after seccomp.
#[btf_tracepoint(function = "sys_enter")]
pub fn call_enter(ctx: BtfTracePointContext) -> i32 {
    let registers: *const c_void = ctx.arg(0);
    let number: u64 = ctx.arg(1);
    if Task::current().is_in_32bit_call() {
        if is_32bit_socket_call(number as u32) && is_traced() {
            count(|stats| &raw mut stats.calls_32bit);
        }
        return 0;
    }
    if let Some(call) = call_of(number as u32)
        && is_traced()
        && let Some(thread) = thread()
    {
        let now_ns = boot_ns();
        if thread.depth != 0 {
            // The kernel hid the exit of the last call.
            count(|stats| &raw mut stats.events_lost);
        }
        (thread.begun_ns, thread.depth) = (now_ns, 1);
        describe(&mut thread.call.step, call, now_ns);
        (thread.call.step.kind, thread.call.step.depth, thread.call.step.elapsed_ns) = (kind::ENTER, 0, 0);
        if DECODE.load() != 0 {
            arguments::before(&mut thread.call, call, registers);
        }
        emit(thread);
    }
    0
}

/// `syscall_exit_work`, before signals are handled: a call to restart exits with `ERESTARTSYS` and is entered again.
#[btf_tracepoint(function = "sys_exit")]
pub fn call_leave(ctx: BtfTracePointContext) -> i32 {
    let registers: *const c_void = ctx.arg(0);
    let result: i64 = ctx.arg(1);
    let number = load::<u64>(registers, &kernel::SYSCALL_NUMBER);
    if let Some(call) = call_of(number as u32)
        && !Task::current().is_in_32bit_call()
        && is_traced()
        && let Some(thread) = thread()
    {
        let now_ns = boot_ns();
        let is_entered = thread.depth != 0;
        describe(&mut thread.call.step, call, now_ns);
        if DECODE.load() != 0 {
            if !is_entered {
                arguments::before(&mut thread.call, call, registers);
                arguments::forget_before(&mut thread.call);
            }
            arguments::after(&mut thread.call, call, result);
        }
        let begun_ns = if is_entered { thread.begun_ns } else { now_ns };
        let step = &mut thread.call.step;
        step.kind = if is_entered { kind::LEAVE } else { kind::LEAVE_UNENTERED };
        (step.depth, step.elapsed_ns, step.result) = (0, now_ns.saturating_sub(begun_ns), result);
        thread.depth = 0;
        emit(thread);
    }
    0
}

/// `io_submit_sqe`, in the submitting task or in the kernel's polling thread, which belongs to its process. Linux 6.4.
#[btf_tracepoint(function = "io_uring_submit_req")]
pub fn uring_submit(ctx: BtfTracePointContext) -> i32 {
    let request: *const c_void = ctx.arg(0);
    if kernel::URING_OPCODE.load() != ABSENT
        && is_socket_operation(load::<u8>(request, &kernel::URING_OPCODE))
        && is_traced()
    {
        count(|stats| &raw mut stats.calls_by_io_uring);
    }
    0
}

/// `IORING_OP_*` of include/uapi/linux/io_uring.h for socket calls: from SENDMSG to SHUTDOWN as they were added, then
/// SOCKET, SEND_ZC, SENDMSG_ZC, BIND, LISTEN and RECV_ZC.
#[inline(always)]
const fn is_socket_operation(opcode: u8) -> bool {
    matches!(opcode, 9 | 10 | 13 | 16 | 26 | 27 | 34 | 45 | 47 | 48 | 56..=58)
}

/// The call of a number.
#[inline(always)]
fn call_of(number: u32) -> Option<u32> {
    CALLS_BY_NUMBER.get(number).copied().filter(|call| *call != 0)
}

/// `socketcall`, `recvmmsg`, `sendmmsg`, and from `socket` to `shutdown`: numbers of i386, see
/// arch/x86/entry/syscalls/syscall_32.tbl.
#[inline(always)]
const fn is_32bit_socket_call(number: u32) -> bool {
    matches!(number, 102 | 337 | 345 | 359..=373)
}

/// The running thread's state. Without memory for it, its step is lost.
#[inline(always)]
fn thread() -> Option<&'static mut Thread> {
    let thread = THREADS.current();
    if thread.is_none() {
        count(|stats| &raw mut stats.events_lost);
    }
    thread
}

/// Sets process and time.
#[inline(always)]
fn describe(step: &mut Step, what: u32, now_ns: u64) {
    step.time_ns = now_ns;
    step.owner = Task::current().key();
    step.what = what;
    step.tid = bpf_get_current_pid_tgid() as u32;
    step.comm = bpf_get_current_comm().unwrap_or_default();
}

#[inline(always)]
fn emit(thread: &Thread) {
    let sent = if DECODE.load() != 0 {
        EVENTS.output::<CallStep>(&thread.call, 0)
    } else {
        EVENTS.output::<Step>(&thread.call.step, 0)
    };
    if sent.is_err() {
        count(|stats| &raw mut stats.events_lost);
    }
}
