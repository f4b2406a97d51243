//! The tables of bound ports and of listeners. A port is noted at bind, at its socket's first packet, or by the
//! iterator over open files. It is forgotten when the socket is closed.

use aya_ebpf::Global;
use nettop_common::{
    Listener, Netns, PortHolder, PortKey, Ref, SocketTag,
    abi::{AF_INET6, BPF_NOEXIST, IPPROTO_SCTP, IPPROTO_TCP, TCP_LISTEN},
    offsets::ABSENT,
    owner::LIVE,
    ports::{Address, MAPPED, MAX_PORTS},
    tag::{CHILD, RELEASED},
};

use crate::{
    atomic::{add_word, take_one},
    kernel::{self, probe},
    maps::{LISTENERS, PORTS, count, stats},
    owners, shares,
};

/// The bit of a socket for IPv6 only.
#[unsafe(no_mangle)]
static SOCK_V6_ONLY_BIT: Global<u64> = Global::new(ABSENT);

/// Values of `enum skb_drop_reason` in the running kernel.
#[unsafe(no_mangle)]
static REASON_TCP_FLAGS: Global<u32> = Global::new(u32::MAX);
#[unsafe(no_mangle)]
static REASON_TCP_CSUM: Global<u32> = Global::new(u32::MAX);
#[unsafe(no_mangle)]
static REASON_TCP_LISTEN_OVERFLOW: Global<u32> = Global::new(u32::MAX);

const ANY: Address = [0; 4];
const ANY_V4: Address = mapped(0);

/// An IPv4 address as one of IPv6.
pub const fn mapped(address: u32) -> Address {
    [0, 0, MAPPED, address]
}

/// Notes where a socket was bound: if several share a port, the last one has it.
#[inline(always)]
pub fn bind(tag: &mut SocketTag) {
    if !record(tag) {
        return;
    }
    let key = key(tag);
    match PORTS.get_ptr_mut(key) {
        // SAFETY: an entry stays readable and writable while the program runs. If two write, either may win.
        Some(known) => unsafe {
            (*known).owner = tag.owner;
            (*known).socket = tag.address;
        },
        None => insert(key, tag),
    }
}

/// Enters a port that is not known, if there is room for one more of its owner's share.
#[inline(always)]
fn insert(key: PortKey, tag: &SocketTag) {
    let share = share_of(tag);
    let holder = PortHolder { owner: tag.owner, socket: tag.address, share, padding: 0 };
    if !shares::insert(
        || PORTS.insert(key, holder, BPF_NOEXIST),
        share,
        MAX_PORTS,
        |stats| &mut stats.ports_in_use,
        |share| &mut share.ports,
    ) {
        count(|stats| &raw mut stats.ports_full);
    }
}

/// Whose limit a port or a listener counts against.
#[inline(always)]
fn share_of(tag: &SocketTag) -> u32 {
    owners::share_of(tag.owner, tag.netns, probe(tag.address, &kernel::SOCK_NET))
}

/// Notes where a socket is, if none is known there, and its current owner.
#[inline(always)]
pub fn note(tag: &mut SocketTag) {
    note_port(tag);
}

/// Global, so that the verifier checks it once, and not on each path that leads here.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn note_port(tag: *mut SocketTag) -> u32 {
    // SAFETY: the verifier admits null, or a whole tag.
    let Some(tag) = (unsafe { tag.as_mut() }) else { return 0 };
    if !record(tag) {
        return 0;
    }
    let key = key(tag);
    if let Some(known) = PORTS.get_ptr_mut(key) {
        // SAFETY: as in `bind`.
        let known = unsafe { &mut *known };
        // A process may end after others inherited its listener: the one that takes connections is the holder.
        if known.owner != tag.owner && (known.socket == tag.address || !is_alive(known.owner)) {
            known.owner = tag.owner;
        }
        return 0;
    }
    let is_tcp = probe::<u16>(tag.address, &kernel::SOCK_PROTOCOL) == IPPROTO_TCP;
    let listens = probe::<u8>(tag.address, &kernel::SOCK_STATE) == TCP_LISTEN;
    // A connection older than nettopd, beside its listener.
    let is_child =
        is_tcp && !listens && find(tag.netns, IPPROTO_TCP as u8, tag.bound_address, tag.bound_port).is_some();
    if tag.flags & CHILD == 0 && !is_child {
        insert(key, tag);
        // Closed meanwhile: nothing would take it out.
        // SAFETY: a field of a live value, which another CPU may write.
        if unsafe { (&raw const tag.flags).read_volatile() } & RELEASED != 0 {
            forget(tag);
        }
    }
    0
}

