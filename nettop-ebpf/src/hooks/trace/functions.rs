//! The functions of net/socket.c, by trampolines: one program at the entry and one at the exit of each.
//!
//! The place on the stack where a call was entered shows whether it still runs. So the depth stays right if the kernel
//! hides an exit, or if a thread was inside a call when tracing began.

use aya_ebpf::{
    EbpfContext,
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};
use nettop_common::trace::{FIRST_FUNCTION, Function, MAX_NESTED_CALLS, Thread, kind};

use super::{describe, emit, is_traced, thread};
use crate::{clock::boot_ns, maps::count};

macro_rules! programs {
    ($($target:literal $enter:ident $leave:ident $how:ident;)*) => {
        $(
            #[fentry]
            pub fn $enter(ctx: FEntryContext) -> i32 {
                enter(Function::$enter, ctx.as_ptr() as u64)
            }

            #[fexit]
            pub fn $leave(ctx: FExitContext) -> i32 {
                leave(Function::$enter, ctx.as_ptr() as u64)
            }
        )*
    };
}
nettop_common::for_each_function!(programs);

#[inline(always)]
fn enter(function: Function, frame: u64) -> i32 {
    if is_traced()
        && let Some(thread) = thread()
    {
        let now_ns = boot_ns();
        // Calls no higher than this one are over.
        let depth = lasting(thread, frame + 1);
        if depth == 0 {
            thread.begun_ns = now_ns;
        }
        thread.depth = depth;
        if depth < MAX_NESTED_CALLS as u64 {
            thread.frames[depth as usize & (MAX_NESTED_CALLS - 1)] = frame;
            thread.depth += 1;
        }
        emit_step(thread, function, now_ns, kind::ENTER, depth);
    }
    0
}

#[inline(always)]
fn leave(function: Function, frame: u64) -> i32 {
    if is_traced()
        && let Some(thread) = thread()
    {
        let now_ns = boot_ns();
        let depth = lasting(thread, frame);
        thread.depth = depth;
        if depth > 0 && thread.frames[(depth - 1) as usize & (MAX_NESTED_CALLS - 1)] == frame {
            thread.depth = depth - 1;
            emit_step(thread, function, now_ns, kind::LEAVE, depth - 1);
        } else {
            emit_step(thread, function, now_ns, kind::LEAVE_UNENTERED, depth);
        }
    }
    0
}

/// How many calls are at this place of the stack, which grows downwards, or higher. The kernel hid the others' exits.
#[inline(always)]
fn lasting(thread: &Thread, frame: u64) -> u64 {
    let mut depth = thread.depth;
    for _ in 0..MAX_NESTED_CALLS {
        if depth == 0 || thread.frames[(depth - 1) as usize & (MAX_NESTED_CALLS - 1)] >= frame {
            break;
        }
        depth -= 1;
        count(|stats| &raw mut stats.events_lost);
    }
    depth
}

#[inline(always)]
fn emit_step(thread: &mut Thread, function: Function, now_ns: u64, kind: u32, depth: u64) {
    let is_outermost = depth == 0 && kind != kind::LEAVE;
    let begun_ns = if is_outermost { now_ns } else { thread.begun_ns };
    let step = &mut thread.call.step;
    describe(step, FIRST_FUNCTION + function as u32, now_ns);
    (step.kind, step.depth, step.elapsed_ns) = (kind, depth as u32, now_ns.saturating_sub(begun_ns));
    emit(thread);
}
