//! The local API: it returns what the commands show, to those who may ask, and no client harms the daemon.

mod hostile;
mod resources;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, UdpSocket},
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nettop_model::{DropsDocument, Snapshot, history, sockets};
use nettop_tests::{
    Moved, Namespace, Process, amount,
    api::{Daemon, GROUP, MEMBER, OUTSIDER},
    app, nettopd_command, rows_of, rss_kib, run_nettopd, skip,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::schemas::assert_fits;

fn document<T: DeserializeOwned>(output: &std::process::Output) -> T {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Refused with this code, in a line with `words`.
fn assert_refused(output: &std::process::Output, code: i32, words: &str) {
    let line = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{line}");
    assert!(output.stdout.is_empty() && line.trim_end().lines().count() == 1 && line.contains(words), "{line}");
}

/// Sends itself datagrams and drops one at a closed port.
fn talk(namespace: &Namespace, datagrams: u64) -> (u32, Moved) {
    Process::run(Some(namespace), |_| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut buffer = [0; 100];
        for _ in 0..datagrams {
            socket.send_to(&buffer, socket.local_addr().unwrap()).unwrap();
            socket.recv(&mut buffer).unwrap();
            // Over several intervals.
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = socket.send_to(&buffer, "127.0.0.1:9");
        Moved { sent: datagrams * 100 + 100, received: datagrams * 100 }
    })
}

#[test]
fn an_answer_is_what_the_command_would_have_said() {
    let folder = tempfile::tempdir().unwrap();
    // One interval is over after a second; the next never is: there is one truth to compare with.
    let alone = Namespace::new();
    let _talkers = [1, 3].map(|datagrams| {
        Process::start(Some(&alone), move |_| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            loop {
                (0..datagrams).for_each(|_| drop(socket.send_to(&[0; 100], "127.0.0.1:9")));
                std::thread::sleep(Duration::from_millis(20));
            }
        })
    });
    let daemon = Daemon::start(folder.path(), &["--interval", "3600", "--no-history"]);
    let answer = daemon.get("/v1/snapshot").unwrap();
    let (snapshot, raw): (Snapshot, Value) = (answer.document(), answer.document());
    assert_eq!(snapshot.schema, "nettop.snapshot/1");
    assert!(snapshot.rows.len() > 1, "rows have an order");
    let member = |args: &[&str]| daemon.client_as(MEMBER, &[GROUP], args);
    assert_eq!(document::<Value>(&member(&["--once"])), raw);
    assert_eq!(document::<Value>(&member(&["--once", "--format", "ndjson"])), raw);
    let csv = String::from_utf8(member(&["--once", "--format", "csv"]).stdout).unwrap();
    assert_eq!(csv.matches(",row,").count(), snapshot.rows.len());
    assert!(String::from_utf8(member(&["--once", "--format", "table"]).stdout).unwrap().contains("XMIT_PK"));

    let drops: Value = daemon.get("/v1/drops").unwrap().document();
    assert_eq!(document::<Value>(&member(&["drops", "--once", "--format", "json"])), drops);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let pid = std::process::id().to_string();
    let select = ["sockets", "-n", "-p", &pid, "--format", "json"];
    let [asked, alone_said] = [member(&select), run_nettopd(&select)].map(|output| {
        let sockets::Document { mut sockets, .. } = document(&output);
        // A daemon without capabilities cannot see other users' program paths.
        for holder in sockets.iter_mut().flat_map(|socket| &mut socket.holders) {
            holder.process.exe = None;
        }
        sockets
    });
    let port = Some(listener.local_addr().unwrap().port());
    assert!(asked.iter().any(|socket| socket.local_port == port && socket.state == "listen"), "{asked:#?}");
    assert_eq!(asked, alone_said);

    let text = String::from_utf8(member(&["status"]).stdout).unwrap();
    assert!(text.starts_with("nettopd ") && text.contains(&format!("process {}", daemon.pid())), "{text}");
    // Who may measure gets an interval of its own.
    let own: Snapshot = document(&daemon.client(&["--once", "0.3"]));
    assert!(own.interval_ms < 2000 && own.time != snapshot.time);
    let standalone: Snapshot = document(&daemon.client(&["--once", "--standalone"]));
    assert_ne!(standalone.accounting_since, snapshot.accounting_since);
    drop(alone);
}

#[test]
fn each_interval_is_reported_with_everything_that_moved() {
    let folder = tempfile::tempdir().unwrap();
    let alone = Namespace::new();
    let daemon = Daemon::start(folder.path(), &["--interval", "0.2", "--no-history"]);
    let mut stream = daemon.connect().unwrap();
    stream.write_all(b"GET /v1/stream HTTP/1.0\r\n\r\n").unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    // Nothing is missed from then on. HTTP/1.0 has no chunks: what comes are lines.
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        String::from_utf8_lossy(&all).into_owned()
    });
    let (pid, moved) = talk(&alone, 50);
    let deadline = Instant::now() + Duration::from_secs(60);
    let snapshot = loop {
        let snapshot: Snapshot = daemon.get(&format!("/v1/snapshot?pid={pid}")).unwrap().document();
        if app(&snapshot, pid) == moved || Instant::now() > deadline {
            break snapshot;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(app(&snapshot, pid), moved);
    assert_eq!(snapshot.rows.len(), rows_of(&snapshot, pid).len(), "only what is asked for");
    assert_eq!(app(&document(&daemon.client(&["--once", "-p", &pid.to_string()])), pid), moved);
    // Another interval follows.
    let last = daemon.intervals();
    while daemon.intervals() == last {
        assert!(Instant::now() < deadline, "it measures no more");
        std::thread::sleep(Duration::from_millis(50));
    }
    daemon.kill();
    let lines = reader.join().unwrap();
    let result: Vec<Snapshot> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let rows = result.iter().flat_map(|document| rows_of(document, pid));
    let sent: u64 = rows.map(|row| row.interval.tx.app_bytes).sum();
    assert_eq!(sent, moved.sent, "no interval is missing");
}

/// A member watches without an interval of its own: each line is a document.
#[test]
fn who_watches_follows_the_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let alone = Namespace::new();
    let daemon = Daemon::start(folder.path(), &["--interval", "0.2", "--no-history"]);
    let watch = |args: &[&str]| {
        let mut command = daemon.client_command(MEMBER, &[GROUP], args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        (child, lines)
    };
    let (mut report, mut lines) = watch(&["--format", "ndjson"]);
    // It listens.
    lines.next().unwrap();
    let (pid, moved) = talk(&alone, 50);
    let mut sent = 0;
    for line in lines.by_ref() {
        let document: Snapshot = serde_json::from_str(&line).unwrap();
        let rows = rows_of(&document, pid);
        sent += rows.iter().map(|row| row.interval.tx.app_bytes).sum::<u64>();
        // Its row stays for a while after its end.
        if rows.iter().any(|row| row.exited) {
            break;
        }
    }
    assert_eq!(sent, moved.sent, "no interval is missing");
    kill(Pid::from_raw(report.id().cast_signed()), Signal::SIGINT).unwrap();
    assert_eq!(report.wait().unwrap().code(), Some(0));

    let (mut drops, mut lines) = watch(&["drops", "--format", "ndjson"]);
    let line = lines.next().unwrap();
    let document: DropsDocument<'static> = serde_json::from_str(&line).unwrap();
    assert_eq!(document.schema, "nettop.drops/1");
    let schema = include_str!("../../../docs/drops.schema.json");
    assert_fits(schema, serde_json::from_str(&line).unwrap(), "/other_drops/total/packets");
    let (mut table, mut shown) = watch(&["-n"]);
    assert!(shown.any(|line| line.contains("XMIT_PK")));
    // A reader that has seen enough.
    drop(shown);
    assert_eq!(table.wait().unwrap().code(), Some(0));
    daemon.kill();
    let mut said = String::new();
    drops.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(drops.wait().unwrap().code(), Some(1), "{said}");
    assert!(said.contains("daemon") && said.lines().count() == 1, "{said}");
}

#[test]
fn the_history_is_answered_as_the_file_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("history.db");
    let alone = Namespace::new();
    let daemon = Daemon::start(folder.path(), &["--interval", "0.5", "--history", file.to_str().unwrap()]);
    let (pid, _) = talk(&alone, 200);
    let deadline = Instant::now() + Duration::from_secs(40);
    // A slot of ten seconds has to be over.
    let period = ["--from", "-30m", "--to", "-10s", "--format", "json"];
    loop {
        let asked: history::Document =
            document(&daemon.client_as(MEMBER, &[GROUP], &[&["history"], &period[..]].concat()));
        if asked.rows.iter().any(|row| row.pid == Some(pid)) {
            let (from, to) = (asked.from.as_str(), asked.to.as_str());
            let again = ["history", "--from", from, "--to", to, "--format", "json", "--by", "program", "-s", "packets"];
            let from_file = run_nettopd(&[&again[..], &["--history", file.to_str().unwrap()]].concat());
            assert_eq!(document::<Value>(&daemon.client_as(MEMBER, &[GROUP], &again)), document::<Value>(&from_file));
            break;
        }
        assert!(Instant::now() < deadline, "{asked:?}");
        std::thread::sleep(Duration::from_secs(1));
    }
    assert_eq!(daemon.get("/v1/history?at=nonsense").unwrap().status, 400);
}

