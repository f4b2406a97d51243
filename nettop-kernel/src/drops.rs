//! Dropped packets: where, why, and whose; and TCP's loss events.

mod listeners;
mod reader;
mod reading;
mod reasons;
mod share_counts;

use std::collections::HashMap;

pub use listeners::{ListenerReading, Listeners};
pub use reader::Drops;
pub use reading::{DropReading, DropsReading, What};
pub use reasons::{Class, Reasons};

/// Gives back the memory that a crowd took which is gone.
fn shrink<K: Eq + std::hash::Hash, V>(map: &mut HashMap<K, V>) {
    /// Room that is always kept.
    const MAX_KEPT_ENTRIES: usize = 1024;
    if map.capacity() > MAX_KEPT_ENTRIES.max(4 * map.len()) {
        map.shrink_to(2 * map.len());
    }
}
