//! What may happen to a file, without a file system of its own.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{Flock, FlockArg},
    sys::stat::{Mode, umask},
};
use rusqlite::Connection;

use super::{file, folder, open, origin, slot};
use crate::{Limits, Reader, Store, Trouble, Writer};

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
    // Removing the lock lets another in: the first one ends.
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
    // Of this process: other tests make their files before or after, and look at no modes.
    let before = umask(Mode::from_bits_retain(0o077));
    let mut store = open(&path);
    store.write(&[slot(BEGIN, &[(1, 5)])]).unwrap();
    umask(before);
    for name in ["history.db", "history.db-wal", "history.db-shm"] {
        let mode = fs::metadata(folder.path().join(name)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o640, "{name}");
    }
    store.finish(BEGIN).unwrap();
    assert!(folder.path().join("history.db-wal").exists(), "who may not write needs it to read");
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
fn the_file_counts_all_that_was_shed() {
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
    // So many that slots are shed which should have counted others.
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
