//! Of what processes used in a minute or an hour, the leaders are kept, as they are of a slot: else a minute had all that led
//! in any of its slots.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row, params_from_iter};

use crate::{
    measures::USAGE,
    names::{Crowd, Names},
    plan::Resolution,
    slot::{OTHER, Who},
    usage::{MOST_ROWS, Usage, keep_recorded},
};

/// Who has a row in a bucket, by number.
struct Process {
    number: i64,
    crowd: Crowd,
    parent: Option<i64>,
    is_others: bool,
}

/// Keeps the leaders of a bucket. What is of an earlier boot stays: `names` has no numbers for it.
///
/// # Errors
///
/// If SQLite refuses, as with a full disk or a damaged file. The caller is to act as for [`super::roll_up_ended`].
pub fn keep(connection: &Connection, names: &mut Names, resolution: Resolution, bucket: i64) -> rusqlite::Result<()> {
    let table = USAGE.table(resolution);
    let query = format!(
        "SELECT p.id, p.program, p.uid, p.device, p.parent, p.pid = 0 AND p.uid IS NULL AND g.comm = '{OTHER}', {}
         FROM {table} u JOIN process p ON p.id = u.process JOIN program g ON g.id = p.program
         WHERE ts = ?1 AND p.boot = ?2 ORDER BY p.id",
        Usage::columns()
    );
    let of_this_boot = [bucket, names.boot()];
    let rows = connection.prepare_cached(&query)?.query_map(of_this_boot, read)?.collect::<Result<Vec<_>, _>>()?;
    if rows.len() <= MOST_ROWS {
        return Ok(());
    }
    let (others, rows): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(process, _)| process.is_others);
    let recorded = keep_recorded(rows, |process| (process.crowd, process.parent));
    // In the order of the key.
    let mut kept: BTreeMap<i64, Usage> = BTreeMap::new();
    let mut add = |number, usage| kept.entry(number).or_default().add(usage);
    recorded.leaders.iter().for_each(|(process, usage)| add(process.number, usage));
    for (crowd, parent, usage) in &recorded.crowds {
        add(names.crowd(connection, *crowd, parent.flatten(), bucket)?, usage);
    }
    others.iter().for_each(|(process, usage)| add(process.number, usage));
    if recorded.others != Usage::default() {
        let number = match others.first() {
            Some((process, _)) => process.number,
            None => names.process(connection, &Who::other(), bucket)?,
        };
        add(number, &recorded.others);
    }
    let delete = format!("DELETE FROM {table} WHERE ts = ?1 AND process IN (SELECT id FROM process WHERE boot = ?2)");
    connection.prepare_cached(&delete)?.execute(of_this_boot)?;
    let mut statement = connection.prepare_cached(&USAGE.insert(resolution))?;
    for (process, usage) in kept {
        statement.execute(params_from_iter([bucket, process].into_iter().chain(usage.values())))?;
    }
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<(Process, Usage)> {
    let process = Process {
        number: row.get(0)?,
        crowd: Crowd { program: row.get(1)?, uid: row.get(2)?, device: row.get(3)? },
        parent: row.get(4)?,
        is_others: row.get(5)?,
    };
    Ok((process, Usage::read(row, 6)?))
}
