//! What was not measured: noted when what comes after it is written, and exact at every resolution.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::{
    plan::Resolution,
    slot::{SLOT_S, Slot},
};

/// Notes what slots cover, and what lies between them and what was written before: by this session or another, in the order
/// in which it was written. The clock may have been set in between.
pub fn note(connection: &Connection, session: i64, slots: &[Slot]) -> rusqlite::Result<()> {
    let mut recorded: Option<i64> = connection
        .prepare_cached("SELECT recorded_ms FROM session WHERE recorded_ms IS NOT NULL ORDER BY id DESC LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    for slot in slots {
        cover(connection, slot.begin_ms, slot.end_ms)?;
        let from = match recorded {
            Some(recorded) => covered_until(connection, recorded, slot.begin_ms)?,
            // Of the first hour, it may be that nothing but the sum is kept one day.
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

/// Where what was written before `before_ms` ends: at `recorded_ms`, unless the clock was set back since something later was
/// written.
pub fn covered_until(connection: &Connection, recorded_ms: i64, before_ms: i64) -> rusqlite::Result<i64> {
    let later: Option<i64> = connection
        .prepare_cached("SELECT max(ts) FROM tick_10s WHERE ts >= ?1 AND ts <= ?2")?
        .query_row([ceil_s(recorded_ms), before_ms.div_euclid(1000) - SLOT_S], |row| row.get(0))?;
    Ok(later.map_or(recorded_ms, |ts| (ts + SLOT_S) * 1000))
}

/// The whole second in which or after which it is.
pub const fn ceil_s(ms: i64) -> i64 {
    -(-ms).div_euclid(1000)
}

/// Takes what was measured out of what was not.
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
