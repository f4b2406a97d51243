//! New sockets: `inet_create` runs `cgroup/sock_create` in the calling process, and not for the kernel's own sockets.
//! Without it the first packets of a socket would have no owner.

use aya_ebpf::{EbpfContext as _, macros::cgroup_sock, programs::SockContext};
use nettop_common::{
    abi::CGROUP_PASS,
    log::Hook,
    tag::{BASELINE_KNOWN, attribution},
};

use crate::{
    log, processes, shadow,
    storage::SOCKETS,
    tags,
    task::{self, Task},
};

#[cgroup_sock(sock_create)]
pub fn socket_create(ctx: SockContext) -> i32 {
    let task = Task::current();
    if !task.is_kernel_thread()
        && let Some(tag) = SOCKETS.tag(ctx.as_ptr(), Hook::SocketCreate)
    {
        log::number_socket(ctx.as_ptr());
        tags::address(tag, ctx.as_ptr());
        tag.flags = BASELINE_KNOWN;
        tag.netns = task.netns();
        tags::claim_unowned(tag, task, task::current_address(), attribution::CREATOR, Hook::SocketCreate);
        processes::record_new(tag.owner);
        shadow::name(ctx.as_ptr());
    }
    CGROUP_PASS
}
