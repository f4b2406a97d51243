//! Boots that are over.

use rusqlite::OptionalExtension as _;

use super::Reader;
use crate::{gaps::ceil_s, plan::Resolution};

/// A boot that is over.
#[derive(Clone, Debug)]
pub struct Boot {
    /// Its id in the file.
    pub id: i64,
    pub boot_id: String,
    pub kernel: String,
    /// End of the last slot that was recorded.
    pub last: i64,
    /// Whether nettopd ended on request.
    pub is_clean: bool,
}

impl Reader {
    /// The last recorded boot before `current`. Boots are ordered as they were recorded, not by time: a machine without a
    /// clock of its own starts before the time when it went down.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn last_boot(&self, current: &str) -> anyhow::Result<Option<Boot>> {
        let query = "SELECT b.id, b.boot_id, b.kernel, s.recorded_ms,
                 (SELECT ended IS NOT NULL FROM session WHERE boot = b.id ORDER BY id DESC LIMIT 1)
             FROM session s JOIN boot b ON b.id = s.boot
             WHERE b.boot_id <> ?1 AND s.recorded_ms IS NOT NULL ORDER BY b.id DESC, s.id DESC LIMIT 1";
        let found = self.connection.query_row(query, [current], |row| {
            Ok(Boot {
                id: row.get(0)?,
                boot_id: row.get(1)?,
                kernel: row.get(2)?,
                last: Resolution::Slot.ceil(ceil_s(row.get(3)?)),
                is_clean: row.get(4)?,
            })
        });
        Ok(found.optional()?)
    }
}
