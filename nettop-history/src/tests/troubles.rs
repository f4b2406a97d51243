//! What may happen to a file, as far as it takes no file system of its own.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    time::{Duration, Instant},
};

use nix::fcntl::{Flock, FlockArg};
use rusqlite::Connection;

use super::{file, folder, open, origin, question, slot};
use crate::{Limits, Reader, Resolution, Store, Trouble, Writer, schema};

const BEGIN: i64 = 1_795_000_000;

fn refused(path: &std::path::Path) -> String {
    match Store::open(path, Limits::default(), &origin(), 0) {
        Err(Trouble::Refused(why)) => why,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was opened"),
    }
}

#[test]
fn only_a_plain_file_of_our_own_is_opened() {
    let folder = folder();
    let path = file(&folder);
    let other = folder.path().join("other");
    symlink(&other, &path).unwrap();
    assert!(refused(&path).ends_with("it is a symbolic link"));
    assert!(!other.exists(), "nothing was made where it points");
    fs::remove_file(&path).unwrap();

    // What SQLite would write beside it counts as well.
    let wal = folder.path().join("history.db-wal");
    symlink(&other, &wal).unwrap();
    assert!(refused(&path).ends_with("it is a symbolic link"));
    fs::remove_file(&wal).unwrap();

    fs::write(&other, "").unwrap();
    fs::hard_link(&other, &path).unwrap();
    assert!(refused(&path).ends_with("it has another name as well"));
    fs::remove_file(&path).unwrap();

    fs::create_dir(&path).unwrap();
    assert!(refused(&path).ends_with("it is no plain file"));
    fs::remove_dir(&path).unwrap();

    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(refused(&path).ends_with("others may write to its folder"));
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o770)).unwrap();
    assert!(refused(&path).ends_with("others may write to its folder"), "a group is others as well");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    chown(folder.path(), Some(65_534), None).unwrap();
    assert!(refused(&path).ends_with("its folder belongs to user 65534"));
    chown(folder.path(), Some(0), None).unwrap();

    let lock = folder.path().join("history.db.lock");
    symlink(&other, &lock).unwrap();
    assert!(refused(&path).ends_with("it is a symbolic link"));
    fs::remove_file(&lock).unwrap();
}

#[test]
fn one_writes_and_readers_keep_nobody_out() {
    let folder = folder();
    let path = file(&folder);
    let mut store = open(&path);
    assert!(refused(&path).ends_with("another nettopd writes it"));
    let lock = folder.path().join("history.db.lock");
    assert_eq!(fs::metadata(&lock).unwrap().mode() & 0o777, 0o600, "only its owner can take it");
    // Whoever takes the lock away lets another in: the first one ends.
    fs::remove_file(&lock).unwrap();
    assert!(matches!(store.write(&[slot(BEGIN, &[(1, 5)])]), Err(Trouble::Io(_))));
    drop(store);
    let reader = Flock::lock(fs::File::open(&path).unwrap(), FlockArg::LockSharedNonblock).unwrap();
    open(&path);
    drop(reader);
}

#[test]
fn what_is_not_a_history_is_left_as_it_is() {
    let folder = folder();
    let text = folder.path().join("notes.txt");
    fs::write(&text, "Not a database, and precious.\n").unwrap();
    assert!(refused(&text).ends_with("is not a history of nettopd's"));
    assert_eq!(fs::read(&text).unwrap(), b"Not a database, and precious.\n");
    let other = folder.path().join("other.db");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE mine(x); INSERT INTO mine VALUES(1);").unwrap();
    let before = fs::read(&other).unwrap();
    assert!(refused(&other).ends_with("is not a history of nettopd's"));
    assert_eq!(fs::read(&other).unwrap(), before);
    let error = Reader::open(&other).err().unwrap();
    assert!(error.to_string().ends_with("is not a history of nettopd's"), "{error:#}");
}

#[test]
fn a_file_is_readable_by_its_group_whatever_the_umask() {
    let folder = folder();
    let path = file(&folder);
    // SAFETY: changes a number of this process; other tests make their files before or after, and look at no modes.
    let before = unsafe { libc::umask(0o077) };
    let mut store = open(&path);
    store.write(&[slot(BEGIN, &[(1, 5)])]).unwrap();
    // SAFETY: as above.
    unsafe { libc::umask(before) };
    for name in ["history.db", "history.db-wal", "history.db-shm"] {
        let mode = fs::metadata(folder.path().join(name)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o640, "{name}");
    }
    store.finish(BEGIN).unwrap();
    assert!(folder.path().join("history.db-wal").exists(), "who may not write needs it to read");
}

