//! App bytes and owners, from the tracepoints that fire in the caller's context: `sock_send_length` and
//! `sock_recv_length` (6.3 and later), and `tcp_rcv_space_adjust` for what TCP programs take.

use core::ffi::c_void;

use aya_ebpf::{helpers::generated::bpf_skc_to_tcp_sock, macros::btf_tracepoint, programs::BtfTracePointContext};
use nettop_common::{
    Direction, SocketTag,
    tag::{BASED, evidence},
};

use crate::{
    kernel::{self, load},
    ledger,
    maps::SOCKETS,
    task::Task,
};

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const IPPROTO_TCP: u16 = 6;
const MSG_PEEK: i32 = 0x2;
/// Hands back the caller's own data, with timestamps or errors.
const MSG_ERRQUEUE: i32 = 0x2000;
/// `SOCK_DONE` of enum sock_flags: `tcp_fin` has run.
const SOCK_DONE: u64 = 1 << 1;

/// net/socket.c: `sock_sendmsg_nosec` reports what `sendmsg` returned; `flags` is always 0.
#[btf_tracepoint(function = "sock_send_length")]
pub fn socket_send(ctx: BtfTracePointContext) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    let sent: i32 = ctx.arg(1);
    if sent > 0 && is_inet(sk) {
        used(sk, |tag| ledger::count_app(tag, Direction::Tx, sent as u64));
    }
    0
}

/// net/socket.c: `sock_recvmsg_nosec` reports what `recvmsg` returned. TCP is counted below, where splice passes too.
#[btf_tracepoint(function = "sock_recv_length")]
pub fn socket_receive(ctx: BtfTracePointContext) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    let received: i32 = ctx.arg(1);
    let flags: i32 = ctx.arg(2);
    if received > 0
        && flags & (MSG_PEEK | MSG_ERRQUEUE) == 0
        && is_inet(sk)
        && load::<u16>(sk, &kernel::SOCK_PROTOCOL) != IPPROTO_TCP
    {
        used(sk, |tag| ledger::count_app(tag, Direction::Rx, received as u64));
    }
    0
}

/// net/ipv4/tcp_input.c: runs under the socket's lock after data was taken, by recv, splice and `tcp_read_sock` alike.
#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
pub fn tcp_receive(ctx: BtfTracePointContext) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    used(sk, |tag| {
        let consumed_bytes = consumed_bytes(sk);
        // A socket that disconnects and connects again starts over.
        let before = if consumed_bytes < tag.consumed_bytes { 0 } else { tag.consumed_bytes };
        tag.consumed_bytes = consumed_bytes;
        if tag.flags & BASED == 0 {
            tag.flags |= BASED;
        } else if consumed_bytes > before {
            ledger::count_app(tag, Direction::Rx, consumed_bytes - before);
        }
    });
    0
}

/// What the program took from a TCP socket since it was connected: received in order, less what is queued,
/// less the FIN, which takes a sequence number and is consumed like a byte.
#[inline(always)]
pub fn consumed_bytes(sk: *const c_void) -> u64 {
    // SAFETY: a socket of the program's context; the helper answers null for what is not TCP.
    let tcp = unsafe { bpf_skc_to_tcp_sock(sk.cast_mut()) }.cast::<c_void>();
    if tcp.is_null() {
        return 0;
    }
    let received: u64 = load(tcp, &kernel::TCP_BYTES_RECEIVED);
    let next: u32 = load(tcp, &kernel::TCP_RCV_NXT);
    let copied: u32 = load(tcp, &kernel::TCP_COPIED_SEQ);
    let done = load::<u64>(sk, &kernel::SOCK_FLAGS) & SOCK_DONE != 0;
    let queued = u64::from(next.wrapping_sub(copied));
    let fin = u64::from(done && queued == 0);
    received.saturating_sub(queued).saturating_sub(fin)
}

#[inline(always)]
pub fn is_inet(sk: *const c_void) -> bool {
    matches!(load::<u16>(sk, &kernel::SOCK_FAMILY), AF_INET | AF_INET6)
}

/// The current process uses the socket: it owns it from now on.
#[inline(always)]
fn used(sk: *const c_void, then: impl FnOnce(&mut SocketTag)) {
    let Some(tag) = SOCKETS.tag(sk.cast_mut()) else { return };
    if tag.netns == 0 {
        tag.netns = ledger::netns_of(sk as u64);
    }
    ledger::take(tag, Task::current(), evidence::USER);
    then(tag);
}
