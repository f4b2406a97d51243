//! Dropped packets: where, why, and whose.

pub mod reader;
pub mod reasons;

pub use reader::{DropReading, Drops, DropsReading};
pub use reasons::{Class, Reasons};