#[test]
fn a_file_of_an_older_version_is_brought_up_to_date() {
    let folder = folder();
    let path = file(&folder);
    open(&path).write(&[slot(BEGIN, &[(1, 5)]), slot(BEGIN + 70, &[(2, 6)])]).unwrap();
    for version in 1..schema::VERSION {
        // As that version made it, with what it had recorded.
        let old = folder.path().join(format!("v{version}.db"));
        let connection = Connection::open(&old).unwrap();
        for step in &schema::STEPS[..usize::try_from(version).unwrap()] {
            connection.execute_batch(step).unwrap();
        }
        connection
            .execute_batch(&format!(
                "PRAGMA application_id = {}; PRAGMA user_version = {version}; ATTACH '{}' AS new;",
                schema::APPLICATION_ID,
                path.display()
            ))
            .unwrap();
        let tables: Vec<String> = connection
            .prepare("SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name NOT IN ('session', 'tick_10s', 'tick_1m', 'tick_1h')")
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        for table in tables {
            connection.execute_batch(&format!("INSERT INTO main.{table} SELECT * FROM new.{table}")).unwrap();
        }
        // Without the columns that came later.
        connection
            .execute_batch("INSERT INTO main.tick_10s(ts, measured_ms, readings, late_ms, clock_step_ms, lost) SELECT ts, measured_ms, readings, late_ms, clock_step_ms, lost FROM new.tick_10s")
            .unwrap();
        drop(connection);
        assert!(Reader::open(&old).is_err(), "what it lacks cannot be answered");
        let mut store = open(&old);
        let mut more = slot(BEGIN + 80, &[(1, 7)]);
        more.losses.insert("rows_full", 3);
        store.write(&[more]).unwrap();
        store.finish(BEGIN + 90).unwrap();
        let answer = Reader::open(&old).unwrap().answer(&question(BEGIN, BEGIN + 90)).unwrap();
        assert_eq!(answer.rows.iter().map(|row| row.counters.tx_bytes).sum::<u64>(), 5 + 6 + 7);
        assert_eq!(answer.losses, [("rows_full".to_owned(), 3)]);
    }
}

#[test]
fn a_file_of_a_newer_version_is_left_as_it_is() {
    let folder = folder();
    let path = file(&folder);
    open(&path).finish(0).unwrap();
    let set = |version: i32| {
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "user_version", version).unwrap();
    };
    set(schema::VERSION + 1);
    let trouble = Store::open(&path, Limits::default(), &origin(), 0).err().unwrap();
    assert!(matches!(trouble, Trouble::Newer(_, version) if version == schema::VERSION + 1), "{trouble}");
    set(schema::VERSION);
    open(&path);
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
            store.write(&[slot(BEGIN + day * DAY + minute * 60, &[(2, 1000)])]).unwrap();
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
    let quota = 512 << 10;
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
fn a_file_that_was_removed_is_noticed() {
    let folder = folder();
    let path = file(&folder);
    let mut store = open(&path);
    store.write(&[slot(BEGIN, &[(1, 5)])]).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(matches!(store.write(&[slot(BEGIN + 10, &[(1, 5)])]), Err(Trouble::Io(_))));
}

#[test]
fn the_answer_says_what_was_not_measured_and_when_alone() {
    let folder = folder();
    let path = file(&folder);
    let mut store = open(&path);
    for number in [0, 1, 2, 5, 6] {
        let mut slot = slot(BEGIN + number * 10, &[(1, 10), (2, 20)]);
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let load = number as f64;
        slot.tick.load = Some([load, 1.0, 1.0]);
        if number == 5 {
            slot.losses.insert("history_shed", 4);
            slot.tick.clock_step_ms = -7000;
        }
        store.write(&[slot]).unwrap();
    }
    let reader = Reader::open(&path).unwrap();
    let answer = reader.answer(&question(BEGIN, BEGIN + 80)).unwrap();
    assert_eq!(answer.gaps, [(BEGIN + 30, BEGIN + 50), (BEGIN + 70, BEGIN + 80)]);
    assert_eq!((answer.measured_ms, answer.load_peak, answer.clock_step_ms), (50_000, Some(6.0), -7000));
    assert_eq!(answer.losses, [("history_shed".to_owned(), 4)]);
    assert_eq!(answer.rows[0].who.pid, 102);
    let when = Some("load > 1 and load < 6".parse().unwrap());
    let answer = reader.answer(&crate::Question { when, top: 1, ..question(BEGIN, BEGIN + 80) }).unwrap();
    assert_eq!(answer.selected_ms, 20_000);
    assert_eq!((answer.rows[0].counters.tx_bytes, answer.others.tx_bytes, answer.others_number), (40, 20, 1));
    // An interval of a minute is in the slot where it ended, and covers what was before.
    let mut long = slot(BEGIN + 190, &[(1, 10)]);
    long.tick.measured_ms = 60_000;
    store.write(&[long]).unwrap();
    let answer = reader.answer(&question(BEGIN + 100, BEGIN + 200)).unwrap();
    assert_eq!(answer.gaps, [(BEGIN + 100, BEGIN + 140)]);
}

