//! Drops, added up in the kernel: no event leaves it. `current` says nothing here; the packet, its sockets and its
//! addresses do.

use core::ffi::c_void;

use aya_ebpf::{Global, programs::BtfTracePointContext};
use nettop_common::{
    DropCount, DropKey, Netns, Ref,
    drops::{event, found},
};

use super::destination;
use crate::{
    kernel::{self, load, probe},
    ledger,
    maps::{self, DROPS, OTHER_DROPS, SOCKETS},
    numbers::{IPPROTO_TCP, TCP_LISTEN, TCP_NEW_SYN_RECV, TCP_TIME_WAIT},
    ports,
};

/// Whether the tracepoint has a reason, its third argument (5.17).
#[unsafe(no_mangle)]
static HAS_REASON: Global<u32> = Global::new(0);
/// Value of `SKB_DROP_REASON_NO_SOCKET` in the running kernel; it is renumbered even by stable releases.
#[unsafe(no_mangle)]
pub static REASON_NO_SOCKET: Global<u32> = Global::new(u32::MAX);
/// Whether the tracepoint has `rx_sk`, its fourth argument (6.11).
#[unsafe(no_mangle)]
static HAS_RX_SK: Global<u32> = Global::new(0);

/// The low bit of `_skb_refdst` says that no reference is held.
pub const SKB_DST_NOREF: u64 = 1;
/// Inode numbers of namespaces begin a little below `PROC_DYNAMIC_FIRST`: the first ones have fixed ones there since 6.18.
const FIRST_INODE: u32 = 0xefff_fff0;

/// What the tracepoint says.
pub struct Freed {
    pub skb: *const c_void,
    pub reason: u32,
    location: u64,
    /// May be a timewait or request socket, and may have been put already: only `rx_state` says.
    rx_sk: *const c_void,
    pub rx_state: u8,
}

impl Freed {
    #[inline(always)]
    pub fn new(ctx: &BtfTracePointContext) -> Self {
        let mut freed =
            Self { skb: ctx.arg(0), reason: 0, location: ctx.arg::<u64>(1), rx_sk: core::ptr::null(), rx_state: 0 };
        if HAS_REASON.load() != 0 {
            freed.reason = ctx.arg(2);
        }
        if HAS_RX_SK.load() != 0 {
            freed.rx_sk = ctx.arg(3);
            if !freed.rx_sk.is_null() {
                freed.rx_state = probe(freed.rx_sk as u64, &kernel::SOCK_STATE);
            }
        }
        freed
    }
}

/// Adds the packet to its count.
#[inline(always)]
pub fn count(freed: &Freed) {
    let skb = freed.skb;
    let mut key = DropKey {
        location: freed.location,
        owner: Ref::NONE,
        netns: Netns::default(),
        reason: freed.reason,
        ifindex: load(skb, &kernel::SKB_IIF),
        found: found::NONE,
        protocol: u16::from_be(load(skb, &kernel::SKB_PROTOCOL)),
        transport: 0,
    };
    if is_full(freed.rx_sk, freed.rx_state) {
        bill(&mut key, freed.rx_sk, found::RECEIVER);
        if freed.rx_state == TCP_LISTEN {
            ports::freed_at_listener(freed.rx_sk as u64, freed.reason);
        }
    }
    if key.found == found::NONE {
        let sk: *const c_void = load(skb, &kernel::SKB_SK);
        if !sk.is_null() && is_full(sk, probe(sk as u64, &kernel::SOCK_STATE)) {
            bill(&mut key, sk, found::PACKET);
        }
    }
    place(&mut key, skb);
    let packet = destination::of(key.protocol, skb);
    key.transport = u16::from(packet.transport);
    // Where nobody was found to listen, whoever holds the port holds it at another address.
    if key.found == found::NONE
        && freed.reason != REASON_NO_SOCKET.load()
        && let Some((address, port)) = destination::local(key.protocol, &packet, skb)
        && let Some(owner) = ports::find(key.netns, packet.transport, address, port)
    {
        key.owner = owner;
        key.found = found::ADDRESS;
    }
    add(&key, 1, u64::from(load::<u32>(skb, &kernel::SKB_LEN)));
}

