//! `nettopd daemon`: its messages to systemd, counting without a capability, and taking over a configuration.

use std::{
    fs,
    net::UdpSocket,
    path::Path,
    time::{Duration, Instant},
};

use aya::maps::{Array, Map, MapData};
use nettop_common::Row;
use nettop_model::Snapshot;
use nettop_tests::{
    Moved, Namespace, Process, amount, drops::nft_drop, rows_of, run_nettopd, service::Service, set_name,
    thread_statuses,
};
use nix::sys::signal::Signal;
use rusqlite::Connection;

/// Lines of /proc/PID/status, of each thread.
fn of_threads(pid: u32, name: &str) -> Vec<String> {
    let line = |status: &String| status.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    thread_statuses(Path::new(&format!("/proc/{pid}"))).iter().map(line).collect()
}

fn assert_on_all_threads(pid: u32, name: &str, value: &str) {
    let lines = of_threads(pid, name);
    // The one that samples, and the history's.
    assert!(lines.len() >= 2, "{lines:?}");
    assert!(lines.iter().all(|line| line == &format!("{name}:\t{value}")), "{lines:?}");
}

#[test]
fn it_is_ready_after_a_sample_and_has_no_capability_then() {
    const NONE: &str = "0000000000000000";
    for as_root in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        // Neither readiness nor the watchdog waits for the interval.
        let service = Service::start(folder.path(), as_root, "interval = 3600", &[]);
        let messages = service.wait_for("READY=1");
        let last = messages.last().unwrap();
        assert!(last.contains("STATUS=") && last.contains("; loss: "), "{messages:?}");
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            assert_on_all_threads(service.pid(), set, NONE);
        }
        if as_root {
            assert_on_all_threads(service.pid(), "CapBnd", NONE);
        }
        assert_on_all_threads(service.pid(), "NoNewPrivs", "1");
        for _ in 0..3 {
            service.wait_for("WATCHDOG=1");
        }
        assert_eq!(service.stop(), Some(0));
    }
}

#[test]
fn a_capability_that_is_asked_for_stays() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), true, "interval = 1\nkeep_capabilities = ['sys_ptrace']", &[]);
    service.wait_for("READY=1");
    assert_on_all_threads(service.pid(), "CapEff", "0000000000080000");
    assert_eq!(service.stop(), Some(0));
}

/// Recovery probes attach after capabilities are gone, as when the kernel skips a run.
#[test]
fn without_capabilities_everything_is_counted_and_named() {
    const DATAGRAMS: u64 = 200;
    const BYTES: usize = 700;
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), false, "interval = 0.5", &["--recovery-probe"]);
    service.wait_for("READY=1");
    let alone = Namespace::new();
    let talker = Process::start(Some(&alone), |_| {
        set_name(b"confined");
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = socket.local_addr().unwrap();
        let mut buffer = [0; BYTES];
        let mut moved = Moved::default();
        for _ in 0..DATAGRAMS {
            moved.sent += socket.send_to(&buffer, to).unwrap() as u64;
            moved.received += socket.recv(&mut buffer).unwrap() as u64;
            // To a closed port: the kernel drops it.
            let _ = UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[0; 5], "127.0.0.1:9");
            moved.sent += 5;
        }
        moved
    });
    let pid = talker.pid();
    let moved = talker.finish();
    service.wait_for_log(&format!("network namespace {} is not entered", alone.inode()));
    service.wait_for("STATUS=");
    let log = service.log();
    assert!(!log.contains("cannot be attached") && !log.contains("Operation not permitted"), "{log}");
    assert_eq!(service.stop(), Some(0));

    let history = Connection::open(folder.path().join("history.db")).unwrap();
    let number = |query: &str| -> i64 {
        let query = query.replace("$pid", &pid.to_string());
        history.query_row(&query, [], |row| row.get(0)).unwrap_or_else(|error| panic!("{query}: {error}"))
    };
    let samples = "FROM sample_10s JOIN process ON process.id = sample_10s.process WHERE process.pid = $pid";
    assert_eq!(number(&format!("SELECT sum(tx_app_bytes) {samples}")), moved.sent.cast_signed());
    assert_eq!(number(&format!("SELECT sum(rx_app_bytes) {samples}")), moved.received.cast_signed());
    let dropped =
        "SELECT sum(packets) FROM drop_10s s JOIN drop_kind k ON k.id = s.kind JOIN process p ON p.id = s.process
         JOIN device d ON d.id = p.device WHERE k.location LIKE '%udp%rcv+0x%' AND d.netns =";
    assert_eq!(number(&format!("{dropped} {}", alone.inode())), DATAGRAMS.cast_signed());
}

