//! Sums by process, by what it belongs to, or by device. SQLite adds, sorts and cuts them in temporary tables: in a bounded
//! cache, beyond that in a file. Only the shown rows are held here.

use nettop_model::By;
use rusqlite::{Row, params};

use super::{
    Answer, AnswerRow, Question, Reader, Rest,
    columns::{self, ALL, NETWORK},
    names, select, selection,
};
use crate::{
    plan::Part,
    slot::{Counters, OTHER},
    usage::Usage,
};

impl Reader {
    /// Fills the answer's rows, and what is beyond them. Temporary tables end with the transaction.
    pub(super) fn sums(&self, question: &Question, answer: &mut Answer) -> rusqlite::Result<()> {
        self.connection.execute_batch(&columns::tables())?;
        select::note(&self.connection, question)?;
        for part in &answer.parts {
            self.add_moved(question, part)?;
        }
        self.group(question)?;
        self.choose(question, answer)?;
        self.describe(question, answer)?;
        self.draw(question, answer)
    }

    /// Adds up a part, by number.
    fn add_moved(&self, question: &Question, part: &Part) -> rusqlite::Result<()> {
        let (suffix, peaks) = (part.resolution.suffix(), part.resolution.peaks());
        let selection = selection(question, suffix) + select::condition(question);
        let more: &[&str] = match question.by {
            By::Device => &["tx_unattributed", "rx_unattributed", "tx_undecided", "rx_undecided"],
            _ => &["tx_app_bytes", "rx_app_bytes"],
        };
        let sums = [&["tx_bytes", "rx_bytes", "tx_packets", "rx_packets"], more].concat();
        let (columns, sums, conflict) = (sums.join(", "), sums_of(&sums), columns::add_on_conflict());
        let (table, number) = (table(question.by), numbered(question.by));
        let query = format!(
            "INSERT INTO moved(number, {columns}, tx_peak, rx_peak) SELECT {number}, {sums}, max({}), max({})
             FROM {table}_{suffix} WHERE ts >= ?1 AND ts < ?2 {selection} GROUP BY {number} {conflict}",
            peaks[0], peaks[1]
        );
        self.connection.execute(&query, params![part.from, part.to])?;
        if question.by == By::Device {
            return Ok(());
        }
        let query = format!(
            "INSERT INTO moved(number, drops, retransmits)
             SELECT s.process, coalesce(sum(s.packets) FILTER (WHERE k.class NOT IN ('tcp', 'capture')), 0),
                 coalesce(sum(s.packets) FILTER (WHERE k.class = 'tcp' AND k.reason = 'retransmit'), 0)
             FROM drop_{suffix} s JOIN drop_kind k ON k.id = s.kind WHERE ts >= ?1 AND ts < ?2 {selection} GROUP BY s.process {conflict}"
        );
        self.connection.execute(&query, params![part.from, part.to])?;
        let highest: Vec<String> = Usage::HIGHEST.iter().map(|column| format!("max({column})")).collect();
        let query = format!(
            "INSERT INTO moved(number, {}) SELECT process, {}, {} FROM usage_{suffix}
             WHERE ts >= ?1 AND ts < ?2 {selection} GROUP BY process {conflict}",
            Usage::columns(),
            sums_of(Usage::SUMS),
            highest.join(", ")
        );
        self.connection.execute(&query, params![part.from, part.to])?;
        Ok(())
    }

    /// Groups numbers as asked, into `grouped`. Sorting takes the time: few columns are sorted, or few rows.
    fn group(&self, question: &Question) -> rusqlite::Result<()> {
        let keys = keys(question.by);
        let named: Vec<String> = keys.iter().enumerate().map(|(at, key)| format!("{key} AS key{at}")).collect();
        let (named, of_boot) = (named.join(", "), of_boot(question));
        let sums = columns::aggregates();
        let by_parent = if question.by == By::Parent { ", p.parent" } else { "" };
        let query = match question.by {
            By::Process => {
                self.fold_twins(&keys)?;
                let columns = [columns::sums(), columns::highest()].concat().join(", ");
                let joins = joins(question.by);
                format!(
                    "CREATE TEMP VIEW grouped AS SELECT {named}, {columns}
                     FROM moved m {joins} WHERE {of_boot} AND {ALL} > 0"
                )
            }
            By::Device => format!(
                "CREATE TEMP TABLE grouped AS SELECT {named}, {sums} FROM moved m {} WHERE {of_boot} GROUP BY 1, 2, 3, 4, 5",
                joins(question.by)
            ),
            // By numbers first: few of them need names.
            _ => format!(
                "CREATE TEMP TABLE grouped AS SELECT {named}, {sums} FROM
                     (SELECT p.program, p.uid, p.pid, p.parent, {sums} FROM moved m CROSS JOIN process p ON p.id = m.number
                      WHERE {of_boot} GROUP BY p.program, p.uid, p.pid = 0 {by_parent}) p
                 CROSS JOIN program g ON g.id = p.program LEFT JOIN ancestor a ON a.id = p.parent
                 LEFT JOIN container c ON c.id = g.container GROUP BY key4 HAVING sum({ALL}) > 0"
            ),
        };
        self.connection.execute_batch(&query)
    }

