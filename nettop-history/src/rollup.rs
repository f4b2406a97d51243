//! Coarser resolutions: a bucket is rebuilt from the finer one once it has ended, so doing it twice changes nothing.

mod leaders;

use rusqlite::{Connection, params};

use crate::{
    names::Names,
    plan::{HOUR_S, Resolution},
    usage::{DiskUsage, HostUsage, Usage},
};

/// A family of three tables, and how its columns are combined.
pub struct Measure {
    pub name: &'static str,
    /// Beside `ts`.
    pub keys: &'static [&'static str],
    pub sums: &'static [&'static str],
    /// The highest of all.
    pub highest: &'static [&'static str],
    /// In the coarser tables: the highest of a column of the finest.
    pub peaks: &'static [(&'static str, &'static str)],
}

pub const SAMPLE: Measure = Measure {
    name: "sample",
    keys: &["process"],
    sums: &["tx_bytes", "rx_bytes", "tx_packets", "rx_packets", "tx_app_bytes", "rx_app_bytes"],
    highest: &[],
    peaks: &[("tx_peak", "tx_bytes"), ("rx_peak", "rx_bytes")],
};

pub const DROP: Measure =
    Measure { name: "drop", keys: &["kind", "process"], sums: &["packets", "bytes"], highest: &[], peaks: &[] };

pub const DEVICE: Measure = Measure {
    name: "device",
    keys: &["device"],
    sums: &[
        "tx_bytes",
        "tx_packets",
        "tx_attributed",
        "tx_kernel",
        "tx_forwarded",
        "tx_upper",
        "tx_copied",
        "tx_unattributed",
        "tx_undecided",
        "rx_bytes",
        "rx_packets",
        "rx_attributed",
        "rx_kernel",
        "rx_forwarded",
        "rx_upper",
        "rx_copied",
        "rx_unattributed",
        "rx_undecided",
    ],
    highest: &[],
    peaks: &[("tx_peak", "tx_bytes"), ("rx_peak", "rx_bytes")],
};

pub const TICK: Measure = Measure {
    name: "tick",
    keys: &[],
    sums: &["measured_ms", "readings", "clock_step_ms", "lost"],
    highest: &[
        "flush",
        "late_ms",
        "load1",
        "load5",
        "load15",
        "cpu_some",
        "memory_some",
        "memory_full",
        "io_some",
        "io_full",
        "namespaces_unread",
    ],
    peaks: &[],
};

pub const USAGE: Measure =
    Measure { name: "usage", keys: &["process"], sums: Usage::SUMS, highest: Usage::HIGHEST, peaks: &[] };

pub const HOST: Measure =
    Measure { name: "host", keys: &[], sums: HostUsage::SUMS, highest: HostUsage::HIGHEST, peaks: &[] };

pub const DISK: Measure = Measure {
    name: "disk",
    keys: &["name", "mounted"],
    sums: DiskUsage::SUMS,
    highest: DiskUsage::HIGHEST,
    peaks: &[],
};

pub const MEASURES: [&Measure; 7] = [&SAMPLE, &DROP, &DEVICE, &TICK, &USAGE, &HOST, &DISK];

impl Measure {
    /// The table of a resolution.
    pub fn table(&self, resolution: Resolution) -> String {
        format!("{}_{}", self.name, resolution.suffix())
    }

    /// Adds a row to those there are. Parameters: `ts`, keys, sums, highest; peaks are not among them.
    pub fn insert(&self, resolution: Resolution) -> String {
        let columns = ["ts"].iter().chain(self.keys).chain(self.sums).chain(self.highest);
        let columns: Vec<&str> = columns.copied().collect();
        let places: Vec<String> = (1..=columns.len()).map(|number| format!("?{number}")).collect();
        let (table, conflict) = (self.table(resolution), self.on_conflict(resolution));
        format!("INSERT INTO {table}({}) VALUES({}) {conflict}", columns.join(", "), places.join(", "))
    }

    /// For a row that exists already: the clock was set back, or the daemon restarted.
    fn on_conflict(&self, resolution: Resolution) -> String {
        let peaks = self.peaks.iter().map(|(peak, _)| *peak).filter(|_| resolution != Resolution::Slot);
        let sums = self.sums.iter().map(|column| format!("{column} = {column} + excluded.{column}"));
        // max() of several is null if one of them is.
        let highest = self.highest.iter().copied().chain(peaks).map(|column| {
            format!("{column} = max(coalesce({column}, excluded.{column}), coalesce(excluded.{column}, {column}))")
        });
        let keys: Vec<&str> = ["ts"].iter().chain(self.keys).copied().collect();
        let set: Vec<String> = sums.chain(highest).collect();
        format!("ON CONFLICT({}) DO UPDATE SET {}", keys.join(", "), set.join(", "))
    }

    /// Makes a bucket of the finer table's rows. Parameters: its begin and its end.
    fn roll(&self, from: Resolution, to: Resolution) -> String {
        let mut columns = vec!["ts"];
        let mut values = vec!["?1".to_owned()];
        for key in self.keys {
            columns.push(key);
            values.push((*key).to_owned());
        }
        for sum in self.sums {
            columns.push(sum);
            values.push(format!("sum({sum})"));
        }
        for highest in self.highest {
            columns.push(highest);
            values.push(format!("max({highest})"));
        }
        for (peak, source) in self.peaks {
            columns.push(peak);
            values.push(format!("max({})", if from == Resolution::Slot { source } else { peak }));
        }
        // Without a key, no rows still make one group.
        let group = if self.keys.is_empty() {
            "HAVING count(*) > 0".into()
        } else {
            format!("GROUP BY {}", self.keys.join(", "))
        };
        let (into, out_of) = (self.table(to), self.table(from));
        let (columns, values, conflict) = (columns.join(", "), values.join(", "), self.on_conflict(to));
        format!(
            "INSERT INTO {into}({columns}) SELECT {values} FROM {out_of} WHERE ts >= ?1 AND ts < ?2 {group} {conflict}"
        )
    }
}

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
