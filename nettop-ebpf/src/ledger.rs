//! The one accounting core: which row a packet or a call is counted in. Hooks know contexts, this knows none.

use core::ffi::c_void;

use nettop_common::{
    Direction, Family, Flow, Netns, Ref, Row, RowKey, SocketTag, Wire,
    owner::{self, OVERFLOW},
    row,
    tag::{BASED, CHILD, COPIES, LISTENING, SHARES, evidence},
};

use crate::{
    kernel::{self, probe},
    maps::{FREE_ROWS, ROW_INDEX, ROW_LIMIT, ROWS, add, next, stats},
    numbers::{IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP},
    owners, ports,
    task::{Task, User},
};

const BPF_NOEXIST: u64 = 1;
/// Default `gso_max_size` of a device: `gso_features_check` has larger packets segmented before the device sees them.
/// TCP makes them where the device's MTU is so large that two segments exceed it, as on lo.
const GSO_MAX_SIZE: u32 = 65_536;
const LINK_HEADER: u32 = 14;

/// One skb on its way through a device.
pub struct Packet {
    pub ifindex: u32,
    pub family: Family,
    /// IP header and all that follows.
    pub bytes: u32,
    /// Payload of each segment of a super-packet, 0 for an ordinary packet.
    pub gso_size: u32,
    /// Headers that segmentation repeats: IP and transport. Only read if `gso_size` is not 0.
    pub header_bytes: u32,
}

impl Packet {
    /// As it is on the wire: a super-packet is the segments it becomes.
    #[inline(always)]
    pub fn wire(&self) -> Wire {
        let payload = self.bytes.saturating_sub(self.header_bytes);
        let repeats = u64::from(payload.saturating_sub(1).checked_div(self.gso_size).unwrap_or(0));
        Wire { packets: 1 + repeats, bytes: u64::from(self.bytes) + repeats * u64::from(self.header_bytes) }
    }
}

/// Makes the process the owner of a socket that it uses. A kernel thread owns nothing.
#[inline(always)]
pub fn take(tag: &mut SocketTag, task: Task, found: u32) {
    if owners::get(tag.owner).is_some_and(|owner| task.is(owner)) {
        if tag.evidence < found {
            tag.evidence = found;
        }
    } else if !task.is_kernel_thread() {
        give(tag, task, found);
    }
}

#[inline(always)]
pub fn give(tag: &mut SocketTag, task: Task, found: u32) {
    tag.owner = owners::of(task);
    tag.evidence = found;
}

/// The current task sends or receives through a socket. Returns whether that is its owner's doing: what the kernel moves
/// through a program's socket (sockmap, nbd) is not the program's.
#[inline(always)]
pub fn used(tag: &mut SocketTag, user: &User) -> bool {
    let owner = owners::get(tag.owner);
    if owner.as_ref().is_some_and(|owner| user.is(owner)) {
        tag.evidence = evidence::USER;
        return true;
    }
    if user.task.is_kernel_thread() {
        // A program may make a socket, hand it to the kernel and end, as rpc.nfsd does.
        if owner.is_some_and(|owner| owner.state == owner::LIVE && owner.is_kernel_thread == 0) {
            return false;
        }
        if user.task.is_worker() {
            return true;
        }
    }
    give(tag, user.task, evidence::USER);
    true
}

