//! What is deleted to make room, and what stays.

use std::fs;

use rusqlite::Connection;

use super::{counters, file, folder, open, origin, question, slot};
use crate::{ContainerNames, DropKind, Dropped, Keep, Limits, Reader, Resolution, Slot, Store, Who};

const BEGIN: i64 = 1_795_000_000 / 3600 * 3600;

fn count(connection: &Connection, table: &str) -> i64 {
    connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

/// Rows that refer to a name that is not there.
fn dangling(connection: &Connection) -> i64 {
    let references = [
        ("sample_10s", "process"),
        ("sample_1m", "process"),
        ("sample_1h", "process"),
        ("drop_10s", "process"),
        ("drop_1m", "process"),
        ("drop_1h", "process"),
        ("device_10s", "device"),
        ("device_1h", "device"),
        ("process", "program"),
        ("process", "device"),
        ("process", "boot"),
        ("session", "boot"),
        ("device", "boot"),
    ];
    let missing = |(table, column): &(&str, &str)| -> i64 {
        let query = format!("SELECT count(*) FROM {table} WHERE {column} NOT IN (SELECT id FROM {column})");
        connection.query_row(&query, [], |row| row.get(0)).unwrap()
    };
    let kinds = "SELECT count(*) FROM drop_1h WHERE kind NOT IN (SELECT id FROM drop_kind)";
    let ancestors = "SELECT count(*) FROM (SELECT parent FROM process UNION ALL SELECT parent FROM ancestor)
        WHERE parent NOT IN (SELECT id FROM ancestor)";
    let ancestors: i64 = connection.query_row(ancestors, [], |row| row.get(0)).unwrap();
    let logins = "SELECT count(*) FROM login WHERE process NOT IN (SELECT id FROM process)";
    let logins: i64 = connection.query_row(logins, [], |row| row.get(0)).unwrap();
    ancestors
        + logins
        + references.iter().map(missing).sum::<i64>()
        + connection.query_row(kinds, [], |row| row.get::<_, i64>(0)).unwrap()
}

/// A slot of programs that nobody saw before.
fn new_programs(ts: i64, number: u32) -> Slot {
    let mut slot = slot(ts, &[]);
    for index in 0..number {
        let name = format!("{ts}-{index}-{}", "x".repeat(60));
        let mut who = Who { comm: name.clone(), unit: Some(name.clone()), ..super::who(index) };
        who.device.name = Some(name.clone());
        who.parents[0].start_time_ns = ts.unsigned_abs();
        who.container = Some(name.clone());
        slot.containers
            .insert(name.clone(), ContainerNames { container_name: Some(name.clone()), ..ContainerNames::default() });
        slot.samples.insert(who.clone(), counters(1000));
        let kind = DropKind { reason: name, class: "routing".into(), ..DropKind::default() };
        slot.drops.insert((kind, who), Dropped { packets: 1, bytes: 1 });
    }
    slot
}

#[test]
fn names_go_with_the_rows_that_bore_them() {
    let folder = folder();
    let path = file(&folder);
    let limits = Limits { size_bytes: 512 << 10, free_bytes: 0, ..Limits::default() };
    let mut last = 0;
    for boot in 0..4 {
        let origin = crate::Origin { boot_id: format!("boot{boot}"), ..origin() };
        let mut store = Store::open(&path, limits, &origin, BEGIN + boot * 50 * 600).unwrap();
        for number in boot * 50..boot * 50 + 50 {
            last = BEGIN + number * 600;
            store.write(&[new_programs(last, 20)]).unwrap();
        }
    }
    let connection = Connection::open(&path).unwrap();
    assert_eq!(dangling(&connection), 0);
    for table in ["program", "container", "process", "login", "ancestor", "device", "drop_kind"] {
        assert!(count(&connection, table) < 2500, "{} of 4000 in {table}", count(&connection, table));
    }
    assert!(count(&connection, "boot") < 4 && count(&connection, "session") < 4);
    let answer = Reader::open(&path).unwrap().answer(&question(last, last + 10)).unwrap();
    assert_eq!(answer.rows.len(), 20);
}

#[test]
fn a_process_that_talks_is_not_forgotten() {
    let folder = folder();
    let path = file(&folder);
    let limits = Limits { keep: Keep { days: [1, 1, 2] }, ..Limits::default() };
    let mut store = Store::open(&path, limits, &origin(), BEGIN).unwrap();
    store.write(&[slot(BEGIN, &[(1, 5)])]).unwrap();
    for hour in 1..=49 {
        let mut slot = slot(BEGIN + hour * 3600, &[(2, 5)]);
        slot.tick.measured_ms = 3_600_000;
        store.write(&[slot]).unwrap();
    }
    // It talks again, after all its other rows are given up.
    let again = BEGIN + 50 * 3600;
    store.write(&[slot(again, &[(1, 7)])]).unwrap();
    let connection = Connection::open(&path).unwrap();
    assert_eq!(count(&connection, "sample_1h WHERE ts <= 1795000000 / 3600 * 3600"), 0);
    assert_eq!(dangling(&connection), 0);
    let answer = Reader::open(&path).unwrap().answer(&question(again, again + 10)).unwrap();
    assert_eq!(answer.rows[0].counters.tx_bytes, 7);
}

#[test]
fn a_row_far_ahead_does_not_make_all_others_old() {
    let folder = folder();
    let path = file(&folder);
    let limits = Limits { size_bytes: 640 << 10, free_bytes: 0, ..Limits::default() };
    let mut store = Store::open(&path, limits, &origin(), BEGIN).unwrap();
    let crowd: Vec<(u32, u64)> = (0..60).map(|number| (number, 123_456_789)).collect();
    store.write(&[slot(BEGIN + 365 * 86_400, &[(1, 5)])]).unwrap();
    let connection = Connection::open(&path).unwrap();
    for number in 0..400 {
        store.write(&[slot(BEGIN + number * 10, &crowd)]).unwrap();
        let kept = count(&connection, "tick_10s");
        assert!(kept > number.min(15), "{kept} slots are left of {number}");
    }
}

#[test]
fn age_takes_fine_rows_first_and_a_wrong_clock_not_all() {
    let folder = folder();
    let path = file(&folder);
    let mut store = open(&path);
    const DAY: i64 = 86_400;
    for hour in 0..20 {
        store.write(&[slot(BEGIN + hour * 3600, &[(1, 1000)])]).unwrap();
    }
    // A clock that is a year ahead for a minute.
    store.write(&[slot(BEGIN + 365 * DAY, &[(1, 1)])]).unwrap();
    store.write(&[slot(BEGIN + 20 * 3600, &[(1, 1000)])]).unwrap();
    let connection = Connection::open(&path).unwrap();
    let count = |table: &str| -> i64 {
        connection
            .query_row(&format!("SELECT count(*) FROM {table} WHERE ts < {}", BEGIN + 30 * DAY), [], |row| row.get(0))
            .unwrap()
    };
    assert!(count("sample_10s") >= 18, "{} are left", count("sample_10s"));
    for day in 3..20 {
        for minute in 0..30 {
            let mut slot = slot(BEGIN + day * DAY + minute * 60, &[(2, 1000)]);
            slot.tick.measured_ms = 600_000;
            store.write(&[slot]).unwrap();
        }
    }
    let oldest = |resolution: Resolution| -> i64 {
        let query = format!("SELECT min(ts) FROM sample_{}", resolution.suffix());
        connection.query_row(&query, [], |row| row.get(0)).unwrap()
    };
    assert!(oldest(Resolution::Slot) >= BEGIN + 17 * DAY, "two days are kept");
    assert!(oldest(Resolution::Minute) <= BEGIN + 6 * DAY, "and two weeks of minutes");
    assert!(oldest(Resolution::Minute) >= BEGIN + 4 * DAY);
    assert!(oldest(Resolution::Hour) <= BEGIN, "hours are all there");
}

#[test]
fn the_file_stays_below_its_quota_and_has_what_is_new() {
    let folder = folder();
    let path = file(&folder);
    // Half of it holds the tables themselves and a minute of rows.
    let quota = 656 << 10;
    let limits = Limits { size_bytes: quota, free_bytes: 0, ..Limits::default() };
    let mut store = Store::open(&path, limits, &origin(), 0).unwrap();
    let moved: Vec<(u32, u64)> = (0..60).map(|number| (number, 123_456_789)).collect();
    for number in 0..400 {
        store.write(&[slot(BEGIN + number * 10, &moved)]).unwrap();
        assert!(fs::metadata(&path).unwrap().len() <= quota);
    }
    store.finish(BEGIN + 4000).unwrap();
    assert!(fs::metadata(&path).unwrap().len() <= quota);
    let connection = Connection::open(&path).unwrap();
    assert_eq!(connection.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)).unwrap(), "ok");
    let reader = Reader::open(&path).unwrap();
    let last = reader.answer(&question(BEGIN + 3940, BEGIN + 4000)).unwrap();
    assert_eq!(last.rows.len(), 60);
    assert!(last.rows.iter().all(|row| row.counters.tx_bytes == 6 * 123_456_789));
    assert!(last.gaps.is_empty());
    // A smaller quota than the file has: it shrinks while it is written.
    let limits = Limits { size_bytes: quota / 2, ..limits };
    let mut store = Store::open(&path, limits, &origin(), 0).unwrap();
    for number in 400..440 {
        store.write(&[slot(BEGIN + number * 10, &moved)]).unwrap();
    }
    store.finish(BEGIN + 4400).unwrap();
    assert!(fs::metadata(&path).unwrap().len() <= quota / 2, "{}", fs::metadata(&path).unwrap().len());
}