#[test]
fn the_last_boot_is_the_one_before_this() {
    let folder = folder();
    let path = file(&folder);
    let boot = |name: &str, at: i64| {
        let origin = crate::Origin { boot_id: name.into(), ..origin() };
        Store::open(&path, Limits::default(), &origin, at).unwrap()
    };
    boot("first", BEGIN).write(&[slot(BEGIN, &[(1, 1)])]).unwrap();
    let reader = Reader::open(&path).unwrap();
    assert!(reader.last_boot("first").unwrap().is_none());
    // Before anything records again, and after.
    let found = reader.last_boot("second").unwrap().unwrap();
    assert_eq!((found.last, found.is_clean), (BEGIN + 10, false));
    let mut second = boot("second", BEGIN + 100);
    second.write(&[slot(BEGIN + 100, &[(1, 1)])]).unwrap();
    let found = reader.last_boot("second").unwrap().unwrap();
    assert_eq!((found.boot_id.as_str(), found.last, found.is_clean), ("first", BEGIN + 10, false));
    second.finish(BEGIN + 110).unwrap();
    assert!(reader.last_boot("third").unwrap().unwrap().is_clean);
}

#[test]
fn numbers_of_a_write_that_failed_are_given_to_nobody_else() {
    let folder = folder();
    let path = file(&folder);
    let mut store = open(&path);
    store.write(&[slot(BEGIN, &[(1, 5)])]).unwrap();
    // Fails after its processes got their numbers.
    let mut failing = slot(BEGIN + 10, &[(2, 5)]);
    failing.losses.insert("rows_full", 1);
    let connection = Connection::open(&path).unwrap();
    let fail = "CREATE TRIGGER fail BEFORE INSERT ON loss BEGIN SELECT raise(ABORT, 'no'); END";
    connection.execute_batch(fail).unwrap();
    store.write(&[failing]).unwrap_err();
    connection.execute_batch("DROP TRIGGER fail").unwrap();
    store.write(&[slot(BEGIN + 20, &[(3, 7)])]).unwrap();
    store.write(&[slot(BEGIN + 30, &[(2, 9)])]).unwrap();
    let query = "SELECT pid, sum(tx_bytes) FROM talkers GROUP BY pid ORDER BY pid";
    let talkers: Vec<(u32, u64)> = connection
        .prepare(query)
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned())))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(talkers, [(101, 5), (102, 9), (103, 7)]);
}

#[test]
fn the_file_tells_all_that_was_shed() {
    let folder = folder();
    let path = file(&folder);
    open(&path).write(&[slot(BEGIN, &[(1, 5)])]).unwrap();
    let connection = Connection::open(&path).unwrap();
    let fail = "CREATE TRIGGER fail BEFORE INSERT ON sample_10s BEGIN SELECT raise(ABORT, 'no'); END";
    connection.execute_batch(fail).unwrap();
    let writer = Writer::start(path.clone(), Limits::default(), origin());
    let mut next = BEGIN;
    let mut put = || {
        next += 10;
        writer.put(slot(next, &[(1, 5)]));
        std::thread::sleep(Duration::from_millis(5));
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    // So many that slots are shed which should have told of others.
    while writer.shed() <= 100 {
        assert!(Instant::now() < deadline, "{} are shed", writer.shed());
        put();
    }
    connection.execute_batch("DROP TRIGGER fail").unwrap();
    let count =
        |query: &str| -> u64 { connection.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap().cast_unsigned() };
    while count("SELECT count(*) FROM tick_10s") <= 1 {
        assert!(Instant::now() < deadline, "it is not written again");
        put();
    }
    put();
    let shed = writer.shed();
    writer.finish();
    assert_eq!(count("SELECT sum(count) FROM loss WHERE cause = 'history_shed'"), shed);
    let put = (next - BEGIN) / 10 * 2;
    assert_eq!(count("SELECT sum(readings) FROM tick_10s") - 2 + shed, put.cast_unsigned());
}

#[test]
fn a_run_is_one_session_however_often_it_opens_the_file() {
    let folder = folder();
    let path = file(&folder);
    let sessions = |started: i64| -> i64 {
        drop(Store::open(&path, Limits::default(), &origin(), started).unwrap());
        let connection = Connection::open(&path).unwrap();
        // A view of another version does not stay.
        connection.execute_batch("DROP VIEW talkers; CREATE VIEW talkers AS SELECT 1 AS old").unwrap();
        connection.query_row("SELECT count(*) FROM session", [], |row| row.get(0)).unwrap()
    };
    assert_eq!([sessions(BEGIN), sessions(BEGIN), sessions(BEGIN + 1)], [1, 1, 2]);
    drop(open(&path));
    Connection::open(&path).unwrap().prepare("SELECT comm FROM talkers").unwrap();
}
