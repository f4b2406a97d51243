//! Shares of a table that only daemons use: none may use up what others need there either.

use std::collections::HashMap;

use nettop_common::{
    Ref,
    share::{self, UNLIMITED},
};

use crate::programs::Programs;

/// How many entries each share has.
#[derive(Default)]
pub(super) struct ShareCounts {
    entries: HashMap<u32, u32>,
    all: u64,
}

impl ShareCounts {
    pub(super) fn add(&mut self, share: u32) {
        *self.entries.entry(share).or_default() += 1;
        self.all += 1;
    }

    pub(super) fn has_room(&self, share: u32, limit: u32) -> bool {
        share::has_room(share, self.entries.get(&share).copied().unwrap_or_default(), self.all, limit.into())
    }
}

/// What a process counts against.
pub(super) fn process_share(programs: &Programs, owner: Ref) -> u32 {
    programs.owners.read(owner.slot() as usize).map_or(UNLIMITED, |entry| entry.share)
}
