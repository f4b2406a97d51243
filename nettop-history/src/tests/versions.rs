//! Files of other versions.

use std::fs;

use rusqlite::Connection;

use super::{file, folder, open, origin, question, slot};
use crate::{Limits, Login, Reader, Store, Trouble, schema};

const BEGIN: i64 = 1_795_000_000;

#[test]
fn a_file_of_an_older_version_is_brought_up_to_date() {
    let folder = folder();
    let path = file(&folder);
    open(&path).write(&[slot(BEGIN, &[(1, 5)]), slot(BEGIN + 70, &[(2, 6)])]).unwrap();
    let gaps = [(BEGIN + 10, BEGIN + 70), (BEGIN + 80, BEGIN + 100)];
    for version in schema::OLDEST..schema::VERSION {
        // As that version made it, with what it had recorded.
        let old = folder.path().join(format!("v{version}.db"));
        let connection = Connection::open(&old).unwrap();
        for step in &schema::STEPS[..usize::try_from(version).unwrap()] {
            connection.execute_batch(step).unwrap();
        }
        connection
            .execute_batch(&format!(
                // Tables are filled in any order.
                "PRAGMA foreign_keys = OFF; PRAGMA application_id = {}; PRAGMA user_version = {version}; ATTACH '{}' AS new;",
                schema::APPLICATION_ID,
                path.display()
            ))
            .unwrap();
        let tables: Vec<String> = connection
            .prepare("SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name NOT IN ('session', 'tick_10s', 'tick_1m', 'tick_1h')
                AND name NOT IN ('process', 'program') AND name NOT LIKE 'device_1%' AND name NOT LIKE 'usage_1%'")
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
            .execute_batch("INSERT INTO main.program(id, comm, exe, unit, cgroup, container) SELECT id, comm, exe, unit, cgroup, container FROM new.program;
                INSERT INTO main.process(id, boot, pid, start_time_ns, uid, program, device, last) SELECT id, boot, pid, start_time_ns, uid, program, device, last FROM new.process;
                INSERT INTO main.tick_10s(ts, measured_ms, readings, late_ms, clock_step_ms, lost) SELECT ts, measured_ms, readings, late_ms, clock_step_ms, lost FROM new.tick_10s")
            .unwrap();
        let columns = "ts, device, tx_bytes, tx_packets, tx_attributed, tx_kernel, tx_copied, tx_unattributed, rx_bytes, rx_packets,
            rx_attributed, rx_kernel, rx_copied, rx_unattributed";
        connection
            .execute_batch(&format!("INSERT INTO main.device_10s({columns}) SELECT {columns} FROM new.device_10s"))
            .unwrap();
        // Added up, though it is no loss, until the fourth version.
        if version > 1 {
            let unread = if version < 4 { [10, 2] } else { [0, 0] };
            connection
                .execute_batch(&format!(
                    "INSERT INTO loss VALUES({BEGIN}, 'namespaces_unread', {1}), ({0}, 'namespaces_unread', {2}), ({0}, 'rows_full', 1);
                     DELETE FROM loss WHERE count = 0;
                     UPDATE tick_10s SET lost = iif(ts = {BEGIN}, {1}, {2} + 1);",
                    BEGIN + 70,
                    unread[0],
                    unread[1]
                ))
                .unwrap();
        }
        let check_losses = |answer: &crate::Answer, more: u64| {
            let lost = u64::from(version > 1) + more;
            let losses: Vec<_> = answer.losses.iter().map(|(cause, count)| (cause.as_str(), *count)).collect();
            assert_eq!(losses, if lost > 0 { vec![("rows_full", lost)] } else { vec![] });
        };
        let while_lost = || crate::Question { when: Some("lost > 0".parse().unwrap()), ..question(BEGIN, BEGIN + 100) };
        connection
            .execute_batch(
                "INSERT INTO main.session(boot, started, version) SELECT boot, started, version FROM new.session",
            )
            .unwrap();
        if version > 2 {
            connection
                .execute_batch("UPDATE main.session SET recorded_ms = (SELECT recorded_ms FROM new.session)")
                .unwrap();
        }
        drop(connection);
        // As it is, by a read-only user.
        let before = fs::read(&old).unwrap();
        let answer = Reader::open(&old).unwrap().answer(&question(BEGIN, BEGIN + 100)).unwrap();
        assert_eq!(answer.rows.iter().map(|row| row.counters.tx_bytes).sum::<u64>(), 5 + 6);
        assert_eq!(answer.gaps, gaps);
        check_losses(&answer, 0);
        assert!(answer.rows.iter().all(|row| row.who.parents.is_empty() && row.who.script.is_none()));
        let has_login = version > 9;
        assert!(answer.rows.iter().all(|row| (row.who.login != Login::default()) == has_login), "version {version}");
        let by_parent = crate::Question { by: crate::By::Parent, ..question(BEGIN, BEGIN + 100) };
        assert_eq!(Reader::open(&old).unwrap().answer(&by_parent).unwrap().rows[0].name, "-");
        let by_pod = crate::Question { by: crate::By::Pod, ..question(BEGIN, BEGIN + 100) };
        assert_eq!(Reader::open(&old).unwrap().answer(&by_pod).unwrap().rows[0].name, "-");
        let by_device = || {
            let question = crate::Question { by: crate::By::Device, ..question(BEGIN, BEGIN + 80) };
            let rows = Reader::open(&old).unwrap().answer(&question).unwrap().rows;
            rows.iter().map(|row| (row.counters.tx_bytes, row.rest)).collect::<Vec<_>>()
        };
        let of_devices = by_device();
        let rest = crate::Rest { unattributed_bytes: 14, ..crate::Rest::default() };
        assert_eq!(of_devices, [(13, Some(rest)), (12, Some(rest))], "version {version}");
        let reader = Reader::open(&old).unwrap();
        let recorded = reader.recorded(reader.buckets_until(BEGIN, 1).unwrap()[0], true).unwrap();
        let of_devices_then = recorded.devices.iter().map(|(_, balance)| balance.tx.unattributed_bytes);
        assert_eq!((recorded.rows.len(), of_devices_then.collect::<Vec<_>>()), (1, vec![7]), "version {version}");
        drop(reader);
        let selected = Reader::open(&old).unwrap().answer(&while_lost()).unwrap().selected_ms;
        assert_eq!(selected, if version > 1 { 10_000 } else { 0 }, "version {version}");
        assert_eq!(Reader::open(&old).unwrap().last_boot("next").unwrap().unwrap().last, BEGIN + 80);
        assert_eq!(fs::read(&old).unwrap(), before);
        let mut store = open(&old);
        let mut more = slot(BEGIN + 80, &[(1, 7)]);
        more.losses.insert("rows_full", 3);
        store.write(&[more]).unwrap();
        store.finish(BEGIN + 90).unwrap();
        assert_eq!(by_device(), of_devices);
        let answer = Reader::open(&old).unwrap().answer(&question(BEGIN, BEGIN + 90)).unwrap();
        assert_eq!(answer.rows.iter().map(|row| row.counters.tx_bytes).sum::<u64>(), 5 + 6 + 7);
        check_losses(&answer, 3);
        let selected = Reader::open(&old).unwrap().answer(&while_lost()).unwrap().selected_ms;
        assert_eq!(selected, if version > 1 { 20_000 } else { 10_000 }, "version {version}");
        assert_eq!(answer.gaps, gaps[..1]);
    }
}

#[test]
fn what_processes_used_stays_where_it_was_not_recorded_how_they_ended() {
    let folder = folder();
    let path = file(&folder);
    let mut busy = slot(BEGIN, &[(1, 5)]);
    busy.host = Some(crate::HostUsage { usage_ms: 10_000, oom_kills: 2, ..crate::HostUsage::default() });
    let used = crate::Usage { user_us: 7000, rss_peak_kib: 30, ..crate::Usage::default() };
    busy.usage.insert(crate::Who { device: crate::slot::Device::default(), ..super::who(1) }, used);
    open(&path).write(&[busy]).unwrap();
    let old = folder.path().join("old.db");
    let connection = Connection::open(&old).unwrap();
    const BEFORE_ENDS: usize = 11;
    for step in &schema::STEPS[..BEFORE_ENDS] {
        connection.execute_batch(step).unwrap();
    }
    let begin = format!(
        "PRAGMA foreign_keys = OFF; PRAGMA application_id = {}; PRAGMA user_version = {BEFORE_ENDS}; ATTACH '{}' AS new;",
        schema::APPLICATION_ID,
        path.display()
    );
    connection.execute_batch(&begin).unwrap();
    let texts = |query: String| -> Vec<String> {
        let mut query = connection.prepare(&query).unwrap();
        query.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    for table in texts("SELECT name FROM main.sqlite_schema WHERE type = 'table'".into()) {
        let columns = texts(format!("SELECT name FROM main.pragma_table_info('{table}')")).join(", ");
        connection
            .execute_batch(&format!("INSERT INTO main.{table}({columns}) SELECT {columns} FROM new.{table}"))
            .unwrap();
    }
    drop(connection);
    let check = || {
        let reader = Reader::open(&old).unwrap();
        let recorded = reader.recorded(reader.buckets_until(BEGIN, 1).unwrap()[0], true).unwrap();
        assert_eq!(recorded.usage.iter().map(|(_, _, usage)| *usage).collect::<Vec<_>>(), [used]);
        assert_eq!(recorded.host_usage.map(|host| (host.usage_ms, host.oom_kills)), Some((10_000, 2)));
        let rows = reader.answer(&question(BEGIN, BEGIN + 10)).unwrap().rows;
        assert_eq!(rows.iter().map(|row| row.usage.user_us).collect::<Vec<_>>(), [7000]);
    };
    check();
    drop(open(&old));
    assert_eq!(schema::version(&Connection::open(&old).unwrap()).unwrap(), schema::VERSION);
    check();
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
