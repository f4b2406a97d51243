//! The accounting core: which row counts a packet or a call. Hooks know contexts, the ledger knows none.

use core::ffi::c_void;

use nettop_common::{
    Direction, Family, Flow, Netns, Ref, Row, RowKey, SocketTag, Wire,
    abi::{ETHERNET_HEADER_BYTES, MIN_ETHERNET_PAYLOAD_BYTES},
    log::Hook,
    owner,
    row::GSO_MAX_SIZE,
    tag::{BASELINE_KNOWN, attribution},
};

use crate::{atomic::add, maps::stats, rows, tags};

/// One skb on its way through a device.
pub struct Packet {
    /// The program that sees it.
    pub hook: Hook,
    pub ifindex: u32,
    pub family: Family,
    /// IP header and all that follows.
    pub bytes: u32,
    /// Payload of each segment of a super-packet, 0 for an ordinary packet.
    pub gso_size: u32,
    /// From the buffer: 0 if the device made the super-packet (`virtio_net_hdr_to_skb`). This and the members below are
    /// only read if `gso_size` is not 0.
    pub gso_segs: u32,
    /// Headers that segmentation repeats: IP and transport.
    pub header_bytes: u32,
    /// Header that segmentation removes; not in `bytes`.
    pub jumbo_bytes: u32,
    pub is_udp: bool,
}

impl Packet {
    /// An ordinary packet.
    #[inline(always)]
    pub const fn ordinary(hook: Hook, ifindex: u32, family: Family, bytes: u32) -> Self {
        let (gso_size, gso_segs, header_bytes, jumbo_bytes) = (0, 0, 0, 0);
        Self { hook, ifindex, family, bytes, gso_size, gso_segs, header_bytes, jumbo_bytes, is_udp: false }
    }

    /// The owner for packets that devices may count differently, if it is one.
    #[inline(always)]
    fn repeated_owner(&self, direction: Direction) -> Option<u32> {
        match direction {
            Direction::Tx if self.bytes + self.jumbo_bytes + ETHERNET_HEADER_BYTES >= GSO_MAX_SIZE => {
                Some(owner::LARGE)
            }
            Direction::Tx if self.is_udp => Some(owner::UDP_SEGMENTED),
            Direction::Rx if self.gso_segs == 0 => Some(owner::MERGED),
            Direction::Rx if self.jumbo_bytes != 0 => Some(owner::LARGE),
            Direction::Tx | Direction::Rx => None,
        }
    }

    /// On the wire: a super-packet counts as its segments.
    #[inline(always)]
    pub fn wire(&self) -> Wire {
        let payload = self.bytes.saturating_sub(self.header_bytes);
        let repeats = u64::from(payload.saturating_sub(1).checked_div(self.gso_size).unwrap_or(0));
        Wire { packets: 1 + repeats, bytes: u64::from(self.bytes) + repeats * u64::from(self.header_bytes) }
    }
}

/// Counts a packet of a tagged socket for its sender, or for the socket's owner if that is [`Ref::NONE`]: several
/// processes may send through one socket. Returns whether the row had to be looked up: for the first packet, another
/// owner or another device.
#[inline(always)]
pub fn count(
    tag: &mut SocketTag,
    sender: Ref,
    sk: *const c_void,
    listens: bool,
    direction: Direction,
    packet: &Packet,
) -> bool {
    // SAFETY: a field of a live value. Volatile: the compiler knows that there are two families, and would remove the
    // mask that the verifier requires.
    let family = unsafe { (&raw const packet.family).cast::<u32>().read_volatile() } as usize & 1;
    let known = rows::at(tag.rows[family][direction as usize]);
    let mut was_known = true;
    let billed = if sender == Ref::NONE { tags::owner(tag) } else { sender };
    // All namespaces share the sockets that answer for the kernel. Each packet moves them (`icmp_xmit_lock`,
    // `tcp_v4_send_reset`).
    if billed == Ref::NONE {
        tag.netns = tags::netns_of(tags::address(tag, sk));
    }
    let is_there = |row: &Row| billed != Ref::NONE || row.key.netns == tag.netns;
    let row = match known {
        Some(row) if row.key.ifindex == packet.ifindex && row.key.owner == billed.slot() && is_there(row) => row,
        _ => {
            was_known = false;
            tags::complete(tag, sk, listens, packet.hook);
            if known.is_none() {
                rows::log_retired(tag.rows[family][direction as usize], tag.address, packet.hook);
            }
            let billed = if sender == Ref::NONE { tags::owner(tag) } else { sender };
            match bind(tag, billed, packet.ifindex, packet.family as u32, packet.hook) {
                Some((row, reference)) => {
                    // A listener's row must not be inherited: its children would never come here and be recognized.
                    if !listens {
                        tag.rows[family][direction as usize] = reference;
                    }
                    row
                }
                None => return true,
            }
        }
    };
    if tag.family != packet.family as u8 {
        tag.family = packet.family as u8;
    }
    if packet.gso_size != 0 {
        repeat(tag.netns, tags::net_of(tag), direction, packet);
    }
    add_packet(&mut row.flows[direction as usize], packet);
    !was_known
}

