//! What scenarios are made of: namespaces, processes that know what they moved, a sniffer, and nettopd itself.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a scenario that cannot be set up has failed")]

mod namespace;
mod nettopd;
mod process;
mod sniffer;

pub use namespace::{Counters, Namespace, join, veth_pair};
pub use nettopd::{Nettopd, Row, app, device, owner_row, rows_of, run_nettopd, wire};
pub use process::{Moved, Parent, Process, set_name};
pub use sniffer::{Frames, Sniffer};
