//! The tables of bound ports and of listeners. A port is noted when it is bound, when its socket's first packet passes, or
//! by the walk over open files, and forgotten when the socket is closed.

use aya_ebpf::Global;
use nettop_common::{
    Listener, Netns, PortHolder, PortKey, Ref, SocketTag,
    owner::LIVE,
    ports::{Address, MAPPED},
    tag::{CHILD, RELEASED},
};

use crate::{
    kernel::{self, probe},
    maps::{LISTENERS, PORTS, add_word, count},
    numbers::{AF_INET6, IPPROTO_TCP, TCP_LISTEN},
    owners,
};

/// Which bit of a socket says that it takes no IPv4.
#[unsafe(no_mangle)]
static SOCK_V6_ONLY_BIT: Global<u32> = Global::new(0);

/// Values of `enum skb_drop_reason` in the running kernel.
#[unsafe(no_mangle)]
static REASON_TCP_FLAGS: Global<u32> = Global::new(u32::MAX);
#[unsafe(no_mangle)]
static REASON_TCP_CSUM: Global<u32> = Global::new(u32::MAX);
#[unsafe(no_mangle)]
static REASON_TCP_LISTEN_OVERFLOW: Global<u32> = Global::new(u32::MAX);

const BPF_ANY: u64 = 0;
const BPF_NOEXIST: u64 = 1;
const EEXIST: i32 = 17;
const ANY: Address = [0; 4];
const ANY_V4: Address = mapped(0);

/// An IPv4 address as one of IPv6.
pub const fn mapped(address: u32) -> Address {
    [0, 0, MAPPED, address]
}

/// Notes where a socket has been bound: of several that share a port, the last has it.
#[inline(always)]
pub fn bind(tag: &mut SocketTag) {
    if record(tag) {
        let holder = PortHolder { owner: tag.owner, socket: tag.address };
        count_error(PORTS.insert(key(tag), holder, BPF_ANY));
    }
}

/// Notes where a socket is, if nobody is known to be there, and whose it is by now.
#[inline(always)]
pub fn note(tag: &mut SocketTag) {
    if !record(tag) {
        return;
    }
    let key = key(tag);
    if let Some(known) = PORTS.get_ptr_mut(key) {
        // SAFETY: an entry stays readable and writable while the program runs. Of two writers either may win.
        let known = unsafe { &mut *known };
        // A program may end that others have inherited a listener from: who takes its connections is the heir.
        if known.owner != tag.owner && (known.socket == tag.address || !is_alive(known.owner)) {
            known.owner = tag.owner;
        }
        return;
    }
    let is_tcp = probe::<u16>(tag.address, &kernel::SOCK_PROTOCOL) == IPPROTO_TCP;
    let listens = probe::<u8>(tag.address, &kernel::SOCK_STATE) == TCP_LISTEN;
    // A connection older than nettopd, beside its listener.
    let is_child =
        is_tcp && !listens && find(tag.netns, IPPROTO_TCP as u8, tag.bound_address, tag.bound_port).is_some();
    if tag.flags & CHILD == 0 && !is_child {
        let holder = PortHolder { owner: tag.owner, socket: tag.address };
        count_error(PORTS.insert(key, holder, BPF_NOEXIST));
    }
}

/// Writes into a tag where its socket is bound. Returns whether that is to be noted.
#[inline(always)]
fn record(tag: &mut SocketTag) -> bool {
    let sk = tag.address;
    let port: u16 = probe(sk, &kernel::SOCK_NUM);
    // What the kernel uses itself is not told when it is closed.
    let is_kernels = owners::get(tag.owner).is_none_or(|owner| owner.is_kernel_thread != 0);
    if port == 0 || is_kernels || tag.flags & RELEASED != 0 {
        return false;
    }
    if tag.bound_port != port && tag.flags & CHILD == 0 {
        forget(tag);
        tag.bound_port = port;
        tag.bound_address = if probe::<u16>(sk, &kernel::SOCK_FAMILY) == AF_INET6 {
            probe(sk, &kernel::SOCK_V6_RCV_SADDR)
        } else {
            mapped(probe(sk, &kernel::SOCK_RCV_SADDR))
        };
    }
    tag.bound_port != 0
}

