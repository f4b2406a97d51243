//! Allocation state and loss counters, one mapped element.

use bytemuck::{Pod, Zeroable};

/// How far the tables are filled, and what did not fit. Counters only grow, but for `rows_in_use` and `second_look`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Pod, Zeroable)]
pub struct Stats {
    /// Next row never used before; may run past the end of the table.
    pub next_row: u64,
    pub next_owner: u64,
    pub rows_in_use: u64,
    /// Requests for a row that the table's limit refused.
    pub rows_full: u64,
    pub owners_full: u64,
    /// Inserts that the index hash refused for any reason but "exists".
    pub index_full: u64,
    /// Sockets the kernel gave no storage for.
    pub tags_refused: u64,
    /// Set by the daemon once the kernel skipped a run: second looks are attached.
    pub second_look: u64,
    /// Calls that were counted at the second look.
    pub healed: u64,
    /// Calls that a kprobe saw begin and had no room to remember.
    pub calls_lost: u64,
    /// Shadows of tags that others pushed out.
    pub shadows_lost: u64,
    /// Bound ports and listeners for which there was no room.
    pub ports_full: u64,
    /// Events for which the ring had no room.
    pub events_lost: u64,
    /// Associations for which there was no room.
    pub associations_full: u64,
    /// Processes that were to be traced and found no room.
    pub traced_full: u64,
    /// Socket calls of traced programs of 32 bits, which are not told.
    pub calls_32bit: u64,
}