    /// A process has a number for each device and each name it had. The lowest gets all of it.
    fn fold_twins(&self, keys: &[String; 5]) -> rusqlite::Result<()> {
        let [boot, pid, start, uid, name] = keys;
        let query = format!(
            "SELECT m.number, {pid}, {start}, {boot}, {uid}, {name} FROM moved m {} ORDER BY 2, 3, 4, 5, 6, 1",
            joins(By::Process)
        );
        let mut statement = self.connection.prepare(&query)?;
        let mut insert = self.connection.prepare("INSERT INTO twin VALUES(?1, ?2)")?;
        let mut found = statement.query([])?;
        let mut first = None;
        while let Some(row) = found.next()? {
            let number: i64 = row.get(0)?;
            let numbers: [Option<i64>; 4] = [row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?];
            let key = (numbers, row.get::<_, String>(5)?);
            match &first {
                Some((first, of)) if *of == key => {
                    insert.execute([number, *first])?;
                }
                _ => first = Some((number, key)),
            }
        }
        let columns = [columns::sums(), columns::highest()].concat();
        let columns: Vec<String> = columns.iter().map(|column| format!("m.{column}")).collect();
        self.connection.execute_batch(&format!(
            "INSERT INTO moved SELECT t.first, {} FROM twin t CROSS JOIN moved m ON m.number = t.number WHERE true {};
             DELETE FROM moved WHERE number IN (SELECT number FROM twin)",
            columns.join(", "),
            columns::add_on_conflict()
        ))
    }

    /// The first rows, and the sum of the others.
    fn choose(&self, question: &Question, answer: &mut Answer) -> rusqlite::Result<()> {
        let first = columns::ranked_by(question.order);
        let query = format!(
            "INSERT INTO shown SELECT NULL, * FROM grouped
             ORDER BY {first} DESC, tx_bytes + rx_bytes DESC, user_us + system_us DESC, key1, key4 LIMIT ?1"
        );
        self.connection.execute(&query, [i64::try_from(question.top).unwrap_or(i64::MAX)])?;
        // Usage follows what is of the network.
        const USAGE: usize = NETWORK.len() + 2;
        let (network, usage) = (NETWORK.join(", "), Usage::columns());
        let mut statement =
            self.connection.prepare(&format!("SELECT {network}, tx_peak, rx_peak, {usage} FROM shown ORDER BY id"))?;
        let mut found = statement.query([])?;
        let (mut shown, mut shown_usage) = (Counters::default(), Usage::default());
        while let Some(row) = found.next()? {
            let counters = counters(row)?;
            shown.add(&counters);
            let usage = Usage::read(row, USAGE)?;
            shown_usage.add(&usage);
            answer.rows.push(AnswerRow {
                counters,
                usage,
                drops: number(row, 6)?,
                retransmits: number(row, 7)?,
                rest: if question.by == By::Device {
                    Some(Rest::new([row.get(8)?, row.get(9)?], [row.get(10)?, row.get(11)?]))
                } else {
                    None
                },
                tx_peak_bytes: number(row, 12)?,
                rx_peak_bytes: number(row, 13)?,
                sparkline: vec![0; question.columns],
                ..AnswerRow::default()
            });
        }
        let query = format!("SELECT count(*), {} FROM grouped", columns::aggregates());
        const FIRST: usize = 1;
        let (groups, all) = self.connection.query_row(&query, [], |row| {
            // Without a group they are null.
            let is_none = number(row, 0)? == 0;
            Ok((number(row, 0)?, if is_none { Counters::default() } else { counters_from(row, FIRST)? }))
        })?;
        let query = format!("SELECT {} FROM (SELECT {} FROM grouped)", Usage::columns(), columns::aggregates());
        let all_usage = self.connection.query_row(&query, [], |row| Usage::read(row, 0))?;
        answer.others = all.without(&shown);
        answer.others_usage = all_usage.without(&shown_usage);
        answer.others_number = usize::try_from(groups).unwrap_or(usize::MAX).saturating_sub(answer.rows.len());
        Ok(())
    }

