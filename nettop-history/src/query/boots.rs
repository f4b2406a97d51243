//! Boots that are over.

use super::Reader;
use crate::plan::Resolution;

/// A boot that is over.
#[derive(Clone, Debug)]
pub struct Boot {
    pub boot_id: String,
    pub kernel: String,
    /// End of the last slot that was recorded.
    pub last: i64,
    /// Whether nettopd was told to end.
    pub is_clean: bool,
}
impl Reader {
    /// The last boot before `current` that was recorded.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn last_boot(&self, current: &str) -> anyhow::Result<Option<Boot>> {
        let query = "SELECT id, boot_id, kernel FROM boot WHERE boot_id <> ?1 ORDER BY id DESC LIMIT 1";
        let found = self
            .connection
            .prepare(query)?
            .query_map([current], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?)))?
            .next()
            .transpose()?;
        let Some((id, boot_id, kernel)) = found else { return Ok(None) };
        let next: Option<i64> =
            self.connection.query_row("SELECT min(first_seen) FROM boot WHERE id > ?1", [id], |row| row.get(0))?;
        let is_clean: bool = self.connection.query_row(
            "SELECT coalesce((SELECT ended IS NOT NULL FROM session WHERE boot = ?1 ORDER BY id DESC LIMIT 1), 0)",
            [id],
            |row| row.get(0),
        )?;
        for resolution in Resolution::ALL {
            let query = format!("SELECT max(ts) FROM tick_{} WHERE ts < ?1", resolution.suffix());
            let last: Option<i64> = self.connection.query_row(&query, [next.unwrap_or(i64::MAX)], |row| row.get(0))?;
            if let Some(last) = last {
                return Ok(Some(Boot { boot_id, kernel, last: last + resolution.seconds(), is_clean }));
            }
        }
        Ok(None)
    }
}
