//! Packets that the kernel freed as dropped, added up by what is known of them; and TCP's reactions to losses.

use bytemuck::{Pod, Zeroable};

use crate::{Netns, Ref};

/// How a dropped packet's owner was found.
pub mod attribution {
    /// Not at all.
    pub const NONE: u32 = 0;
    /// The kernel named the receiving socket (`rx_sk`, 6.11).
    pub const RECEIVER: u32 = 1;
    /// The packet had its socket: its sender's, or the receiver's from routing's lookup.
    pub const PACKET: u32 = 2;
    /// Its destination is a local address and port that a process had bound, see [`crate::ports`].
    pub const ADDRESS: u32 = 3;
}

/// In place of a reason for events that are no drops.
pub mod event {
    /// No kernel subsystem has this number.
    const OURS: u32 = 0xffff_0000;
    /// A retransmitted segment.
    pub const RETRANSMIT: u32 = OURS + 1;
    pub const RESET_SENT: u32 = OURS + 2;
    pub const RESET_RECEIVED: u32 = OURS + 3;

    #[must_use]
    #[inline(always)]
    pub const fn is_event(reason: u32) -> bool {
        reason >= OURS
    }
}

/// Functions that drop without a reason what was sent and has not reached its device. Names are without the underscores
/// that some kernels begin them with.
pub mod unsent {
    /// Queues, when they are emptied: what has waited too long (before 6.14; net/sched).
    pub const QUEUES: [&str; 6] =
        ["codel_qdisc_dequeue", "codel_dequeue", "drop_func", "fq_codel_dequeue", "cake_dequeue", "netem_dequeue"];
    /// What waits in a queue that is replaced, or whose device is switched off; on the way to the queue and from it.
    pub const OTHERS: [&str; 5] =
        ["qdisc_reset", "pfifo_fast_reset", "rtnl_unlock", "validate_xmit_skb", "dev_queue_xmit"];

    /// How the names of all of them begin, each as a number that one comparison checks.
    pub const PREFIXES: [u64; QUEUES.len() + OTHERS.len()] = {
        let mut prefixes = [0; QUEUES.len() + OTHERS.len()];
        let mut number = 0;
        while number < prefixes.len() {
            let name = if number < QUEUES.len() { QUEUES[number] } else { OTHERS[number - QUEUES.len()] };
            prefixes[number] = match name.as_bytes().first_chunk() {
                Some(first) => u64::from_le_bytes(*first),
                None => panic!("too short a name"),
            };
            number += 1;
        }
        prefixes
    };
}

/// Key of the table of drops.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Pod, Zeroable)]
pub struct DropKey {
    /// Return address of the call that freed the packet, 0 for events.
    pub location: u64,
    pub owner: Ref,
    /// Zero if neither a socket nor a device is known.
    pub netns: Netns,
    /// From `enum skb_drop_reason`, as the running kernel numbers it; the upper half is a subsystem. Or an [`event`].
    pub reason: u32,
    /// 0 if unknown.
    pub ifindex: u32,
    /// See [`attribution`].
    pub attribution: u32,
    /// As in the Ethernet header, 0 for packets of no network.
    pub protocol: u16,
    /// As in the IP header, 0 for others.
    pub transport: u16,
}

/// Key of what the table of drops gave back of a running process, on one device. The daemon writes it, for the next one.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Pod, Zeroable)]
pub struct ProcessDropsKey {
    pub owner: Ref,
    pub netns: Netns,
    pub ifindex: u32,
    pub padding: u32,
}

/// Packets.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Pod, Zeroable)]
pub struct ProcessDrops {
    /// Without those of class lifecycle.
    pub drops: u64,
    pub retransmits: u64,
}

/// One CPU's part of a drop's count.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Pod, Zeroable)]
pub struct DropCount {
    pub packets: u64,
    pub bytes: u64,
}

/// One CPU's part of an entry of the table of drops.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Pod, Zeroable)]
pub struct DropEntry {
    pub count: DropCount,
    /// Index in [`crate::share`] of what the entry counts against. 0 but on the CPU that made it.
    pub share: u32,
    pub padding: u32,
}
