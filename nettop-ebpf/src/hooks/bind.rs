//! Ports at bind (`__inet_bind`) and sockets at close (`inet_release`), in the calling process.

use core::ffi::c_void;

use aya_ebpf::{EbpfContext as _, macros::cgroup_sock, programs::SockContext};
use nettop_common::{SocketTag, abi::CGROUP_PASS, tag::RELEASED};

use crate::{ports, storage::SOCKETS, tags};

#[cgroup_sock(post_bind4)]
pub fn bind_v4(ctx: SockContext) -> i32 {
    with(&ctx, ports::bind);
    CGROUP_PASS
}

#[cgroup_sock(post_bind6)]
pub fn bind_v6(ctx: SockContext) -> i32 {
    with(&ctx, ports::bind);
    CGROUP_PASS
}

#[cgroup_sock(sock_release)]
pub fn socket_release(ctx: SockContext) -> i32 {
    with(&ctx, |tag| {
        tags::set_flags(tag, RELEASED);
        ports::end_listener(tag);
        ports::forget(tag);
    });
    CGROUP_PASS
}

#[inline(always)]
fn with(ctx: &SockContext, then: impl FnOnce(&mut SocketTag)) {
    let sk: *mut c_void = ctx.as_ptr();
    if let Some(tag) = SOCKETS.find(sk) {
        tags::address(tag, sk);
        then(tag);
    }
}
