//! Back end `fentry`: the exits of the socket family's own `sendmsg` and `recvmsg`, whose signatures are the same from
//! 5.10 to 7.2, and the entry of `tcp_cleanup_rbuf`.

use core::ffi::c_void;

use aya_ebpf::{
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};
use nettop_common::{
    abi::{IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, SOCK_RAW},
    log::Hook,
};

use super::{consumed, is_subflow, received, sent};
use crate::kernel::{self, load};

/// net/ipv4/af_inet.c, also for raw sockets of IPv6 and for SCTP.
#[fexit(function = "inet_sendmsg")]
pub fn inet_sendmsg(ctx: FExitContext) -> i32 {
    sent(socket(&ctx), ctx.arg(3), Hook::InetSendmsg);
    0
}

/// net/ipv6/af_inet6.c. IPv4 through an IPv6 socket passes here once and not above.
#[fexit(function = "inet6_sendmsg")]
pub fn inet6_sendmsg(ctx: FExitContext) -> i32 {
    sent(socket(&ctx), ctx.arg(3), Hook::Inet6Sendmsg);
    0
}

/// For sendfile and splice before 6.5. Other protocols continue in `inet_sendmsg` (`sock_no_sendpage`).
#[fexit(function = "inet_sendpage")]
pub fn inet_sendpage(ctx: FExitContext) -> i32 {
    let sk = socket(&ctx);
    let has_sendpage = matches!(load::<u16>(sk, &kernel::SOCK_PROTOCOL), IPPROTO_TCP | IPPROTO_UDP | IPPROTO_UDPLITE);
    if has_sendpage && load::<u16>(sk, &kernel::SOCK_TYPE) != SOCK_RAW {
        sent(sk, ctx.arg(5), Hook::InetSendpage);
    }
    0
}

/// net/packet/af_packet.c, if it is no module.
#[fexit(function = "packet_sendmsg")]
pub fn packet_sendmsg(ctx: FExitContext) -> i32 {
    sent(socket(&ctx), ctx.arg(3), Hook::PacketSendmsg);
    0
}

#[fexit(function = "packet_recvmsg")]
pub fn packet_recvmsg(ctx: FExitContext) -> i32 {
    received(socket(&ctx), ctx.arg(4), ctx.arg(3), Hook::PacketRecvmsg);
    0
}

#[fexit(function = "inet_recvmsg")]
pub fn inet_recvmsg(ctx: FExitContext) -> i32 {
    received(socket(&ctx), ctx.arg(4), ctx.arg(3), Hook::InetRecvmsg);
    0
}

#[fexit(function = "inet6_recvmsg")]
pub fn inet6_recvmsg(ctx: FExitContext) -> i32 {
    received(socket(&ctx), ctx.arg(4), ctx.arg(3), Hook::Inet6Recvmsg);
    0
}

/// net/core/sock.c: raw sockets of IPv6, and families that do not matter here.
#[fexit(function = "sock_common_recvmsg")]
pub fn sock_common_recvmsg(ctx: FExitContext) -> i32 {
    received(socket(&ctx), ctx.arg(4), ctx.arg(3), Hook::SockCommonRecvmsg);
    0
}

/// net/ipv4/tcp.c: after `copied_seq` moved. Its argument includes peeked data and is not used.
#[fentry(function = "tcp_cleanup_rbuf")]
pub fn tcp_cleanup_rbuf(ctx: FEntryContext) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    if !is_subflow(sk as u64) {
        consumed(sk, Hook::TcpCleanupRbuf);
    }
    0
}

/// The `struct sock` of the `struct socket` that is the first argument.
#[inline(always)]
fn socket(ctx: &FExitContext) -> *const c_void {
    let socket: *const c_void = ctx.arg(0);
    load(socket, &kernel::SOCKET_SK)
}
