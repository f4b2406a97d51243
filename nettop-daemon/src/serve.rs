//! The local API: HTTP/1.1 and JSON on a Unix socket, read-only, for root and a group.
//!
//! It has a thread of its own. The sampler leaves snapshots in a `watch` channel and never waits for a client.

mod answers;
mod clients;
mod draft;
mod follow;
mod params;
mod peer;
mod routes;
mod server;
mod shared;
mod slow_reader;
mod socket;
#[cfg(test)]
mod tests;

pub use answers::Latest;
pub use server::Server;
pub use shared::Sources;
pub use socket::Socket;
