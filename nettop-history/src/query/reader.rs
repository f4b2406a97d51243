//! The file, opened to be read, and what it has.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rusqlite::{Connection, OpenFlags};

use crate::{
    plan::{Kept, Resolution},
    schema,
};

/// The file, opened to be read.
pub struct Reader {
    pub(super) connection: Connection,
}

impl Reader {
    /// Opens the file; needs no right but to read it.
    ///
    /// # Errors
    ///
    /// If it is not there, not a history, or of a later version.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        fs::File::open(path).with_context(|| format!("cannot read the history {shown}"))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let cannot = || format!("cannot read the history {shown}");
        let connection = Connection::open_with_flags(path, flags).with_context(cannot)?;
        connection.busy_timeout(Duration::from_secs(2))?;
        let id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0)).with_context(cannot)?;
        let version = schema::version(&connection).with_context(cannot)?;
        if id != schema::APPLICATION_ID {
            bail!("{shown} is not a history of nettopd's");
        }
        if !(schema::OLDEST..=schema::VERSION).contains(&version) {
            bail!("{shown} has schema {version}, this nettopd reads {} to {}", schema::OLDEST, schema::VERSION);
        }
        schema::complete(&connection, version).with_context(cannot)?;
        Ok(Self { connection })
    }

    /// Ends every question that is not answered by then: "interrupted" is the error.
    ///
    /// # Errors
    ///
    /// If SQLite lacks memory for a progress handler.
    pub fn answer_before(&mut self, deadline: Instant) -> anyhow::Result<()> {
        // Asked some thousand times a second.
        const STEPS_PER_LOOK: i32 = 10_000;
        self.connection.progress_handler(STEPS_PER_LOOK, Some(move || Instant::now() > deadline))?;
        Ok(())
    }

    pub(super) fn kept(&self) -> rusqlite::Result<Kept> {
        let mut kept = Kept { from: [0; 3], to: [i64::MAX; 3] };
        for resolution in Resolution::ALL {
            let (index, tick) = (resolution as usize, format!("tick_{}", resolution.suffix()));
            let query = format!(
                "SELECT coalesce((SELECT before FROM purged WHERE seconds = ?1), 0), coalesce((SELECT max(ts) FROM {tick}) + ?1, {}),
                     (SELECT min(ts) FROM open_bucket WHERE seconds = ?1)",
                // If all were deleted, the open bucket is the end.
                i64::MAX
            );
            let (from, end, open): (i64, i64, Option<i64>) =
                self.connection
                    .query_row(&query, [resolution.seconds()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            kept.from[index] = from;
            if resolution != Resolution::Slot {
                // Open in a finer one means open here.
                let below = if index == 2 { kept.to[1] } else { i64::MAX };
                kept.to[index] = resolution.floor(end.min(open.unwrap_or(i64::MAX)).min(below));
            }
        }
        Ok(kept)
    }
}
