//! What the file may take.

use std::fmt::{Display, Formatter};

use crate::plan::Resolution;

/// How long rows are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Days, by [`Resolution`].
    pub days: [u32; 3],
}

impl Default for Keep {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// As `2,14,400`.
impl Display for Keep {
    fn fmt(&self, to: &mut Formatter<'_>) -> std::fmt::Result {
        let [fine, medium, coarse] = self.days;
        write!(to, "{fine},{medium},{coarse}")
    }
}

impl Keep {
    pub const DEFAULT: Self = Self { days: [2, 14, 400] };

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

impl Limits {
    pub const DEFAULT_SIZE_MB: u32 = 512;
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        let size_bytes = u64::from(Self::DEFAULT_SIZE_MB) * MIB;
        Self { keep: Keep::DEFAULT, size_bytes, wal_bytes: 64 * MIB, free_bytes: 256 * MIB }
    }
}
