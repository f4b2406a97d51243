//! The local API: it tells what the commands tell, to whom it should, and no client does the daemon any harm.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, UdpSocket},
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nettop_tests::{
    Moved, Namespace, Process, amount,
    api::{Daemon, GROUP, MEMBER, OUTSIDER},
    app, nettopd_command, rows_of, rss_kib, run_nettopd, skip,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

fn document(output: &std::process::Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Refused with this code, in one line that says so.
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
    let (status, raw) = daemon.get("/v1/snapshot").unwrap();
    assert_eq!((status, &raw["schema"]), (200, &"nettop.snapshot/1".into()));
    assert!(raw["rows"].as_array().unwrap().len() > 1, "rows have an order");
    let member = |args: &[&str]| daemon.client_as(MEMBER, &[GROUP], args);
    assert_eq!(document(&member(&["--once"])), raw);
    assert_eq!(document(&member(&["--once", "--format", "ndjson"])), raw);
    let csv = String::from_utf8(member(&["--once", "--format", "csv"]).stdout).unwrap();
    assert_eq!(csv.matches(",row,").count(), raw["rows"].as_array().unwrap().len());
    assert!(String::from_utf8(member(&["--once", "--format", "table"]).stdout).unwrap().contains("XMIT_PK"));

    let (_, drops) = daemon.get("/v1/drops").unwrap();
    assert_eq!(document(&member(&["drops", "--once", "--format", "json"])), drops);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let pid = std::process::id().to_string();
    let select = ["sockets", "-n", "-p", &pid, "--format", "json"];
    let (asked, alone_said) = (document(&member(&select)), document(&run_nettopd(&select)));
    let port = u64::from(listener.local_addr().unwrap().port());
    let ours = |document: &Value| {
        let mut sockets = document["sockets"].as_array().unwrap().clone();
        // Paths of other users' programs are not for a daemon without capabilities.
        for holder in sockets.iter_mut().flat_map(|socket| socket["holders"].as_array_mut().unwrap()) {
            holder.as_object_mut().unwrap().remove("exe");
        }
        sockets
    };
    assert!(ours(&asked).iter().any(|socket| socket["local_port"] == port && socket["state"] == "listen"), "{asked}");
    assert_eq!(ours(&asked), ours(&alone_said));

    let text = String::from_utf8(member(&["status"]).stdout).unwrap();
    assert!(text.starts_with("nettopd ") && text.contains(&format!("process {}", daemon.pid())), "{text}");
    // An interval of one's own is measured, by who may.
    let own = document(&daemon.client(&["--once", "0.3"]));
    assert!(own["interval_ms"].as_u64().unwrap() < 2000 && own["time"] != raw["time"]);
    assert_ne!(document(&daemon.client(&["--once", "--standalone"]))["accounting_since"], raw["accounting_since"]);
    drop(alone);
}

#[test]
fn each_interval_is_told_with_everything_that_moved() {
    let folder = tempfile::tempdir().unwrap();
    let alone = Namespace::new();
    let daemon = Daemon::start(folder.path(), &["--interval", "0.2", "--no-history"]);
    let mut stream = daemon.connect().unwrap();
    stream.write_all(b"GET /v1/stream HTTP/1.0\r\n\r\n").unwrap();
    let (pid, moved) = talk(&alone, 50);
    std::thread::sleep(Duration::from_millis(600));
    let (_, snapshot) = daemon.get(&format!("/v1/snapshot?pid={pid}")).unwrap();
    assert_eq!(app(&snapshot, pid), moved);
    assert_eq!(snapshot["rows"].as_array().unwrap().len(), rows_of(&snapshot, pid).len(), "only what is asked for");
    assert_eq!(app(&document(&daemon.client(&["--once", "-p", &pid.to_string()])), pid), moved);
    // HTTP/1.0 has no chunks: what comes are lines.
    let mut text = String::new();
    while text.matches('\n').count() < 12 {
        let mut buffer = vec![0; 1 << 16];
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "the stream ended: {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    let (_, lines) = text.split_once("\r\n\r\n").unwrap();
    let told: Vec<Value> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let sent: u64 = told
        .iter()
        .flat_map(|document| rows_of(document, pid))
        .map(|row| row["interval"]["tx"]["app_bytes"].as_u64().unwrap())
        .sum();
    assert_eq!(sent, moved.sent, "no interval is missing");
}

/// What watches without an interval of its own, by a member: each line is a document.
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
        let document: Value = serde_json::from_str(&line).unwrap();
        let rows = rows_of(&document, pid);
        sent += rows.iter().map(|row| row["interval"]["tx"]["app_bytes"].as_u64().unwrap()).sum::<u64>();
        // Its row is told for a while after its end.
        if rows.iter().any(|row| row["exited"] == true) {
            break;
        }
    }
    assert_eq!(sent, moved.sent, "no interval is missing");
    kill(Pid::from_raw(report.id().cast_signed()), Signal::SIGINT).unwrap();
    assert_eq!(report.wait().unwrap().code(), Some(0));

    let (mut drops, mut lines) = watch(&["drops", "--format", "ndjson"]);
    let document: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
    assert_eq!(document["schema"], "nettop.drops/1");
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
        let asked = document(&daemon.client_as(MEMBER, &[GROUP], &[&["history"], &period[..]].concat()));
        if asked["rows"].as_array().unwrap().iter().any(|row| row["pid"] == pid) {
            let (from, to) = (asked["from"].as_str().unwrap(), asked["to"].as_str().unwrap());
            let again = ["history", "--from", from, "--to", to, "--format", "json", "--by", "program", "-s", "packets"];
            let from_file = run_nettopd(&[&again[..], &["--history", file.to_str().unwrap()]].concat());
            assert_eq!(document(&daemon.client_as(MEMBER, &[GROUP], &again)), document(&from_file));
            break;
        }
        assert!(Instant::now() < deadline, "{asked}");
        std::thread::sleep(Duration::from_secs(1));
    }
    assert_eq!(daemon.get("/v1/history?at=nonsense").unwrap().0, 400);
}

