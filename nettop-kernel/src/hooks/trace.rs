//! Hooks for socket calls of chosen processes.

use super::{AttachPoint, Backend, Hook, PROCESS_EXEC, PROCESS_EXIT, Purpose, TASK_RENAME, hook, only, optional, set};

const PROCESSES_COME_AND_GO: Purpose = Purpose {
    name: "processes",
    needed: true,
    effect_if_missing: "children of traced processes",
    sets: &[only(&[
        hook("trace_fork", AttachPoint::Tracepoint, "sched_process_fork", &["void (task_struct *, task_struct *)"]),
        optional(hook("trace_exec", AttachPoint::Tracepoint, "sched_process_exec", PROCESS_EXEC)),
        hook("trace_rename", AttachPoint::Tracepoint, "task_rename", TASK_RENAME),
        hook("trace_exit", AttachPoint::Tracepoint, "sched_process_exit", PROCESS_EXIT),
    ])],
};

const SYSTEM_CALLS: &[Hook] = &[
    hook("call_leave", AttachPoint::Tracepoint, "sys_exit", &["void (pt_regs *, long int)", "void (pt_regs *, long)"]),
    hook("call_enter", AttachPoint::Tracepoint, "sys_enter", &["void (pt_regs *, long int)", "void (pt_regs *, long)"]),
];

/// Programs of functions read no argument.
const fn needed(hook: Hook) -> Hook {
    hook
}

macro_rules! functions {
    ($($target:literal $enter:ident $leave:ident $how:ident;)*) => {
        &[
            $($how(hook(stringify!($leave), AttachPoint::Fexit, $target, &[])),)*
            $($how(hook(stringify!($enter), AttachPoint::Fentry, $target, &[])),)*
        ]
    };
}
const FUNCTIONS: &[Hook] = nettop_common::for_each_function!(functions);

/// Only counted.
const URING: Purpose = Purpose {
    name: "io_uring",
    needed: false,
    effect_if_missing: "the number of socket calls that io_uring does",
    sets: &[only(&[hook("uring_submit", AttachPoint::Tracepoint, "io_uring_submit_req", &["void (io_kiocb *)"])])],
};

pub const CALLS: &[Purpose] = &[
    PROCESSES_COME_AND_GO,
    URING,
    Purpose {
        name: "socket calls",
        needed: true,
        effect_if_missing: "socket calls",
        sets: &[set(Backend::Fentry, FUNCTIONS), set(Backend::Tracepoint, SYSTEM_CALLS)],
    },
];

/// System calls have the arguments.
pub const CALLS_AND_ARGUMENTS: &[Purpose] = &[
    PROCESSES_COME_AND_GO,
    URING,
    Purpose { name: "socket calls", needed: true, effect_if_missing: "socket calls", sets: &[only(SYSTEM_CALLS)] },
];