#[test]
fn members_are_answered_and_others_get_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &["--interval", "0.5", "--no-history"]);
    assert_eq!(fs::metadata(daemon.socket()).unwrap().permissions().mode() & 0o777, 0o660);
    let commands: [&[&str]; 4] = [&["--once"], &["drops", "--once"], &["sockets"], &["status"]];
    for args in commands {
        assert!(daemon.client_as(MEMBER, &[GROUP], args).status.success(), "{args:?}");
        assert!(daemon.client_as(MEMBER, &[1, GROUP, 2], args).status.success(), "{args:?}");
    }
    // First the file's mode refuses, then, where somebody has opened that, the daemon itself.
    for mode in [0o660, 0o666] {
        fs::set_permissions(daemon.socket(), fs::Permissions::from_mode(mode)).unwrap();
        for args in commands {
            assert_refused(&daemon.client_as(OUTSIDER, &[], args), 77, "members of the group nettopd");
        }
        assert!(daemon.client(&["status"]).status.success());
    }
    let before = daemon.status().unwrap().clients.refused;
    assert!(before >= 4, "{before} refused");
    assert_refused(&daemon.client_as(OUTSIDER, &[], &["--once", "0.2"]), 77, "missing CAP_BPF");
    let socket = daemon.socket();
    daemon.kill();
    assert!(socket.exists(), "a crash leaves it");
    let status = |user: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(user).arg(folder.path().join("nettopd")).arg("status").env("NETTOPD_SOCKET", &socket);
        command.output().unwrap()
    };
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    assert_refused(&status(&[]), 69, "no daemon answers");
    assert_refused(&status(&["--reuid", "54322", "--clear-groups"]), 69, "no daemon answers");
}