#[test]
fn members_are_answered_and_others_are_told_the_remedy() {
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
    let before = daemon.get("/v1/status").unwrap().1["clients"]["refused"].as_u64().unwrap();
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
    assert_refused(&second.output().unwrap(), 1, "another nettopd answers");
    assert!(first.client(&["status"]).status.success());
    first.kill();
    let third = Daemon::start(folder.path(), &["--interval", "0.5", "--no-history"]);
    assert!(third.client(&["status"]).status.success());
}

/// Clients of five kinds, a hundred at once, for as long as they like.
#[test]
fn a_crowd_of_all_kinds_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &["--interval", "0.2", "--no-history"]);
    let before = rss_kib(daemon.pid());
    let at_first = daemon.intervals().unwrap();
    let crowd: Vec<_> = (0..100)
        .map(|n| {
            let mut stream = daemon.connect().unwrap();
            let said: &[u8] = match n % 5 {
                0 => b"",
                1 => b"GET /v1/snapshot HTTP/1.1\r\nHost: ",
                2 => b"GET /v1/snapshot HTTP/1.1\r\nHost: n\r\n\r\n",
                3 => b"GET /v1/stream HTTP/1.1\r\nHost: n\r\n\r\n",
                _ => b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03 not HTTP",
            };
            let _ = stream.write_all(said);
            stream
        })
        .collect();
    std::thread::sleep(Duration::from_millis(500));
    assert!(rss_kib(daemon.pid()) < before + 16 * 1024, "{before} KiB, then {}", rss_kib(daemon.pid()));
    // The silent are seen off after five seconds; those who only listen may stay.
    let deadline = Instant::now() + Duration::from_secs(20);
    let status = loop {
        let status = daemon.get("/v1/status").map(|(_, document)| document).unwrap_or_default();
        // Those of the first 32 who said nothing, or half of it.
        if status["clients"]["dropped"].as_u64() > Some(9) {
            break status;
        }
        assert!(Instant::now() < deadline, "nobody is seen off: {status}");
        std::thread::sleep(Duration::from_millis(200));
    };
    assert!(status["clients"]["refused"].as_u64() > Some(0), "{status}");
    assert!(status["last"]["age_ms"].as_u64().unwrap() < 2000, "{status}");
    assert_ne!(daemon.intervals().unwrap(), at_first, "it went on measuring");
    drop(crowd);
    std::thread::sleep(Duration::from_millis(500));
    for _ in 0..40 {
        assert_eq!(daemon.get("/v1/snapshot").unwrap().0, 200, "all seats are free again");
    }
}

