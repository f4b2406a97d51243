//! Sizes of tables.

use nettop_common::{owner, row};

/// Smallest ring: a page.
pub(super) const MIN_RING_BYTES: u32 = 4096;

/// Sizes of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rows of processes.
    pub rows: u32,
    /// Kinds of drops.
    pub drops: u32,
}

impl Limits {
    /// For programs that count nothing: a table has at least one entry.
    pub(super) const MIN: Self = Self { rows: 1, drops: 1 };

    pub(super) const fn row_entries(self) -> u32 {
        self.rows + row::FIRST + row::RESERVED_ROWS + row::SPARE_SLOTS
    }

    /// Owners stay a little longer than their rows, and sockets that are never used have one, too.
    pub(super) const fn owner_entries(self) -> u32 {
        self.owners() + owner::FIRST + row::SPARE_SLOTS
    }

    pub(super) const fn owners(self) -> u32 {
        self.rows + self.rows / 4
    }
}
