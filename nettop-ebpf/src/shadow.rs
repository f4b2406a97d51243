//! Shadows of tags, for kprobes: those cannot reach a socket's storage, which packet hooks can. A hash by socket cookie
//! tells the packet hooks who used a socket, and the kprobes which rows it has. Nothing of this runs under the other
//! back ends: the verifier sees a constant and drops it.

use core::ffi::c_void;

use aya_ebpf::{Global, bindings::bpf_sock, helpers::generated::bpf_get_socket_cookie};
use bytemuck::Zeroable as _;
use nettop_common::{
    SocketTag,
    tag::{SHADOWED, evidence},
};

use crate::{
    kernel::{self, probe},
    ledger,
    maps::{SHADOWS, count},
    numbers::{AF_INET, AF_INET6, IPPROTO_TCP, SOCK_DONE},
    task::User,
};

/// Whether a kprobe back end was chosen.
#[unsafe(no_mangle)]
static SHADOW: Global<u32> = Global::new(0);

/// Gives a socket its cookie at birth: without one a kprobe could not name it.
#[inline(always)]
pub fn name(context: *mut c_void) {
    if SHADOW.load() != 0 {
        // SAFETY: the context of the program.
        unsafe { bpf_get_socket_cookie(context) };
    }
}

/// Makes the shadow of a socket that is older than the daemon.
#[inline(always)]
pub fn seed(sk: *mut c_void, tag: &mut SocketTag) {
    if SHADOW.load() == 0 {
        return;
    }
    // SAFETY: a socket of the program's context.
    let cookie = unsafe { bpf_get_socket_cookie(sk) };
    tag.flags |= SHADOWED;
    let _ = SHADOWS.insert(cookie, *tag, 0);
}

/// Before a packet is counted: takes over what kprobes noted of its socket's user.
#[inline(always)]
pub fn before(context: *mut c_void, tag: &mut SocketTag) {
    if SHADOW.load() == 0 {
        return;
    }
    // SAFETY: the context of the program.
    let cookie = unsafe { bpf_get_socket_cookie(context) };
    if let Some(shadow) = get(cookie)
        && shadow.evidence == evidence::USER
    {
        tag.owner = shadow.owner;
        tag.evidence = evidence::USER;
    }
}

/// After a packet was counted: tells kprobes the socket's rows.
#[inline(always)]
pub fn after(context: *mut c_void, tag: &mut SocketTag, sk: *mut bpf_sock) {
    if SHADOW.load() == 0 {
        return;
    }
    // SAFETY: the context of the program.
    let cookie = unsafe { bpf_get_socket_cookie(context) };
    if let Some(shadow) = get(cookie) {
        shadow.owner = tag.owner;
        shadow.evidence = tag.evidence;
        shadow.rows = tag.rows;
        shadow.netns = tag.netns;
        shadow.family = tag.family;
        return;
    }
    if tag.flags & SHADOWED != 0 {
        // It was pushed out: what was taken meanwhile is known to nobody.
        count(|stats| &raw mut stats.shadows_lost);
        tag.consumed_bytes = consumed_bytes(ledger::address(tag, sk.cast()));
    }
    tag.flags |= SHADOWED;
    let _ = SHADOWS.insert(cookie, *tag, 0);
}

/// The current process uses the socket at an address: it owns it from now on.
#[inline(always)]
pub fn used(sk: u64, then: impl FnOnce(&mut SocketTag)) {
    let user = User::current();
    with(sk, |tag| {
        if ledger::used(tag, &user) {
            then(tag);
        }
    });
}

/// The current process took data from the TCP socket at an address.
#[inline(always)]
pub fn consumed(sk: u64) {
    if probe::<u16>(sk, &kernel::SOCK_PROTOCOL) != IPPROTO_TCP {
        return;
    }
    let user = User::current();
    let now = consumed_bytes(sk);
    let is_in_call = probe::<u32>(sk, &kernel::SOCK_LOCK_OWNED) != 0;
    with(sk, |tag| {
        if is_in_call && ledger::used(tag, &user) {
            ledger::count_consumed(tag, now);
        } else {
            ledger::skip_consumed(tag, now);
        }
    });
}

/// Finds or makes the shadow of the socket at an address.
#[inline(always)]
fn with(sk: u64, then: impl FnOnce(&mut SocketTag)) {
    let family: u16 = probe(sk, &kernel::SOCK_FAMILY);
    if family != AF_INET && family != AF_INET6 {
        return;
    }
    let cookie: u64 = probe(sk, &kernel::SOCK_COOKIE);
    if let Some(shadow) = get(cookie) {
        then(shadow);
        return;
    }
    let mut tag = SocketTag::zeroed();
    tag.netns = ledger::netns_of(sk);
    tag.family = u8::from(family == AF_INET6);
    then(&mut tag);
    if cookie != 0 {
        let _ = SHADOWS.insert(cookie, tag, 0);
    }
}

/// As `consumed_bytes` of the other back ends, through an address that is only a number.
#[inline(always)]
fn consumed_bytes(sk: u64) -> u64 {
    let received: u64 = probe(sk, &kernel::TCP_BYTES_RECEIVED);
    let next: u32 = probe(sk, &kernel::TCP_RCV_NXT);
    let copied: u32 = probe(sk, &kernel::TCP_COPIED_SEQ);
    let done = probe::<u64>(sk, &kernel::SOCK_FLAGS) & SOCK_DONE != 0;
    let queued = u64::from(next.wrapping_sub(copied));
    received.saturating_sub(queued).saturating_sub(u64::from(done && queued == 0))
}

#[inline(always)]
fn get(cookie: u64) -> Option<&'static mut SocketTag> {
    if cookie == 0 {
        return None;
    }
    // SAFETY: an entry of this map stays readable and writable while the program runs, even if it is pushed out.
    SHADOWS.get_ptr_mut(cookie).map(|shadow| unsafe { &mut *shadow })
}
