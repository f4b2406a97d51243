//! Back end `tracepoint`: `sock_send_length` and `sock_recv_length` (6.3 and later) fire in the caller's context with
//! the call's result, `tcp_rcv_space_adjust` after TCP data was taken.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use nettop_common::log::Hook;

use super::{consumed, received, sent};
use crate::recovery_probe::{self, Call};

/// net/socket.c: `sock_sendmsg_nosec` reports what `sendmsg` returned; `flags` is always 0.
#[btf_tracepoint(function = "sock_send_length")]
pub fn socket_send(ctx: BtfTracePointContext) -> i32 {
    if recovery_probe::first(Call::Send) {
        sent(ctx.arg(0), ctx.arg(1), Hook::SocketSend);
    }
    0
}

#[btf_tracepoint(function = "sock_send_length")]
pub fn socket_send_again(ctx: BtfTracePointContext) -> i32 {
    if recovery_probe::second(Call::Send) {
        sent(ctx.arg(0), ctx.arg(1), Hook::SocketSend);
    }
    0
}

/// net/socket.c: `sock_recvmsg_nosec` reports what `recvmsg` returned.
#[btf_tracepoint(function = "sock_recv_length")]
pub fn socket_receive(ctx: BtfTracePointContext) -> i32 {
    if recovery_probe::first(Call::Receive) {
        received(ctx.arg(0), ctx.arg(1), ctx.arg(2), Hook::SocketReceive);
    }
    0
}

#[btf_tracepoint(function = "sock_recv_length")]
pub fn socket_receive_again(ctx: BtfTracePointContext) -> i32 {
    if recovery_probe::second(Call::Receive) {
        received(ctx.arg(0), ctx.arg(1), ctx.arg(2), Hook::SocketReceive);
    }
    0
}

/// net/ipv4/tcp_input.c: runs under the socket's lock, by recv, splice and `tcp_read_sock` alike.
#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
pub fn tcp_receive(ctx: BtfTracePointContext) -> i32 {
    if recovery_probe::first(Call::TcpReceive) {
        consumed(ctx.arg(0), Hook::TcpReceive);
    }
    0
}

#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
pub fn tcp_receive_again(ctx: BtfTracePointContext) -> i32 {
    if recovery_probe::second(Call::TcpReceive) {
        consumed(ctx.arg(0), Hook::TcpReceive);
    }
    0
}
