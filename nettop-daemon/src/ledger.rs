//! Reads the kernel's books and hands back what ended: counters only grow there, differences are taken here.

mod reader;
mod retire;

pub use reader::{DeviceReading, Flows, Ledger, OwnerReading, Reading, RowReading, accumulate};
