//! What goes when: by age a little at a time, by size the oldest of what was kept longest.

use rusqlite::{Connection, params};

use crate::{
    plan::Resolution,
    rollup::{self, MEASURES},
    store::Keep,
};

/// The most that one call deletes, in buckets: a clock that is wrong for a minute does not cost a year.
const CHUNK: i64 = 360;
/// A process that was seen in this time stays.
const RECENT_S: i64 = 7200;

/// Deletes a chunk of what is too old at `now`, of each resolution. Says whether names were forgotten.
pub fn by_age(connection: &Connection, keep: &Keep, now: i64) -> rusqlite::Result<bool> {
    let mut has_forgotten = false;
    for resolution in Resolution::ALL {
        let Some((first, _)) = span(connection, resolution)? else { continue };
        let horizon = now - keep.seconds(resolution);
        if first < horizon {
            purge(connection, resolution, horizon.min(first + CHUNK * resolution.seconds()))?;
            if resolution == Resolution::Hour {
                has_forgotten |= forget(connection, now)?;
            }
        }
    }
    Ok(has_forgotten)
}

/// Makes room: deletes the oldest tenth of the resolution that has most of the time it may be kept. Says whether there
/// was anything to delete.
pub fn by_size(connection: &Connection, keep: &Keep) -> rusqlite::Result<bool> {
    let mut found = fullest(connection, keep)?;
    if found.is_none() {
        // What is left is needed for buckets that are not over: they are rolled up now, and more is added later.
        rollup::close(connection, None)?;
        found = fullest(connection, keep)?;
    }
    let Some((resolution, before)) = found else { return Ok(false) };
    purge(connection, resolution, before)?;
    if resolution == Resolution::Hour {
        forget(connection, i64::MAX)?;
    }
    Ok(true)
}

/// What goes first, and up to when.
fn fullest(connection: &Connection, keep: &Keep) -> rusqlite::Result<Option<(Resolution, i64)>> {
    let mut fullest = None;
    let mut most = -1;
    for resolution in Resolution::ALL {
        let Some((first, last)) = span(connection, resolution)? else { continue };
        let length = last - first + resolution.seconds();
        let share = length * 1_000_000 / keep.seconds(resolution).max(1);
        // At least one bucket of what it was rolled up into.
        let least = resolution.coarser().unwrap_or(resolution).seconds();
        let before = reach(connection, resolution, first + (length / 10).max(least))?;
        // A single bucket stays.
        if share > most && before > first && first < last {
            (most, fullest) = (share, Some((resolution, before)));
        }
    }
    Ok(fullest)
}

/// First and last bucket.
fn span(connection: &Connection, resolution: Resolution) -> rusqlite::Result<Option<(i64, i64)>> {
    let table = rollup::TICK.table(resolution);
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
    }
    connection
        .prepare_cached(
            "INSERT INTO purged VALUES(?1, ?2) ON CONFLICT(seconds) DO UPDATE SET before = max(before, excluded.before)",
        )?
        .execute(params![resolution.seconds(), before])?;
    Ok(())
}

/// Forgets processes of which nothing is left.
fn forget(connection: &Connection, now: i64) -> rusqlite::Result<bool> {
    let mut oldest = now - RECENT_S;
    for resolution in Resolution::ALL {
        oldest = oldest.min(span(connection, resolution)?.map_or(i64::MIN, |(first, _)| first));
    }
    Ok(connection.prepare_cached("DELETE FROM process WHERE last < ?1")?.execute([oldest])? > 0)
}
