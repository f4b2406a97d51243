//! What scenarios are made of: namespaces, processes that know what they moved, a sniffer, and nettopd itself.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a scenario that cannot be set up has failed")]

mod namespace;
mod nettopd;
mod process;
mod sniffer;

/// Version of the running kernel. Only for what a kernel is known to lack; nettopd itself never asks.
pub fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

pub use namespace::{Counters, Namespace, join, veth_pair};
pub use nettopd::{Nettopd, Row, app, assert_app, device, owner_row, rows_of, run_nettopd, wire};
pub use process::{Moved, Parent, Process, set_name};
pub use sniffer::{Frames, Sniffer};