/// Counts a super-packet again if devices may count its kind differently. Before its own row, which is read first: who
/// sees the packet there sees it here.
#[inline(always)]
fn repeat(netns: Netns, net: u64, direction: Direction, packet: &Packet) {
    if let Some(row) = repeated_row(netns, net, direction, packet) {
        let flow = &mut row.flows[direction as usize];
        add_packet(flow, packet);
        add(&raw mut flow.app_bytes, u64::from(packet.jumbo_bytes));
        if direction == Direction::Tx
            && packet.is_udp
            && let Some(stats) = stats()
        {
            stats.has_udp_segments = 1;
        }
    }
}

/// Counts a received datagram that the stack split off a super-packet; not called for the last one.
#[inline(always)]
pub fn count_segment(tag: &SocketTag, packet: &Packet, header_bytes: u32) {
    let (netns, ifindex, family) = (tag.netns, packet.ifindex, packet.family as u32);
    let key = RowKey { owner: owner::UDP_SEGMENTED, netns, ifindex, family };
    if let Some((row, reference)) =
        rows::find_or_make(&key, tags::net_of(tag), tag.address, attribution::NONE, packet.hook)
        && reference != Ref::NONE
    {
        let flow = &mut row.flows[Direction::Rx as usize];
        add(&raw mut flow.gso_packets, 1);
        add(&raw mut flow.gso_bytes, u64::from(header_bytes));
    }
}

#[inline(always)]
fn repeated_row(netns: Netns, net: u64, direction: Direction, packet: &Packet) -> Option<&'static mut Row> {
    let owner = packet.repeated_owner(direction)?;
    let key = RowKey { owner, netns, ifindex: packet.ifindex, family: packet.family as u32 };
    // Overflow rows hold what moved.
    let (row, reference) = rows::find_or_make(&key, net, 0, attribution::NONE, packet.hook)?;
    (reference != Ref::NONE).then_some(row)
}

/// A sent packet that was dropped before the device saw it.
pub struct Unsent {
    /// 0 of a fragment that is not the first.
    pub packets: u64,
    pub packet: Packet,
}

/// Counts a dropped packet that its socket's row has as sent. If the socket has sent on another device since, or its
/// row was retired, the packet stays counted as sent.
#[inline(always)]
pub fn take_back(tag: &SocketTag, netns: Netns, unsent: &Unsent) {
    let packet = &unsent.packet;
    let Some(row) = rows::at(tag.rows[packet.family as usize & 1][Direction::Tx as usize]) else { return };
    if row.key.ifindex != packet.ifindex || row.key.netns != netns {
        return;
    }
    add_unsent(row, unsent);
    if packet.gso_size != 0
        && let Some(row) = repeated_row(netns, tags::net_of(tag), Direction::Tx, packet)
    {
        add_unsent(row, unsent);
    }
}

#[inline(always)]
fn add_unsent(row: &mut Row, unsent: &Unsent) {
    let packet = &unsent.packet;
    add(&raw mut row.unsent.skbs, unsent.packets);
    add(&raw mut row.unsent.skb_bytes, u64::from(packet.bytes));
    if packet.gso_size != 0 {
        let wire = packet.wire();
        add(&raw mut row.unsent.gso_packets, wire.packets - 1);
        add(&raw mut row.unsent.gso_bytes, wire.bytes - u64::from(packet.bytes));
    }
}

/// Counts a packet without a socket as the kernel's. `net` is the namespace's `struct net`.
#[inline(always)]
pub fn count_kernel(netns: Netns, net: u64, direction: Direction, packet: &Packet) {
    let key = RowKey { owner: owner::KERNEL, netns, ifindex: packet.ifindex, family: packet.family as u32 };
    if packet.gso_size != 0 {
        repeat(netns, net, direction, packet);
    }
    if let Some((row, _)) = rows::find_or_make(&key, net, 0, attribution::NONE, packet.hook) {
        add_packet(&mut row.flows[direction as usize], packet);
    }
}

/// Counts a packet that was already counted and that the device did not see again.
#[inline(always)]
pub fn count_copy(tag: &SocketTag, packet: &Packet) {
    let (netns, ifindex, family) = (tag.netns, packet.ifindex, packet.family as u32);
    let key = RowKey { owner: owner::COPIES, netns, ifindex, family };
    // Overflow rows hold what moved; a copy did not.
    if let Some((row, reference)) =
        rows::find_or_make(&key, tags::net_of(tag), tag.address, attribution::NONE, packet.hook)
        && reference != Ref::NONE
    {
        add_packet(&mut row.flows[Direction::Rx as usize], packet);
    }
}

