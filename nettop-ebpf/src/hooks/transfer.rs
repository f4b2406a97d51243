//! App bytes and owners. The common part of all back ends, once socket and number of bytes are known. The back ends are
//! the modules below.

mod frame;
mod probe;
mod tracepoint;
mod trampoline;
mod usage;

use core::ffi::c_void;

use aya_ebpf::{Global, helpers::generated::bpf_skc_to_tcp_sock};
use nettop_common::{
    Direction,
    abi::{
        AF_INET, AF_INET6, AF_PACKET, IPPROTO_TCP, MSG_ERRQUEUE, MSG_PEEK, SK_FORCE_REUSE, SK_REUSE_MASK,
        SK_USER_DATA_PSOCK, SOCK_DONE,
    },
    log::Hook,
    offsets::ABSENT,
};

use self::usage::{tag, used};
use crate::{
    kernel::{self, load, probe, probe_at, probe_if_there},
    ledger::{self, Consumed},
    tags,
    task::User,
};

/// Where these bit fields begin.
#[unsafe(no_mangle)]
static SOCK_REUSE_BIT: Global<u64> = Global::new(ABSENT);
#[unsafe(no_mangle)]
static TCP_REPAIR_BIT: Global<u64> = Global::new(ABSENT);

/// A call sent this many bytes, or failed.
#[inline(always)]
fn sent(sk: *const c_void, bytes: i32, hook: Hook) {
    if bytes <= 0 || sk.is_null() {
        return;
    }
    let user = User::current(hook);
    if is_inet(sk) {
        used(sk, &user, |tag, owner| {
            if !is_restored(sk) {
                ledger::count_app(tag, owner, Direction::Tx, bytes as u64, hook);
            }
        });
    } else if load::<u16>(sk, &kernel::SOCK_FAMILY) == AF_PACKET {
        frame::sent(sk, &user, bytes as u32);
    }
}

/// A call received this many bytes, or failed. Plain TCP is counted by [`consumed`], where splice passes too.
#[inline(always)]
fn received(sk: *const c_void, bytes: i32, flags: i32, hook: Hook) {
    if bytes <= 0 || flags & (MSG_PEEK | MSG_ERRQUEUE) != 0 || sk.is_null() {
        return;
    }
    if !is_inet(sk) {
        frame::received(sk, hook);
        return;
    }
    let user = User::current(hook);
    let is_tcp = load::<u16>(sk, &kernel::SOCK_PROTOCOL) == IPPROTO_TCP;
    if !is_tcp || is_layered(sk) {
        used(sk, &user, |tag, owner| {
            ledger::count_app(tag, owner, Direction::Rx, bytes as u64, hook);
            if is_tcp {
                // TCP's own stream may have moved as many bytes, more, or less.
                ledger::skip_consumed(tag, consumed_by_program(sk));
            }
        });
    }
}

/// A program took data from a TCP socket. The amount is a difference, so the next call repairs a missed one.
#[inline(always)]
fn consumed(sk: *const c_void, hook: Hook) {
    let user = User::current(hook);
    let Some(tag) = tag(sk, hook) else { return };
    let consumed = consumed_by_program(sk);
    // Without the lock it is `tcp_read_sock` in softirq, for kernel users of TCP: `current` is any process.
    let is_in_call = load::<u32>(sk, &kernel::SOCK_LOCK_OWNED) != 0;
    if is_in_call
        && let Some(owner) = tags::record_use(tag, &user)
        && !is_layered(sk)
    {
        ledger::count_consumed(tag, owner, consumed, hook);
    } else {
        ledger::skip_consumed(tag, consumed);
    }
}

/// Whether the program restores a saved connection's queues, which sends nothing (`TCP_REPAIR`).
#[inline(always)]
fn is_restored(sk: *const c_void) -> bool {
    let bit = SOCK_REUSE_BIT.load();
    if bit != ABSENT {
        // SAFETY: as in `kernel::load`.
        let byte = unsafe { sk.byte_add((bit / 8) as usize).cast::<u8>().read_volatile() };
        if !is_reuse_forced(byte) {
            return false;
        }
    }
    is_in_repair(sk as u64)
}