#[test]
fn a_clock_that_is_ahead_for_hours_costs_ten_times_as_much_and_not_all() {
    let folder = folder();
    let path = file(&folder);
    let mut store = open(&path);
    for hour in 0..400 {
        store.write(&[slot(BEGIN + hour * 3600, &[(1, 1000)])]).unwrap();
    }
    let connection = Connection::open(&path).unwrap();
    let kept = || {
        let of = |table: &str| count(&connection, &format!("{table} WHERE ts < {}", BEGIN + 500 * 3600));
        [of("tick_10s"), of("tick_1m"), of("tick_1h")]
    };
    let before = kept();
    assert_eq!(before[2], 399, "the last hour is open");
    // Two years: all is older than what is kept. In the first hour nothing goes.
    let ahead = BEGIN + 2 * 365 * 86_400;
    for number in 0..359 {
        store.write(&[slot(ahead + number * 10, &[(1, 1)])]).unwrap();
    }
    assert_eq!(kept()[2] - before[2], 1, "it is rolled up, and nothing gone");
    for number in 359..4 * 360 {
        store.write(&[slot(ahead + number * 10, &[(1, 1)])]).unwrap();
    }
    let after = kept();
    assert!(after[1..].iter().all(|left| *left >= 400 - 4 * 10 - 1), "{before:?} {after:?}");
    assert!(after[0] >= 400 - 4 * 60, "one that has an hour for itself goes each minute: {after:?}");
    assert!(after.iter().all(|left| *left <= 400 - 20), "what is old goes: {before:?} {after:?}");
    // It is set right.
    store.write(&[slot(BEGIN + 400 * 3600, &[(1, 1000)])]).unwrap();
    let answer = Reader::open(&path).unwrap().answer(&question(BEGIN + 100 * 3600, BEGIN + 401 * 3600)).unwrap();
    assert_eq!(answer.rows[0].counters.tx_bytes, 301_000);
}

