//! Tables and views. Data changes by steps that are never edited once released. Views are made again each time a writer
//! opens the file.

mod views;

use rusqlite::{Connection, Transaction};

/// `NTPD`: `file` and others show whose database it is.
pub const APPLICATION_ID: i32 = 0x4e54_5044;

/// Gaps from rows of ticks: where some are missing, and the next does not reach back.
macro_rules! missing {
    () => {
        "SELECT (before + seconds) * 1000 AS from_ms, ts * 1000 AS to_ms FROM
             (SELECT 10 AS seconds, ts, measured_ms, lag(ts) OVER (ORDER BY ts) AS before FROM tick_10s
              UNION ALL SELECT 60, ts, measured_ms, lag(ts) OVER (ORDER BY ts) FROM tick_1m
              UNION ALL SELECT 3600, ts, measured_ms, lag(ts) OVER (ORDER BY ts) FROM tick_1h)
         WHERE ts > before + seconds AND (ts - before - seconds) * 1000 >= measured_ms"
    };
}

/// Where a session's record ends, by its times: before the next session began.
macro_rules! recorded {
    () => {
        "(SELECT (max(ts) + 10) * 1000 FROM
              (SELECT ts FROM tick_10s UNION ALL SELECT ts + 50 FROM tick_1m UNION ALL SELECT ts + 3590 FROM tick_1h)
          WHERE ts + 10 >= started
              AND ts < coalesce((SELECT min(n.started) FROM session n WHERE n.id > session.id), 9223372036854775807))"
    };
}

/// What was lost in a tick, without what earlier versions added up though it is no loss.
macro_rules! lost {
    ($tick:literal, $seconds:literal) => {
        concat!(
            "max(0, lost - coalesce((SELECT sum(count) FROM loss WHERE cause = 'namespaces_unread' AND loss.ts >= ",
            $tick,
            ".ts AND loss.ts < ",
            $tick,
            ".ts + ",
            $seconds,
            "), 0))"
        )
    };
}

/// Ticks of an earlier version, as queries expect them.
macro_rules! ticks {
    ($tick:literal, $seconds:literal) => {
        concat!(
            "CREATE TEMP VIEW ", $tick, " AS SELECT ts, measured_ms, readings, late_ms, clock_step_ms, ", lost!($tick, $seconds),
            " AS lost, load1, load5, load15, cpu_some, memory_some, memory_full, io_some, io_full, NULL AS namespaces_unread
             FROM main.", $tick, ";"
        )
    };
}

/// Tables of what processes and the host used, in one resolution. `$kind` is `TABLE`, or `TEMP TABLE` for a reader;
/// `$more` are columns of later versions.
macro_rules! usage_tables {
    ($kind:literal, $suffix:literal, $more:literal) => {
        concat!(
            "CREATE ", $kind, " usage_", $suffix, "(ts INTEGER NOT NULL, process INTEGER NOT NULL, user_us INTEGER NOT NULL,
             system_us INTEGER NOT NULL, wait_us INTEGER NOT NULL, block_io_us INTEGER NOT NULL, runnable_ms INTEGER NOT NULL,
             blocked_ms INTEGER NOT NULL, rss_kib_s INTEGER NOT NULL, swap_kib_s INTEGER NOT NULL, read_bytes INTEGER NOT NULL,
             write_bytes INTEGER NOT NULL, cancelled_write_bytes INTEGER NOT NULL, major_faults INTEGER NOT NULL,
             voluntary_switches INTEGER NOT NULL, involuntary_switches INTEGER NOT NULL, oom_kills INTEGER NOT NULL,
             rss_peak_kib INTEGER NOT NULL, threads INTEGER NOT NULL", $more, ", PRIMARY KEY(ts, process))
             STRICT, WITHOUT ROWID;
             CREATE ", $kind, " host_", $suffix, "(ts INTEGER PRIMARY KEY, usage_ms INTEGER NOT NULL, user_ms INTEGER NOT NULL,
             system_ms INTEGER NOT NULL, irq_ms INTEGER NOT NULL, iowait_ms INTEGER NOT NULL, idle_ms INTEGER NOT NULL,
             steal_ms INTEGER NOT NULL, disk_read_bytes INTEGER NOT NULL, disk_write_bytes INTEGER NOT NULL,
             swap_in_bytes INTEGER NOT NULL, swap_out_bytes INTEGER NOT NULL, oom_kills INTEGER NOT NULL,
             memory_total_kib INTEGER NOT NULL, memory_used_kib INTEGER NOT NULL, swap_total_kib INTEGER NOT NULL,
             swap_used_kib INTEGER NOT NULL, untold_wait INTEGER NOT NULL, untold_block_io INTEGER NOT NULL,
             untold_disk INTEGER NOT NULL, untold_memory INTEGER NOT NULL, untold_ended INTEGER NOT NULL) STRICT;"
        )
    };
}

