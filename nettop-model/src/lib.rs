//! The documents that nettopd publishes, and how they are filtered and sorted. Additive within a major version: unknown is
//! null, counts are integers, times are UTC.

#![forbid(unsafe_code)]

mod amounts;
mod changes;
pub mod check;
pub mod connections;
pub mod drops;
mod drops_document;
mod filter;
pub mod history;
pub mod packets;
pub mod snapshot;
pub mod sockets;
mod sort;
pub mod status;
pub mod stream;
pub mod trace;

#[cfg(test)]
mod schemas;

use std::borrow::Cow;

pub use changes::Known;
pub use drops_document::DropsDocument;
pub use filter::{Filter, select};
pub use snapshot::Snapshot;
pub use sort::{Sort, sort};

/// One of the few words that a member may be.
pub type Word = Cow<'static, str>;