#[test]
fn what_was_set_aside_counts_and_goes_before_rows() {
    let folder = folder();
    let path = file(&folder);
    let aside = folder.path().join("history.db.corrupt");
    let log = folder.path().join("history.db.corrupt-wal");
    let quota = 1 << 20;
    let limits = Limits { size_bytes: quota, free_bytes: 0, ..Limits::default() };
    let start = || Store::open(&path, limits, &origin(), 0).unwrap();
    start().write(&[slot(BEGIN, &[(1, 5)])]).unwrap();
    fs::write(&log, "of another file").unwrap();
    fs::remove_file(folder.path().join("history.db-wal")).unwrap();
    Store::set_aside(&path).unwrap();
    assert!(aside.exists() && !log.exists());
    fs::write(&aside, vec![1; 600 << 10]).unwrap();
    let mut store = start();
    let crowd: Vec<(u32, u64)> = (0..60).map(|number| (number, 123_456_789)).collect();
    let size = |path: &std::path::Path| fs::metadata(path).map_or(0, |found| found.len());
    let mut together = 0;
    for number in 0..400 {
        store.write(&[slot(BEGIN + number * 10, &crowd)]).unwrap();
        assert!(size(&path) + size(&aside) <= quota);
        together += i64::from(aside.exists());
        let kept = count(&Connection::open(&path).unwrap(), "tick_10s");
        assert!(!aside.exists() || kept == number + 1, "rows went before it");
    }
    assert!((10..400).contains(&together), "{together}");
    assert!(size(&path) > 600 << 10, "what it took is room again");
}

#[test]
fn a_quota_that_is_used_up_is_distinguished_from_a_full_disk() {
    let folder = folder();
    let limits = Limits { size_bytes: 100 << 10, free_bytes: 0, ..Limits::default() };
    let mut store = Store::open(&file(&folder), limits, &origin(), 0).unwrap();
    let crowd: Vec<(u32, u64)> = (0..500).map(|number| (number, 123_456_789)).collect();
    let said = store.write(&[slot(BEGIN, &crowd)]).unwrap_err().to_string();
    assert_eq!(said, "its 102400 bytes (--history-size) are used up, and nothing is left to give up");
}
