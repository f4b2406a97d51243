//! Every map, with why it has its type and size. The daemon sets the sizes before it loads.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    Global,
    bindings::bpf_sock,
    helpers::generated::{bpf_get_current_task_btf, bpf_sk_fullsock, bpf_sk_storage_get, bpf_task_storage_get},
    macros::{btf_map, map},
    maps::{Array, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, Queue, RingBuf},
};
use nettop_common::{
    Association, AssociationKey, Connection, DropCount, DropKey, Listener, Owner, OwnerKey, PortHolder, PortKey, Row,
    RowKey, SocketMeter, SocketTag, Stats,
    trace::{NAMES, NamePattern, Thread},
};

use crate::hooks::copies::Shared;

const BPF_F_NO_PREALLOC: usize = 1 << 0;
const BPF_F_CLONE: usize = 1 << 9;
const BPF_F_MMAPABLE: u32 = 1 << 10;
const BPF_MAP_TYPE_SK_STORAGE: usize = 24;
const BPF_MAP_TYPE_TASK_STORAGE: usize = 29;
const BPF_SK_STORAGE_GET_F_CREATE: u64 = 1;
const BPF_LOCAL_STORAGE_GET_F_CREATE: u64 = 1;

/// Rows that processes may use; the table has [`nettop_common::row::RESERVED`] more.
#[unsafe(no_mangle)]
pub static ROW_LIMIT: Global<u64> = Global::new(0);

/// The books. Mapped by the daemon, which reads them with no system call.
#[map]
pub static ROWS: Array<Row> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Where a row is, for the slow path: first packet of a socket on a device, or after its owner changed.
#[map]
pub static ROW_INDEX: HashMap<RowKey, u32> = HashMap::with_max_entries(1, 0);
/// Rows that the daemon retired and zeroed.
#[map]
pub static FREE_ROWS: Queue<u32> = Queue::with_max_entries(1, 0);

/// The processes. Mapped as the rows are.
#[map]
pub static OWNERS: Array<Owner> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static OWNER_INDEX: HashMap<OwnerKey, u32> = HashMap::with_max_entries(1, 0);
#[map]
pub static FREE_OWNERS: Queue<u32> = Queue::with_max_entries(1, 0);

/// See `hooks/copies.rs`.
#[map]
pub static LAST_SHARED: PerCpuArray<Shared> = PerCpuArray::with_max_entries(1, 0);

/// Drops. Each CPU adds to its own counts.
#[map]
pub static DROPS: PerCpuHashMap<DropKey, DropCount> = PerCpuHashMap::with_max_entries(1, 0);
/// Drops, and events, for which the table had no room.
#[map]
pub static OTHER_DROPS: PerCpuArray<DropCount> = PerCpuArray::with_max_entries(2, 0);
/// Bound ports, see `ports.rs`. Not filled beforehand: most machines have few.
#[map]
pub static PORTS: HashMap<PortKey, PortHolder> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC as u32);
/// Listeners by cookie.
#[map]
pub static LISTENERS: HashMap<u64, Listener> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC as u32);
/// Addresses that the daemon asks about, see `hooks/{symbols,listeners}.rs`.
#[map]
pub static ADDRESSES: Array<u64> = Array::with_max_entries(64, 0);

/// What is told event by event; one page where nothing is.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);
/// Who talks to whom without connections, for `hooks/associations.rs`. Not filled beforehand.
#[map]
pub static ASSOCIATIONS: HashMap<AssociationKey, Association> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC as u32);

#[map]
pub static STATS: Array<Stats> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Tags by socket cookie, for kprobes; one element under the other back ends.
#[map]
pub static SHADOWS: LruHashMap<u64, SocketTag> = LruHashMap::with_max_entries(1, 0);
/// Sockets of calls under way, by thread, for kprobes.
#[map]
pub static CALLS: HashMap<u64, u64> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC as u32);

/// Processes that are traced, see [`nettop_common::trace`]. Not filled beforehand.
#[map]
pub static TRACED: HashMap<u32, u32> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC as u32);
/// What processes are called that are to be traced.
#[map]
pub static TRACED_NAMES: Array<NamePattern> = Array::with_max_entries(NAMES, 0);
/// Which call of [`nettop_common::trace::call`] a system call's number means, 0 for the others.
#[map]
pub static CALLS_BY_NUMBER: Array<u32> = Array::with_max_entries(1, 0);

/// Definition of a task storage, which aya has none for.
#[repr(C)]
pub struct TaskStorage<T> {
    r#type: *const [i32; BPF_MAP_TYPE_TASK_STORAGE],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; BPF_F_NO_PREALLOC],
}

// SAFETY: the pointers only carry types for the loader and are never followed.
unsafe impl<T> Sync for TaskStorage<T> {}

#[btf_map]
pub static TASKS: TaskStorage<u32> = TaskStorage::new();

/// What a traced thread is in.
#[btf_map]
pub static THREADS: TaskStorage<Thread> = TaskStorage::new();