/// A table of what block devices did. `$kind` as above.
macro_rules! disk_table {
    ($kind:literal, $suffix:literal) => {
        concat!(
            "CREATE ",
            $kind,
            " disk_",
            $suffix,
            "(ts INTEGER NOT NULL, name TEXT NOT NULL, mounted TEXT NOT NULL, busy_ms INTEGER NOT NULL,
             in_flight_ms INTEGER NOT NULL, read_bytes INTEGER NOT NULL, write_bytes INTEGER NOT NULL,
             PRIMARY KEY(ts, name, mounted)) STRICT, WITHOUT ROWID;"
        )
    };
}

/// How processes ended, in tables that were made without.
macro_rules! exit_columns {
    ($suffix:literal) => {
        concat!(
            "ALTER TABLE usage_",
            $suffix,
            " ADD COLUMN exits INTEGER NOT NULL DEFAULT 0;
             ALTER TABLE usage_",
            $suffix,
            " ADD COLUMN exits_failed INTEGER NOT NULL DEFAULT 0;
             ALTER TABLE usage_",
            $suffix,
            " ADD COLUMN exits_signaled INTEGER NOT NULL DEFAULT 0;
             ALTER TABLE usage_",
            $suffix,
            " ADD COLUMN exit_status INTEGER NOT NULL DEFAULT 0;"
        )
    };
}

/// The same for a reader, unless the tables are its own.
macro_rules! exit_view {
    ($suffix:literal) => {
        concat!(
            "CREATE TEMP VIEW IF NOT EXISTS usage_",
            $suffix,
            " AS SELECT *, 0 AS exits, 0 AS exits_failed,
             0 AS exits_signaled, 0 AS exit_status FROM main.usage_",
            $suffix,
            ";"
        )
    };
}

