//! The file: opened with care, written one transaction at a time, bounded in age and size.

mod insert;
mod room;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use insert::insert;
use rusqlite::{Connection, FileControl, OpenFlags, TransactionBehavior, params};

use crate::{
    gaps, guard::Guard, limits::Limits, names::Names, retention, rollup, schema, slot::Slot, trouble::Trouble,
};

/// At most this long for a lock that another client holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the oldest tenth is given up for one transaction.
const MAX_CUTS: usize = 32;

/// Whose measurements these are.
#[derive(Clone, Debug)]
pub struct Origin {
    pub boot_id: String,
    pub host: String,
    pub kernel: String,
    /// Of nettopd.
    pub version: String,
    pub hooks_missing: u64,
}

/// The open file.
pub struct Store {
    connection: Connection,
    names: Names,
    /// Whether they may have numbers that the file lacks, after a failed write or a cut.
    names_stale: bool,
    session: i64,
    limits: Limits,
    has_room_ahead: bool,
    /// The newest slot of the last write.
    last: i64,
    /// Dropped after the connection.
    guard: Guard,
}

impl Store {
    /// Opens the file, makes it if there is none, and brings an older one up to date. `started`, in seconds since 1970,
    /// identifies the run.
    ///
    /// # Errors
    ///
    /// [`Trouble::Refused`] if the file is not ours alone, is no history, or has another writer. [`Trouble::Newer`] if
    /// a later version wrote it. In both cases its content stays as it was. [`Trouble::Corrupt`] if it is damaged: it may
    /// be set aside. Else if it cannot be read or written, as on a full disk.
    pub fn open(path: &Path, limits: Limits, origin: &Origin, started: i64) -> Result<Self, Trouble> {
        let guard = Guard::open(path)?;
        let foreign = || Trouble::Refused(format!("{} is not a history of nettopd's", path.display()));
        if guard.is_foreign().map_err(|error| Trouble::Io(format!("{}: {error}", path.display())))? {
            return Err(foreign());
        }
        let flags =
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let mut connection = Connection::open_with_flags(&guard.path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // Nothing is changed before it is known whose it is.
        let id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if id != schema::APPLICATION_ID && tables > 0 {
            return Err(foreign());
        }
        prepare(&connection)?;
        let version = schema::version(&connection)?;
        if version > schema::VERSION {
            return Err(Trouble::Newer(path.into(), version));
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if version < schema::VERSION {
            schema::migrate(&transaction, version)?;
        }
        schema::make_views(&transaction)?;
        let (boot, session) = begin(&transaction, origin, started)?;
        let names = Names::read(&transaction, boot)?;
        transaction.commit()?;
        let mut store =
            Self { connection, names, names_stale: false, session, limits, has_room_ahead: false, last: 0, guard };
        store.take_room_ahead()?;
        store.bound()?;
        Ok(store)
    }

    /// Writes slots in one transaction. If there is no room, the oldest rows are given up.
    ///
    /// # Errors
    ///
    /// [`Trouble::Quota`] or [`Trouble::Disk`] if there is no room and nothing left to give up. [`Trouble::Pinned`] if
    /// a reader keeps the log from being emptied. [`Trouble::Corrupt`] if the file is damaged. Else if it was removed
    /// or cannot be written. All slots are in the file or none: [`Self::has`] tells which.
    pub fn write(&mut self, slots: &[Slot]) -> Result<(), Trouble> {
        let Some(now) = slots.last().map(|slot| slot.ts) else { return Ok(()) };
        if !self.guard.is_in_place() {
            return Err(Trouble::Io(format!("{} was removed or replaced", self.guard.path.display())));
        }
        self.check_wal()?;
        self.write_with_cuts(slots, now).map_err(|trouble| match trouble {
            Trouble::Full => self.what_is_full(),
            other => other,
        })
    }

    fn write_with_cuts(&mut self, slots: &[Slot], now: i64) -> Result<(), Trouble> {
        self.bound()?;
        let mut result = self.try_write(slots, now);
        for _ in 0..MAX_CUTS {
            if !matches!(result, Err(Trouble::Full)) {
                break;
            }
            self.cut()?;
            result = self.try_write(slots, now);
        }
        result
    }

    /// Whether a slot arrived, though writing it failed: a commit may reach the disk and the answer not.
    ///
    /// # Errors
    ///
    /// [`Trouble`] if the file cannot be read.
    pub fn has(&self, ts: i64, flush: i64) -> Result<bool, Trouble> {
        let query = "SELECT count(*) FROM tick_10s WHERE ts = ?1 AND flush = ?2";
        Ok(self.connection.query_row(query, params![ts, flush], |row| row.get::<_, i64>(0))? > 0)
    }

    /// Rolls everything up and records the session's end.
    ///
    /// # Errors
    ///
    /// [`Trouble`] if SQLite refuses, as with a full disk or a damaged file. The next session rolls up what is left;
    /// this one may have no end.
    pub fn finish(mut self, now: i64) -> Result<(), Trouble> {
        self.refresh_names()?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        rollup::roll_up_ended(&transaction, &mut self.names, None)?;
        transaction.execute("UPDATE session SET ended = ?1 WHERE id = ?2", params![now, self.session])?;
        transaction.commit()?;
        // So that a copy of the one file is enough.
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }

    /// Gives the file up and renames it.
    ///
    /// # Errors
    ///
    /// [`Trouble::Refused`] if the file is not ours alone, or another daemon writes it. [`Trouble::Io`] if it cannot be
    /// renamed: in a read-only folder it stays as it is.
    pub fn set_aside(path: &Path) -> Result<PathBuf, Trouble> {
        Guard::open(path)?.set_aside().map_err(|error| Trouble::Io(format!("{}: {error}", path.display())))
    }

    /// Reads the names again, if need be.
    fn refresh_names(&mut self) -> rusqlite::Result<()> {
        if self.names_stale {
            self.names = Names::read(&self.connection, self.names.boot())?;
            self.names_stale = false;
        }
        Ok(())
    }

    fn try_write(&mut self, slots: &[Slot], now: i64) -> Result<(), Trouble> {
        self.refresh_names()?;
        // Numbers that are given out are not in the file until it is committed.
        self.names_stale = true;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for slot in slots {
            insert(&transaction, &mut self.names, slot)?;
        }
        gaps::note(&transaction, self.session, slots)?;
        rollup::roll_up_ended(&transaction, &mut self.names, Some(now))?;
        let has_forgotten = retention::by_age(&transaction, &self.limits.keep, self.last, now)?;
        self.last = now;
        transaction.commit()?;
        self.names.forget_unused();
        self.names_stale = has_forgotten;
        Ok(())
    }
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(64);
    connection.execute_batch(
        "PRAGMA page_size = 4096; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA trusted_schema = OFF; PRAGMA cache_size = -4096;",
    )?;
    // This program keeps references right itself, and tests check them.
    connection.execute_batch("PRAGMA foreign_keys = OFF")?;
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    // FULL: a power cut costs nothing that was committed; NORMAL was seen to lose 35 transactions.
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 1000;")?;
    connection.query_row("PRAGMA journal_size_limit = 16777216", [], |_| Ok(()))?;
    // Without the log beside it, a file of a daemon that stopped cannot be read by those who may not write.
    connection.file_control(Some("main"), FileControl::PersistWal(&mut 1))
}

/// Notes the boot and the start of this session.
fn begin(connection: &Connection, origin: &Origin, started: i64) -> rusqlite::Result<(i64, i64)> {
    connection.execute(
        "INSERT INTO boot(boot_id, first_seen, host, kernel) VALUES(?1, ?2, ?3, ?4) ON CONFLICT(boot_id) DO NOTHING",
        params![origin.boot_id, started, origin.host, origin.kernel],
    )?;
    let boot = connection
        .query_row("SELECT id FROM boot WHERE boot_id = ?1", [&origin.boot_id], |row| row.get::<_, i64>(0))?;
    // A file opened again after trouble is still of the same run.
    let found = connection.query_row(
        "SELECT max(id) FROM session WHERE boot = ?1 AND started = ?2",
        params![boot, started],
        |row| row.get(0),
    )?;
    if let Some(session) = found {
        return Ok((boot, session));
    }
    connection.execute(
        "INSERT INTO session(boot, started, version, hooks_missing) VALUES(?1, ?2, ?3, ?4)",
        params![boot, started, origin.version, origin.hooks_missing.cast_signed()],
    )?;
    Ok((boot, connection.last_insert_rowid()))
}