/// Adds what TCP did to the count of a socket's owner. There may be no full socket: then it is nobody's, where the packet
/// was that it answers, if there is one.
#[inline(always)]
pub fn count_event(sk: *const c_void, skb: *const c_void, event: u32, packets: u64, bytes: u64) {
    let mut key = DropKey {
        location: 0,
        owner: Ref::NONE,
        netns: Netns::default(),
        reason: event,
        ifindex: 0,
        found: found::NONE,
        protocol: 0,
        transport: IPPROTO_TCP,
    };
    if !sk.is_null() && is_full(sk, probe(sk as u64, &kernel::SOCK_STATE)) {
        key.netns = ledger::netns_of(sk as u64);
        if let Some(tag) = SOCKETS.find(sk.cast_mut()) {
            key.owner = tag.owner;
            key.found = found::PACKET;
            key.ifindex = ledger::device(tag);
        }
    } else if !skb.is_null() {
        place(&mut key, skb);
    }
    add(&key, packets, bytes);
}

/// Whether a socket is no request and not in TIME_WAIT: those have no storage.
#[inline(always)]
pub fn is_full(sk: *const c_void, state: u8) -> bool {
    !sk.is_null() && state != TCP_TIME_WAIT && state != TCP_NEW_SYN_RECV
}

/// Takes owner and namespace from a full socket.
#[inline(always)]
fn bill(key: &mut DropKey, sk: *const c_void, found: u32) {
    if let Some(tag) = SOCKETS.find(sk.cast_mut()) {
        key.owner = tag.owner;
        key.netns = tag.netns;
        key.found = found;
    }
}

/// Device, and namespace where no socket told it: from the route, else from the packet. Both members are used for
/// other things in some places, so what they lead to has to look like a device.
#[inline(always)]
fn place(key: &mut DropKey, skb: *const c_void) {
    if key.ifindex != 0 && key.netns.inode != 0 {
        return;
    }
    let route = load::<u64>(skb, &kernel::SKB_DST) & !SKB_DST_NOREF;
    let by_route: u64 = if route == 0 { 0 } else { probe(route, &kernel::DST_DEV) };
    if !take_device(key, by_route) {
        take_device(key, probe(skb as u64, &kernel::SKB_DEV));
    }
}

#[inline(always)]
fn take_device(key: &mut DropKey, device: u64) -> bool {
    const MOST: u32 = 1 << 20;
    if device == 0 {
        return false;
    }
    let netns = kernel::netns(probe(device, &kernel::DEVICE_NET));
    let ifindex: u32 = probe(device, &kernel::DEVICE_IFINDEX);
    if netns.inode < FIRST_INODE || ifindex == 0 || ifindex > MOST {
        return false;
    }
    if key.netns.inode == 0 {
        key.netns = netns;
    }
    if key.ifindex == 0 {
        key.ifindex = ifindex;
    }
    true
}

#[inline(always)]
fn add(key: &DropKey, packets: u64, bytes: u64) {
    const BPF_NOEXIST: u64 = 1;
    let one = DropCount { packets, bytes };
    let mut count = DROPS.get_ptr_mut(key);
    if count.is_none() {
        if DROPS.insert(key, one, BPF_NOEXIST).is_ok() {
            return;
        }
        // Another CPU was first, or there is no room.
        count = DROPS.get_ptr_mut(key).or_else(|| OTHER_DROPS.get_ptr_mut(event::is_event(key.reason).into()));
    }
    if let Some(count) = count {
        // Atomic: one program may interrupt another on this CPU, and before 6.2 itself.
        // SAFETY: an element of a map.
        unsafe {
            maps::add(&raw mut (*count).packets, packets);
            maps::add(&raw mut (*count).bytes, bytes);
        }
    }
}
