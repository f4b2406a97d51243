//! Shared by the kernel side and the user side: map layouts, limits, and the list of kernel offsets.
//!
//! Every struct is `repr(C)` and derives `bytemuck::Pod`, which refuses implicit padding at compile time.

#![no_std]
#![forbid(unsafe_code)]

pub mod abi;
pub mod connection;
pub mod drops;
pub mod filter;
pub mod forwarded;
pub mod log;
pub mod offsets;
pub mod owner;
pub mod packet;
pub mod ports;
pub mod process;
pub mod row;
pub mod share;
pub mod slot;
pub mod socket;
pub mod stats;
pub mod tag;
pub mod trace;
pub mod usage;

pub use connection::{Association, AssociationKey, Connection, ConnectionEvent};
pub use drops::{DropCount, DropEntry, DropKey, ProcessDrops, ProcessDropsKey};
pub use filter::EventFilter;
pub use forwarded::{Forwarded, Pair, PairKey};
pub use owner::{Owner, OwnerKey};
pub use packet::PacketEvent;
pub use ports::{Listener, PortHolder, PortKey};
pub use process::ProcessRecord;
pub use row::{Flow, Netns, Row, RowKey, Sent, TaskNetns};
pub use share::Share;
pub use slot::Ref;
pub use socket::{SocketMeter, SocketRecord, Wire};
pub use stats::Stats;
pub use tag::SocketTag;
pub use usage::{ProcessUsage, TaskUsage, Used};

/// Direction of a packet, seen from this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Direction {
    Tx = 0,
    Rx = 1,
}

/// The IP version of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Family {
    V4 = 0,
    V6 = 1,
}