impl<T> TaskStorage<T> {
    const fn new() -> Self {
        Self {
            r#type: ptr::null(),
            key: ptr::null(),
            value: ptr::null(),
            max_entries: ptr::null(),
            map_flags: ptr::null(),
        }
    }

    /// What the current task has, made of zeroes if need be.
    #[inline(always)]
    pub fn current(&self) -> Option<&'static mut T> {
        let map = ptr::from_ref(self).cast_mut().cast();
        // SAFETY: the value lives as long as the task, which runs this; nobody else writes it.
        unsafe {
            let task = bpf_get_current_task_btf();
            bpf_task_storage_get(map, task, ptr::null_mut(), BPF_LOCAL_STORAGE_GET_F_CREATE).cast::<T>().as_mut()
        }
    }
}

/// Definition of a socket storage. aya's own has no flags, and without `BPF_F_CLONE` an accepted
/// connection would not inherit its listener's owner.
#[repr(C)]
pub struct SocketStorage<T, const FLAGS: usize> {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; FLAGS],
}

// SAFETY: the pointers only carry types for the loader and are never followed.
unsafe impl<T, const FLAGS: usize> Sync for SocketStorage<T, FLAGS> {}

impl<T, const FLAGS: usize> SocketStorage<T, FLAGS> {
    const fn new() -> Self {
        Self {
            r#type: ptr::null(),
            key: ptr::null(),
            value: ptr::null(),
            max_entries: ptr::null(),
            map_flags: ptr::null(),
        }
    }

    /// What a socket has, if it has anything.
    #[inline(always)]
    pub fn find(&self, sk: *mut c_void) -> Option<&'static mut T> {
        let map = ptr::from_ref(self).cast_mut().cast();
        // SAFETY: as in `get`; without the flag nothing is made.
        unsafe { bpf_sk_storage_get(map, sk, ptr::null_mut(), 0).cast::<T>().as_mut() }
    }

    /// The same, made of zeroes if there is nothing.
    #[inline(always)]
    pub fn get(&self, sk: *mut c_void) -> Option<&'static mut T> {
        let map = ptr::from_ref(self).cast_mut().cast();
        // SAFETY: the verifier admits only typed, live sockets here. The value lives as long as the program
        // runs; others may write it meanwhile, a word at a time.
        unsafe { bpf_sk_storage_get(map, sk, ptr::null_mut(), BPF_SK_STORAGE_GET_F_CREATE).cast::<T>().as_mut() }
    }
}

#[btf_map]
pub static SOCKETS: SocketStorage<SocketTag, { BPF_F_NO_PREALLOC | BPF_F_CLONE }> = SocketStorage::new();
/// See `hooks/meter.rs`.
#[btf_map]
pub static METERS: SocketStorage<SocketMeter, { BPF_F_NO_PREALLOC | BPF_F_CLONE }> = SocketStorage::new();
/// Connections, for `hooks/connections.rs`. What is accepted is another connection than its listener.
#[btf_map]
pub static CONNECTIONS: SocketStorage<Connection, BPF_F_NO_PREALLOC> = SocketStorage::new();

impl<T: 'static, const FLAGS: usize> SocketStorage<T, FLAGS> {
    /// The tag of a full socket, made of zeroes if it has none; `None` if the kernel has no memory for it
    /// or the socket is being freed.
    #[inline(always)]
    pub fn tag(&self, sk: *mut c_void) -> Option<&'static mut T> {
        let tag = self.get(sk);
        if tag.is_none() {
            count(|stats| &raw mut stats.tags_refused);
        }
        tag
    }

    /// The same for what may be a request or timewait socket: those have no tag, and that is no loss.
    /// `bpf_sk_storage_get` itself looks whether the socket is full (net/core/bpf_sk_storage.c).
    #[inline(always)]
    pub fn tag_if_full(&self, sk: *mut bpf_sock) -> Option<&'static mut T> {
        let tag = self.get(sk.cast());
        // SAFETY: a socket of the program's context that is not null.
        if tag.is_none() && !unsafe { bpf_sk_fullsock(sk) }.is_null() {
            count(|stats| &raw mut stats.tags_refused);
        }
        tag
    }
}

/// Adds to a counter that other CPUs add to as well.
#[inline(always)]
pub fn add(counter: *mut u64, n: u64) {
    use core::intrinsics::{AtomicOrdering, atomic_xadd};
    // SAFETY: the verifier knows the counter to lie in a map value.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, n) };
}

/// Adds to a word that other CPUs add to as well.
#[inline(always)]
pub fn add_word(counter: *mut u32, n: u32) {
    use core::intrinsics::{AtomicOrdering, atomic_xadd};
    // SAFETY: as in `add`.
    unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(counter, n) };
}

/// Adds one and returns the value before.
#[inline(always)]
pub fn next(counter: *mut u64) -> u64 {
    use core::intrinsics::{AtomicOrdering, atomic_xadd};
    // SAFETY: as in `add`. A relaxed add whose result is used compiles to a plain add and returns its
    // operand (rustc 1.95), hence SeqCst.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(counter, 1) }
}

/// The allocation state, where the map has its one element.
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
