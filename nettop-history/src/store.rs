//! The file: opened with care, written one transaction at a time, bounded in age and size.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, ffi, params};
use thiserror::Error;

use crate::{
    guard::{Guard, beside_path},
    names::Names,
    plan::Resolution,
    retention,
    rollup::{self, DEVICE, DROP, SAMPLE, TICK},
    schema,
    slot::Slot,
};

const PAGE: u64 = 4096;
/// At most this long for a lock that another client holds.
const BUSY: Duration = Duration::from_secs(2);
/// Room in which rows are deleted where there is no other.
const LEAST_RESERVE: u64 = 1 << 20;
/// How often the oldest tenth is given up for one transaction.
const CUTS: usize = 32;

/// How long rows are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Days, by [`Resolution`].
    pub days: [u32; 3],
}

impl Default for Keep {
    fn default() -> Self {
        Self { days: [2, 14, 400] }
    }
}

impl Keep {
    pub(crate) const fn seconds(&self, resolution: Resolution) -> i64 {
        self.days[resolution as usize] as i64 * 86_400
    }
}

/// What the file may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub keep: Keep,
    /// Of the database; its log comes on top.
    pub size_bytes: u64,
    /// Of the log, which a reader can keep from being emptied.
    pub wal_bytes: u64,
    /// Left free on the file system; of a small one, a twentieth.
    pub free_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        Self { keep: Keep::default(), size_bytes: 512 * MIB, wal_bytes: 64 * MIB, free_bytes: 256 * MIB }
    }
}

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

/// Why a slot is not in the file.
#[derive(Debug, Error)]
pub enum Trouble {
    /// Neither opened nor touched.
    #[error("{0}")]
    Refused(String),
    /// Written by a later version.
    #[error("{0} has schema {1}, this nettopd knows {known}: give another file", known = schema::VERSION)]
    Newer(PathBuf, i32),
    /// Not sound; has to be set aside.
    #[error("the file is not sound: {0}")]
    Corrupt(rusqlite::Error),
    #[error("no room is left, and nothing to give up")]
    Full,
    #[error("a reader keeps the log from being emptied; it has reached {0} bytes")]
    Pinned(u64),
    #[error("{0}")]
    Io(String),
    #[error("{0}")]
    Other(rusqlite::Error),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt(error),
            Some(ErrorCode::DiskFull) => Self::Full,
            _ => Self::Other(error),
        }
    }
}

/// The open file.
pub struct Store {
    connection: Connection,
    names: Names,
    /// Whether they may have numbers that the file has not: since a write that failed, or a cut.
    names_stale: bool,
    session: i64,
    limits: Limits,
    minute: i64,
    /// Dropped after the connection.
    guard: Guard,
}

impl Store {
    /// Opens the file, makes it if there is none, and brings an older one up to date. `started` tells one run from
    /// the next, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// [`Trouble`]; the file is as it was.
    pub fn open(path: &Path, limits: Limits, origin: &Origin, started: i64) -> Result<Self, Trouble> {
        let guard = Guard::open(path)?;
        let foreign = || Trouble::Refused(format!("{} is not a history of nettopd's", path.display()));
        if guard.is_foreign().map_err(|error| Trouble::Io(format!("{}: {error}", path.display())))? {
            return Err(foreign());
        }
        let flags =
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let mut connection = Connection::open_with_flags(&guard.path, flags)?;
        connection.busy_timeout(BUSY)?;
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
        let mut store = Self { connection, names, names_stale: false, session, limits, minute: 0, guard };
        store.bound()?;
        Ok(store)
    }