#[inline(always)]
fn is_alive(owner: Ref) -> bool {
    owners::get(owner).is_some_and(|owner| owner.state == LIVE)
}

/// The owner of a listener, by its address as a socket.
#[inline(always)]
pub fn owner_of_listener(sk: u64) -> Option<Ref> {
    let cookie: u64 = probe(sk, &kernel::SOCK_COOKIE);
    // SAFETY: the value is copied at once.
    unsafe { LISTENERS.get(cookie) }.map(|listener| listener.owner)
}

/// Who has taken over the listener of a process that ended.
#[inline(always)]
pub fn heir(tag: &SocketTag) -> Option<Ref> {
    if tag.bound_port == 0 || is_alive(tag.owner) {
        return None;
    }
    // SAFETY: the value is copied at once.
    unsafe { PORTS.get(key(tag)) }.map(|holder| holder.owner).filter(|owner| is_alive(*owner))
}

#[inline(always)]
fn count_error(inserted: Result<(), i32>) {
    if inserted.is_err_and(|error| error != -EEXIST) {
        count(|stats| &raw mut stats.ports_full);
    }
}

/// The socket is being closed.
#[inline(always)]
pub fn forget(tag: &SocketTag) {
    if tag.bound_port == 0 {
        return;
    }
    let key = key(tag);
    // SAFETY: the value is copied at once.
    if unsafe { PORTS.get(key) }.is_some_and(|holder| holder.socket == tag.address) {
        let _ = PORTS.remove(key);
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

/// Whether an IPv6 socket takes no IPv4.
#[inline(always)]
pub fn is_v6_only(sk: u64) -> bool {
    let bit = SOCK_V6_ONLY_BIT.load();
    kernel::probe_at::<u8>(sk + u64::from(bit / 8)) >> (bit % 8) & 1 != 0
}

/// Who holds a local address and port.
#[inline(always)]
pub fn find(netns: Netns, transport: u8, address: Address, port: u16) -> Option<Ref> {
    let is_v4 = address[0] | address[1] == 0 && address[2] == MAPPED;
    let at = |address: Address, is_v6_only: u8| {
        let key = PortKey { netns, address, port, transport, is_v6_only };
        // SAFETY: the value is copied at once.
        unsafe { PORTS.get(key) }.map(|holder| holder.owner)
    };
    at(address, 0).or_else(|| if is_v4 { at(ANY_V4, 0) } else { at(ANY, 1) }).or_else(|| at(ANY, 0))
}

/// A packet came to a listener: from now on the daemon looks at its drops.
#[inline(always)]
pub fn note_listener(tag: &SocketTag, cookie: u64) {
    match LISTENERS.get_ptr_mut(cookie) {
        // SAFETY: as in `note`.
        Some(listener) => unsafe {
            if (*listener).owner != tag.owner {
                (*listener).owner = tag.owner;
            }
        },
        None => {
            // Without a packet there is no drop: those until now are older than nettopd.
            let listener = Listener {
                owner: tag.owner,
                netns: tag.netns,
                socket: tag.address,
                drops_before: probe(tag.address, &kernel::SOCK_DROPS),
                freed: 0,
                drops_at_end: 0,
                has_ended: 0,
                port: probe(tag.address, &kernel::SOCK_NUM),
            };
            count_error(LISTENERS.insert(cookie, listener, BPF_NOEXIST));
        }
    }
}

/// A packet to the listener at an address was freed as dropped. Most stand in its own count of drops as well
/// (`tcp_v4_rcv`, `discard_and_relse`), some do not (`tcp_v4_do_rcv`, `discard`), and what finds the queue full with the
/// last packet of its handshake stands there twice.
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

/// The listener is being closed: its last count is kept for the daemon.
#[inline(always)]
pub fn end_listener(tag: &SocketTag) {
    if probe::<u8>(tag.address, &kernel::SOCK_STATE) != TCP_LISTEN {
        return;
    }
    if let Some(listener) = LISTENERS.get_ptr_mut(probe::<u64>(tag.address, &kernel::SOCK_COOKIE)) {
        // SAFETY: as in `note`.
        unsafe {
            (*listener).drops_at_end = probe(tag.address, &kernel::SOCK_DROPS);
            (*listener).has_ended = 1;
        }
    }
}