/// Writes into a tag where its socket is bound. Returns whether to note it.
#[inline(always)]
fn record(tag: &mut SocketTag) -> bool {
    let sk = tag.address;
    let port: u16 = probe(sk, &kernel::SOCK_NUM);
    // No hook reports when the kernel closes its own sockets.
    let is_kernels = tag.owner == Ref::NONE || owners::get(tag.owner).is_none_or(|owner| owner.is_kernel_thread != 0);
    if port == 0 || is_kernels || tag.flags & RELEASED != 0 {
        return false;
    }
    if tag.bound_port != port && tag.flags & CHILD == 0 {
        forget(tag);
        tag.bound_port = port;
        tag.bound_address = local_address(sk);
    }
    tag.bound_port != 0
}

#[inline(always)]
fn local_address(sk: u64) -> Address {
    if probe::<u16>(sk, &kernel::SOCK_FAMILY) == AF_INET6 {
        probe(sk, &kernel::SOCK_V6_RCV_SADDR)
    } else {
        mapped(probe(sk, &kernel::SOCK_RCV_SADDR))
    }
}

/// The owner of an SCTP association's listener. Its accepted socket passes no hook when it is made, and is no clone of
/// the listener: `sctp_v4_create_accept_sk` allocates it.
#[inline(always)]
pub fn owner_of_association(tag: &SocketTag) -> Option<Ref> {
    let sk = tag.address;
    if probe::<u16>(sk, &kernel::SOCK_PROTOCOL) != IPPROTO_SCTP {
        return None;
    }
    find(tag.netns, IPPROTO_SCTP as u8, local_address(sk), probe(sk, &kernel::SOCK_NUM))
}

#[inline(always)]
fn is_alive(owner: Ref) -> bool {
    owners::get(owner).is_some_and(|owner| owner.state == LIVE)
}

/// The owner of a listener, by its socket address.
#[inline(always)]
pub fn owner_of_listener(sk: u64) -> Option<Ref> {
    let cookie: u64 = probe(sk, &kernel::SOCK_COOKIE);
    // SAFETY: the value is copied at once.
    unsafe { LISTENERS.get(cookie) }.map(|listener| listener.owner)
}

/// The current holder of a listener whose process ended.
#[inline(always)]
pub fn current_holder(tag: &SocketTag) -> Option<Ref> {
    if tag.bound_port == 0 || is_alive(tag.owner) {
        return None;
    }
    // SAFETY: the value is copied at once.
    unsafe { PORTS.get(key(tag)) }.map(|holder| holder.owner).filter(|owner| is_alive(*owner))
}

/// The socket is being closed.
#[inline(always)]
pub fn forget(tag: &SocketTag) {
    if tag.bound_port == 0 {
        return;
    }
    let key = key(tag);
    // SAFETY: the value is copied at once.
    let Some(holder) = unsafe { PORTS.get(key) }.copied() else { return };
    if holder.socket == tag.address
        && PORTS.remove(key).is_ok()
        && let (Some(stats), Some(counts)) = (stats(), shares::get(holder.share))
    {
        take_one(&raw mut stats.ports_in_use, &raw mut counts.ports);
    }
}

#[inline(always)]
fn key(tag: &SocketTag) -> PortKey {
    PortKey {
        netns: tag.netns,
        address: tag.bound_address,
        port: tag.bound_port,
        transport: probe::<u16>(tag.address, &kernel::SOCK_PROTOCOL) as u8,
        is_v6_only: u8::from(tag.bound_address == ANY && is_v6_only(tag.address)),
    }
}

/// Whether a socket is for IPv6 only.
#[inline(always)]
pub fn is_v6_only(sk: u64) -> bool {
    let bit = SOCK_V6_ONLY_BIT.load();
    kernel::probe_at::<u8>(sk.wrapping_add(bit / 8)) >> (bit % 8) & 1 != 0
}

