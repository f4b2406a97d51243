//! Back end `kprobe`, for kernels without the tracepoints and without trampolines (arm64 before 6.4). A kprobe cannot
//! reach a socket's storage: it works on the shadow of the tag, see `shadow.rs`.
//!
//! Receiving is counted at entry, where data is consumed. A return probe would miss calls: the kernel has room for few
//! (`max(10, 2 * CPUs)`), and receivers wait inside.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use nettop_common::{Direction, log::Hook};

use super::{MSG_ERRQUEUE, MSG_PEEK, is_restored_at, is_subflow};
use crate::{
    kernel::{self, probe},
    ledger,
    maps::{CALLS, count},
    shadow,
};

/// `inet_sendmsg`, `inet6_sendmsg` and, before 6.5, `inet_sendpage`: the first argument is a `struct socket`.
#[kprobe]
pub fn send_enter(ctx: ProbeContext) -> u32 {
    let socket: u64 = ctx.arg(0).unwrap_or(0);
    note_call(probe(socket, &kernel::SOCKET_SK));
    0
}

#[kretprobe]
pub fn send_leave(ctx: RetProbeContext) -> u32 {
    if let Some(sk) = recall() {
        let sent: i32 = ctx.ret();
        if sent > 0 {
            shadow::used(sk, Hook::SendLeave, |tag, owner| {
                if !is_restored_at(sk) {
                    ledger::count_app(tag, owner, Direction::Tx, sent as u64, Hook::SendLeave);
                }
            });
        }
    }
    0
}

/// `skb_consume_udp(sk, skb, len)`: `len` is what `recvmsg` will return, negative on a peek.
#[kprobe]
pub fn udp_consume(ctx: ProbeContext) -> u32 {
    let len: i32 = ctx.arg(2).unwrap_or(0);
    if len > 0 {
        let sk: u64 = ctx.arg(0).unwrap_or(0);
        let hook = Hook::UdpConsume;
        shadow::used(sk, hook, |tag, owner| ledger::count_app(tag, owner, Direction::Rx, len as u64, hook));
    }
    0
}

/// `raw_recvmsg`, `rawv6_recvmsg`, `ping_recvmsg` and `mptcp_recvmsg` of (sk, msg, len, flags, …).
#[kprobe]
pub fn raw_receive_enter(ctx: ProbeContext) -> u32 {
    let flags: i32 = ctx.arg(3).unwrap_or(0);
    raw_receive(&ctx, flags);
    0
}

/// The same before 5.19, of (sk, msg, len, noblock, flags, …).
#[kprobe]
pub fn raw_receive_enter_noblock(ctx: ProbeContext) -> u32 {
    let flags: i32 = ctx.arg(4).unwrap_or(0);
    raw_receive(&ctx, flags);
    0
}

#[inline(always)]
fn raw_receive(ctx: &ProbeContext, flags: i32) {
    if flags & (MSG_PEEK | MSG_ERRQUEUE) == 0 {
        note_call(ctx.arg(0).unwrap_or(0));
    } else {
        // From a call with a missed return.
        let _ = CALLS.remove(bpf_get_current_pid_tgid());
    }
}

#[kretprobe]
pub fn raw_receive_leave(ctx: RetProbeContext) -> u32 {
    if let Some(sk) = recall() {
        let received: i32 = ctx.ret();
        if received > 0 {
            let hook = Hook::RawReceiveLeave;
            shadow::used(sk, hook, |tag, owner| {
                ledger::count_app(tag, owner, Direction::Rx, received as u64, hook);
            });
        }
    }
    0
}

/// `tcp_cleanup_rbuf(sk, copied)`.
#[kprobe]
pub fn tcp_consume(ctx: ProbeContext) -> u32 {
    let sk: u64 = ctx.arg(0).unwrap_or(0);
    if !is_subflow(sk) {
        shadow::consumed(sk, Hook::TcpConsume);
    }
    0
}

/// Keeps the socket until the call returns.
#[inline(always)]
fn note_call(sk: u64) {
    if sk != 0 && CALLS.insert(bpf_get_current_pid_tgid(), sk, 0).is_err() {
        count(|stats| &raw mut stats.calls_lost);
    }
}

#[inline(always)]
fn recall() -> Option<u64> {
    let key = bpf_get_current_pid_tgid();
    // SAFETY: the value is copied at once; only this thread writes it.
    let sk = unsafe { CALLS.get(key) }.copied();
    if sk.is_some() {
        let _ = CALLS.remove(key);
    }
    sk
}
