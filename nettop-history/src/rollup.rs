//! Coarser resolutions: a bucket is rebuilt from the finer one once it has ended, so doing it twice changes nothing.

mod leaders;

use rusqlite::{Connection, params};

use crate::{
    measures::MEASURES,
    names::Names,
    plan::{HOUR_S, Resolution},
};

/// Notes that the minute of a slot has to be rolled up.
///
/// # Errors
///
/// If SQLite refuses, as with a full disk or a damaged file. The caller is to roll back.
pub fn mark_dirty(connection: &Connection, resolution: Resolution, ts: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO open_bucket VALUES(?1, ?2)")?
        .execute(params![resolution.seconds(), resolution.floor(ts)])?;
    Ok(())
}

/// Rolls up every bucket but those that `now` is in; without `now`, all. Rows for a time whose finer rows are gone
/// already do not wait.
///
/// # Errors
///
/// If SQLite refuses, as with a full disk or a damaged file. The caller is to roll back, and to read `names` again:
/// some may have numbers that the file lacks.
pub fn roll_up_ended(connection: &Connection, names: &mut Names, now: Option<i64>) -> rusqlite::Result<()> {
    for (finer, coarser) in [(Resolution::Slot, Resolution::Minute), (Resolution::Minute, Resolution::Hour)] {
        let current = now.map_or(i64::MIN, |now| coarser.floor(now));
        let ended: Vec<i64> = connection
            .prepare_cached("SELECT ts FROM open_bucket WHERE seconds = ?1 AND (ts <> ?2 OR ts < ?3)")?
            .query_map(params![coarser.seconds(), current, purged(connection, finer)?], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for bucket in ended {
            roll(connection, finer, coarser, bucket)?;
            leaders::keep(connection, names, coarser, bucket)?;
            connection
                .prepare_cached("DELETE FROM open_bucket WHERE seconds = ?1 AND ts = ?2")?
                .execute(params![coarser.seconds(), bucket])?;
            match coarser {
                Resolution::Minute => mark_dirty(connection, Resolution::Hour, bucket)?,
                _ => touch(connection, bucket)?,
            }
        }
    }
    Ok(())
}

fn roll(connection: &Connection, finer: Resolution, coarser: Resolution, bucket: i64) -> rusqlite::Result<()> {
    let purged = purged(connection, finer)?;
    let span = params![bucket, bucket + coarser.seconds()];
    for measure in MEASURES {
        // If the clock was set far back, part of the bucket's rows is gone. Then the rows that are there are added, and
        // deleted at once: added once.
        let is_whole = bucket >= purged;
        if is_whole {
            let table = measure.table(coarser);
            connection.prepare_cached(&format!("DELETE FROM {table} WHERE ts = ?1"))?.execute([bucket])?;
        }
        connection.prepare_cached(&measure.roll(finer, coarser))?.execute(span)?;
        if !is_whole {
            let table = measure.table(finer);
            connection.prepare_cached(&format!("DELETE FROM {table} WHERE ts >= ?1 AND ts < ?2"))?.execute(span)?;
        }
    }
    Ok(())
}

/// Before this, rows are gone.
fn purged(connection: &Connection, resolution: Resolution) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("SELECT coalesce(max(before), ?2) FROM purged WHERE seconds = ?1")?
        .query_row(params![resolution.seconds(), i64::MIN], |row| row.get(0))
}

/// Notes when processes were seen last, so that they can be forgotten one day. Who leads in a slot may not lead in the hour.
fn touch(connection: &Connection, hour: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE process SET last = ?1 WHERE last < ?1 AND id IN
             (SELECT process FROM sample_1h WHERE ts = ?1 UNION SELECT process FROM drop_1h WHERE ts = ?1
              UNION SELECT process FROM usage_1h WHERE ts = ?1
              UNION SELECT process FROM usage_1m WHERE ts >= ?1 AND ts < ?2
              UNION SELECT process FROM usage_10s WHERE ts >= ?1 AND ts < ?2)",
        )?
        .execute([hour, hour + HOUR_S])?;
    Ok(())
}