/// Numbers that are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % below
    }
}

#[test]
fn mutilated_requests_are_answered_or_dropped_and_nothing_else() {
    const SOUND: [&str; 8] = [
        "GET /v1/status HTTP/1.1\r\nHost: n\r\n\r\n",
        "GET /v1/snapshot?pid=1&user=0&interface=lo HTTP/1.1\r\nHost: n\r\n\r\n",
        "GET /v1/drops?all=1 HTTP/1.1\r\nHost: n\r\nAccept: */*\r\n\r\n",
        "GET /v1/sockets?internet=4tcp@%5B127.0.0.1%5D:1-5,22&listening=1 HTTP/1.1\r\nHost: n\r\n\r\n",
        "GET /v1/history?from=-1h&to=now&by=unit&sort=peak&top=3&when=load+%3E+4 HTTP/1.1\r\nHost: n\r\n\r\n",
        "HEAD /v1/snapshot HTTP/1.0\r\n\r\n",
        "POST /v1/status HTTP/1.1\r\nHost: n\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "GET http://n/v1/status HTTP/1.1\r\nHost: n\r\nContent-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n",
    ];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("history.db");
    let daemon = Daemon::start(folder.path(), &["--interval", "0.2", "--history", file.to_str().unwrap()]);
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let requests = amount(3000, 300);
    // What it is asked for the first time is made room for.
    for request in SOUND {
        let _ = daemon.say(request.as_bytes());
    }
    let before = rss_kib(daemon.pid());
    let mut answered = 0;
    for _ in 0..requests {
        let mut request = SOUND[dice.roll(SOUND.len())].as_bytes().to_vec();
        for _ in 0..dice.roll(5) {
            if request.is_empty() {
                break;
            }
            let at = dice.roll(request.len());
            match dice.roll(5) {
                0 => request[at] = u8::try_from(dice.roll(256)).unwrap(),
                1 => request.truncate(at.max(1)),
                2 => request.insert(at, b"\r\n\0 %?&=/:\xff"[dice.roll(11)]),
                3 => drop(request.drain(at..(at + dice.roll(9)).min(request.len()).max(at + 1))),
                _ => {
                    let piece = request[at..].to_vec();
                    (0..dice.roll(40)).for_each(|_| request.extend_from_slice(&piece));
                }
            }
        }
        let answer = daemon.say(&request).unwrap_or_default();
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{:?}", String::from_utf8_lossy(&answer));
        answered += u64::from(!answer.is_empty());
    }
    assert!(answered > requests / 4, "{answered} of {requests} were answered");
    let after = rss_kib(daemon.pid());
    assert!(after < before + 8 * 1024, "{before} KiB before, {after} after");
    let (status, document) = daemon.get("/v1/status").unwrap();
    assert!(status == 200 && document["last"]["age_ms"].as_u64().unwrap() < 2000, "{document}");
    let log = daemon.log();
    assert!(!log.contains("panicked") && log.lines().count() < 50, "{log}");
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
    while daemon.get("/v1/history").unwrap().0 != 200 {
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