/// Each makes the next version from the one before.
pub const STEPS: [&str; 13] = [
    // The columns of the three resolutions differ in what a sum does not hold: peaks.
    "CREATE TABLE boot(id INTEGER PRIMARY KEY, boot_id TEXT NOT NULL UNIQUE, first_seen INTEGER NOT NULL,
         host TEXT NOT NULL, kernel TEXT NOT NULL) STRICT;
     CREATE TABLE session(id INTEGER PRIMARY KEY, boot INTEGER NOT NULL REFERENCES boot(id), started INTEGER NOT NULL,
         ended INTEGER, version TEXT NOT NULL) STRICT;
     CREATE TABLE program(id INTEGER PRIMARY KEY, comm TEXT NOT NULL, exe TEXT, unit TEXT, cgroup TEXT, container TEXT) STRICT;
     CREATE TABLE device(id INTEGER PRIMARY KEY, boot INTEGER NOT NULL REFERENCES boot(id), netns INTEGER NOT NULL,
         netns_cookie INTEGER NOT NULL, ifindex INTEGER NOT NULL, name TEXT) STRICT;
     CREATE TABLE process(id INTEGER PRIMARY KEY, boot INTEGER NOT NULL REFERENCES boot(id), pid INTEGER NOT NULL,
         start_time_ns INTEGER, uid INTEGER, program INTEGER NOT NULL REFERENCES program(id),
         device INTEGER NOT NULL REFERENCES device(id), last INTEGER NOT NULL) STRICT;
     CREATE TABLE sample_10s(ts INTEGER NOT NULL, process INTEGER NOT NULL, tx_bytes INTEGER NOT NULL, rx_bytes INTEGER NOT NULL,
         tx_packets INTEGER NOT NULL, rx_packets INTEGER NOT NULL, tx_app_bytes INTEGER NOT NULL, rx_app_bytes INTEGER NOT NULL,
         PRIMARY KEY(ts, process)) STRICT, WITHOUT ROWID;
     CREATE TABLE sample_1m(ts INTEGER NOT NULL, process INTEGER NOT NULL, tx_bytes INTEGER NOT NULL, rx_bytes INTEGER NOT NULL,
         tx_packets INTEGER NOT NULL, rx_packets INTEGER NOT NULL, tx_app_bytes INTEGER NOT NULL, rx_app_bytes INTEGER NOT NULL,
         tx_peak INTEGER NOT NULL, rx_peak INTEGER NOT NULL, PRIMARY KEY(ts, process)) STRICT, WITHOUT ROWID;
     CREATE TABLE sample_1h(ts INTEGER NOT NULL, process INTEGER NOT NULL, tx_bytes INTEGER NOT NULL, rx_bytes INTEGER NOT NULL,
         tx_packets INTEGER NOT NULL, rx_packets INTEGER NOT NULL, tx_app_bytes INTEGER NOT NULL, rx_app_bytes INTEGER NOT NULL,
         tx_peak INTEGER NOT NULL, rx_peak INTEGER NOT NULL, PRIMARY KEY(ts, process)) STRICT, WITHOUT ROWID;
     CREATE TABLE drop_kind(id INTEGER PRIMARY KEY, reason TEXT NOT NULL, class TEXT NOT NULL, location TEXT NOT NULL,
         protocol TEXT) STRICT;
     CREATE TABLE drop_10s(ts INTEGER NOT NULL, kind INTEGER NOT NULL, process INTEGER NOT NULL, packets INTEGER NOT NULL,
         bytes INTEGER NOT NULL, PRIMARY KEY(ts, kind, process)) STRICT, WITHOUT ROWID;
     CREATE TABLE drop_1m(ts INTEGER NOT NULL, kind INTEGER NOT NULL, process INTEGER NOT NULL, packets INTEGER NOT NULL,
         bytes INTEGER NOT NULL, PRIMARY KEY(ts, kind, process)) STRICT, WITHOUT ROWID;
     CREATE TABLE drop_1h(ts INTEGER NOT NULL, kind INTEGER NOT NULL, process INTEGER NOT NULL, packets INTEGER NOT NULL,
         bytes INTEGER NOT NULL, PRIMARY KEY(ts, kind, process)) STRICT, WITHOUT ROWID;
     CREATE TABLE device_10s(ts INTEGER NOT NULL, device INTEGER NOT NULL, tx_bytes INTEGER NOT NULL, tx_packets INTEGER NOT NULL,
         tx_attributed INTEGER NOT NULL, tx_kernel INTEGER NOT NULL, tx_copied INTEGER NOT NULL, tx_unattributed INTEGER NOT NULL,
         rx_bytes INTEGER NOT NULL, rx_packets INTEGER NOT NULL, rx_attributed INTEGER NOT NULL, rx_kernel INTEGER NOT NULL,
         rx_copied INTEGER NOT NULL, rx_unattributed INTEGER NOT NULL, PRIMARY KEY(ts, device)) STRICT, WITHOUT ROWID;
     CREATE TABLE device_1m(ts INTEGER NOT NULL, device INTEGER NOT NULL, tx_bytes INTEGER NOT NULL, tx_packets INTEGER NOT NULL,
         tx_attributed INTEGER NOT NULL, tx_kernel INTEGER NOT NULL, tx_copied INTEGER NOT NULL, tx_unattributed INTEGER NOT NULL,
         rx_bytes INTEGER NOT NULL, rx_packets INTEGER NOT NULL, rx_attributed INTEGER NOT NULL, rx_kernel INTEGER NOT NULL,
         rx_copied INTEGER NOT NULL, rx_unattributed INTEGER NOT NULL, tx_peak INTEGER NOT NULL, rx_peak INTEGER NOT NULL,
         PRIMARY KEY(ts, device)) STRICT, WITHOUT ROWID;
     CREATE TABLE device_1h(ts INTEGER NOT NULL, device INTEGER NOT NULL, tx_bytes INTEGER NOT NULL, tx_packets INTEGER NOT NULL,
         tx_attributed INTEGER NOT NULL, tx_kernel INTEGER NOT NULL, tx_copied INTEGER NOT NULL, tx_unattributed INTEGER NOT NULL,
         rx_bytes INTEGER NOT NULL, rx_packets INTEGER NOT NULL, rx_attributed INTEGER NOT NULL, rx_kernel INTEGER NOT NULL,
         rx_copied INTEGER NOT NULL, rx_unattributed INTEGER NOT NULL, tx_peak INTEGER NOT NULL, rx_peak INTEGER NOT NULL,
         PRIMARY KEY(ts, device)) STRICT, WITHOUT ROWID;
     CREATE TABLE tick_10s(ts INTEGER PRIMARY KEY, measured_ms INTEGER NOT NULL, readings INTEGER NOT NULL, late_ms INTEGER NOT NULL,
         clock_step_ms INTEGER NOT NULL, lost INTEGER NOT NULL, load1 REAL, load5 REAL, load15 REAL, cpu_some REAL,
         memory_some REAL, memory_full REAL, io_some REAL, io_full REAL) STRICT;
     CREATE TABLE tick_1m(ts INTEGER PRIMARY KEY, measured_ms INTEGER NOT NULL, readings INTEGER NOT NULL, late_ms INTEGER NOT NULL,
         clock_step_ms INTEGER NOT NULL, lost INTEGER NOT NULL, load1 REAL, load5 REAL, load15 REAL, cpu_some REAL,
         memory_some REAL, memory_full REAL, io_some REAL, io_full REAL) STRICT;
     CREATE TABLE tick_1h(ts INTEGER PRIMARY KEY, measured_ms INTEGER NOT NULL, readings INTEGER NOT NULL, late_ms INTEGER NOT NULL,
         clock_step_ms INTEGER NOT NULL, lost INTEGER NOT NULL, load1 REAL, load5 REAL, load15 REAL, cpu_some REAL,
         memory_some REAL, memory_full REAL, io_some REAL, io_full REAL) STRICT;
     CREATE TABLE open_bucket(seconds INTEGER NOT NULL, ts INTEGER NOT NULL, PRIMARY KEY(seconds, ts)) STRICT, WITHOUT ROWID;
     CREATE TABLE purged(seconds INTEGER PRIMARY KEY, before INTEGER NOT NULL) STRICT;",
    // What was lost, by cause; `lost` of the ticks is its sum. `flush` shows the writer whether a slot arrived.
    "CREATE TABLE loss(ts INTEGER NOT NULL, cause TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY(ts, cause)) STRICT, WITHOUT ROWID;
     ALTER TABLE session ADD COLUMN hooks_missing INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE tick_10s ADD COLUMN flush INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE tick_1m ADD COLUMN flush INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE tick_1h ADD COLUMN flush INTEGER NOT NULL DEFAULT 0;",
    // What was not measured, to the millisecond, and where the record of a session ends, for any clock.
    concat!(
        "CREATE TABLE gap(from_ms INTEGER NOT NULL, to_ms INTEGER NOT NULL, PRIMARY KEY(from_ms, to_ms)) STRICT, WITHOUT ROWID;
         INSERT OR IGNORE INTO gap ",
        missing!(),
        "; ALTER TABLE session ADD COLUMN recorded_ms INTEGER; UPDATE session SET recorded_ms = ",
        recorded!(),
        ";"
    ),
    // The number of unread namespaces is no loss that adds up from reading to reading.
    concat!(
        "ALTER TABLE tick_10s ADD COLUMN namespaces_unread INTEGER; ALTER TABLE tick_1m ADD COLUMN namespaces_unread INTEGER;
         ALTER TABLE tick_1h ADD COLUMN namespaces_unread INTEGER;
         UPDATE tick_10s SET lost = ", lost!("tick_10s", "10"), " WHERE lost > 0;
         UPDATE tick_1m SET lost = ", lost!("tick_1m", "60"), " WHERE lost > 0;
         UPDATE tick_1h SET lost = ", lost!("tick_1h", "3600"), " WHERE lost > 0;
         DELETE FROM loss WHERE cause = 'namespaces_unread';"
    ),
    // Until then it was in what is unattributed.
    "ALTER TABLE device_10s ADD COLUMN tx_forwarded INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE device_10s ADD COLUMN rx_forwarded INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE device_1m ADD COLUMN tx_forwarded INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE device_1m ADD COLUMN rx_forwarded INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE device_1h ADD COLUMN tx_forwarded INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE device_1h ADD COLUMN rx_forwarded INTEGER NOT NULL DEFAULT 0;",
    // The same.
    "ALTER TABLE device_10s ADD COLUMN tx_upper INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE device_10s ADD COLUMN rx_upper INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE device_1m ADD COLUMN tx_upper INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE device_1m ADD COLUMN rx_upper INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE device_1h ADD COLUMN tx_upper INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE device_1h ADD COLUMN rx_upper INTEGER NOT NULL DEFAULT 0;",
    // Each ancestor once, with the one above it; `starter` is the first from it on that is no shell.
    "CREATE TABLE ancestor(id INTEGER PRIMARY KEY, boot INTEGER NOT NULL REFERENCES boot(id), pid INTEGER NOT NULL,
         start_time_ns INTEGER NOT NULL, uid INTEGER NOT NULL, comm TEXT NOT NULL, starter TEXT,
         parent INTEGER REFERENCES ancestor(id)) STRICT;
     ALTER TABLE program ADD COLUMN script TEXT;
     ALTER TABLE process ADD COLUMN parent INTEGER REFERENCES ancestor(id);",
    // By id: a name that is known later is that of all rows.
    "CREATE TABLE container(id TEXT PRIMARY KEY, name TEXT, image TEXT, runtime TEXT, pod TEXT, pod_container TEXT, workload TEXT)
         STRICT, WITHOUT ROWID;
     INSERT INTO container(id) SELECT DISTINCT container FROM program WHERE container IS NOT NULL;",
    // Until then it was in what is unattributed.
    "ALTER TABLE device_10s ADD COLUMN tx_undecided INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE device_10s ADD COLUMN rx_undecided INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE device_1m ADD COLUMN tx_undecided INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE device_1m ADD COLUMN rx_undecided INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE device_1h ADD COLUMN tx_undecided INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE device_1h ADD COLUMN rx_undecided INTEGER NOT NULL DEFAULT 0;",
    // Of processes of which something of this is known.
    "CREATE TABLE login(process INTEGER PRIMARY KEY REFERENCES process(id), login_uid INTEGER, session INTEGER,
         session_start_time_ns INTEGER, session_comm TEXT, arguments TEXT) STRICT;",
    // What processes used besides the network, and the host's own counters of that.
    concat!(
        usage_tables!("TABLE", "10s", ""),
        usage_tables!("TABLE", "1m", ""),
        usage_tables!("TABLE", "1h", "")
    ),
    // How processes ended.
    concat!(exit_columns!("10s"), exit_columns!("1m"), exit_columns!("1h")),
    // Which disk they waited for.
    concat!(disk_table!("TABLE", "10s"), disk_table!("TABLE", "1m"), disk_table!("TABLE", "1h")),
];

