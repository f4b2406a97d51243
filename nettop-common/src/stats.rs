//! Allocation state and loss counters, one mapped element.

use bytemuck::{Pod, Zeroable};

use crate::{DropCount, Flow};

/// Fill of the tables, and what did not fit. Counters only grow, except those in use, `recovery_probe`,
/// `has_udp_segments`, `call_registers_offset` and `usage_wanted`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Pod, Zeroable)]
pub struct Stats {
    /// Next row never used before; may run past the end of the table.
    pub next_row: u64,
    pub next_owner: u64,
    /// Without the reserved ones. Counted up when the row is in the index, down when it is taken out.
    pub rows_in_use: u64,
    pub reserved_rows_in_use: u64,
    pub owners_in_use: u64,
    pub ports_in_use: u64,
    pub listeners_in_use: u64,
    pub pairs_in_use: u64,
    pub drops_in_use: u64,
    /// Requests for a row beyond the limit of the table, or of the share.
    pub rows_full: u64,
    pub owners_full: u64,
    /// Inserts that the index hash refused, except for "exists".
    pub index_full: u64,
    /// Sockets that got no storage.
    pub tags_refused: u64,
    /// Set by the daemon once the kernel skipped a run: recovery probes are attached.
    pub recovery_probe: u64,
    /// Calls counted by a recovery probe.
    pub recovered_calls: u64,
    /// Calls that a kprobe had no room to remember.
    pub calls_lost: u64,
    /// Shadows of tags that were evicted.
    pub shadows_lost: u64,
    /// Bound ports and listeners that found no room in the table, or in their share.
    pub ports_full: u64,
    /// Events that found no room in the ring.
    pub events_lost: u64,
    /// Associations that found no room.
    pub associations_full: u64,
    /// Processes to trace that found no room.
    pub traced_full: u64,
    /// Socket calls of traced 32-bit programs, which are not reported.
    pub calls_32bit: u64,
    /// From the start of a task's stack to its system call registers, 0 if unknown.
    pub call_registers_offset: u64,
    /// Counters of retired rows, here because they outlive a daemon that crashes, by [`crate::Family`] and
    /// [`crate::Direction`].
    pub exited: [[Flow; 2]; 2],
    /// The same for overflow rows, also in `exited`.
    pub overflow_given_back: [Flow; 2],
    /// The same for drops, and events by number.
    pub drops_given_back: DropCount,
    pub events_given_back: [u64; 3],
    /// Log records that found no room in the ring.
    pub log_lost: u64,
    /// Processes whose record found no room in the ring.
    pub processes_lost: u64,
    /// Set once a program here had datagrams segmented.
    pub has_udp_segments: u64,
    /// Forwarded packets of pairs that found no room in the table, or in their share.
    pub forwarded_full: u64,
    /// Socket operations of traced programs by io_uring, which are not reported.
    pub calls_by_io_uring: u64,
    /// Set by the daemon while it reads what processes used.
    pub usage_wanted: u64,
    /// Processes that ended, and found no room in the ring of usage.
    pub usage_lost: u64,
}