    /// Writes slots in one transaction. Where there is no room, what is oldest is given up.
    ///
    /// # Errors
    ///
    /// [`Trouble`]; none of the slots is in the file.
    pub fn write(&mut self, slots: &[Slot]) -> Result<(), Trouble> {
        let Some(now) = slots.last().map(|slot| slot.ts) else { return Ok(()) };
        if !self.guard.is_in_place() {
            return Err(Trouble::Io(format!("{} was removed or replaced", self.guard.path.display())));
        }
        self.check_wal()?;
        self.bound()?;
        let mut result = self.try_write(slots, now);
        for _ in 0..CUTS {
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

    /// Rolls everything up and says that nothing more comes.
    ///
    /// # Errors
    ///
    /// [`Trouble`]; the next start does it.
    pub fn finish(mut self, now: i64) -> Result<(), Trouble> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        rollup::close(&transaction, None)?;
        transaction.execute("UPDATE session SET ended = ?1 WHERE id = ?2", params![now, self.session])?;
        transaction.commit()?;
        // So that a copy of the one file is enough.
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }

    /// Gives the file up and lets it be found under another name.
    ///
    /// # Errors
    ///
    /// If it cannot be renamed.
    pub fn set_aside(path: &Path) -> Result<PathBuf, Trouble> {
        Guard::open(path)?.set_aside().map_err(|error| Trouble::Io(format!("{}: {error}", path.display())))
    }

    fn try_write(&mut self, slots: &[Slot], now: i64) -> Result<(), Trouble> {
        if self.names_stale {
            self.names = Names::read(&self.connection, self.names.boot())?;
        }
        // Numbers that were given out are not in the file until it is committed.
        self.names_stale = true;
        let minute = Resolution::Minute.floor(now);
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for slot in slots {
            insert(&transaction, &mut self.names, slot)?;
        }
        rollup::close(&transaction, Some(now))?;
        let is_due = minute != self.minute;
        self.minute = minute;
        let has_forgotten = is_due && retention::by_age(&transaction, &self.limits.keep, now)?;
        transaction.commit()?;
        self.names_stale = has_forgotten;
        Ok(())
    }

    /// Gives up the oldest rows, in a transaction of its own: small enough for the log that is there already.
    fn cut(&mut self) -> Result<(), Trouble> {
        self.names_stale = true;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let has_cut = retention::by_size(&transaction, &self.limits.keep)?;
        transaction.commit()?;
        // A log that was emptied is written from its begin again.
        self.connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))?;
        if has_cut { Ok(()) } else { Err(Trouble::Full) }
    }

    /// Sets how large the file may become: no larger than it is where the disk is nearly full.
    fn bound(&mut self) -> Result<(), Trouble> {
        let mut is_scarce = self.is_scarce(self.wal_bytes());
        if is_scarce {
            // What is in the log may have to grow the file while the log still has its room.
            self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            is_scarce = self.is_scarce(0);
        }
        let pages: i64 = self.connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
        let pages = pages.cast_unsigned();
        let most = self.limits.size_bytes / PAGE;
        let allowed = if is_scarce { pages.min(most) } else { most };
        // Below what there is, SQLite takes what there is.
        self.connection.query_row(&format!("PRAGMA max_page_count = {}", allowed.max(1)), [], |_| Ok(()))?;
        if pages > most {
            let unused: i64 = self.connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
            if pages - unused.cast_unsigned() > most {
                match self.cut() {
                    Err(Trouble::Full) => {}
                    other => other?,
                }
            }
            // A step for each page.
            let mut vacuum = self.connection.prepare("PRAGMA incremental_vacuum(2000)")?;
            let mut pages = vacuum.query([])?;
            while pages.next()?.is_some() {}
        }
        Ok(())
    }

    /// Whether less than the reserve would be left if that much more were needed.
    fn is_scarce(&self, more: u64) -> bool {
        let reserve = |size: u64| self.limits.free_bytes.min((size / 20).max(LEAST_RESERVE));
        free_bytes(&self.guard.path).is_ok_and(|(free, size)| free < reserve(size) + more)
    }

    fn wal_bytes(&self) -> u64 {
        std::fs::metadata(beside_path(&self.guard.path, "-wal")).map_or(0, |wal| wal.len())
    }

    fn check_wal(&self) -> Result<(), Trouble> {
        if self.wal_bytes() > self.limits.wal_bytes {
            self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        }
        if self.wal_bytes() > self.limits.wal_bytes { Err(Trouble::Pinned(self.wal_bytes())) } else { Ok(()) }
    }
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(64);
    connection.execute_batch(
        "PRAGMA page_size = 4096; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA trusted_schema = OFF; PRAGMA cache_size = -4096;",
    )?;
    // What refers to what is this program's business, and checked where it is tested.
    connection.execute_batch("PRAGMA foreign_keys = OFF")?;
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    // FULL: a power cut costs nothing that was committed; NORMAL was seen to lose 35 transactions.
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 1000;")?;
    connection.query_row("PRAGMA journal_size_limit = 16777216", [], |_| Ok(()))?;
    let mut persist: i32 = 1;
    // SAFETY: the handle is open, the schema's name is a C string, and the opcode takes a pointer to an int. Without the log
    // beside it, a file of a daemon that stopped cannot be read by those who may not write.
    unsafe {
        ffi::sqlite3_file_control(
            connection.handle(),
            c"main".as_ptr(),
            ffi::SQLITE_FCNTL_PERSIST_WAL,
            std::ptr::from_mut(&mut persist).cast(),
        );
    }
    Ok(())
}

