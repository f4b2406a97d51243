//! App bytes and owners. What every back end does once it knows a socket and a number of bytes is here; the back ends
//! are the modules below.

mod frame;
mod probe;
mod tracepoint;
mod trampoline;

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_skc_to_tcp_sock;
use nettop_common::{Direction, SocketTag};

use crate::{
    kernel::{self, load, probe as probe_at},
    ledger,
    maps::SOCKETS,
    numbers::{AF_INET, AF_INET6, AF_PACKET, IPPROTO_TCP, SOCK_DONE},
    task::User,
};

const MSG_PEEK: i32 = 0x2;
/// Hands back the caller's own data, with timestamps or errors.
const MSG_ERRQUEUE: i32 = 0x2000;

/// A call sent this many bytes, or failed.
#[inline(always)]
fn sent(sk: *const c_void, bytes: i32) {
    if bytes <= 0 || sk.is_null() {
        return;
    }
    let user = User::current();
    if is_inet(sk) {
        used(sk, &user, |tag| ledger::count_app(tag, Direction::Tx, bytes as u64));
    } else if load::<u16>(sk, &kernel::SOCK_FAMILY) == AF_PACKET {
        frame::sent(sk, &user, bytes as u32);
    }
}

/// A call received this many bytes, or failed. Plain TCP is counted by [`consumed`], where splice passes too.
#[inline(always)]
fn received(sk: *const c_void, bytes: i32, flags: i32) {
    if bytes <= 0 || flags & (MSG_PEEK | MSG_ERRQUEUE) != 0 || sk.is_null() || !is_inet(sk) {
        return;
    }
    let user = User::current();
    let is_tcp = load::<u16>(sk, &kernel::SOCK_PROTOCOL) == IPPROTO_TCP;
    if !is_tcp || is_layered(sk) {
        used(sk, &user, |tag| {
            ledger::count_app(tag, Direction::Rx, bytes as u64);
            if is_tcp {
                // Of TCP's own stream as much may be gone as this, or more, or less.
                ledger::skip_consumed(tag, consumed_bytes(sk));
            }
        });
    }
}

/// A program took data from a TCP socket: how much is a difference, so that a look missed heals at the next.
#[inline(always)]
fn consumed(sk: *const c_void) {
    let user = User::current();
    let Some(tag) = tag(sk) else { return };
    let consumed_bytes = consumed_bytes(sk);
    // Without the lock it is `tcp_read_sock` in softirq, for what the kernel builds on TCP: `current` is anybody.
    let is_in_call = load::<u32>(sk, &kernel::SOCK_LOCK_OWNED) != 0;
    if is_in_call && ledger::used(tag, &user) && !is_layered(sk) {
        ledger::count_consumed(tag, consumed_bytes);
    } else {
        ledger::skip_consumed(tag, consumed_bytes);
    }
}

/// Whether the program receives what a layer of the kernel makes of TCP's data, as kTLS, or something else in its place,
/// as sockmap.
#[inline(always)]
fn is_layered(sk: *const c_void) -> bool {
    const TLS: u32 = u32::from_ne_bytes(*b"tls\0");
    /// Of the low bits of `sk_user_data`, include/net/sock.h; since 6.0, and in later releases of 5.15.
    const SK_USER_DATA_PSOCK: u64 = 4;
    if load::<u64>(sk, &kernel::SOCK_USER_DATA) & SK_USER_DATA_PSOCK != 0 {
        return true;
    }
    // SAFETY: a socket of the program's context; the helper answers null for what is not TCP.
    let tcp = unsafe { bpf_skc_to_tcp_sock(sk.cast_mut()) }.cast::<c_void>();
    if tcp.is_null() {
        return false;
    }
    let ops: u64 = load(tcp, &kernel::ICSK_ULP_OPS);
    ops != 0 && probe_at::<u32>(ops, &kernel::ULP_OPS_NAME) == TLS
}

/// Whether a TCP socket is a subflow of MPTCP, whose data is counted at the socket that the program holds.
#[inline(always)]
fn is_subflow(sk: u64) -> bool {
    const MPTC: u32 = u32::from_ne_bytes(*b"mptc");
    let socket: u64 = probe_at(sk, &kernel::SOCK_SOCKET);
    if socket != 0 && probe_at::<u64>(socket, &kernel::SOCKET_FILE) != 0 {
        return false;
    }
    let ops: u64 = probe_at(sk, &kernel::ICSK_ULP_OPS);
    ops != 0 && probe_at::<u32>(ops, &kernel::ULP_OPS_NAME) == MPTC
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

/// The current task uses the socket: its process owns it from now on.
#[inline(always)]
fn used(sk: *const c_void, user: &User, then: impl FnOnce(&mut SocketTag)) {
    let Some(tag) = tag(sk) else { return };
    if ledger::used(tag, user) {
        then(tag);
    }
}

#[inline(always)]
fn tag(sk: *const c_void) -> Option<&'static mut SocketTag> {
    let tag = SOCKETS.tag(sk.cast_mut())?;
    if tag.netns.inode == 0 {
        tag.netns = ledger::netns_of(sk as u64);
    }
    Some(tag)
}