    /// Names of the shown rows, and the number of processes in each.
    fn describe(&self, question: &Question, answer: &mut Answer) -> rusqlite::Result<()> {
        let (joins, keys) = (joins(question.by), keys(question.by));
        // By `IS`, for which null is a value.
        let same: Vec<String> = keys.iter().enumerate().map(|(at, key)| format!("s.key{at} IS {key}")).collect();
        let query = format!(
            "INSERT INTO member SELECT m.number, s.id FROM (SELECT number FROM moved UNION ALL SELECT number FROM twin) m
             {joins} CROSS JOIN shown s ON {} WHERE {}",
            same.join(" AND "),
            of_boot(question)
        );
        self.connection.execute(&query, [])?;
        names::read(&self.connection, question.by, &mut answer.rows)?;
        if question.by == By::Device {
            return Ok(());
        }
        let mut statement = self.connection.prepare(
            // Sorted by what differs most.
            "SELECT m.shown FROM member m CROSS JOIN process p ON p.id = m.number
             GROUP BY p.pid, p.start_time_ns, p.boot, m.shown",
        )?;
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            if let Some(shown) = names::at(&mut answer.rows, row.get(0)?) {
                shown.processes += 1;
            }
        }
        Ok(())
    }

    /// Bytes by part of the period.
    fn draw(&self, question: &Question, answer: &mut Answer) -> rusqlite::Result<()> {
        let (mut table, number_of) = (table(question.by), numbered(question.by));
        let mut drawn = "tx_bytes + rx_bytes";
        if columns::is_of_usage(question.order) && question.by != By::Device {
            (table, drawn) = ("usage", columns::drawn_by(question.order));
        }
        let columns = i64::try_from(question.columns.max(1)).unwrap_or(1);
        let length = (answer.to - answer.from).max(1);
        for part in answer.parts.clone() {
            let suffix = part.resolution.suffix();
            let query = format!(
                "SELECT b.shown, (s.ts - ?3) * ?4 / ?5, {drawn}
                 FROM {table}_{suffix} s CROSS JOIN member b ON b.number = s.{number_of}
                 WHERE s.ts >= ?1 AND s.ts < ?2 {}",
                selection(question, suffix) + select::condition(question)
            );
            let mut statement = self.connection.prepare(&query)?;
            let mut found = statement.query(params![part.from, part.to, answer.from, columns, length])?;
            while let Some(row) = found.next()? {
                let column = usize::try_from(row.get::<_, i64>(1)?).ok();
                let shown = names::at(&mut answer.rows, row.get(0)?);
                if let Some(bytes) = shown.zip(column).and_then(|(shown, column)| shown.sparkline.get_mut(column)) {
                    *bytes += number(row, 2)?;
                }
            }
        }
        Ok(())
    }
}

/// Only the requested boot, if any.
fn of_boot(question: &Question) -> String {
    question.boot.map_or_else(|| "true".into(), |boot| format!("p.boot = {boot}"))
}

fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}

fn counters(row: &Row<'_>) -> rusqlite::Result<Counters> {
    counters_from(row, 0)
}

/// The same, of which the first column is this one.
fn counters_from(row: &Row<'_>, at: usize) -> rusqlite::Result<Counters> {
    Ok(Counters {
        tx_bytes: number(row, at)?,
        rx_bytes: number(row, at + 1)?,
        tx_packets: number(row, at + 2)?,
        rx_packets: number(row, at + 3)?,
        tx_app_bytes: number(row, at + 4)?,
        rx_app_bytes: number(row, at + 5)?,
    })
}

/// The sum of each column.
fn sums_of(columns: &[&str]) -> String {
    columns.iter().map(|column| format!("sum({column})")).collect::<Vec<_>>().join(", ")
}

const fn table(by: By) -> &'static str {
    match by {
        By::Device => "device",
        _ => "sample",
    }
}

/// Column of the number.
const fn numbered(by: By) -> &'static str {
    match by {
        By::Device => "device",
        _ => "process",
    }
}

/// In this order: details are found by number.
const fn joins(by: By) -> &'static str {
    match by {
        By::Device => "CROSS JOIN device p ON p.id = m.number",
        By::Parent => {
            "CROSS JOIN process p ON p.id = m.number CROSS JOIN program g ON g.id = p.program LEFT JOIN ancestor a ON a.id = p.parent"
        }
        By::Container | By::Pod => {
            "CROSS JOIN process p ON p.id = m.number CROSS JOIN program g ON g.id = p.program LEFT JOIN container c ON c.id = g.container"
        }
        _ => "CROSS JOIN process p ON p.id = m.number CROSS JOIN program g ON g.id = p.program",
    }
}

/// What a group has in common: for one process boot, pid, start time and user, else a name.
fn keys(by: By) -> [String; 5] {
    let name = match by {
        By::Device => return ["p.boot", "p.netns", "p.netns_cookie", "p.ifindex", "p.name"].map(Into::into),
        By::Process => "g.comm",
        By::Program => "coalesce(g.exe, nullif(g.comm, ''), '-')",
        By::Unit => "coalesce(g.unit, '-')",
        By::User => "coalesce(CAST(p.uid AS TEXT), '-')",
        By::Container => "coalesce(c.name, g.container, '-')",
        By::Script => "coalesce(g.script, '-')",
        By::Parent => "coalesce(a.starter, '-')",
        By::Pod => "coalesce(c.pod, '-')",
    };
    // Drops that are nobody's, and what did not fit in a slot: it has no single unit.
    let name = format!(
        "CASE WHEN p.pid = 0 AND g.comm = '' THEN '-' WHEN p.pid = 0 AND g.comm = '{OTHER}' THEN g.comm ELSE {name} END"
    );
    let of_process = |column: &str| format!("iif(p.pid <> 0, p.{column}, 0)");
    match by {
        By::Process => [
            of_process("boot"),
            of_process("pid"),
            of_process("start_time_ns"),
            of_process("uid"),
            format!("iif(p.pid <> 0, '', {name})"),
        ],
        _ => ["0".into(), "0".into(), "0".into(), "0".into(), name],
    }
}