/// Counts bytes that a program sent or received, on the device of the socket's last packet that way.
#[inline(always)]
pub fn count_app(tag: &mut SocketTag, owner: Ref, direction: Direction, bytes: u64, hook: Hook) {
    count_app_on(tag, owner, direction, bytes, 0, hook);
}

/// The same, with the device to use if none is known.
#[inline(always)]
pub fn count_app_on(tag: &mut SocketTag, owner: Ref, direction: Direction, bytes: u64, otherwise: u32, hook: Hook) {
    let family = tag.family as usize & 1;
    let known = rows::at(tag.rows[family][direction as usize]);
    let row = match known {
        Some(row) if row.key.owner == owner.slot() => row,
        Some(row) => match bind(tag, owner, row.key.ifindex, family as u32, hook) {
            Some((row, reference)) => {
                tag.rows[family][direction as usize] = reference;
                row
            }
            None => return,
        },
        None => {
            rows::log_retired(tag.rows[family][direction as usize], tag.address, hook);
            let ifindex = rows::at(tag.rows[family][1 - direction as usize]).map_or(otherwise, |row| row.key.ifindex);
            match bind(tag, owner, ifindex, family as u32, hook) {
                Some((row, _)) => row,
                None => return,
            }
        }
    };
    if row.attribution < tag.attribution {
        row.attribution = tag.attribution;
    }
    add(&raw mut row.flows[direction as usize].app_bytes, bytes);
}

/// What a program has taken from a TCP socket since it was connected.
#[derive(Clone, Copy)]
pub struct Consumed {
    /// Modulo 2^32: no program takes so much between two calls.
    pub bytes: u32,
    /// Sequence number of the connection's first byte: it differs after a disconnect and a new connect.
    pub first_seq: u32,
}

impl Consumed {
    /// From members of `tcp_sock`: received in order, minus queued, minus the FIN, which takes a sequence number and is
    /// consumed like a byte.
    #[inline(always)]
    pub fn new(bytes_received: u64, rcv_nxt: u32, copied_seq: u32, is_done: bool) -> Self {
        let queued = u64::from(rcv_nxt.wrapping_sub(copied_seq));
        let fin = u64::from(is_done && queued == 0);
        let bytes = bytes_received.saturating_sub(queued).saturating_sub(fin) as u32;
        // Both move together (`tcp_rcv_nxt_update`), the FIN's number included.
        Self { bytes, first_seq: rcv_nxt.wrapping_sub(bytes_received as u32) }
    }
}

/// Counts what a program took from a TCP socket since the last call.
#[inline(always)]
pub fn count_consumed(tag: &mut SocketTag, owner: Ref, consumed: Consumed, hook: Hook) {
    let before = if consumed.first_seq == tag.first_seq { tag.consumed_bytes } else { 0 };
    let was_baseline_known = tag.flags & BASELINE_KNOWN != 0;
    skip_consumed(tag, consumed);
    let bytes = consumed.bytes.wrapping_sub(before);
    if was_baseline_known && bytes != 0 && bytes <= i32::MAX as u32 {
        count_app(tag, owner, Direction::Rx, u64::from(bytes), hook);
    }
}

/// Bytes taken by others than the owner are not counted later either.
#[inline(always)]
pub fn skip_consumed(tag: &mut SocketTag, consumed: Consumed) {
    tag.consumed_bytes = consumed.bytes;
    tag.first_seq = consumed.first_seq;
    if tag.flags & BASELINE_KNOWN == 0 {
        tags::set_flags(tag, BASELINE_KNOWN);
    }
}

#[inline(always)]
fn bind(tag: &SocketTag, owner: Ref, ifindex: u32, family: u32, hook: Hook) -> Option<(&'static mut Row, Ref)> {
    let key = RowKey { owner: owner.slot(), netns: tag.netns, ifindex, family };
    rows::find_or_make(&key, tags::net_of(tag), tag.address, tag.attribution, hook)
}

#[inline(always)]
fn add_packet(flow: &mut Flow, packet: &Packet) {
    add(&raw mut flow.skbs, 1);
    add(&raw mut flow.skb_bytes, u64::from(packet.bytes));
    if packet.bytes < MIN_ETHERNET_PAYLOAD_BYTES {
        add(&raw mut flow.padding_bytes, u64::from(MIN_ETHERNET_PAYLOAD_BYTES - packet.bytes));
    }
    let payload = packet.bytes.saturating_sub(packet.header_bytes);
    if let Some(repeats) = payload.saturating_sub(1).checked_div(packet.gso_size) {
        add(&raw mut flow.gso_packets, u64::from(repeats));
        add(&raw mut flow.gso_bytes, u64::from(repeats) * u64::from(packet.header_bytes));
    }
}
