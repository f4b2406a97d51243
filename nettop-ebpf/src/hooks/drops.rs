//! Drops, added up in the kernel without events. `current` means nothing here; the packet, its sockets and its
//! addresses do.

use core::ffi::c_void;

use aya_ebpf::{Global, programs::BtfTracePointContext};
use nettop_common::{
    DropEntry, DropKey, Netns, Ref,
    abi::{BPF_NOEXIST, IPPROTO_TCP, SKB_DST_NOREF, TCP_LISTEN, TCP_NEW_SYN_RECV, TCP_TIME_WAIT},
    drops::{attribution, event},
    owner::FIRST,
    share,
};

use super::destination;
use crate::{
    atomic,
    kernel::{self, load, probe},
    maps::{DROPS, OTHER_DROPS},
    owners, ports, shares,
    storage::SOCKETS,
    tags,
};

/// Whether the tracepoint has a reason, its third argument (5.17).
#[unsafe(no_mangle)]
static HAS_REASON: Global<u32> = Global::new(0);
/// Value of `SKB_DROP_REASON_NO_SOCKET` in the running kernel; even stable releases renumber it.
#[unsafe(no_mangle)]
pub static REASON_NO_SOCKET: Global<u32> = Global::new(u32::MAX);
/// And of `SKB_DROP_REASON_PACKET_SOCK_ERROR`.
#[unsafe(no_mangle)]
static REASON_PACKET_SOCK_ERROR: Global<u32> = Global::new(u32::MAX);
/// And of `SKB_DROP_REASON_SOCKET_RCVBUFF`.
#[unsafe(no_mangle)]
static REASON_SOCKET_RCVBUFF: Global<u32> = Global::new(u32::MAX);
/// Whether the tracepoint has `rx_sk`, its fourth argument (6.11).
#[unsafe(no_mangle)]
static HAS_RX_SK: Global<u32> = Global::new(0);
/// Most kinds of drops.
#[unsafe(no_mangle)]
static DROPS_LIMIT: Global<u32> = Global::new(0);

/// The tracepoint's data.
pub struct Freed {
    pub skb: *const c_void,
    pub reason: u32,
    pub location: u64,
    /// May be a timewait or request socket, or already released: only `rx_state` is safe.
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
        ifindex: 0,
        attribution: attribution::NONE,
        protocol: u16::from_be(load(skb, &kernel::SKB_PROTOCOL)),
        transport: 0,
    };
    let mut net = 0;
    if is_full(freed.rx_sk, freed.rx_state) {
        bill(&mut key, &mut net, freed.rx_sk, attribution::RECEIVER);
        if freed.rx_state == TCP_LISTEN {
            ports::freed_at_listener(freed.rx_sk as u64, freed.reason);
        }
    }
    if key.attribution == attribution::NONE {
        let sk: *const c_void = load(skb, &kernel::SKB_SK);
        if !sk.is_null() && is_full(sk, probe(sk as u64, &kernel::SOCK_STATE)) {
            bill(&mut key, &mut net, sk, attribution::PACKET);
        }
    }
    place(&mut key, &mut net, skb);
    key.netns = kernel::netns(net);
    let packet = destination::read_headers(key.protocol, skb);
    key.transport = u16::from(packet.transport);
    // If nobody listened, the holder of the port holds it at another address. A sniffer's copy is not for the packet's
    // receiver. A packet that finds a full buffer has lost its route (`ipv4_pktinfo_prepare`).
    if key.attribution == attribution::NONE
        && freed.reason != REASON_NO_SOCKET.load()
        && freed.reason != REASON_PACKET_SOCK_ERROR.load()
        && (destination::is_local(key.protocol, skb) || freed.reason == REASON_SOCKET_RCVBUFF.load())
        && let Some((address, port)) = destination::port(key.protocol, &packet, skb)
        && let Some(owner) = ports::find(key.netns, packet.transport, address, port)
    {
        key.owner = owner;
        key.attribution = attribution::ADDRESS;
    }
    add_drops(&key, net, 1, u64::from(load::<u32>(skb, &kernel::SKB_LEN)));
}

/// Adds a TCP event to the count of the socket's owner. Without a full socket it is nobody's, at the place of the
/// packet that it answers, if there is one.
#[inline(always)]
pub fn count_event(sk: *const c_void, skb: *const c_void, event: u32, packets: u64, bytes: u64) {
    let mut key = DropKey {
        location: 0,
        owner: Ref::NONE,
        netns: Netns::default(),
        reason: event,
        ifindex: 0,
        attribution: attribution::NONE,
        protocol: 0,
        transport: IPPROTO_TCP,
    };
    let mut net = 0;
    if !sk.is_null() && is_full(sk, probe(sk as u64, &kernel::SOCK_STATE)) {
        net = probe(sk as u64, &kernel::SOCK_NET);
        if let Some(tag) = SOCKETS.find(sk.cast_mut()) {
            key.owner = tag.owner;
            key.attribution = attribution::PACKET;
            key.ifindex = tags::device(tag);
        }
    } else if !skb.is_null() {
        place(&mut key, &mut net, skb);
    }
    key.netns = kernel::netns(net);
    add_drops(&key, net, packets, bytes);
}

