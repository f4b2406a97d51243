//! Every map, and why it has its type and size. The daemon sets the sizes before loading.

use aya_ebpf::{
    Global,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, Queue, RingBuf},
};
use nettop_common::{
    Association, AssociationKey, DropCount, DropEntry, DropKey, Listener, Owner, OwnerKey, Pair, PairKey, PortHolder,
    PortKey, ProcessDrops, ProcessDropsKey, ProcessRecord, Row, RowKey, Share, SocketTag, Stats,
    abi::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    forwarded,
    process::{NAME_BYTES, NAMES_BYTES},
    share,
    trace::{MAX_TRACED_NAMES, NamePattern},
};

use crate::atomic::add;

/// Rows that processes may use; the table has [`nettop_common::row::RESERVED_ROWS`] more.
#[unsafe(no_mangle)]
pub static ROW_LIMIT: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
pub static OWNER_LIMIT: Global<u64> = Global::new(0);

/// The counters. Mapped: the daemon reads them without system calls.
#[map]
pub static ROWS: Array<Row> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Where a row is, for the slow path: first packet of a socket on a device, or after its owner changed.
#[map]
pub static ROW_INDEX: HashMap<RowKey, u32> = HashMap::with_max_entries(1, 0);
/// Rows that the daemon retired and zeroed.
#[map]
pub static FREE_ROWS: Queue<u32> = Queue::with_max_entries(1, 0);

/// What each user, and each network namespace, has of the tables. Mapped: the daemon counts down.
#[map]
pub static SHARES: Array<Share> = Array::with_max_entries(share::SHARE_COUNT, BPF_F_MMAPABLE);

/// The processes. Mapped like the rows.
#[map]
pub static OWNERS: Array<Owner> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static OWNER_INDEX: HashMap<OwnerKey, u32> = HashMap::with_max_entries(1, 0);
#[map]
pub static FREE_OWNERS: Queue<u32> = Queue::with_max_entries(1, 0);

/// This CPU's last packet that several sockets may receive: they do so one after the other, in one softirq.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Shared {
    pub content: u64,
    pub first_sk: u64,
}

/// See `hooks/copies.rs`.
#[map]
pub static LAST_SHARED: PerCpuArray<Shared> = PerCpuArray::with_max_entries(1, 0);

/// This CPU's last packet that a listener received: the address of its buffer, its content, and the time.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ListenerPacket {
    pub skb: u64,
    pub content: u64,
    pub time_ns: u64,
}

/// See `hooks/copies.rs`.
#[map]
pub static LAST_LISTENER_PACKET: PerCpuArray<ListenerPacket> = PerCpuArray::with_max_entries(1, 0);

/// Kinds of drops. Each CPU adds to its own counts.
#[map]
pub static DROPS: PerCpuHashMap<DropKey, DropEntry> = PerCpuHashMap::with_max_entries(1, 0);
/// Drops, and events, that found no room in the table.
#[map]
pub static OTHER_DROPS: PerCpuArray<DropCount> = PerCpuArray::with_max_entries(2, 0);
/// What the table gave back of running processes. Only daemons use it. Not preallocated: mostly empty.
#[map]
pub static PROCESS_DROPS: HashMap<ProcessDropsKey, ProcessDrops> =
    HashMap::with_max_entries(1, BPF_F_NO_PREALLOC as u32);
/// Forwarded traffic, by pair of devices. Not preallocated: most machines forward nothing.
#[map]
pub static FORWARDED: HashMap<PairKey, Pair> =
    HashMap::with_max_entries(forwarded::MAX_PAIRS, BPF_F_NO_PREALLOC as u32);
/// Bound ports, see `ports.rs`. Not preallocated: most machines have few.
#[map]
pub static PORTS: HashMap<PortKey, PortHolder> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC as u32);
/// Listeners by cookie.
#[map]
pub static LISTENERS: HashMap<u64, Listener> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC as u32);
/// Addresses in a query of the daemon, see `hooks/{symbols,listeners}.rs`.
#[map]
pub static ADDRESSES: Array<u64> = Array::with_max_entries(64, 0);

/// Ring of [`nettop_common::ProcessRecord`]s.
#[map]
pub static PROCESSES: RingBuf = RingBuf::with_byte_size(4096, 0);
/// The same of processes that executed a program, whether they talk or not.
#[map]
pub static EXECUTED: RingBuf = RingBuf::with_byte_size(4096, 0);
/// Where this CPU makes such a record.
#[map]
pub static PROCESS_DRAFT: PerCpuArray<Draft> = PerCpuArray::with_max_entries(1, 0);

/// See `processes.rs`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Draft {
    /// Programs at work on it.
    pub users: u64,
    /// How far the path is that is being read: the next directory, and its mount. Or the next cgroup or ancestor.
    pub at: u64,
    pub mount: u64,
    /// Bytes of names so far, and from which on a path gets no further component.
    pub used: u32,
    pub end: u32,
    pub record: ProcessRecord,
    /// With room for one name more than the record may have.
    pub names: [u8; NAMES_BYTES + NAME_BYTES],
}

/// Ring of [`nettop_common::ProcessUsage`]s, of processes that ended.
#[map]
pub static ENDED_USAGE: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Ring of events; one page if none are reported.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);
/// Peers without connections, for `hooks/associations.rs`. Not preallocated.
#[map]
pub static ASSOCIATIONS: HashMap<AssociationKey, Association> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC as u32);

#[map]
pub static STATS: Array<Stats> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// See `shadow.rs`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Shadow {
    /// Whose it is. First, as the kernel copies it: nothing else in the entry is of another socket while this is not.
    pub cookie: u64,
    pub tag: SocketTag,
}

/// Tags by socket cookie, for kprobes; one element with the other back ends.
#[map]
pub static SHADOWS: LruHashMap<u64, Shadow> = LruHashMap::with_max_entries(1, 0);
/// Sockets of running calls, by thread, for kprobes. The oldest are evicted: a missed return leaves them.
#[map]
pub static CALLS: LruHashMap<u64, u64> = LruHashMap::with_max_entries(1, 0);

/// Traced processes, see [`nettop_common::trace`]. Not preallocated.
#[map]
pub static TRACED: HashMap<u32, u32> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC as u32);
/// Names of processes to trace.
#[map]
pub static TRACED_NAMES: Array<NamePattern> = Array::with_max_entries(MAX_TRACED_NAMES, 0);
/// The [`nettop_common::trace::call`] of a system call's number, 0 for the others.
#[map]
pub static CALLS_BY_NUMBER: Array<u32> = Array::with_max_entries(1, 0);

/// The allocation state, the only element of its map.
#[inline(always)]
pub fn stats() -> Option<&'static mut Stats> {
    // SAFETY: the element exists for the life of the map.
    STATS.get_ptr_mut(0).map(|stats| unsafe { &mut *stats })
}

/// Adds one to a counter of the stats.
#[inline(always)]
pub fn count(counter: impl Fn(&mut Stats) -> *mut u64) {
    if let Some(stats) = stats() {
        add(counter(stats), 1);
    }
}
