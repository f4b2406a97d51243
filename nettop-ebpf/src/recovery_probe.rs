//! Calls that the kernel hid from a tracing program: it does not run on a CPU where another task was preempted inside
//! it. From 7.0 on, and elsewhere once that happened, the daemon attaches a second program after each. It counts what
//! the first did not mark in its task. Both are hidden only if two tasks were preempted, one in each.

use crate::{
    maps::{count, stats},
    storage::TASKS,
};

/// One bit for each pair of programs.
#[derive(Clone, Copy)]
pub enum Call {
    Send = 1,
    Receive = 2,
    TcpReceive = 4,
}

/// In the first program: whether to count the call.
#[inline(always)]
pub fn first(call: Call) -> bool {
    if stats().is_none_or(|stats| stats.recovery_probe == 0) {
        return true;
    }
    // Without a mark the second counts.
    TASKS.current().is_some_and(|marks| {
        *marks |= call as u32;
        true
    })
}

/// In the second program: whether the first did not.
#[inline(always)]
pub fn second(call: Call) -> bool {
    if let Some(marks) = TASKS.current()
        && *marks & call as u32 != 0
    {
        *marks &= !(call as u32);
        return false;
    }
    count(|stats| &raw mut stats.recovered_calls);
    true
}