/// Whether a socket is no request and not in TIME_WAIT, which have no storage.
#[inline(always)]
pub fn is_full(sk: *const c_void, state: u8) -> bool {
    !sk.is_null() && state != TCP_TIME_WAIT && state != TCP_NEW_SYN_RECV
}

/// Takes owner and namespace, a `struct net`, from a full socket.
#[inline(always)]
fn bill(key: &mut DropKey, net: &mut u64, sk: *const c_void, attribution: u32) {
    if let Some(tag) = SOCKETS.find(sk.cast_mut()) {
        key.owner = tag.owner;
        *net = probe(sk as u64, &kernel::SOCK_NET);
        key.attribution = attribution;
    }
}

/// Namespace and device, from one source: an interface index means nothing in another namespace. The packet's current
/// device comes first: for a forwarded packet the outgoing one, once it is set. Without one, take the namespace that
/// routed a received packet, or its socket's.
#[inline(always)]
fn place(key: &mut DropKey, net: &mut u64, skb: *const c_void) {
    let mut device: u64 = probe(skb as u64, &kernel::SKB_DEV);
    let mut device_net = net_of(device);
    let mut iif = 0;
    if device_net == 0 {
        let route = load::<u64>(skb, &kernel::SKB_DST) & !SKB_DST_NOREF;
        device = if route == 0 { 0 } else { probe(route, &kernel::DST_DEV) };
        iif = load(skb, &kernel::SKB_IIF);
        device_net = net_of(device);
        if device_net == 0 {
            key.ifindex = iif;
            return;
        }
    }
    // A sender in another namespace has no part in this drop.
    if key.attribution == attribution::PACKET && *net != device_net {
        key.owner = Ref::NONE;
        key.attribution = attribution::NONE;
    }
    *net = device_net;
    // Routes to this machine lead to the loopback device, whatever the incoming device.
    key.ifindex = if iif == 0 { probe(device, &kernel::DEVICE_IFINDEX) } else { iif };
}

/// The namespace of the device at this address; 0 if it is no device's: both members that lead here have other uses.
/// The loopback device of a device's namespace points back to that namespace.
#[inline(always)]
fn net_of(device: u64) -> u64 {
    let net: u64 = probe(device, &kernel::DEVICE_NET);
    let loopback: u64 = probe(net, &kernel::NET_LOOPBACK);
    if probe::<u64>(loopback, &kernel::DEVICE_NET) == net { net } else { 0 }
}

/// Whose limit a kind of drop counts against. What is no process's has one in nettopd's own namespace as well: others send
/// to it.
#[inline(always)]
fn share_of(key: &DropKey, net: u64) -> u32 {
    let is_process = key.owner.slot() >= FIRST && owners::get(key.owner).is_some();
    match owners::share_of(key.owner, key.netns, net) {
        share::UNLIMITED if !is_process => share::of_namespace(key.netns.cookie),
        share => share,
    }
}

/// Adds to a kind's count, made if there is room. `net` is the namespace's `struct net`, 0 if unknown. Global, so that
/// the verifier checks it once, and not on each path that leads here. A global function must return a number.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn add_drops(key: *const DropKey, net: u64, packets: u64, bytes: u64) -> u32 {
    if key.is_null() {
        return 0;
    }
    // To the stack: before 6.2 maps take keys only from there.
    // SAFETY: the verifier admits null, or a whole key.
    let key = &unsafe { key.read_volatile() };
    let mut entry = DROPS.get_ptr_mut(key);
    if entry.is_none() {
        let share = share_of(key, net);
        let made = DropEntry { share, ..DropEntry::default() };
        shares::insert(
            || DROPS.insert(key, made, BPF_NOEXIST),
            share,
            DROPS_LIMIT.load(),
            |stats| &mut stats.drops_in_use,
            |share| &mut share.drops,
        );
        entry = DROPS.get_ptr_mut(key);
    }
    // SAFETY: an element of a map.
    let count = entry.map(|entry| unsafe { &raw mut (*entry).count });
    if let Some(count) = count.or_else(|| OTHER_DROPS.get_ptr_mut(event::is_event(key.reason).into())) {
        // Atomic: one program may interrupt another on this CPU, and before 6.2 itself.
        // SAFETY: an element of a map.
        unsafe {
            atomic::add(&raw mut (*count).packets, packets);
            atomic::add(&raw mut (*count).bytes, bytes);
        }
    }
    0
}