/// Notes the boot and the start of this session.
fn begin(connection: &Connection, origin: &Origin, started: i64) -> rusqlite::Result<(i64, i64)> {
    connection.execute(
        "INSERT INTO boot(boot_id, first_seen, host, kernel) VALUES(?1, ?2, ?3, ?4) ON CONFLICT(boot_id) DO NOTHING",
        params![origin.boot_id, started, origin.host, origin.kernel],
    )?;
    let boot = connection
        .query_row("SELECT id FROM boot WHERE boot_id = ?1", [&origin.boot_id], |row| row.get::<_, i64>(0))?;
    // A file that was opened again, after a trouble, is still of the same run.
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

fn insert(connection: &Connection, names: &mut Names, slot: &Slot) -> rusqlite::Result<()> {
    let ts = slot.ts;
    let tick = &slot.tick;
    let lost: u64 = slot.losses.values().sum();
    let [load1, load5, load15] = tick.load.map_or([None; 3], |load| load.map(Some));
    connection.prepare_cached(&TICK.insert())?.execute(params![
        ts,
        tick.measured_ms.cast_signed(),
        tick.readings.cast_signed(),
        tick.clock_step_ms,
        lost.cast_signed(),
        slot.flush,
        tick.late_ms.cast_signed(),
        load1,
        load5,
        load15,
        tick.cpu_some,
        tick.memory_some,
        tick.memory_full,
        tick.io_some,
        tick.io_full,
    ])?;
    let mut samples = Vec::with_capacity(slot.samples.len());
    for (who, counters) in &slot.samples {
        samples.push((names.process(connection, who, ts)?, counters));
    }
    // In the order of the key: pages fill up from left to right.
    samples.sort_unstable_by_key(|(process, _)| *process);
    let mut statement = connection.prepare_cached(&SAMPLE.insert())?;
    for (process, counters) in samples {
        statement.execute(params![
            ts,
            process,
            counters.tx_bytes.cast_signed(),
            counters.rx_bytes.cast_signed(),
            counters.tx_packets.cast_signed(),
            counters.rx_packets.cast_signed(),
            counters.tx_app_bytes.cast_signed(),
            counters.rx_app_bytes.cast_signed(),
        ])?;
    }
    let mut statement = connection.prepare_cached(&DEVICE.insert())?;
    for (device, books) in &slot.devices {
        let (tx, rx) = (&books.tx, &books.rx);
        statement.execute(params![
            ts,
            names.device(connection, device)?,
            tx.bytes.cast_signed(),
            tx.packets.cast_signed(),
            tx.attributed_bytes.cast_signed(),
            tx.kernel_bytes.cast_signed(),
            tx.copied_bytes.cast_signed(),
            tx.unattributed_bytes,
            rx.bytes.cast_signed(),
            rx.packets.cast_signed(),
            rx.attributed_bytes.cast_signed(),
            rx.kernel_bytes.cast_signed(),
            rx.copied_bytes.cast_signed(),
            rx.unattributed_bytes,
        ])?;
    }
    let mut statement = connection.prepare_cached(&DROP.insert())?;
    for ((kind, who), dropped) in &slot.drops {
        let (kind, process) = (names.kind(connection, kind)?, names.process(connection, who, ts)?);
        statement.execute(params![ts, kind, process, dropped.packets.cast_signed(), dropped.bytes.cast_signed()])?;
    }
    for (cause, count) in &slot.losses {
        connection
            .prepare_cached("INSERT INTO loss VALUES(?1, ?2, ?3) ON CONFLICT(ts, cause) DO UPDATE SET count = count + excluded.count")?
            .execute(params![ts, cause, count.cast_signed()])?;
    }
    rollup::open(connection, Resolution::Minute, ts)
}

/// Free bytes of the file system, and all.
fn free_bytes(path: &Path) -> io::Result<(u64, u64)> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    Ok((stat.blocks_available() * stat.fragment_size(), stat.blocks() * stat.fragment_size()))
}
