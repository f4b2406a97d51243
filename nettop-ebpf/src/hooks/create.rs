//! Sockets at birth: `cgroup/sock_create`, run by `inet_create` in the process that asks, and not for the
//! kernel's own sockets. Without it the first packets of a socket would have no owner.

use aya_ebpf::{EbpfContext as _, macros::cgroup_sock, programs::SockContext};
use nettop_common::tag::{BASED, evidence};

use crate::{ledger, maps::SOCKETS, shadow, task::Task};

const PASS: i32 = 1;

#[cgroup_sock(sock_create)]
pub fn socket_create(ctx: SockContext) -> i32 {
    let task = Task::current();
    if !task.is_kernel_thread()
        && let Some(tag) = SOCKETS.tag(ctx.as_ptr())
    {
        tag.flags = BASED;
        tag.netns = task.netns();
        ledger::take(tag, task, evidence::CREATOR);
        shadow::name(ctx.as_ptr());
    }
    PASS
}
