//! The rows of the ledger: one per (owner, network namespace, device, IP version), read by the daemon through a mapping.

use bytemuck::{Pod, Zeroable};

/// Row that takes packets for which not even an overflow row of their device could be had.
pub const OVERFLOW: u32 = 0;
/// First row that is handed out.
pub const FIRST: u32 = 1;
/// Rows kept back for the kernel's and the overflow rows of each device, so that no flood of processes
/// can unbalance a device's books.
pub const RESERVED: u32 = 512;

pub const FREE: u32 = 0;
pub const LIVE: u32 = 1;

/// A network namespace. All zero: not known.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Pod, Zeroable)]
pub struct Netns {
    /// What people know it by. The next namespace may get it as soon as this one is gone.
    pub inode: u32,
    /// Low half of its cookie (`SO_NETNS_COOKIE`), which no other namespace gets before 4 billion were made.
    pub cookie: u32,
}

/// Key of the row index. `owner` is a slot: it is not reused while it has rows.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Pod, Zeroable)]
pub struct RowKey {
    pub owner: u32,
    pub netns: Netns,
    /// 0 where no packet has told the device yet.
    pub ifindex: u32,
    /// [`crate::Family`].
    pub family: u32,
}

/// What one direction moved. Counters only grow.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Pod, Zeroable)]
pub struct Flow {
    /// Packets as the stack handled them, a GSO super-packet counting once.
    pub skbs: u64,
    /// IP bytes of those.
    pub skb_bytes: u64,
    /// How many more packets the super-packets become on a wire.
    pub gso_packets: u64,
    /// Bytes of the headers that segmentation repeats.
    pub gso_bytes: u64,
    /// Bytes the program handed over or took.
    pub app_bytes: u64,
}

/// One row.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Row {
    pub key: RowKey,
    /// Bumped at retirement: a tag that remembers the old one takes the slow path.
    pub generation: u32,
    pub state: u32,
    /// Best evidence for the owner so far, see [`crate::tag`].
    pub evidence: u32,
    /// Indexed by [`crate::Direction`].
    pub flows: [Flow; 2],
}
