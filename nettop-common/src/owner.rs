//! The owner table: one entry per (process, user) that ever held an inet socket.
//!
//! A socket's tag names its owner by slot and generation, so a tag is one atomic word and never half-written.

use bytemuck::{Pod, Zeroable};

/// Slot of the owner for the kernel itself, and for sockets that no process claimed yet.
pub const KERNEL: u32 = 0;
/// Slot of the owner for what found no room in the tables.
pub const OVERFLOW: u32 = 1;
/// Slot of the owner of copies: packets that several sockets received and the device counted once, or not at all. Other
/// rows count them as well.
pub const COPIES: u32 = 2;
/// Slots of the owners for packets that devices may not count as segments; other rows count them as well. Received
/// super-packets that the device made, and not the kernel's GRO.
pub const MERGED: u32 = 3;
/// Sent super-packets of UDP; received, the extra headers of segments if the stack split one before its socket.
pub const UDP_SEGMENTED: u32 = 4;
/// Super-packets above a device's default limit ([`crate::row::GSO_MAX_SIZE`]); received ones only with a jumbo header.
/// `app_bytes` has the bytes of such headers, which segments do not have.
pub const LARGE: u32 = 5;
/// First slot for processes.
pub const FIRST: u32 = 6;

/// Whether other rows also count what this owner's rows hold.
#[must_use]
pub const fn is_repeated(slot: u32) -> bool {
    matches!(slot, COPIES | MERGED | UDP_SEGMENTED | LARGE)
}

/// The state of a slot: free and zeroed.
pub const FREE: u32 = 0;
/// The process lives, as far as the exit hook knows.
pub const LIVE: u32 = 1;
/// `sched_process_exit` has seen the last thread go.
pub const EXITED: u32 = 2;

/// Whether an owner's [`crate::ProcessRecord`] was made: not since it has this name.
pub const UNRECORDED: u32 = 0;
/// By another task, which cannot read the arguments.
pub const WITHOUT_ARGUMENTS: u32 = 1;
/// All of it.
pub const RECORDED: u32 = 2;
/// It found no room. Tried again with its next socket.
pub const UNSENT: u32 = 3;

/// Key of the owner index. The start time makes a reused pid another process.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug, Pod, Zeroable)]
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
    /// `bpf_ktime_get_ns` when `comm` was taken: of a process's two owners, the later is right.
    pub comm_time_ns: u64,
    /// 1 for a kernel thread that uses the kernel's own sockets.
    pub is_kernel_thread: u32,
    /// The limit it counts against, an index of [`crate::share`].
    pub share: u32,
    /// [`UNRECORDED`], [`WITHOUT_ARGUMENTS`], [`RECORDED`], [`UNSENT`].
    pub recorded: u32,
    pub padding: u32,
}
