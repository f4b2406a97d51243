//! From readings to documents: names beside numbers, and the balance of devices.

mod arrivals;
mod balance;
mod collect;
mod drops;
mod forwarded;
pub mod sampler;
pub mod sockets;
pub mod usage;

pub use collect::View;
