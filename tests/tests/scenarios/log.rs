//! The log of the eBPF programs: what it says of a socket whose owner changes, and of tables that are full.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    process::{Child, Stdio},
    sync::{Arc, Mutex},
    thread::sleep,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use nettop_model::Snapshot;
use nettop_tests::{
    Moved, Namespace, Process, amount, become_nobody, nettopd_command, rows_of, service::Service, sockets::cookie,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{ForkResult, Pid, fork},
};

/// nettopd that logs at level `debug` into a file.
struct Logging {
    child: Child,
    log: tempfile::NamedTempFile,
    /// Its latest report, and when that was made.
    latest: Arc<Mutex<(Timestamp, Snapshot)>>,
}

impl Logging {
    fn start(args: &[&str]) -> Self {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut child = nettopd_command()
            .args(["-vv", "--standalone", "--no-history", "--format", "ndjson", "0.2"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(File::create(log.path()).unwrap())
            .spawn()
            .unwrap();
        let latest = Arc::new(Mutex::new((Timestamp::MIN, Snapshot::default())));
        let (output, shared) = (BufReader::new(child.stdout.take().unwrap()), Arc::clone(&latest));
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let document: Snapshot = serde_json::from_str(&line).unwrap();
                *shared.lock().unwrap() = (document.time.parse().unwrap(), document);
            }
        });
        let logging = Self { child, log, latest };
        logging.wait_for_report(Timestamp::MIN);
        logging
    }

    /// Waits for a report that was made after `time`, and returns when it was.
    fn wait_for_report(&self, time: Timestamp) -> Timestamp {
        self.wait_until(|made, _| made > time)
    }

    /// Waits for such a report, and returns when it was made.
    fn wait_until(&self, is_it: impl Fn(Timestamp, &Snapshot) -> bool) -> Timestamp {
        let deadline = Instant::now() + Duration::from_secs(amount(30, 120));
        loop {
            {
                let (made, document) = &*self.latest.lock().unwrap();
                if is_it(*made, document) {
                    return *made;
                }
            }
            assert!(Instant::now() < deadline, "no such report: {}", self.lines().join("\n"));
            sleep(Duration::from_millis(20));
        }
    }

    /// All that was logged until now: it is read before each report, and one may be under way.
    fn settled(&self) -> Vec<String> {
        let next = self.wait_for_report(Timestamp::now());
        self.wait_for_report(next);
        self.lines()
    }

    /// Of a namespace, in the latest report.
    fn rows_in(&self, namespace: &Namespace) -> usize {
        let (_, document) = &*self.latest.lock().unwrap();
        document.rows.iter().filter(|row| row.netns == namespace.inode()).count()
    }

    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.log.path()).unwrap();
        text.lines().filter_map(|line| Some(line.split_once("ebpf: ")?.1.to_owned())).collect()
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// The one line that begins and ends so, whatever numbers are between.
fn only<'a>(lines: &'a [String], beginning: &str, has: &[&str]) -> &'a str {
    let has_whole = |line: &str, part: &str| {
        line.match_indices(part).any(|(at, _)| !line[at + part.len()..].starts_with(|c: char| c.is_ascii_digit()))
    };
    let is_it = |line: &&String| line.starts_with(beginning) && has.iter().all(|part| has_whole(line, part));
    let found: Vec<&String> = lines.iter().filter(is_it).collect();
    assert_eq!(found.len(), 1, "{beginning:?} {has:?}: {found:?} of\n{}", lines.join("\n"));
    found[0]
}

/// The number after these words.
fn number_after(line: &str, words: &str) -> u32 {
    let rest = line.split_once(words).unwrap_or_else(|| panic!("no {words:?} in {line}")).1;
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

#[test]
fn a_socket_is_followed_by_its_cookie_from_owner_to_owner() {
    let alone = Namespace::new();
    let socket = alone.enter(|| UdpSocket::bind("127.0.0.1:0").unwrap());
    let cookie = format!(", socket cookie {}", cookie(socket.as_raw_fd()));
    let nettopd = Logging::start(&[]);
    // Older than nettopd: whoever holds it when it is found. This process and its holders are one to another.
    let lines = nettopd.settled();
    let seeded = only(&lines, "a socket without an owner is owner ", &["'s from now on: holder, in seed", &cookie]);
    let first = number_after(seeded, "is owner ");
    let user = Process::start(Some(&alone), move |parent| {
        socket.send_to(b"by another process", "127.0.0.1:9").unwrap();
        parent.signal_ready();
        parent.wait_for_parent();
        drop(socket);
        Moved::default()
    });
    user.wait_until_ready();
    let process = format!(", while process {} runs", user.pid());
    let lines = nettopd.settled();
    let given =
        only(&lines, &format!("a socket of owner {first} is owner "), &["'s from now on: user", &cookie, &process]);
    let second = number_after(given, &format!("owner {first} is owner "));
    only(&lines, &format!("owner {second} made for process {}", user.pid()), &[&cookie, &process]);
    only(&lines, "row ", &[&format!("made for owner {second},"), "in packet_tx", &cookie]);
}

/// Whoever takes connections has the listener, once its maker has ended.
#[test]
fn a_listener_that_is_handed_on_is_logged() {
    let alone = Namespace::new();
    let nettopd = Logging::start(&[]);
    let server = Process::start(Some(&alone), |parent| {
        let listener = TcpListener::bind("127.0.0.1:4000").unwrap();
        // SAFETY: the process has one thread.
        if let ForkResult::Parent { .. } = unsafe { fork() }.unwrap() {
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(0) }
        }
        parent.send_number(cookie(listener.as_raw_fd()));
        for stream in listener.incoming().take(2) {
            stream.unwrap().write_all(&[1]).unwrap();
        }
        parent.wait_for_parent();
        Moved::default()
    });
    let cookie = format!(", socket cookie {}", server.wait_until_ready());
    for _ in 0..2 {
        let connect = || TcpStream::connect("127.0.0.1:4000").unwrap().read_exact(&mut [0]).unwrap();
        alone.enter(connect);
    }
    let lines = nettopd.settled();
    only(&lines, "a socket of owner ", &["'s from now on: user, in packet_", &cookie]);
}