#[test]
fn a_dead_daemons_socket_is_replaced_and_a_living_ones_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let first = Daemon::start(folder.path(), &["--interval", "0.5", "--no-history"]);
    let mut second = Command::new("timeout");
    second.arg("30").arg(nettopd_command().get_program());
    second.args(["daemon", "--no-history"]).env("NETTOPD_SOCKET", first.socket());
    assert_refused(&second.output().unwrap(), 73, "another nettopd answers");
    assert!(first.client(&["status"]).status.success());
    first.kill();
    let third = Daemon::start(folder.path(), &["--interval", "0.5", "--no-history"]);
    assert!(third.client(&["status"]).status.success());
}

/// The lines with which docs/api.md shows it.
#[test]
fn the_examples_of_the_documentation_work() {
    if Command::new("curl").arg("--version").output().is_err() {
        skip("curl");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("history.db");
    let daemon = Daemon::start(folder.path(), &["--interval", "0.5", "--history", file.to_str().unwrap()]);
    let deadline = Instant::now() + Duration::from_secs(30);
    while daemon.get("/v1/history").unwrap().status != 200 {
        assert!(Instant::now() < deadline, "no history");
        std::thread::sleep(Duration::from_millis(200));
    }
    let text = include_str!("../../../docs/api.md");
    let examples: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("    curl ")).collect();
    assert!(examples.len() >= 8, "{examples:?}");
    for example in examples {
        let line = format!("curl {example}").replace("/run/nettopd/nettopd.sock", daemon.socket().to_str().unwrap());
        let is_stream = example.contains("/v1/stream");
        let line = if is_stream { format!("{line} | head -n 2") } else { line };
        let output = Command::new("sh").args(["-c", &line]).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && (err.is_empty() || is_stream), "{line}: {err}");
        let documents: Vec<Value> = out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        assert_eq!(documents.len(), if is_stream { 2 } else { 1 }, "{line}: {out}");
        assert!(documents.iter().all(|document| document["error"].is_null()), "{line}: {out}");
    }
}