/// How often its main thread has waited for something.
fn waits(service: &Service) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", service.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
    line.trim().parse().unwrap()
}

#[test]
fn a_manager_that_does_not_listen_keeps_nobody_waiting() {
    let narrow = Namespace::new();
    narrow.write("/proc/sys/net/unix/max_dgram_qlen", "1");
    let folder = tempfile::tempdir().unwrap();
    let service = narrow.enter(|| Service::start(folder.path(), true, "interval = 0.05", &["--no-history"]));
    service.wait_for("READY=1");
    // Each interval sends a status, and waits for the next.
    let (begun, deadline) = (waits(&service), Instant::now() + Duration::from_secs(60));
    while waits(&service) < begun + 100 {
        assert!(Instant::now() < deadline, "it waits for somebody to listen");
        std::thread::sleep(Duration::from_millis(50));
    }
    service.wait_for("STATUS=");
}

/// Bytes that programs in a namespace handed over, by the rows that systemd keeps.
fn sent_by_kept_rows(service: &Service, netns: u32) -> u64 {
    let rows = MapData::from_fd(service.kept(".map.ROWS")).and_then(Map::from_map_data).unwrap();
    let rows: Array<MapData, [u64; size_of::<Row>() / 8]> = Array::try_from(rows).unwrap();
    let rows = rows.iter().map(|row| bytemuck::cast::<_, Row>(row.unwrap()));
    rows.filter(|row| row.key.netns.inode == netns).map(|row| row.flows[0].app_bytes).sum()
}

/// The same, by a document.
fn sent_by_rows(document: &Snapshot, netns: u32) -> u64 {
    document.rows.iter().filter(|row| row.netns == netns).map(|row| row.total.tx.app_bytes).sum()
}

#[test]
fn counters_outlive_a_daemon_that_crashes() {
    let folder = tempfile::tempdir().unwrap();
    let mut service = Service::start(folder.path(), false, "interval = 0.5", &[]);
    service.wait_for("READY=1");
    service.follow();
    let alone = Namespace::new();
    let talk = |times: u64| {
        alone.enter(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            for _ in 0..times {
                socket.send_to(&[0; 100], socket.local_addr().unwrap()).unwrap();
            }
        });
    };
    talk(20);
    assert_eq!(sent_by_kept_rows(&service, alone.inode()), 2000);
    let first = service.document();
    let mut sent = sent_by_rows(&first, alone.inode());
    assert_eq!(sent, 2000);
    for times in [300, 4000] {
        let before = sent_by_kept_rows(&service, alone.inode());
        service.crash(|| talk(times));
        service.wait_for("READY=1");
        assert_eq!(sent_by_kept_rows(&service, alone.inode()), before + times * 100, "{}", service.log());
        service.follow();
        let document = service.document();
        sent += times * 100;
        assert_eq!(
            (sent_by_rows(&document, alone.inode()), &document.accounting_since),
            (sent, &first.accounting_since)
        );
        assert!(document.devices_since > first.devices_since, "{:?}", document.devices_since);
        assert_on_all_threads(service.pid(), "CapEff", "0000000000000000");
    }
    assert_eq!(service.log().matches("counting goes on").count(), 2, "{}", service.log());

    // Tables of another size: nothing of them can be used, and all of it has to go.
    service.set_config("interval = 0.5\nrows = 100");
    service.crash(|| {});
    service.wait_for("READY=1");
    assert!(service.log().contains("counting begins anew"), "{}", service.log());
    assert_eq!(sent_by_kept_rows(&service, alone.inode()), 0);
    service.follow();
    assert!(service.document().accounting_since > first.accounting_since);
    assert_eq!(service.stop(), Some(0));
}

