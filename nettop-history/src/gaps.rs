//! What was not measured: noted when the next slot is written, and exact at every resolution.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::{
    plan::Resolution,
    slot::{SLOT_S, Slot},
};

/// Notes what slots cover, and the gap to what was written before, by this session or another. The order is that of
/// writing: the clock may have been set in between.
///
/// # Errors
///
/// If SQLite refuses, as with a full disk or a damaged file. The caller is to roll back.
pub fn note(connection: &Connection, session: i64, slots: &[Slot]) -> rusqlite::Result<()> {
    let mut recorded: Option<i64> = connection
        .prepare_cached("SELECT recorded_ms FROM session WHERE recorded_ms IS NOT NULL ORDER BY id DESC LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    for slot in slots {
        cover(connection, slot.begin_ms, slot.end_ms)?;
        let from = match recorded {
            Some(recorded) => covered_until(connection, recorded, slot.begin_ms)?,
            // One day, only the sum of the first hour may be left.
            None => Resolution::Hour.floor(slot.begin_ms.div_euclid(1000)) * 1000,
        };
        if from < slot.begin_ms {
            insert(connection, from, slot.begin_ms)?;
        }
        recorded = Some(slot.end_ms);
    }
    connection
        .prepare_cached("UPDATE session SET recorded_ms = ?1 WHERE id = ?2")?
        .execute(params![recorded, session])?;
    Ok(())
}

/// The end of what was written before `before_ms`: `recorded_ms`, unless later slots were written and the clock set
/// back.
///
/// # Errors
///
/// If SQLite cannot read the file, as when it is damaged.
pub fn covered_until(connection: &Connection, recorded_ms: i64, before_ms: i64) -> rusqlite::Result<i64> {
    let later: Option<i64> = connection
        .prepare_cached("SELECT max(ts) FROM tick_10s WHERE ts >= ?1 AND ts <= ?2")?
        .query_row([ceil_s(recorded_ms), before_ms.div_euclid(1000) - SLOT_S], |row| row.get(0))?;
    Ok(later.map_or(recorded_ms, |ts| (ts + SLOT_S) * 1000))
}

/// Rounded up to a whole second.
pub const fn ceil_s(ms: i64) -> i64 {
    -(-ms).div_euclid(1000)
}

/// Removes what was measured from the gaps.
fn cover(connection: &Connection, begin_ms: i64, end_ms: i64) -> rusqlite::Result<()> {
    let touched: Vec<(i64, i64)> = connection
        .prepare_cached("SELECT from_ms, to_ms FROM gap WHERE from_ms < ?2 AND to_ms > ?1")?
        .query_map([begin_ms, end_ms], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (from, to) in touched {
        connection.prepare_cached("DELETE FROM gap WHERE from_ms = ?1 AND to_ms = ?2")?.execute([from, to])?;
        for (from, to) in [(from, begin_ms), (end_ms, to)].into_iter().filter(|(from, to)| from < to) {
            insert(connection, from, to)?;
        }
    }
    Ok(())
}

fn insert(connection: &Connection, from_ms: i64, to_ms: i64) -> rusqlite::Result<()> {
    connection.prepare_cached("INSERT OR IGNORE INTO gap VALUES(?1, ?2)")?.execute([from_ms, to_ms])?;
    Ok(())
}
