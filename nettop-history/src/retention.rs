//! Deletion: by age a little at a time, by size the oldest of what was kept longest.

use rusqlite::{Connection, params};

use crate::{
    limits::Keep,
    measures::{MEASURES, TICK},
    names::Names,
    plan::Resolution,
    rollup,
};

/// At most this much more time is deleted than recorded: a clock that is wrong for an hour costs ten hours, not all.
const MAX_DELETED_PER_RECORDED: i64 = 10;
/// By age nothing is deleted until the clock was right for this much measured time.
const CLOCK_TRUSTED_AFTER_MS: i64 = 3_600_000;
/// A process that was seen in this time stays.
const RECENT_PROCESS_S: i64 = 7200;

/// Deletes some of what is too old at `now` in each resolution, once for each bucket that it is rolled up into. `last`
/// is the time of the write before. Returns whether names were forgotten.
///
/// # Errors
///
/// If SQLite refuses, as with a full disk or a damaged file. The caller is to roll back.
pub fn by_age(connection: &Connection, keep: &Keep, last: i64, now: i64) -> rusqlite::Result<bool> {
    let mut has_forgotten = false;
    let mut trusted = None;
    for resolution in Resolution::ALL {
        let bucket = resolution.coarser().unwrap_or(resolution);
        if bucket.floor(last) == bucket.floor(now) {
            continue;
        }
        let Some((first, _)) = span(connection, resolution)? else { continue };
        let now = match trusted {
            Some(trusted) => trusted,
            None => *trusted.insert(now.min(trusted_since(connection)?)),
        };
        let horizon = now - keep.seconds(resolution);
        if first < horizon {
            purge(connection, resolution, horizon.min(first + MAX_DELETED_PER_RECORDED * bucket.seconds()))?;
            if resolution == Resolution::Hour {
                has_forgotten |= forget(connection, now)?;
            }
        }
    }
    Ok(has_forgotten)
}

/// The time since which an hour was measured: a clock that is far ahead for a while makes nothing old.
fn trusted_since(connection: &Connection) -> rusqlite::Result<i64> {
    let mut statement = connection.prepare_cached("SELECT ts, measured_ms FROM tick_10s ORDER BY ts DESC")?;
    let mut rows = statement.query([])?;
    let mut measured_ms = 0;
    while let Some(row) = rows.next()? {
        measured_ms += row.get::<_, i64>(1)?;
        if measured_ms >= CLOCK_TRUSTED_AFTER_MS {
            return row.get(0);
        }
    }
    Ok(0)
}

/// Makes room: deletes the oldest tenth of the resolution that uses most of its allowed time. Returns whether anything
/// was deleted.
///
/// # Errors
///
/// If SQLite refuses, as with a full disk or a damaged file. The caller is to roll back.
pub fn by_size(connection: &Connection, names: &mut Names, keep: &Keep) -> rusqlite::Result<bool> {
    let mut found = fullest(connection, keep)?;
    if found.is_none() {
        // What is left is needed for buckets that are not over: they are rolled up now, and more is added later.
        rollup::roll_up_ended(connection, names, None)?;
        found = fullest(connection, keep)?;
    }
    let Some((resolution, before)) = found else { return Ok(false) };
    purge(connection, resolution, before)?;
    forget(connection, i64::MAX)?;
    Ok(true)
}

/// What goes first, and up to when.
fn fullest(connection: &Connection, keep: &Keep) -> rusqlite::Result<Option<(Resolution, i64)>> {
    let mut fullest = None;
    let mut most = -1;
    for resolution in Resolution::ALL {
        let Some((first, last)) = span(connection, resolution)? else { continue };
        // By number, and not by time: a single row far ahead would make all others old.
        let table = TICK.table(resolution);
        let number: i64 = connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
        let share = number * resolution.seconds() * 1_000_000 / keep.seconds(resolution).max(1);
        let tenth: i64 = connection.query_row(
            &format!("SELECT ts FROM {table} ORDER BY ts LIMIT 1 OFFSET ?1"),
            [(number / 10).max(1).min(number - 1)],
            |row| row.get(0),
        )?;
        // At least one bucket of the coarser resolution.
        let least = resolution.coarser().unwrap_or(resolution).seconds();
        let before = reach(connection, resolution, tenth.max(first + least))?;
        // A single bucket stays.
        if share > most && before > first && first < last {
            (most, fullest) = (share, Some((resolution, before)));
        }
    }
    Ok(fullest)
}

/// First and last bucket.
fn span(connection: &Connection, resolution: Resolution) -> rusqlite::Result<Option<(i64, i64)>> {
    let table = TICK.table(resolution);
    let query = format!("SELECT (SELECT min(ts) FROM {table}), (SELECT max(ts) FROM {table})");
    let (first, last): (Option<i64>, Option<i64>) =
        connection.prepare_cached(&query)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(first.zip(last))
}

