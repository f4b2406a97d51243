//! The rows of the ledger: one per (owner, network namespace, device, IP version), read by the daemon through a mapping.

use bytemuck::{Pod, Zeroable};

/// Row for packets that found no room even in an overflow row of their device.
pub const OVERFLOW: u32 = 0;
/// First row for an owner.
pub const FIRST: u32 = 1;
/// For the kernel's rows and the overflow rows of each device, so that no flood of processes breaks a device's balance.
pub const RESERVED_ROWS: u32 = 512;
/// Slots beyond the limits: a CPU holds one while it finds out whether another made the same row. It counts a row only
/// once it is in the index, so each CPU may exceed the limits by one row.
pub const SPARE_SLOTS: u32 = 64;

pub const FREE: u32 = 0;
pub const LIVE: u32 = 1;
/// The index has forgotten it. Set by the daemon, for the next one if it crashes.
pub const LEAVING: u32 = 2;

/// A network namespace. All zero: not known.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Pod, Zeroable)]
pub struct Netns {
    /// Its usual name. The next namespace may get it as soon as this one is gone.
    pub inode: u32,
    /// Low half of its cookie (`SO_NETNS_COOKIE`), unique until 4 billion namespaces were made.
    pub cookie: u32,
}

/// A task in another network namespace than its process, or a process. Without a process, an existing namespace.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct TaskNetns {
    pub netns: Netns,
    /// The process.
    pub tgid: u32,
    /// The thread, the process's first or another.
    pub pid: u32,
}

impl TaskNetns {
    /// Ends the list of existing namespaces.
    pub const END_OF_NAMESPACES: Self = Self { netns: Netns { inode: 0, cookie: 0 }, tgid: 0, pid: u32::MAX };
}

/// Key of the row index. `owner` is a slot: it is not reused while it has rows.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Pod, Zeroable)]
pub struct RowKey {
    pub owner: u32,
    pub netns: Netns,
    /// 0 while no packet has shown the device.
    pub ifindex: u32,
    /// [`crate::Family`].
    pub family: u32,
}

impl RowKey {
    /// The device, by namespace and index.
    #[must_use]
    pub const fn place(&self) -> (Netns, u32) {
        (self.netns, self.ifindex)
    }
}

/// Default `gso_max_size` of a device: `gso_features_check` has larger packets segmented before the device sees them.
pub const GSO_MAX_SIZE: u32 = 65_536;

/// Traffic in one direction. Counters only grow.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Pod, Zeroable)]
pub struct Flow {
    /// Packets as the stack handled them, a GSO super-packet counting once.
    pub skbs: u64,
    /// IP bytes of those.
    pub skb_bytes: u64,
    /// Extra packets that the super-packets become on a wire.
    pub gso_packets: u64,
    /// Bytes of the headers that segmentation repeats.
    pub gso_bytes: u64,
    /// Bytes the program handed over or took.
    pub app_bytes: u64,
    /// Bytes that Ethernet adds to packets that are too short.
    pub padding_bytes: u64,
}

/// Of what was sent, in the units of [`Flow`]. Counters only grow.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Pod, Zeroable)]
pub struct Sent {
    pub skbs: u64,
    pub skb_bytes: u64,
    pub gso_packets: u64,
    pub gso_bytes: u64,
}

/// One row.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Row {
    pub key: RowKey,
    /// Incremented when the index forgets the row, so that a tag with its number takes the slow path; and again when
    /// the slot is given back, for a program that found the slot before and read the generation after.
    pub generation: u32,
    pub state: u32,
    /// Best attribution of the owner so far, see [`crate::tag`].
    pub attribution: u32,
    /// The limit it counts against, an index of [`crate::share`].
    pub share: u32,
    /// 1 if it is one of the [`RESERVED_ROWS`].
    pub is_reserved: u32,
    /// Indexed by [`crate::Direction`].
    pub flows: [Flow; 2],
    /// Dropped before the device saw it.
    pub unsent: Sent,
    /// What the daemon has reported, without that. Here because it outlives a daemon that crashes.
    pub reported: Sent,
}
