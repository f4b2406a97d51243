//! From readings to reports: join numbers with names, balance the devices, write each format.

mod balance;
mod collect;
pub mod csv;
mod drops;
mod dropwatch;
mod model;
mod select;
mod sink;
pub mod sockets;
mod table;

pub use balance::Balance;
pub use collect::{Collector, Filter, View, boot_id, evidence_name, host_name, kernel_release, sort};
pub use dropwatch::encode_one as drops_document;
pub use model::{Amount, Books, HookReport, Loss, RowReport, Side, Snapshot, Traffic};
#[cfg(test)]
pub use model::{Count, DropAmounts, TcpReport};
pub use select::select;
pub use sink::{Output, Sink};