/// What a reader adds to a file of an older version, by the version it came with: temporary tables go before the file's.
const READER_ADDITIONS: [&str; 12] = [
    "CREATE TEMP TABLE loss(ts INTEGER, cause TEXT, count INTEGER);",
    concat!(
        "CREATE TEMP TABLE gap AS SELECT * FROM (",
        missing!(),
        "); CREATE TEMP TABLE session AS SELECT *, ",
        recorded!(),
        " AS recorded_ms FROM main.session;"
    ),
    concat!(ticks!("tick_10s", "10"), ticks!("tick_1m", "60"), ticks!("tick_1h", "3600")),
    // Of what is forwarded, or counted above, nobody asks by itself.
    "",
    "",
    "CREATE TEMP TABLE ancestor(id INTEGER PRIMARY KEY, pid INTEGER, start_time_ns INTEGER, uid INTEGER, comm TEXT, starter TEXT,
         parent INTEGER);
     CREATE TEMP VIEW program AS SELECT *, NULL AS script FROM main.program;
     CREATE TEMP VIEW process AS SELECT *, NULL AS parent FROM main.process;",
    "CREATE TEMP TABLE container(id TEXT PRIMARY KEY, name TEXT, image TEXT, runtime TEXT, pod TEXT, pod_container TEXT, workload TEXT);",
    "CREATE TEMP VIEW device_10s AS SELECT *, 0 AS tx_undecided, 0 AS rx_undecided FROM main.device_10s;
     CREATE TEMP VIEW device_1m AS SELECT *, 0 AS tx_undecided, 0 AS rx_undecided FROM main.device_1m;
     CREATE TEMP VIEW device_1h AS SELECT *, 0 AS tx_undecided, 0 AS rx_undecided FROM main.device_1h;",
    "CREATE TEMP TABLE login(process INTEGER PRIMARY KEY, login_uid INTEGER, session INTEGER, session_start_time_ns INTEGER,
         session_comm TEXT, arguments TEXT);",
    concat!(
        usage_tables!("TEMP TABLE", "10s", ", exits INTEGER, exits_failed INTEGER, exits_signaled INTEGER, exit_status INTEGER"),
        usage_tables!("TEMP TABLE", "1m", ", exits INTEGER, exits_failed INTEGER, exits_signaled INTEGER, exit_status INTEGER"),
        usage_tables!("TEMP TABLE", "1h", ", exits INTEGER, exits_failed INTEGER, exits_signaled INTEGER, exit_status INTEGER")
    ),
    concat!(exit_view!("10s"), exit_view!("1m"), exit_view!("1h")),
    concat!(disk_table!("TEMP TABLE", "10s"), disk_table!("TEMP TABLE", "1m"), disk_table!("TEMP TABLE", "1h")),
];

