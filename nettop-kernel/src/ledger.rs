//! Reads the kernel's counters and gives back what ended: counters only grow, differences are taken here.

mod flows;
mod forwarded;
mod reader;
mod retire;
mod sparse;

pub use flows::{Flows, accumulate};
pub use forwarded::PairReading;
pub use reader::{DeviceReading, Ledger, OwnerReading, Reading, RowReading, SuperPackets};

use nettop_common::Netns;

/// Without packets and running processes for so long, a namespace that cannot be entered counts as gone.
const QUIET_NAMESPACE_S: u32 = 600;

/// Namespace and interface index: an index alone is ambiguous.
pub type DeviceKey = (Netns, u32);

/// Whether a device, or a whole namespace, is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    Present,
    Gone,
    /// Its namespace cannot be entered, or was not looked up yet.
    Unknown,
}
