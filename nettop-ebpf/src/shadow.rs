//! Shadows of tags, for kprobes: those cannot reach a socket's storage, packet hooks can. In a hash by socket cookie,
//! packet hooks find a socket's user, and kprobes its rows. Nothing here runs with the other back ends: the verifier
//! sees a constant and drops it.

use core::ffi::c_void;

use aya_ebpf::{Global, bindings::bpf_sock, helpers::generated::bpf_get_socket_cookie};
use bytemuck::Zeroable as _;
use nettop_common::{
    Ref, SocketTag,
    abi::{AF_INET, AF_INET6, IPPROTO_TCP, SOCK_DONE},
    log::Hook,
    tag::{SHADOWED, evidence},
};

use crate::{
    kernel::{self, probe},
    ledger::{self, Consumed},
    maps::{SHADOWS, count},
    tags,
    task::User,
};

/// Whether a kprobe back end was chosen.
#[unsafe(no_mangle)]
static SHADOW: Global<u32> = Global::new(0);

/// Gives a new socket its cookie: without one a kprobe could not name it.
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
    tags::set_flags(tag, SHADOWED);
    let _ = SHADOWS.insert(cookie, *tag, 0);
}

/// Before a packet is counted: copies the socket's user that kprobes noted.
#[inline(always)]
pub fn before(context: *mut c_void, tag: &mut SocketTag, sk: *mut bpf_sock) {
    if SHADOW.load() == 0 {
        return;
    }
    // A connection starts with its listener's tag (`BPF_F_CLONE`), and has no shadow yet.
    if tag.address != sk as u64 {
        tags::clear_flags(tag, SHADOWED);
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

/// After a packet was counted: passes the socket's rows on.
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
        // It was evicted: what was taken meanwhile is not known.
        count(|stats| &raw mut stats.shadows_lost);
        let consumed = consumed_by_program(tags::address(tag, sk.cast()));
        ledger::skip_consumed(tag, consumed);
    }
    tags::set_flags(tag, SHADOWED);
    let _ = SHADOWS.insert(cookie, *tag, 0);
}

/// The current process uses the socket at an address and owns it from now on.
#[inline(always)]
pub fn used(sk: u64, hook: Hook, then: impl FnOnce(&mut SocketTag, Ref)) {
    let user = User::current(hook);
    with(sk, |tag| {
        if let Some(owner) = tags::record_use(tag, &user) {
            then(tag, owner);
        }
    });
}

/// The current process took data from the TCP socket at an address.
#[inline(always)]
pub fn consumed(sk: u64, hook: Hook) {
    if probe::<u16>(sk, &kernel::SOCK_PROTOCOL) != IPPROTO_TCP {
        return;
    }
    let user = User::current(hook);
    let now = consumed_by_program(sk);
    let is_in_call = probe::<u32>(sk, &kernel::SOCK_LOCK_OWNED) != 0;
    with(sk, |tag| {
        if is_in_call && let Some(owner) = tags::record_use(tag, &user) {
            ledger::count_consumed(tag, owner, now, hook);
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
    tag.netns = tags::netns_of(sk);
    tag.family = u8::from(family == AF_INET6);
    then(&mut tag);
    if cookie != 0 {
        let _ = SHADOWS.insert(cookie, tag, 0);
    }
}

/// Like `consumed_by_program` of the other back ends, for an address that is only a number.
#[inline(always)]
fn consumed_by_program(sk: u64) -> Consumed {
    let done = probe::<u64>(sk, &kernel::SOCK_FLAGS) & SOCK_DONE != 0;
    Consumed::of(
        probe(sk, &kernel::TCP_BYTES_RECEIVED),
        probe(sk, &kernel::TCP_RCV_NXT),
        probe(sk, &kernel::TCP_COPIED_SEQ),
        done,
    )
}

#[inline(always)]
fn get(cookie: u64) -> Option<&'static mut SocketTag> {
    if cookie == 0 {
        return None;
    }
    // SAFETY: an entry of this map stays readable and writable while the program runs. If evicted, it may be another
    // socket's (docs/coverage.md): a copy put back would lose what another CPU wrote beside it, which happens far more
    // often.
    SHADOWS.get_ptr_mut(cookie).map(|shadow| unsafe { &mut *shadow })
}