/// The version that this program writes.
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "a handful of steps")]
pub const VERSION: i32 = STEPS.len() as i32;

/// The oldest that can be read without being changed.
pub const OLDEST: i32 = 1;

/// Version of the file's schema; 0 for an empty one.
///
/// # Errors
///
/// If the file cannot be read, or is no database of SQLite's.
pub fn version(connection: &Connection) -> rusqlite::Result<i32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Brings the file from `version` to [`VERSION`].
///
/// # Errors
///
/// If SQLite refuses, as with a full disk or a damaged file. The caller is to roll back: the file then has its old
/// version.
pub fn migrate(transaction: &Transaction<'_>, version: i32) -> rusqlite::Result<()> {
    let done = usize::try_from(version).unwrap_or(0);
    for step in STEPS.iter().skip(done) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)
}

/// Lets queries on an older file find what came later.
///
/// # Errors
///
/// If the file cannot be read, or SQLite can make no temporary tables, as with a full disk.
pub fn complete(connection: &Connection, version: i32) -> rusqlite::Result<()> {
    let has = usize::try_from(version - OLDEST).unwrap_or(0);
    // What does not fit in these goes to a file: an answer about everything takes no more memory than a small one.
    connection.execute_batch("PRAGMA temp_store = FILE; PRAGMA cache_size = -8192; PRAGMA temp.cache_size = -8192;")?;
    READER_ADDITIONS.iter().skip(has).try_for_each(|step| connection.execute_batch(step))
}

/// Makes the views as this program knows them.
///
/// # Errors
///
/// If SQLite refuses, as with a full disk or a damaged file. The caller is to roll back.
pub fn make_views(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(views::VIEWS)
}
