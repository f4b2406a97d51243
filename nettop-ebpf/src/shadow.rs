//! Shadows of tags, for kprobes: those cannot reach a socket's storage, packet hooks can. In a hash by socket cookie,
//! packet hooks find a socket's user, and kprobes its rows. Nothing here runs with the other back ends: the verifier
//! sees a constant and drops it.
//!
//! The hash is an LRU: an entry that a program found may be evicted at any time, and be another socket's (`prealloc_lru_pop`,
//! kernel/bpf/hashtab.c, 5.15 to 7.2). So the entry has its socket's cookie. It is read
//! as a copy, which counts only if the cookie is still there, and the same is asked after what changed was written.

use core::ffi::c_void;

use aya_ebpf::{Global, bindings::bpf_sock, helpers::generated::bpf_get_socket_cookie};
use bytemuck::Zeroable as _;
use nettop_common::{
    Direction, Ref, SocketTag,
    abi::{AF_INET, AF_INET6, IPPROTO_TCP, SOCK_DONE},
    log::Hook,
    tag::{SHADOWED, attribution},
};

use crate::{
    atomic::fenced,
    kernel::{self, probe},
    ledger::{self, Consumed},
    maps::{SHADOWS, Shadow, count},
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
    let _ = SHADOWS.insert(cookie, Shadow { cookie, tag: *tag }, 0);
}

/// Before a packet is counted: copies the socket's user that kprobes noted. Returns the owner by then.
#[inline(always)]
pub fn before(context: *mut c_void, tag: &mut SocketTag, sk: *mut bpf_sock) -> Ref {
    if SHADOW.load() == 0 {
        return Ref::NONE;
    }
    // A connection starts with its listener's tag (`BPF_F_CLONE`), and has no shadow yet.
    if tag.address != sk as u64 {
        tags::clear_flags(tag, SHADOWED);
    }
    // SAFETY: the context of the program.
    let cookie = unsafe { bpf_get_socket_cookie(context) };
    if let Some(shadow) = get(cookie) {
        let (owner, attribution) = (shadow.tag.owner, shadow.tag.attribution);
        if attribution == attribution::USER && shadow.is_of(cookie) {
            tag.owner = owner;
            tag.attribution = attribution::USER;
        }
    }
    tag.owner
}

/// After a packet was counted: passes the socket's rows on, and its owner if that is not the one `known` before, or no
/// user is. One that a kprobe on another CPU has noted meanwhile stays.
#[inline(always)]
pub fn after(context: *mut c_void, tag: &mut SocketTag, sk: *mut bpf_sock, known: Ref) {
    if SHADOW.load() == 0 {
        return;
    }
    // SAFETY: the context of the program.
    let cookie = unsafe { bpf_get_socket_cookie(context) };
    if let Some(shadow) = get(cookie) {
        if shadow.tag.attribution != attribution::USER || tag.owner != known && shadow.tag.owner == known {
            shadow.tag.owner = tag.owner;
            shadow.tag.attribution = tag.attribution;
        }
        shadow.tag.rows = tag.rows;
        shadow.tag.netns = tag.netns;
        shadow.tag.family = tag.family;
        if shadow.end_writing(cookie) {
            return;
        }
    }
    if tag.flags & SHADOWED != 0 {
        // It was evicted: what was taken meanwhile is not known.
        count(|stats| &raw mut stats.shadows_lost);
        let consumed = consumed_by_program(tags::address(tag, sk.cast()));
        ledger::skip_consumed(tag, consumed);
    }
    tags::set_flags(tag, SHADOWED);
    let _ = SHADOWS.insert(cookie, Shadow { cookie, tag: *tag }, 0);
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
    let found = get(cookie);
    let mut copy = Shadow { cookie, tag: SocketTag::zeroed() };
    if let Some(shadow) = found.as_deref() {
        copy.tag = shadow.tag;
    }
    let found = found.and_then(|shadow| shadow.is_of(cookie).then_some(shadow));
    if found.is_none() {
        copy.tag = SocketTag::zeroed();
        copy.tag.netns = tags::netns_of(sk);
        copy.tag.family = u8::from(family == AF_INET6);
    }
    copy.tag.address = sk;
    let before = copy.tag;
    then(&mut copy.tag);
    if let Some(shadow) = found
        && shadow.is_of(cookie)
    {
        shadow.write(cookie, &before, &copy.tag);
    } else if cookie != 0 {
        // Moved, it would be copied: before private stacks (6.13) a kprobe's and those of what it calls have 512 bytes.
        #[expect(clippy::needless_borrows_for_generic_args, reason = "a second copy does not fit on the stack")]
        let _ = SHADOWS.insert(cookie, &copy, 0);
    }
}

impl Shadow {
    /// Whether the entry is still this socket's: then what was read before is, as well.
    #[inline(always)]
    fn is_of(&mut self, cookie: u64) -> bool {
        fenced(&raw mut self.cookie) == cookie
    }

    /// Writes what changed, and nothing else: other CPUs may have changed the rest.
    #[inline(always)]
    fn write(&mut self, cookie: u64, before: &SocketTag, after: &SocketTag) {
        let tag = &mut self.tag;
        let family = after.family as usize & 1;
        if after.owner != before.owner || after.attribution != before.attribution {
            tag.owner = after.owner;
            tag.attribution = after.attribution;
        }
        for direction in [Direction::Tx as usize, Direction::Rx as usize] {
            if after.rows[family][direction] != before.rows[family][direction] {
                tag.rows[family][direction] = after.rows[family][direction];
            }
        }
        if after.consumed_bytes != before.consumed_bytes || after.first_seq != before.first_seq {
            tag.consumed_bytes = after.consumed_bytes;
            tag.first_seq = after.first_seq;
        }
        if after.flags != before.flags {
            tags::set_flags(tag, after.flags);
        }
        self.end_writing(cookie);
    }

    /// Whether what was just written went to this socket's entry. An entry that is another's by now is evicted: that
    /// socket gets a new one, and the loss is counted there (`after`).
    #[inline(always)]
    fn end_writing(&mut self, cookie: u64) -> bool {
        let owner = fenced(&raw mut self.cookie);
        if owner != cookie {
            let _ = SHADOWS.remove(owner);
        }
        owner == cookie
    }
}

/// Like `consumed_by_program` of the other back ends, for an address that is only a number.
#[inline(always)]
fn consumed_by_program(sk: u64) -> Consumed {
    let done = probe::<u64>(sk, &kernel::SOCK_FLAGS) & SOCK_DONE != 0;
    Consumed::new(
        probe(sk, &kernel::TCP_BYTES_RECEIVED),
        probe(sk, &kernel::TCP_RCV_NXT),
        probe(sk, &kernel::TCP_COPIED_SEQ),
        done,
    )
}

#[inline(always)]
fn get(cookie: u64) -> Option<&'static mut Shadow> {
    if cookie == 0 {
        return None;
    }
    // SAFETY: an entry of this map stays readable and writable while the program runs.
    SHADOWS.get_ptr_mut(cookie).map(|shadow| unsafe { &mut *shadow })
}
