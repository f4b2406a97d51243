//! Storage of sockets and tasks in the kernel, for which aya has no suitable definition.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    bindings::bpf_sock,
    helpers::generated::{bpf_get_current_task_btf, bpf_sk_fullsock, bpf_sk_storage_get, bpf_task_storage_get},
    macros::btf_map,
};
use nettop_common::{
    Connection, SocketMeter, SocketTag,
    abi::{
        BPF_F_CLONE, BPF_F_NO_PREALLOC, BPF_LOCAL_STORAGE_GET_F_CREATE, BPF_MAP_TYPE_SK_STORAGE,
        BPF_MAP_TYPE_TASK_STORAGE, BPF_SK_STORAGE_GET_F_CREATE,
    },
    log::{Hook, What},
    trace::Thread,
};

use crate::{log, maps::count};

/// Definition of a task storage, which aya lacks.
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

    /// The current task's value, zeroed when made.
    #[inline(always)]
    pub fn current(&self) -> Option<&'static mut T> {
        let map = ptr::from_ref(self).cast_mut().cast();
        // SAFETY: the value lives as long as the task that runs this; nobody else writes it.
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

    /// A socket's value, if it has one.
    #[inline(always)]
    pub fn find(&self, sk: *mut c_void) -> Option<&'static mut T> {
        let map = ptr::from_ref(self).cast_mut().cast();
        // SAFETY: as in `get`; without the flag nothing is made.
        unsafe { bpf_sk_storage_get(map, sk, ptr::null_mut(), 0).cast::<T>().as_mut() }
    }

    /// The same, made zeroed if there is none.
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
/// Connections, for `hooks/connections.rs`. An accepted connection does not share its listener's.
#[btf_map]
pub static CONNECTIONS: SocketStorage<Connection, BPF_F_NO_PREALLOC> = SocketStorage::new();

impl<T: 'static, const FLAGS: usize> SocketStorage<T, FLAGS> {
    /// The tag of a full socket, made zeroed if it has none; `None` if the kernel has no memory for it or the socket is
    /// being freed.
    #[inline(always)]
    pub fn tag(&self, sk: *mut c_void, hook: Hook) -> Option<&'static mut T> {
        let tag = self.get(sk);
        if tag.is_none() {
            log::write(What::StorageRefused, hook as u32, 0, 0, 0);
            count(|stats| &raw mut stats.tags_refused);
        }
        tag
    }

    /// The same for what may be a request or timewait socket: those have no tag, and that is no loss.
    /// `bpf_sk_storage_get` itself checks for a full socket (net/core/bpf_sk_storage.c).
    #[inline(always)]
    pub fn tag_if_full(&self, sk: *mut bpf_sock, hook: Hook) -> Option<&'static mut T> {
        let tag = self.get(sk.cast());
        // SAFETY: a socket of the program's context that is not null.
        if tag.is_none() && !unsafe { bpf_sk_fullsock(sk) }.is_null() {
            log::write(What::StorageRefused, hook as u32, 0, 0, 0);
            count(|stats| &raw mut stats.tags_refused);
        }
        tag
    }
}
