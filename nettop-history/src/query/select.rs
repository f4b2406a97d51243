//! Which processes are asked about, by number.

use nettop_model::By;
use rusqlite::{Connection, params_from_iter};

use super::Question;

/// Notes them in `wanted`, unless all are.
pub(super) fn note(connection: &Connection, question: &Question) -> rusqlite::Result<()> {
    let names = &question.names;
    if names.is_empty() {
        return Ok(());
    }
    let kinds = [
        (&names.commands, "substr(g.comm, 1, length(?)) = ?"),
        (&names.units, "g.unit IN (?, ? || '.service')"),
        (&names.containers, "(c.name = ? OR ? <> '' AND substr(g.container, 1, length(?)) = ?)"),
        // The namespace may be left out.
        (&names.pods, "(c.pod = ? OR substr(c.pod, -1 - length(?)) = '/' || ?)"),
    ];
    let (mut conditions, mut values) = (Vec::new(), Vec::new());
    for (wanted, condition) in kinds.into_iter().filter(|(wanted, _)| !wanted.is_empty()) {
        let any = wanted.iter().map(|value| {
            values.push(value);
            // Each value has a number, however often it is used.
            let number = format!("?{}", values.len());
            condition.replace('?', &number)
        });
        conditions.push(format!("({})", any.collect::<Vec<_>>().join(" OR ")));
    }
    connection.execute_batch("CREATE TEMP TABLE wanted(number INTEGER PRIMARY KEY)")?;
    let query = format!(
        "INSERT INTO wanted SELECT id FROM process WHERE program IN
         (SELECT g.id FROM program g LEFT JOIN container c ON c.id = g.container WHERE {})",
        conditions.join(" AND ")
    );
    connection.execute(&query, params_from_iter(values))?;
    Ok(())
}

/// The condition that a sample is of one of them.
pub(super) fn condition(question: &Question) -> &'static str {
    if question.names.is_empty() || question.by == By::Device {
        ""
    } else {
        "AND process IN (SELECT number FROM wanted)"
    }
}
