//! The local API: HTTP/1.1 and JSON on a Unix socket, read-only, for root and a group.
//!
//! It has a thread of its own. Whoever measures leaves snapshots in a `watch` channel and never waits for a client.

mod answers;
mod pace;
mod params;
mod peer;
mod routes;
mod seats;
mod server;
mod socket;
mod status;
#[cfg(test)]
mod tests;

pub use server::{Server, Sources};
pub use socket::{DEFAULT, Socket};
pub use status::Status;
