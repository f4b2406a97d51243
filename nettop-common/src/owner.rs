//! The owner table: one entry per (process, user) that ever held an inet socket.
//!
//! A socket's tag names its owner by slot and generation, so a tag is one atomic word and never half-written.

use bytemuck::{Pod, Zeroable};

/// Slot of the owner that stands for the kernel itself, and for sockets nobody claimed yet.
pub const KERNEL: u32 = 0;
/// Slot of the owner that takes what found no room in the tables.
pub const OVERFLOW: u32 = 1;
/// Slot of the owner of copies: packets that several sockets received and the device counted once, or not at all.
/// What stands there stands in other rows as well.
pub const COPIES: u32 = 2;
/// First slot that is handed out.
pub const FIRST: u32 = 3;

/// The state of a slot: free and zeroed.
pub const FREE: u32 = 0;
/// The process lives, as far as the exit hook knows.
pub const LIVE: u32 = 1;
/// `sched_process_exit` has seen the last thread go.
pub const EXITED: u32 = 2;

/// Key of the owner index. The start time makes a reused pid another process.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Pod, Zeroable)]
pub struct OwnerKey {
    /// `task_struct.start_boottime` of the thread-group leader.
    pub start_time_ns: u64,
    pub tgid: u32,
    /// In the initial user namespace.
    pub uid: u32,
}

/// One owner. Everything but `comm` and `state` is fixed while `generation` stands.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Owner {
    pub key: OwnerKey,
    pub generation: u32,
    pub state: u32,
    /// Name of the thread-group leader, refreshed by every rename and exec.
    pub comm: [u8; 16],
    /// `bpf_ktime_get_ns` when `comm` was taken: of two owners of one process, the later is right.
    pub comm_time_ns: u64,
    /// 1 for a thread of the kernel's that uses sockets of the kernel's.
    pub is_kernel_thread: u32,
    /// Keeps the size a multiple of 8.
    pub reserved: u32,
}
