//! Dropped packets: where, why, and whose; and TCP's loss events.

mod listeners;
mod reader;
mod reasons;

pub use listeners::{ListenerReading, Listeners};
pub use reader::{DropReading, Drops, DropsReading, What};
pub use reasons::{Class, Reasons};