/// Counts a packet of a tagged socket. Returns whether its row had to be looked for: the first packet, or that of another
/// owner, or on another device.
#[inline(always)]
pub fn count(tag: &mut SocketTag, sk: *const c_void, listens: bool, way: Direction, packet: &Packet) -> bool {
    // SAFETY: a field of a live value. Volatile, or the compiler, which knows that there are two families, would leave out
    // the mask that the verifier wants to see.
    let family = unsafe { (&raw const packet.family).cast::<u32>().read_volatile() } as usize & 1;
    let known = row_at(tag.rows[family][way as usize]);
    let mut was_known = true;
    let row = match known {
        Some(row) if row.key.ifindex == packet.ifindex && row.key.owner == tag.owner.slot() => row,
        _ => {
            was_known = false;
            settle(tag, sk, listens);
            match bind(tag, packet.ifindex, packet.family as u32) {
                Some((row, reference)) => {
                    // A listener's row must not be inherited: its children would never come here and be told apart.
                    if !listens {
                        tag.rows[family][way as usize] = reference;
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
    add_packet(&mut row.flows[way as usize], way, packet);
    !was_known
}

/// Counts a packet that met no socket: the kernel's.
#[inline(always)]
pub fn count_kernel(netns: Netns, way: Direction, packet: &Packet) {
    let key = RowKey { owner: owner::KERNEL, netns, ifindex: packet.ifindex, family: packet.family as u32 };
    if let Some((row, _)) = row_for(&key, evidence::NONE) {
        add_packet(&mut row.flows[way as usize], way, packet);
    }
}

/// Counts a packet that was counted already and that the device did not see again.
#[inline(always)]
pub fn count_copy(netns: Netns, packet: &Packet) {
    let key = RowKey { owner: owner::COPIES, netns, ifindex: packet.ifindex, family: packet.family as u32 };
    if let Some((row, _)) = row_for(&key, evidence::NONE) {
        add_packet(&mut row.flows[Direction::Rx as usize], Direction::Rx, packet);
    }
}

/// Counts bytes that a program handed over or took, on the device of the socket's last packet that way.
#[inline(always)]
pub fn count_app(tag: &mut SocketTag, way: Direction, bytes: u64) {
    let family = tag.family as usize & 1;
    let known = row_at(tag.rows[family][way as usize]);
    let row = match known {
        Some(row) if row.key.owner == tag.owner.slot() => row,
        Some(row) => match bind(tag, row.key.ifindex, family as u32) {
            Some((row, reference)) => {
                tag.rows[family][way as usize] = reference;
                row
            }
            None => return,
        },
        None => {
            let ifindex = row_at(tag.rows[family][1 - way as usize]).map_or(0, |row| row.key.ifindex);
            match bind(tag, ifindex, family as u32) {
                Some((row, _)) => row,
                None => return,
            }
        }
    };
    if row.evidence < tag.evidence {
        row.evidence = tag.evidence;
    }
    add(&raw mut row.flows[way as usize].app_bytes, bytes);
}

/// Counts what a program took from a TCP socket since the last look, from all that it has taken so far.
#[inline(always)]
pub fn count_consumed(tag: &mut SocketTag, consumed_bytes: u64) {
    // A socket that disconnects and connects again starts over.
    let before = if consumed_bytes < tag.consumed_bytes { 0 } else { tag.consumed_bytes };
    tag.consumed_bytes = consumed_bytes;
    if tag.flags & BASED == 0 {
        tag.flags |= BASED;
    } else if consumed_bytes > before {
        count_app(tag, Direction::Rx, consumed_bytes - before);
    }
}

/// Bytes that others than the owner took are not counted later either.
#[inline(always)]
pub fn skip_consumed(tag: &mut SocketTag, consumed_bytes: u64) {
    tag.consumed_bytes = consumed_bytes;
    tag.flags |= BASED;
}

/// The row a tag remembers, if it was not retired since.
#[inline(always)]
fn row_at(reference: Ref) -> Option<&'static mut Row> {
    if reference == Ref::NONE {
        return None;
    }
    // SAFETY: elements of an array map live as long as the map; its counters are only ever added to.
    let row = ROWS.get_ptr_mut(reference.slot()).map(|row| unsafe { &mut *row })?;
    (row.generation == reference.generation()).then_some(row)
}

/// Fills in what a tag may lack when its first packet passes: namespace, and whether it is a listener's child.
#[inline(always)]
fn settle(tag: &mut SocketTag, sk: *const c_void, listens: bool) {
    if listens {
        tag.flags |= LISTENING;
    } else if tag.flags & LISTENING != 0 {
        tag.flags = tag.flags & !LISTENING | CHILD;
        tag.evidence = evidence::LISTENER;
    }
    let address = address(tag, sk);
    tag.flags |= traits(address);
    if tag.netns.inode == 0 {
        tag.netns = netns_of(address);
    }
    if listens && let Some(heir) = ports::heir(tag) {
        tag.owner = heir;
        tag.evidence = evidence::USER;
    }
    if owners::get(tag.owner).is_none() {
        tag.owner = Ref::NONE;
        tag.evidence = evidence::NONE;
    }
}

/// The device of a socket's last packet, 0 if none is known.
#[inline(always)]
pub fn device(tag: &SocketTag) -> u32 {
    let rows = tag.rows[tag.family as usize & 1];
    row_at(rows[Direction::Tx as usize])
        .or_else(|| row_at(rows[Direction::Rx as usize]))
        .map_or(0, |row| row.key.ifindex)
}

/// Whether others receive what this socket receives: `raw_v4_input`, `raw6_local_deliver` and `ping_rcv` hand out clones.
/// And whether a TCP socket that no hook saw at birth, as the kernel's, is new all the same.
#[inline(always)]
fn traits(sk: u64) -> u8 {
    const SOCK_RAW: u16 = 3;
    let is_raw = probe::<u16>(sk, &kernel::SOCK_TYPE) == SOCK_RAW;
    match probe::<u16>(sk, &kernel::SOCK_PROTOCOL) {
        IPPROTO_TCP | IPPROTO_UDP if is_raw => COPIES,
        IPPROTO_TCP if probe::<u64>(sk, &kernel::TCP_BYTES_RECEIVED) == 0 => BASED,
        IPPROTO_ICMP | IPPROTO_ICMPV6 => SHARES,
        _ if is_raw => SHARES,
        _ => 0,
    }
}

/// The address of a socket as a number.
#[inline(always)]
pub fn address(tag: &mut SocketTag, sk: *const c_void) -> u64 {
    // SAFETY: a field of our own. Volatile, or the compiler would hand on the pointer itself, which the verifier lets
    // nobody add to.
    unsafe {
        (&raw mut tag.address).write_volatile(sk as u64);
        (&raw const tag.address).read_volatile()
    }
}

/// The network namespace of a socket.
#[inline(always)]
pub fn netns_of(sk: u64) -> Netns {
    kernel::netns(probe(sk, &kernel::SOCK_NET))
}

#[inline(always)]
fn bind(tag: &SocketTag, ifindex: u32, family: u32) -> Option<(&'static mut Row, Ref)> {
    let key = RowKey { owner: tag.owner.slot(), netns: tag.netns, ifindex, family };
    row_for(&key, tag.evidence)
}

/// The row for a key; where there is no room, the overflow row of the device; else the overflow row of all.
#[inline(always)]
fn row_for(key: &RowKey, found: u32) -> Option<(&'static mut Row, Ref)> {
    let mut slot = find_or_make(key);
    if slot == row::OVERFLOW && key.owner >= owner::FIRST {
        slot = find_or_make(&RowKey { owner: OVERFLOW, ..*key });
    }
    // SAFETY: as in `row_at`.
    let row = ROWS.get_ptr_mut(slot).map(|row| unsafe { &mut *row })?;
    if row.evidence < found {
        row.evidence = found;
    }
    let reference = if slot == row::OVERFLOW { Ref::NONE } else { Ref::new(slot, row.generation) };
    Some((row, reference))
}

/// Slot of the row for a key, [`row::OVERFLOW`] if there is no room.
#[inline(never)]
fn find_or_make(key: &RowKey) -> u32 {
    // SAFETY: the value is copied at once; values of this map are never changed in place.
    if let Some(slot) = unsafe { ROW_INDEX.get(key) } {
        return *slot;
    }
    let Some(stats) = stats() else { return row::OVERFLOW };
    let limited = key.owner >= owner::FIRST;
    if limited && next(&raw mut stats.rows_in_use) >= ROW_LIMIT.load() {
        add(&raw mut stats.rows_in_use, u64::MAX);
        add(&raw mut stats.rows_full, 1);
        return row::OVERFLOW;
    }
    let slot = make(key, stats);
    if limited && slot == row::OVERFLOW {
        add(&raw mut stats.rows_in_use, u64::MAX);
    }
    if slot != row::OVERFLOW {
        return slot;
    }
    // Another CPU may have been first.
    // SAFETY: as above.
    unsafe { ROW_INDEX.get(key) }.copied().unwrap_or(row::OVERFLOW)
}

#[inline(always)]
fn make(key: &RowKey, stats: &mut nettop_common::Stats) -> u32 {
    let slot = match FREE_ROWS.pop() {
        Ok(Some(slot)) => slot,
        _ => next(&raw mut stats.next_row) as u32 + row::FIRST,
    };
    let Some(row) = ROWS.get_ptr_mut(slot) else {
        add(&raw mut stats.rows_full, 1);
        return row::OVERFLOW;
    };
    // SAFETY: a slot that was just handed out is nobody else's; the daemon zeroed its counters.
    let row = unsafe { &mut *row };
    row.key = *key;
    row.evidence = evidence::NONE;
    row.state = row::LIVE;
    if let Err(error) = ROW_INDEX.insert(key, slot, BPF_NOEXIST) {
        row.state = row::FREE;
        let _ = FREE_ROWS.push(slot, 0);
        const EEXIST: i32 = 17;
        if error != -EEXIST {
            add(&raw mut stats.index_full, 1);
        }
        return row::OVERFLOW;
    }
    slot
}

#[inline(always)]
fn add_packet(flow: &mut Flow, way: Direction, packet: &Packet) {
    add(&raw mut flow.skbs, 1);
    add(&raw mut flow.skb_bytes, u64::from(packet.bytes));
    let payload = packet.bytes.saturating_sub(packet.header_bytes);
    if let Some(repeats) = payload.saturating_sub(1).checked_div(packet.gso_size) {
        let (packets, bytes) = (u64::from(repeats), u64::from(repeats) * u64::from(packet.header_bytes));
        if way == Direction::Tx && packet.bytes + LINK_HEADER >= GSO_MAX_SIZE {
            add(&raw mut flow.skbs, packets);
            add(&raw mut flow.skb_bytes, bytes);
        } else {
            add(&raw mut flow.gso_packets, packets);
            add(&raw mut flow.gso_bytes, bytes);
        }
    }
}
