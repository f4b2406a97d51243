//! The daemon's history against its own reports, and later queries. Nothing of this depends on the kernel.

mod default_file;

use std::{
    collections::HashSet,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::UdpSocket,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant, SystemTime},
};

use nettop_model::{
    Snapshot,
    drops::Class,
    history::Document,
    snapshot::{Amount, DeviceBalance, DirectionBalance, Traffic},
};
use nettop_tests::{Namespace, Process, nettopd_command, routed, run_nettopd, set_name};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rusqlite::{Connection, OpenFlags};

use crate::schemas::assert_fits;

/// A process that sends itself a datagram of `size` bytes every 5 ms, and asks closed ports, here and behind a router, until
/// dropped.
fn talker(namespace: &Namespace, name: &'static [u8], size: usize) -> Process {
    let talker = Process::start(Some(namespace), move |parent| {
        set_name(name);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let asking = UdpSocket::bind("0.0.0.0:0").unwrap();
        let mut buffer = vec![0; size];
        parent.signal_ready();
        loop {
            socket.send_to(&buffer, socket.local_addr().unwrap()).unwrap();
            socket.recv(&mut buffer).unwrap();
            let _ = asking.send_to(&[0; 5], "127.0.0.1:9");
            let _ = asking.send_to(&[0; 5], "10.2.0.2:9");
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    talker.wait_until_ready();
    talker
}

/// A device that has sent much.
struct Moving {
    elsewhere: Namespace,
}

impl Moving {
    const SENT_BYTES: u64 = 1_000_000;

    fn new(namespace: &Namespace) -> Self {
        namespace.ip("link add moving type veth peer name still");
        for line in ["link set still up", "addr add 10.9.0.1/24 dev moving", "link set moving up"] {
            namespace.ip(line);
        }
        namespace.wait_until_up("moving");
        namespace.ip("neigh replace 10.9.0.2 lladdr 02:00:00:00:00:09 dev moving nud permanent");
        namespace.enter(|| {
            let socket = UdpSocket::bind("10.9.0.1:0").unwrap();
            (0..Self::SENT_BYTES / 1000).for_each(|_| drop(socket.send_to(&[0; 1000], "10.9.0.2:9")));
        });
        assert!(namespace.counters("moving").tx_bytes > Self::SENT_BYTES);
        Self { elsewhere: Namespace::new() }
    }

    /// Moves it to the other namespace and back, with reports before, between and after.
    fn go_and_come_back(&self, namespace: &Namespace) {
        for (from, to) in [(namespace, &self.elsewhere), (&self.elsewhere, namespace)] {
            // Several reports of half a second.
            std::thread::sleep(Duration::from_secs(3));
            from.ip(&format!("link set moving netns {}", to.pid()));
            to.ip("link set moving up");
        }
    }
}

fn read_only(path: &Path) -> Connection {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

fn number(connection: &Connection, query: &str) -> u64 {
    connection.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap().cast_unsigned()
}

/// The document of `nettopd history` with these arguments.
fn ask(path: &Path, args: &[&str]) -> Document {
    let output = run_nettopd(&[&["history", "--history", path.to_str().unwrap(), "--format", "json"], args].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document = serde_json::from_slice(&output.stdout).unwrap();
    assert_fits(include_str!("../../../docs/history.schema.json"), document, "/quality/period_ms");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_file_has_what_the_reports_said_and_answers_the_questions_of_its_page() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    let (alone, _router, _host) = routed();
    let _talkers = [talker(&alone, b"small-talk", 100), talker(&alone, b"loud\x1b[2J", 5000)];
    let moving = Moving::new(&alone);
    let (reported, args) = (folder.path().join("reports"), ["--format", "ndjson", "0.5", "26"]);
    let mut command = nettopd_command();
    command.arg("--history").arg(&path).args(args).stdout(fs::File::create(&reported).unwrap());
    let nettopd = command.stderr(Stdio::piped()).spawn().unwrap();
    moving.go_and_come_back(&alone);
    let output = nettopd.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(&reported).unwrap();
    let reports: Vec<Snapshot> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(reports.len(), 26);

    let connection = read_only(&path);
    type Ways = (&'static str, fn(&Traffic) -> Amount, fn(&DeviceBalance) -> DirectionBalance);
    let directions: [Ways; 2] = [("tx", |row| row.tx, |device| device.tx), ("rx", |row| row.rx, |device| device.rx)];
    for (direction, of_row, of_device) in directions {
        let rows = reports.iter().flat_map(|report| &report.rows).map(|row| of_row(&row.interval));
        let rows: Vec<Amount> = rows.collect();
        let moved = |what: fn(&Amount) -> u64| rows.iter().map(what).sum::<u64>();
        for (column, said) in [
            ("bytes", moved(|row| row.bytes)),
            ("packets", moved(|row| row.packets)),
            ("app_bytes", moved(|row| row.app_bytes)),
        ] {
            assert!(said > 0);
            for resolution in ["10s", "1m", "1h"] {
                let query = format!("SELECT sum({direction}_{column}) FROM sample_{resolution}");
                assert_eq!(number(&connection, &query), said, "{direction} {column} {resolution}");
            }
        }
        let devices = reports.iter().flat_map(|report| &report.devices).map(|device| of_device(&device.interval));
        let devices: Vec<DirectionBalance> = devices.collect();
        let passed = |what: fn(&DirectionBalance) -> u64| devices.iter().map(what).sum::<u64>();
        for (column, said) in [
            ("bytes", passed(|device| device.bytes)),
            ("attributed", passed(|device| device.attributed_bytes + device.link_header_bytes + device.padding_bytes)),
            ("kernel", passed(|device| device.kernel_bytes)),
            ("forwarded", passed(|device| device.forwarded_bytes)),
            ("upper", passed(|device| device.upper_bytes)),
        ] {
            assert!(said > 0 || column == "upper", "nothing is in a stack");
            for resolution in ["10s", "1m", "1h"] {
                let query = format!("SELECT sum({direction}_{column}) FROM device_{resolution}");
                assert_eq!(number(&connection, &query), said, "devices: {direction} {column} {resolution}");
            }
        }
        let balance = format!(
            "SELECT sum({direction}_bytes + {direction}_copied - {direction}_attributed - {direction}_kernel - {direction}_forwarded - {direction}_upper - {direction}_unattributed - {direction}_undecided) FROM device_1h"
        );
        assert_eq!(number(&connection, &balance), 0, "it balances");
    }
    // What it had moved before nettopd began, and where it was meanwhile, is not moved again.
    let of_moving = number(&connection, "SELECT coalesce(sum(tx_bytes), 0) FROM devices WHERE name = 'moving'");
    let seen_in = reports.iter().flat_map(|report| &report.devices).filter(|device| device.device == "moving");
    assert_eq!(seen_in.map(|device| device.netns).collect::<HashSet<_>>().len(), 2);
    assert!(of_moving < Moving::SENT_BYTES / 10, "{of_moving}");
    let drops = reports.iter().flat_map(|report| &report.drops).filter(|drop| drop.class != Class::Lifecycle);
    let said: u64 = drops.map(|drop| drop.interval.packets).sum();
    assert!(said > 0);
    assert_eq!(number(&connection, "SELECT sum(packets) FROM drops WHERE class <> 'tcp'"), said);
    questions_of_the_page(&path);
    answers(&path);
}

/// Every query of docs/history.md, by an ordinary client.
fn questions_of_the_page(path: &Path) {
    let page = include_str!("../../../docs/history.md");
    let queries: Vec<&str> = page.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(queries.len(), 11);
    for query in queries {
        let output = Command::new("sqlite3").args(["-readonly", "-bail"]).arg(path).arg(query).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{query}\n{said}");
        let answer = String::from_utf8(output.stdout).unwrap();
        // Nothing happened yesterday, and the load is what it is.
        let may_be_empty = ["-1 day", "load1 > 4", "Load > 1.4"].iter().any(|part| query.contains(part));
        assert!(may_be_empty || !answer.trim().is_empty(), "no answer to\n{query}");
        assert!(answer.chars().all(|c| c == '\n' || !c.is_control()), "{answer:?}");
    }
}

fn answers(path: &Path) {
    let Document { schema, rows, quality, .. } = ask(path, &["--from", "-2m"]);
    assert_eq!(schema, "nettop.history/1");
    let loud = rows.iter().find(|row| row.comm.as_deref() == Some("loud\\x1b[2J")).expect("it is among the first");
    assert_eq!(quality.resolution[0].resolution, "10s");
    assert!(!quality.gaps.is_empty(), "it ran for 13 s of 2 min");
    assert!((12_000..15_000).contains(&quality.measured_ms), "{}", quality.measured_ms);
    assert!(loud.sparkline.iter().any(Option::is_none), "what was not measured is not 0");
    for by in ["program", "unit", "user", "device", "container", "script", "parent"] {
        assert!(!ask(path, &["--by", by]).rows.is_empty(), "{by}");
    }
    assert!(ask(path, &["--when", "load < 0"]).rows.is_empty());
    let top = ask(path, &["--top", "1"]);
    assert_eq!(top.rows.len(), 1);
    assert!(top.others.number >= 1);
    for format in ["table", "ndjson", "csv"] {
        let output = run_nettopd(&["history", "--history", path.to_str().unwrap(), "--format", format]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("x1b[2J") && text.chars().all(|c| c == '\n' || !c.is_control()), "{format}: {text}");
    }
    let output = run_nettopd(&["history", "--history", path.to_str().unwrap(), "--last-boot"]);
    assert_eq!(output.stderr, b"nettopd: no boot before this one was recorded\n");
}

#[test]
fn absurd_wishes_are_refused_with_code_2() {
    let absurd: [&[&str]; 9] = [
        &["--history", "/tmp/x", "-p", "1", "0.1", "1"],
        &["--history", "/tmp/x", "-4", "0.1", "1"],
        &["--history", "/tmp/x", "--once"],
        &["--history", "/tmp/x", "--no-history"],
        &["--history-keep", "14,2,400"],
        &["history", "--at", "now", "--from", "-1h"],
        &["history", "--when", "load"],
        &["history", "--by", "colour"],
        &["history", "--last-boot", "--to", "now"],
    ];
    for args in absurd {
        let output = run_nettopd(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let output = run_nettopd(&["history", "--history", "/no/such/file"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    let remedy = "does nettopd record there? --history FILE names another";
    assert_eq!(said, format!("nettopd: there is no history /no/such/file: {remedy}\n"));
}

#[test]
fn a_refused_reader_learns_which_group_may_read() {
    let folder = tempfile::tempdir().unwrap();
    // Where anybody may run it.
    let program = folder.path().join("nettopd");
    fs::copy(nettopd_command().get_program(), &program).unwrap();
    let recorded = folder.path().join("recorded");
    fs::create_dir(&recorded).unwrap();
    chown(&recorded, None, Some(4711)).unwrap();
    for (folder, mode) in [(folder.path(), 0o755), (&recorded, 0o2750)] {
        fs::set_permissions(folder, PermissionsExt::from_mode(mode)).unwrap();
    }
    let path = recorded.join("history.db");
    assert!(run_nettopd(&["--history", path.to_str().unwrap(), "--format", "ndjson", "0.1", "1"]).status.success());
    let ask = |group: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", &format!("--regid={group}"), "--clear-groups"]).arg(&program);
        command.args(["history", "--history", path.to_str().unwrap(), "--format", "json"]).output().unwrap()
    };
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let members = ask("4711");
    assert!(members.status.success(), "{}", said(&members));
    let expected = |path: &Path| {
        let remedy = "join the group 4711, or run as root";
        format!("nettopd: not permitted to read the history {}: {remedy}\n", path.display())
    };
    let others = ask("4712");
    assert_eq!((others.status.code(), said(&others)), (Some(77), expected(&path)));
    // The folder lets them in, the file does not.
    fs::set_permissions(&recorded, PermissionsExt::from_mode(0o2755)).unwrap();
    let others = ask("4712");
    assert_eq!((others.status.code(), said(&others)), (Some(77), expected(&path)));
}

#[test]
fn each_kill_with_a_quick_restart_shows_as_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    let start = || {
        let args = ["--history", path.to_str().unwrap(), "--format", "ndjson", "0.5"];
        nettopd_command().args(args).stdout(Stdio::null()).spawn().unwrap()
    };
    let signal = |child: &Child, signal| kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
    let began = now_s();
    let mut child = start();
    let mut kills = Vec::new();
    for run_ms in [12_300, 13_700, 1100] {
        std::thread::sleep(Duration::from_millis(run_ms));
        signal(&child, Signal::SIGKILL);
        kills.push(now_s());
        child.wait().unwrap();
        child = start();
    }
    std::thread::sleep(Duration::from_secs(12));
    signal(&child, Signal::SIGTERM);
    child.wait().unwrap();
    let to = now_s();
    let document = ask(&path, &["--from", &utc(began), "--to", &utc(to)]);
    let second = |time: &str| time.parse::<jiff::Timestamp>().unwrap().as_second();
    let gaps = document.quality.gaps.iter();
    let gaps: Vec<(i64, i64)> = gaps.map(|gap| (second(&gap.from), second(&gap.to))).collect();
    for killed in &kills {
        let gap = gaps.iter().find(|(from, to)| (*from..=*to).contains(killed));
        let (from, _) = gap.unwrap_or_else(|| panic!("nothing shows the kill at {killed}: {gaps:?}"));
        assert!(killed - from <= 10 + 2, "more than a slot and an interval is lost: {killed} {gaps:?}");
    }
    // Beside the edges of the period.
    let inside = gaps.iter().filter(|(from, gap_to)| *from > began + 5 && *gap_to < to - 5);
    assert!(inside.count() <= kills.len(), "{kills:?} {gaps:?}");
}

fn now_s() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs().cast_signed()
}

fn utc(ts: i64) -> String {
    jiff::Timestamp::from_second(ts).unwrap().to_string()
}

#[test]
fn a_file_that_is_refused_stops_no_report_and_a_kill_costs_a_slot_and_an_interval() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    symlink(folder.path().join("elsewhere"), &path).unwrap();
    let alone = Namespace::new();
    let talker = talker(&alone, b"talker", 1000);
    let start = Instant::now();
    let mut child = nettopd_command()
        .args(["--history", path.to_str().unwrap(), "--format", "ndjson", "0.5"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let reports = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    });
    // The first slot finds no file.
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("it is a symbolic link") {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "{said}");
    }
    assert!(!folder.path().join("elsewhere").exists(), "nothing is written through the link");
    fs::remove_file(&path).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let has_slots = || {
        path.exists()
            && nettop_history::Reader::open(&path).is_ok()
            && number(&read_only(&path), "SELECT count(*) FROM tick_10s") > 0
    };
    while !has_slots() {
        assert!(Instant::now() < deadline, "the file is not written once it may be");
        std::thread::sleep(Duration::from_millis(100));
    }
    // Some way into the next slot, which is lost then.
    std::thread::sleep(Duration::from_millis(3300));
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL).unwrap();
    let (killed, ran) = (SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap(), start.elapsed());
    child.wait().unwrap();
    stderr.read_to_string(&mut said).unwrap();
    assert!(said.contains("is written again"), "{said}");
    let text = reports.join().unwrap().unwrap();
    let reports: Vec<Snapshot> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    // Every half second, with its start.
    assert!(reports.len() as u64 >= ran.as_secs(), "it reports as ever: {} reports in {ran:?}", reports.len());

    // Everything is there from the first interval on, except the last slot and an interval.
    let connection = read_only(&path);
    let end_s = number(&connection, "SELECT max(ts) + 10 FROM tick_10s");
    assert!(
        killed.as_millis() < u128::from(end_s) * 1000 + 10_000 + 500 + 1000,
        "killed at {killed:?}, recorded to {end_s}"
    );
    let recorded = number(&connection, "SELECT sum(readings) FROM tick_10s");
    let until_then = reports.iter().take(usize::try_from(recorded).unwrap());
    let rows = until_then.flat_map(|report| &report.rows).filter(|row| row.pid == talker.pid());
    let said: u64 = rows.map(|row| row.interval.tx.bytes).sum();
    let query = format!("SELECT sum(tx_bytes) FROM talkers WHERE pid = {}", talker.pid());
    assert_eq!(number(&connection, &query), said);

    // What is missing shows as a gap.
    let again = run_nettopd(&["--history", path.to_str().unwrap(), "--format", "ndjson", "0.5", "1"]);
    assert!(again.status.success());
    let document = ask(&path, &["--from", &format!("-{}s", killed.as_secs() + 60 - (end_s - 30))]);
    assert!(!document.quality.gaps.is_empty(), "{:?}", document.quality);
    assert_eq!(number(&connection, "SELECT count(*) FROM session WHERE ended IS NULL"), 1, "it was not stopped");
}

#[test]
fn a_run_shorter_than_a_slot_is_recorded_and_reports_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    symlink(folder.path().join("elsewhere"), &path).unwrap();
    let args = ["--history", path.to_str().unwrap(), "--format", "ndjson", "0.1", "1"];
    let said = String::from_utf8(run_nettopd(&args).stderr).unwrap();
    assert!(said.contains("it is a symbolic link") && said.contains("1 slots with "), "{said}");
    fs::remove_file(&path).unwrap();
    assert!(run_nettopd(&args).status.success());
    assert_eq!(number(&read_only(&path), "SELECT sum(readings) FROM tick_10s"), 1);
}
