//! Back end `fentry`: the socket family's own `sendmsg` and `recvmsg`, whose signatures are the same from 5.10 to 7.2,
//! left through a trampoline; and `tcp_cleanup_rbuf`, entered by one.

use core::ffi::c_void;

use aya_ebpf::{
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};

use super::{consumed, is_subflow, received, sent};
use crate::kernel::{self, load};

/// net/ipv4/af_inet.c, also for raw sockets of IPv6 and for SCTP.
#[fexit(function = "inet_sendmsg")]
pub fn inet_sendmsg(ctx: FExitContext) -> i32 {
    sent(socket(&ctx), ctx.arg(3));
    0
}

/// net/ipv6/af_inet6.c. IPv4 through an IPv6 socket passes here once and not above.
#[fexit(function = "inet6_sendmsg")]
pub fn inet6_sendmsg(ctx: FExitContext) -> i32 {
    sent(socket(&ctx), ctx.arg(3));
    0
}

/// What sendfile and splice send before 6.5.
#[fexit(function = "inet_sendpage")]
pub fn inet_sendpage(ctx: FExitContext) -> i32 {
    sent(socket(&ctx), ctx.arg(5));
    0
}

/// net/packet/af_packet.c, where it is no module.
#[fexit(function = "packet_sendmsg")]
pub fn packet_sendmsg(ctx: FExitContext) -> i32 {
    sent(socket(&ctx), ctx.arg(3));
    0
}

#[fexit(function = "inet_recvmsg")]
pub fn inet_recvmsg(ctx: FExitContext) -> i32 {
    received(socket(&ctx), ctx.arg(4), ctx.arg(3));
    0
}

#[fexit(function = "inet6_recvmsg")]
pub fn inet6_recvmsg(ctx: FExitContext) -> i32 {
    received(socket(&ctx), ctx.arg(4), ctx.arg(3));
    0
}

/// net/core/sock.c: raw sockets of IPv6, and other families that are none of ours.
#[fexit(function = "sock_common_recvmsg")]
pub fn sock_common_recvmsg(ctx: FExitContext) -> i32 {
    received(socket(&ctx), ctx.arg(4), ctx.arg(3));
    0
}

/// net/ipv4/tcp.c: after `copied_seq` moved. Its argument counts what is peeked at as well and is not used.
#[fentry(function = "tcp_cleanup_rbuf")]
pub fn tcp_cleanup_rbuf(ctx: FEntryContext) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    if !is_subflow(sk as u64) {
        consumed(sk);
    }
    0
}

/// The `struct sock` of the `struct socket` that is the first argument.
#[inline(always)]
fn socket(ctx: &FExitContext) -> *const c_void {
    let socket: *const c_void = ctx.arg(0);
    load(socket, &kernel::SOCKET_SK)
}