/// Holder of a local address and port.
#[inline(always)]
pub fn find(netns: Netns, transport: u8, address: Address, port: u16) -> Option<Ref> {
    let owner = Ref(find_port_owner(&PortKey { netns, address, port, transport, is_v6_only: 0 }));
    (owner != Ref::NONE).then_some(owner)
}

/// Global, so that the verifier checks it once, and not on each path that leads here.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_port_owner(key: *const PortKey) -> u64 {
    if key.is_null() {
        return Ref::NONE.0;
    }
    // To the stack: before 6.2 maps take keys only from there.
    // SAFETY: the verifier admits null, or a whole key.
    let key = &unsafe { key.read_volatile() };
    let is_v4 = key.address[0] | key.address[1] == 0 && key.address[2] == MAPPED;
    let at = |address: Address, is_v6_only: u8| {
        // SAFETY: the value is copied at once.
        unsafe { PORTS.get(PortKey { address, is_v6_only, ..*key }) }.map(|holder| holder.owner)
    };
    let owner = at(key.address, 0).or_else(|| if is_v4 { at(ANY_V4, 0) } else { at(ANY, 1) });
    owner.or_else(|| at(ANY, 0)).unwrap_or(Ref::NONE).0
}

/// A packet came to a listener: from now on the daemon reads its drops.
#[inline(always)]
pub fn note_listener(tag: &SocketTag, cookie: u64) {
    match LISTENERS.get_ptr_mut(cookie) {
        // SAFETY: as in `bind`.
        Some(listener) => unsafe {
            if (*listener).owner != tag.owner {
                (*listener).owner = tag.owner;
            }
        },
        None => insert_listener(tag, cookie),
    }
}

#[inline(always)]
fn insert_listener(tag: &SocketTag, cookie: u64) {
    let share = share_of(tag);
    // Without a packet there is no drop: earlier drops are older than nettopd.
    let listener = Listener {
        owner: tag.owner,
        netns: tag.netns,
        socket: tag.address,
        drops_before: probe(tag.address, &kernel::SOCK_DROPS),
        freed: 0,
        drops_at_end: 0,
        has_ended: 0,
        port: probe(tag.address, &kernel::SOCK_NUM),
        share,
        padding: 0,
    };
    if !shares::insert(
        || LISTENERS.insert(cookie, listener, BPF_NOEXIST),
        share,
        MAX_PORTS,
        |stats| &mut stats.listeners_in_use,
        |share| &mut share.listeners,
    ) {
        count(|stats| &raw mut stats.ports_full);
    }
}

/// A packet to the listener at an address was freed as dropped. Most are in its own count of drops as well
/// (`tcp_v4_rcv`, `discard_and_relse`), some are not (`tcp_v4_do_rcv`, `discard`). The last packet of a handshake is
/// there twice if it finds the queue full.
#[inline(always)]
pub fn freed_at_listener(sk: u64, reason: u32) {
    let drops = match reason {
        _ if reason == REASON_TCP_FLAGS.load() || reason == REASON_TCP_CSUM.load() => return,
        _ if reason == REASON_TCP_LISTEN_OVERFLOW.load() => 2,
        _ => 1,
    };
    if let Some(listener) = LISTENERS.get_ptr_mut(probe::<u64>(sk, &kernel::SOCK_COOKIE)) {
        // SAFETY: a field of the entry, added to atomically.
        unsafe { add_word(&raw mut (*listener).freed, drops) };
    }
}

/// The listener is being closed: keep its last count for the daemon.
#[inline(always)]
pub fn end_listener(tag: &SocketTag) {
    if probe::<u8>(tag.address, &kernel::SOCK_STATE) != TCP_LISTEN {
        return;
    }
    if let Some(listener) = LISTENERS.get_ptr_mut(probe::<u64>(tag.address, &kernel::SOCK_COOKIE)) {
        // SAFETY: as in `bind`.
        unsafe {
            (*listener).drops_at_end = probe(tag.address, &kernel::SOCK_DROPS);
            (*listener).has_ended = 1;
        }
    }
}