#[test]
fn drops_that_the_table_gave_back_stay_in_their_row_after_a_crash() {
    const KINDS: u64 = 64;
    let folder = tempfile::tempdir().unwrap();
    let mut service = Service::start(folder.path(), false, &format!("interval = 0.1\ndrop_kinds = {KINDS}"), &[]);
    service.wait_for("READY=1");
    service.follow();
    let alone = Namespace::new();
    nft_drop(&alone, "output", "udp dport 4000");
    let drop_some = |times: u64| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        (0..times).for_each(|_| assert!(socket.send_to(&[0; 10], "127.0.0.1:4000").is_err()));
    };
    let sender = Process::start(Some(&alone), |parent| {
        drop_some(7);
        parent.signal_ready();
        parent.wait_for_parent();
        Moved::default()
    });
    sender.wait_until_ready();
    // Three quarters of the table and more: what is quiet for long is given back.
    for _ in 0..KINDS {
        Process::run(Some(&alone), |_| {
            drop_some(1);
            Moved::default()
        });
    }
    let counted = |document: &Snapshot| {
        let drops = document.drops.iter().filter(|drop| drop.pid == Some(sender.pid()));
        let in_row: u64 = rows_of(document, sender.pid()).iter().map(|row| row.drops.total).sum();
        (drops.map(|drop| drop.total.packets).sum::<u64>(), in_row)
    };
    let deadline = Instant::now() + Duration::from_secs(amount(30, 120));
    loop {
        let (in_table, in_row) = counted(&service.document());
        assert_eq!(in_row, 7);
        if in_table == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{in_table} are not given back");
    }
    service.crash(|| {});
    service.wait_for("READY=1");
    service.follow();
    assert_eq!(counted(&service.document()), (0, 7), "{}", service.log());
    assert_eq!(service.stop(), Some(0));
}

#[test]
fn a_configuration_is_taken_over_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), false, "interval = 3600\nlog_level = 'info'", &[]);
    service.wait_for("READY=1");
    service.reload("interval = 0.2\nrows = 100\nlog_level = 'debug'");
    service.wait_for("RELOADING=1");
    service.wait_for("READY=1");
    let log = service.log();
    assert!(log.contains("interval = 0.2 (was 3600.0)"), "{log}");
    assert!(log.contains("log_level = \"debug\" (was \"info\")"), "{log}");
    assert!(log.contains("rows = 100, with the next start (was 65536)"), "{log}");
    // The new interval holds: a status with each sample.
    service.wait_for("STATUS=");
    service.wait_for("STATUS=");
    let before = service.log();
    service.reload("interval = 3600\nintervall = 1");
    service.wait_for("RELOADING=1");
    service.wait_for("READY=1");
    let log = service.log();
    let said: Vec<&str> = log.strip_prefix(&before).unwrap().lines().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(said.len(), 1, "{log}");
    assert!(said[0].contains("nettopd.toml, line 2: unknown field `intervall`"), "{}", said[0]);
    assert!(said[0].ends_with("did you mean `interval`?"), "{}", said[0]);
    service.wait_for("STATUS=");
    service.wait_for("STATUS=");
    assert_eq!(service.stop(), Some(0));
}

#[test]
fn a_reload_that_comes_too_early_waits() {
    const SIGHUP_BIT: u64 = 1;
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), true, "interval = 1", &[]);
    let blocked = || {
        let status = fs::read_to_string(format!("/proc/{}/status", service.pid())).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap().trim().to_owned();
        u64::from_str_radix(&mask, 16).unwrap()
    };
    // From its first moments on, before it is ready.
    let deadline = Instant::now() + Duration::from_secs(30);
    while blocked() & SIGHUP_BIT == 0 {
        assert!(Instant::now() < deadline, "it does not hold the signal back");
        std::thread::yield_now();
    }
    service.signal(Signal::SIGHUP);
    service.wait_for("READY=1");
    service.wait_for_log("the configuration is read again");
    assert_eq!(service.stop(), Some(0));
}

#[test]
fn a_wrong_configuration_ends_with_code_78() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.toml");
    fs::write(&file, "[history]\nkeep_dasy = [1, 2, 3]\n").unwrap();
    let file = file.to_str().unwrap();
    for args in [["daemon", "--config", file].as_slice(), &["config", "check", file], &["config", "check", "/none"]] {
        let output = run_nettopd(args);
        assert_eq!(output.status.code(), Some(78), "{args:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(output.stdout.is_empty());
    }
    let said = String::from_utf8(run_nettopd(&["config", "check", file]).stderr).unwrap();
    assert!(said.contains("line 2: unknown field `keep_dasy`") && said.contains("mean `keep_days`?"), "{said}");

    fs::write(file, "interval = 7\n").unwrap();
    let output = run_nettopd(&["config", "check", "--show", file]);
    assert_eq!(output.status.code(), Some(0));
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("interval = 7.0") && shown.contains("rows = 65536"), "{shown}");
    fs::write(file, &shown).unwrap();
    assert_eq!(run_nettopd(&["config", "check", file]).status.code(), Some(0), "what is shown can be read");
}
