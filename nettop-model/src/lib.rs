//! The documents that nettopd publishes, and how they are filtered and sorted. Additive within a major version: unknown is
//! null, counts are integers, times are UTC.

#![forbid(unsafe_code)]

mod amounts;
mod by;
mod changes;
pub mod check;
pub mod connections;
mod container;
pub mod drops;
mod drops_document;
mod filter;
pub mod history;
mod login;
mod names;
pub mod packets;
mod parent;
mod process_names;
mod resources;
pub mod snapshot;
pub mod sockets;
mod sort;
pub mod status;
pub mod stream;
pub mod trace;

#[cfg(test)]
mod schemas;

use std::borrow::Cow;

pub use by::{By, NONE, group, passes_on, starter};
pub use changes::Known;
pub use container::ContainerNames;
pub use drops_document::{DropsDocument, OfProcess};
pub use filter::{Filter, select, selected_resources};
pub use login::{Login, Session};
pub use names::{Named, Names};
pub use process_names::ProcessNames;
pub use resources::{Disk, Host, ProcessResources, Resources, ResourcesReport};
pub use snapshot::Snapshot;
pub use sort::{Sort, sort, sort_groups};

/// One of the few words that a member may be.
pub type Word = Cow<'static, str>;