/// How far before `before` may be deleted.
fn reach(connection: &Connection, resolution: Resolution, before: i64) -> rusqlite::Result<i64> {
    // A bucket that is not rolled up yet is needed whole.
    let open: Option<i64> = match resolution.coarser() {
        Some(coarser) => connection
            .prepare_cached("SELECT min(ts) FROM open_bucket WHERE seconds = ?1")?
            .query_row([coarser.seconds()], |row| row.get(0))?,
        None => None,
    };
    // Finer rows go first: what they are rolled up into has to be there.
    let finer = Resolution::ALL.into_iter().filter(|finer| *finer < resolution);
    let finer = finer.map(|finer| span(connection, finer)).collect::<rusqlite::Result<Vec<_>>>()?;
    let before = finer.into_iter().flatten().map(|(first, _)| first).chain(open).fold(before, i64::min);
    Ok(resolution.coarser().unwrap_or(resolution).floor(before))
}

/// Deletes what is older than `before`, or less.
fn purge(connection: &Connection, resolution: Resolution, before: i64) -> rusqlite::Result<()> {
    let before = reach(connection, resolution, before)?;
    for measure in MEASURES {
        let table = measure.table(resolution);
        connection.prepare_cached(&format!("DELETE FROM {table} WHERE ts < ?1"))?.execute([before])?;
    }
    if resolution == Resolution::Hour {
        connection.prepare_cached("DELETE FROM loss WHERE ts < ?1")?.execute([before])?;
        connection.prepare_cached("DELETE FROM gap WHERE to_ms <= ?1 * 1000")?.execute([before])?;
    }
    // No finer rows are left there. What comes there after the clock was set back must not wait for its bucket.
    for gone in Resolution::ALL.into_iter().filter(|gone| *gone <= resolution) {
        connection
            .prepare_cached(
                "INSERT INTO purged VALUES(?1, ?2) ON CONFLICT(seconds) DO UPDATE SET before = max(before, excluded.before)",
            )?
            .execute(params![gone.seconds(), before])?;
    }
    Ok(())
}

/// Forgets names without rows. Without foreign keys: for each deleted row, SQLite would search all that might refer to it.
fn forget(connection: &Connection, now: i64) -> rusqlite::Result<bool> {
    let mut oldest = now.saturating_sub(RECENT_PROCESS_S);
    for resolution in Resolution::ALL {
        oldest = oldest.min(span(connection, resolution)?.map_or(i64::MAX, |(first, _)| first));
    }
    // `last` is raised when an hour is over: until then, the hour's rows count.
    let query = "DELETE FROM process WHERE last < ?1 AND id NOT IN
         (WITH open(ts) AS (SELECT min(ts) FROM open_bucket)
          SELECT process FROM sample_10s, open WHERE sample_10s.ts >= open.ts
          UNION SELECT process FROM sample_1m, open WHERE sample_1m.ts >= open.ts
          UNION SELECT process FROM drop_10s, open WHERE drop_10s.ts >= open.ts
          UNION SELECT process FROM drop_1m, open WHERE drop_1m.ts >= open.ts
          UNION SELECT process FROM usage_10s, open WHERE usage_10s.ts >= open.ts
          UNION SELECT process FROM usage_1m, open WHERE usage_1m.ts >= open.ts)";
    let mut forgotten = connection.prepare_cached(query)?.execute([oldest])?;
    if forgotten > 0 {
        forgotten +=
            connection.prepare_cached("DELETE FROM login WHERE process NOT IN (SELECT id FROM process)")?.execute([])?;
        forgotten += connection
            .prepare_cached("DELETE FROM program WHERE id NOT IN (SELECT program FROM process)")?
            .execute([])?;
        forgotten += connection
            .prepare_cached(
                "DELETE FROM container WHERE id NOT IN (SELECT container FROM program WHERE container IS NOT NULL)",
            )?
            .execute([])?;
        forgotten += connection
            .prepare_cached(
                "DELETE FROM ancestor WHERE id NOT IN
                 (WITH RECURSIVE used(id) AS (SELECT parent FROM process WHERE parent IS NOT NULL
                      UNION SELECT a.parent FROM used JOIN ancestor a ON a.id = used.id WHERE a.parent IS NOT NULL)
                  SELECT id FROM used)",
            )?
            .execute([])?;
        forgotten += connection
            .prepare_cached(
                "DELETE FROM drop_kind WHERE id NOT IN
                 (SELECT kind FROM drop_10s UNION SELECT kind FROM drop_1m UNION SELECT kind FROM drop_1h)",
            )?
            .execute([])?;
    }
    forgotten += connection
        .prepare_cached(
            "DELETE FROM device WHERE id NOT IN (SELECT device FROM process UNION SELECT device FROM device_10s
                 UNION SELECT device FROM device_1m UNION SELECT device FROM device_1h)",
        )?
        .execute([])?;
    // The last session is this one. Others recorded their own end: clocks of other boots may have been wrong.
    connection
        .prepare_cached(
            "DELETE FROM session WHERE id < (SELECT max(id) FROM session) AND coalesce(recorded_ms / 1000, started) < ?1",
        )?
        .execute([oldest])?;
    connection
        .prepare_cached(
            "DELETE FROM boot WHERE id NOT IN
             (SELECT boot FROM session UNION SELECT boot FROM process UNION SELECT boot FROM device)",
        )?
        .execute([])?;
    Ok(forgotten > 0)
}
