//! How far the tables are filled, and what has to make room.

use std::collections::HashMap;

use nettop_common::{Row, Share, Stats, owner, row};

use crate::programs::Programs;

/// How long a peer may be quiet before its row makes room, while others find some.
const COLD_S: u32 = 60;

/// How far the tables are filled.
pub(super) struct Pressure {
    stats: Stats,
    row_limit: u64,
    peer_limit: u64,
    owner_limit: u64,
    /// Rows with a peer that leave, in all and by owner.
    leaving: u64,
    leaving_of: HashMap<u32, u32>,
}

impl Pressure {
    /// Of the tables as they are.
    pub(super) fn new(programs: &Programs) -> Self {
        let beside_rows = programs.peers_limit + row::FIRST + row::RESERVED_ROWS + row::SPARE_SLOTS;
        Self {
            stats: programs.stats.read(0).unwrap_or_default(),
            row_limit: programs.rows.len() as u64 - u64::from(beside_rows),
            peer_limit: programs.peers_limit.into(),
            owner_limit: programs.owners.len() as u64 - u64::from(owner::FIRST + row::SPARE_SLOTS),
            leaving: 0,
            leaving_of: HashMap::new(),
        }
    }

    pub(super) fn on_row(&self, row: &Row, share: &Share) -> bool {
        match row.is_reserved {
            _ if row.key.peer.is_some() => is_pressed(share.peers, self.stats.peers_in_use, self.peer_limit),
            0 => is_pressed(share.rows, self.stats.rows_in_use, self.row_limit),
            _ => is_pressed(share.reserved_rows, self.stats.reserved_rows_in_use, row::RESERVED_ROWS.into()),
        }
    }

    /// Whether the row of a peer that has been quiet for so long makes room. `of_owner` are its owner's, which has as many as
    /// are free. More leave only while there is still too little.
    pub(super) fn on_peer(&mut self, owner: u32, of_owner: u32, of_share: u32, quiet_s: u32) -> bool {
        let (in_use, limit) = (self.stats.peers_in_use.saturating_sub(self.leaving), self.peer_limit);
        let free = limit.saturating_sub(in_use);
        let leaving = self.leaving_of.entry(owner).or_default();
        let of_owner = u64::from(of_owner.saturating_sub(*leaving));
        let is_cold = quiet_s >= COLD_S && (2 * of_owner >= free || is_pressed(of_share, in_use, limit));
        let leaves = is_cold || 8 * of_owner >= 7 * free;
        if leaves {
            *leaving += 1;
            self.leaving += 1;
        }
        leaves
    }

    pub(super) fn on_owner(&self, share: &Share) -> bool {
        is_pressed(share.owners, self.stats.owners_in_use, self.owner_limit)
            || is_pressed(share.rows, self.stats.rows_in_use, self.row_limit)
    }
}

/// Whether a share has more than is free: long before its limit, and not because of other shares.
pub(super) const fn is_pressed(of_share: u32, in_use: u64, limit: u64) -> bool {
    of_share as u64 > limit.saturating_sub(in_use)
}