/// A socket that outlives its maker, whose row has left the table.
#[test]
fn a_row_that_was_retired_meanwhile_is_logged() {
    const ROWS: usize = 128;
    let nettopd = Logging::start(&["--rows", &ROWS.to_string()]);
    let alone = Namespace::new();
    let send = |socket: &UdpSocket| assert_eq!(socket.send_to(b"one", "127.0.0.1:9").unwrap(), 3);
    let sender = |_| {
        Process::start(Some(&alone), |parent| {
            become_nobody();
            send(&UdpSocket::bind("127.0.0.1:0").unwrap());
            parent.signal_ready();
            parent.wait_for_parent();
            Moved::default()
        })
    };
    // Their user has more than is free, so his gone and quiet rows leave at once, and room for more.
    let mut senders = Vec::new();
    while nettopd.rows_in(&alone) <= ROWS / 2 {
        senders.extend((0..4).map(sender));
        for sender in senders.iter().rev().take(4) {
            Process::wait_until_ready(sender);
        }
        nettopd.settled();
    }
    let maker = Process::start(Some(&alone), |parent| {
        become_nobody();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        send(&socket);
        // SAFETY: the process has one thread.
        if let ForkResult::Parent { .. } = unsafe { fork() }.unwrap() {
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(0) }
        }
        parent.send_number(cookie(socket.as_raw_fd()));
        parent.wait_for_parent();
        send(&socket);
        parent.signal_ready();
        parent.wait_for_parent();
        Moved::default()
    });
    let cookie = format!(", socket cookie {}", maker.wait_until_ready());
    nettopd.settled();
    nettopd.wait_until(|_, document| rows_of(document, maker.pid()).is_empty());
    maker.go();
    maker.wait_until_ready();
    only(&nettopd.settled(), "a socket's row ", &[" was retired", "in packet_tx", &cookie]);
}

#[test]
fn rows_and_owners_that_are_refused_and_lines_without_room_are_logged() {
    const FLOOD: u32 = 3000;
    let nettopd = Logging::start(&["--rows", "64"]);
    let alone = Namespace::new();
    let sender = |_| {
        Process::start(Some(&alone), |parent| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            for number in [1, FLOOD] {
                (0..number).for_each(|_| assert_eq!(socket.send_to(b"one", "127.0.0.1:9").unwrap(), 3));
                parent.signal_ready();
                parent.wait_for_parent();
            }
            Moved::default()
        })
    };
    // There are 80 owners, and some room for those that are made at once.
    let senders: Vec<Process> = (0..160).map(sender).collect();
    for sender in &senders {
        sender.wait_until_ready();
    }
    let lines = nettopd.settled();
    let is_refusal = |line: &String| {
        line.starts_with("no row for owner ")
            && line.contains(": all 64 rows are in use, or the share of its user or namespace is, in packet_")
            && line.contains(", socket cookie ")
    };
    assert!(lines.iter().any(is_refusal), "{}", lines.join("\n"));
    let last = format!(
        "no owner for process {}: the table, or the share of its user or namespace, is full",
        senders[159].pid()
    );
    assert!(lines.iter().any(|line| line.starts_with(&last)), "{}", lines.join("\n"));
    // Among these are some that have an owner and no row: each of their packets is logged.
    for sender in &senders[45..65] {
        sender.go();
        sender.wait_until_ready();
    }
    let lines = nettopd.settled();
    assert!(lines.iter().any(|line| line.ends_with(" records of the eBPF programs had no room")), "{}", lines.len());
}

#[test]
fn a_daemon_logs_it_by_its_configuration() {
    for (level, logs) in [("debug", true), ("info", false)] {
        let folder = tempfile::tempdir().unwrap();
        let service = Service::start(folder.path(), true, &format!("interval = 0.2\nlog_level = '{level}'"), &[]);
        service.wait_for("READY=1");
        Process::run(None, |_| {
            UdpSocket::bind("127.0.0.1:0").unwrap();
            Moved::default()
        });
        service.wait_for("STATUS=");
        service.wait_for("STATUS=");
        let log = service.log();
        assert_eq!(log.contains("ebpf: owner "), logs, "{log}");
        assert_eq!(service.stop(), Some(0));
    }
}
