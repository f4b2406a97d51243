//! What the file may take.

use crate::plan::Resolution;

/// How long rows are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Days, by [`Resolution`].
    pub days: [u32; 3],
}

impl Default for Keep {
    fn default() -> Self {
        Self { days: [2, 14, 400] }
    }
}

impl Keep {
    pub(crate) const fn seconds(&self, resolution: Resolution) -> i64 {
        self.days[resolution as usize] as i64 * 86_400
    }
}

/// What the file may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub keep: Keep,
    /// Of the database; its log comes on top.
    pub size_bytes: u64,
    /// Of the log, which a reader can keep from being emptied.
    pub wal_bytes: u64,
    /// Left free on the file system; of a small one, a twentieth.
    pub free_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        Self { keep: Keep::default(), size_bytes: 512 * MIB, wal_bytes: 64 * MIB, free_bytes: 256 * MIB }
    }
}