/// The same; the socket is only a number.
#[inline(always)]
fn is_restored_at(sk: u64) -> bool {
    let bit = SOCK_REUSE_BIT.load();
    (bit == ABSENT || is_reuse_forced(probe_at(sk + bit / 8))) && is_in_repair(sk)
}

/// `tcp_repair_set` forces it. Others may as well.
#[inline(always)]
fn is_reuse_forced(byte: u8) -> bool {
    byte >> (SOCK_REUSE_BIT.load() % 8) & SK_REUSE_MASK == SK_FORCE_REUSE
}

#[inline(always)]
fn is_in_repair(sk: u64) -> bool {
    let bit = TCP_REPAIR_BIT.load();
    let is_tcp = probe::<u16>(sk, &kernel::SOCK_PROTOCOL) == IPPROTO_TCP;
    is_tcp && bit != ABSENT && probe_at::<u8>(sk + bit / 8) >> (bit % 8) & 1 != 0
}

/// Whether the program receives the output of a kernel layer on TCP, as with kTLS, or other data instead, as with
/// sockmap.
#[inline(always)]
fn is_layered(sk: *const c_void) -> bool {
    const TLS: u32 = u32::from_ne_bytes(*b"tls\0");
    if kernel::SOCK_USER_DATA.load() != ABSENT && load::<u64>(sk, &kernel::SOCK_USER_DATA) & SK_USER_DATA_PSOCK != 0 {
        return true;
    }
    if kernel::ICSK_ULP_OPS.load() == ABSENT {
        return false;
    }
    // SAFETY: a socket of the program's context; the helper returns null if it is not TCP.
    let tcp = unsafe { bpf_skc_to_tcp_sock(sk.cast_mut()) }.cast::<c_void>();
    if tcp.is_null() {
        return false;
    }
    let ops: u64 = load(tcp, &kernel::ICSK_ULP_OPS);
    ops != 0 && probe::<u32>(ops, &kernel::ULP_OPS_NAME) == TLS
}

/// Whether a TCP socket is a subflow of MPTCP, whose data is counted at the program's socket.
#[inline(always)]
fn is_subflow(sk: u64) -> bool {
    const MPTC: u32 = u32::from_ne_bytes(*b"mptc");
    let socket: u64 = probe(sk, &kernel::SOCK_SOCKET);
    if socket != 0 && probe::<u64>(socket, &kernel::SOCKET_FILE) != 0 {
        return false;
    }
    let ops = probe_if_there::<u64>(sk, &kernel::ICSK_ULP_OPS).unwrap_or(0);
    ops != 0 && probe::<u32>(ops, &kernel::ULP_OPS_NAME) == MPTC
}

/// What the program took from a TCP socket since it was connected.
#[inline(always)]
pub fn consumed_by_program(sk: *const c_void) -> Consumed {
    // SAFETY: a socket of the program's context; the helper returns null if it is not TCP.
    let tcp = unsafe { bpf_skc_to_tcp_sock(sk.cast_mut()) }.cast::<c_void>();
    if tcp.is_null() {
        return Consumed { bytes: 0, first_seq: 0 };
    }
    let done = load::<u64>(sk, &kernel::SOCK_FLAGS) & SOCK_DONE != 0;
    Consumed::new(
        load(tcp, &kernel::TCP_BYTES_RECEIVED),
        load(tcp, &kernel::TCP_RCV_NXT),
        load(tcp, &kernel::TCP_COPIED_SEQ),
        done,
    )
}

#[inline(always)]
pub fn is_inet(sk: *const c_void) -> bool {
    matches!(load::<u16>(sk, &kernel::SOCK_FAMILY), AF_INET | AF_INET6)
}
