//! `nettopd trace` against strace, and against what processes know of themselves.

mod strace;

mod usage;

mod losses;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::{TcpListener, TcpStream},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use nettop_model::trace::Record;
use nettop_tests::{
    Moved, Namespace, Process, amount, calls, hang_timeout, nettopd_command, set_name, skip, wait_until,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A running `nettopd trace` whose lines are gathered.
struct Trace {
    child: Child,
    lines: std::thread::JoinHandle<Vec<String>>,
    seen: std::sync::mpsc::Receiver<String>,
}

impl Trace {
    fn start(args: &[&str]) -> Self {
        let mut command = nettopd_command();
        command.arg("trace").args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (send, seen) = std::sync::mpsc::channel();
        let lines = std::thread::spawn(move || {
            let all = stdout.lines().map_while(Result::ok).filter(|line| !is_notice(line)).inspect(|line| {
                let _ = send.send(line.clone());
            });
            all.collect()
        });
        Self { child, lines, seen }
    }

    /// Starts it with documents, and waits until it listens.
    fn documents(args: &[&str]) -> Self {
        let trace = Self::start(&[&["--format", "ndjson"], args].concat());
        trace.wait_for("nettop.trace/1");
        trace
    }

    fn wait_for(&self, text: &str) {
        let deadline = Instant::now() + hang_timeout();
        loop {
            let line = self.seen.recv_timeout(deadline - Instant::now());
            if line.unwrap_or_else(|error| panic!("no line has {text}: {error}")).contains(text) {
                return;
            }
        }
    }

    /// Sends it the signal, or waits for its end. Returns its lines, its stderr, and its exit code.
    fn finish(mut self, signal: Option<Signal>) -> (Vec<String>, String, Option<i32>) {
        if let Some(signal) = signal {
            kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
        }
        let code = self.child.wait().unwrap().code();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.lines.join().unwrap(), said, code)
    }

    /// Those with text in between.
    fn records(lines: &[String]) -> Vec<Record> {
        lines.iter().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn run(args: &[&str]) -> Output {
    let mut output = nettopd_command().arg("trace").args(args).output().unwrap();
    let lines = output.stdout.split_inclusive(|byte| *byte == b'\n');
    output.stdout = lines.filter(|line| !is_notice(&String::from_utf8_lossy(line))).collect::<Vec<_>>().concat();
    output
}

/// From 7.0 on the kernel may skip a run for any process that comes next. nettopd reports it between the steps.
fn is_notice(line: &str) -> bool {
    line.trim_end().ends_with(" runs of hooks skipped by the kernel]")
        || line.starts_with(r#"{"event":"lost","#) && line.contains(r#""events_lost":0,"#)
}

/// Seen, shown, lost.
fn summary(said: &str) -> [u64; 3] {
    let line = said.lines().find(|line| line.ends_with(" lost")).unwrap_or_else(|| panic!("no summary: {said}"));
    let numbers: Vec<u64> = line.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
    numbers.try_into().unwrap()
}

/// Runs of hooks that the kernel skipped, of any process.
fn skipped(said: &str) -> u64 {
    let line = said.lines().find_map(|line| line.strip_prefix("nettopd: the kernel skipped "));
    line.map_or(0, |line| line.split(' ').next().unwrap().parse().unwrap())
}

/// A file that lets a process go: waiting for it takes no socket.
fn gate(folder: &Path) -> PathBuf {
    folder.join("go")
}

/// Makes calls that fail until the gate is open.
fn knock(gate: &Path) {
    while !gate.exists() {
        calls::marker();
        sleep(Duration::from_millis(20));
    }
}

fn text_lines_by_thread(lines: &[String]) -> BTreeMap<u32, Vec<String>> {
    let mut threads: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for line in lines {
        let (before, step) = line.split_once("):").unwrap();
        let tid = before.rsplit_once('(').unwrap().1.parse().unwrap();
        threads.entry(tid).or_default().push(step.to_owned());
    }
    threads
}

#[test]
fn children_and_threads_are_followed_and_others_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().to_owned();
    let family = Process::start(None, move |_| {
        while !gate(&inside).exists() {
            sleep(Duration::from_millis(20));
        }
        calls::shutdown(-101);
        std::thread::spawn(|| calls::shutdown(-102)).join().unwrap();
        calls::in_child(|| {
            calls::shutdown(-103);
            calls::in_child(|| calls::shutdown(-104));
        });
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) }
    });
    let trace = Trace::documents(&["-d", "-p", &family.pid().to_string()]);
    calls::shutdown(-105);
    fs::write(gate(folder.path()), "").unwrap();
    let (lines, said, code) = trace.finish(None);
    assert_eq!(code, Some(0));
    let records = Trace::records(&lines);
    assert!(records.iter().all(|record| record.call == "shutdown" && record.uid == 0), "{records:#?}");
    let left: Vec<&Record> = records.iter().filter(|record| record.event == "leave").collect();
    let arguments: Vec<&str> = left.iter().map(|record| record.arguments.as_deref().unwrap()).collect();
    assert_eq!(arguments, ["-101, SHUT_RD", "-102, SHUT_RD", "-103, SHUT_RD", "-104, SHUT_RD"]);
    assert!(left.iter().all(|record| record.result == Some(-1) && record.error.as_deref() == Some("EBADF")));
    let [first, second, third, fourth] = [0, 1, 2, 3].map(|at| left[at]);
    assert_eq!((first.pid, first.tid), (family.pid(), family.pid()));
    assert_eq!(second.pid, first.pid);
    assert_ne!(second.tid, first.tid);
    assert!(third.pid != first.pid && fourth.pid != third.pid);
    assert_eq!(summary(&said), [8, 8, 0]);
}

#[test]
fn processes_are_found_by_their_names_now_and_later() {
    let folder = tempfile::tempdir().unwrap();
    let start = |before: &'static [u8], after: &'static [u8], fd: i32| {
        let gate = gate(folder.path());
        Process::start(None, move |parent| {
            set_name(before);
            parent.signal_ready();
            while !gate.exists() {
                sleep(Duration::from_millis(20));
            }
            set_name(after);
            // Repeatedly: from 7.0 on the kernel may hide some of several calls at a time (`runs_skipped`).
            loop {
                calls::shutdown(fd);
                sleep(Duration::from_millis(20));
            }
        })
    };
    let named = start(b"trace-me\x1b[2J\n", b"trace-me-too", -101);
    let renamed = start(b"other", b"trace-me\x07", -102);
    let other = start(b"other", b"do-not-trace-me", -103);
    let all = [named, renamed, other];
    for process in &all {
        process.wait_until_ready();
    }
    let trace = Trace::documents(&["-d", "-c", "trace-me"]);
    fs::write(gate(folder.path()), "").unwrap();
    // Several times: the third has called as well meanwhile.
    for _ in 0..5 {
        trace.wait_for("\"arguments\":\"-101");
        trace.wait_for("\"arguments\":\"-102");
    }
    let (mut lines, ..) = trace.finish(Some(Signal::SIGINT));
    // The calls are made again and again: what a machine that stood still has lost of them is no matter here.
    lines.retain(|line| !line.starts_with(r#"{"event":"lost","#));
    let records = Trace::records(&lines);
    let record = |fd: &str| records.iter().find(|record| record.arguments == Some(format!("{fd}, SHUT_RD")));
    assert_eq!(record("-101").unwrap().comm, "trace-me-too");
    assert_eq!(record("-102").unwrap().comm, "trace-me\\x07");
    assert!(record("-103").is_none());
}

#[test]
fn a_hostile_name_is_harmless() {
    for format in ["text", "ndjson", "csv"] {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().to_owned();
        let hostile = Process::start(None, move |_| {
            set_name(b"\x1b[2J\n\xff\"),=+a");
            knock(&gate(&inside));
            calls::bind_path(&[inside.as_os_str().as_bytes(), b"/\x1b]0;x\x07\n\xe2\x80\xae\"\0"].concat());
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) }
        });
        let trace = Trace::start(&["-d", "--format", format, "-p", &hostile.pid().to_string()]);
        trace.wait_for("shutdown");
        fs::write(gate(folder.path()), "").unwrap();
        let (lines, ..) = trace.finish(None);
        assert!(lines.iter().all(|line| line.bytes().all(|byte| (b' '..=b'~').contains(&byte))), "{lines:#?}");
        let bind: Vec<_> = lines.iter().filter(|line| line.contains("bind") && line.contains("sun_path")).collect();
        // A document is escaped once more.
        let bind = bind.first().unwrap().replace("\\\\", "\\");
        assert!(bind.contains("\\x1b[2J\\x0a\\xff") && bind.contains("/\\33]0;x\\7\\n\\342\\200\\256\\"), "{bind}");
    }
}

#[test]
fn a_thread_that_was_inside_unbalances_nothing() {
    let alone = Namespace::new();
    let server = Process::start(Some(&alone), |parent| {
        set_name(b"server");
        let listener = TcpListener::bind("127.0.0.1:4200").unwrap();
        parent.signal_ready();
        drop(listener.accept().unwrap());
        calls::shutdown(-101);
        // The last one never comes: it is killed inside, and leaves the call to end.
        drop(listener.accept());
        Moved::default()
    });
    server.wait_until_ready();
    server.wait_until_inside(libc::SYS_accept4);
    let pid = server.pid().to_string();
    let trace = Trace::start(&["--backend", "tracepoint", "-p", &pid]);
    let decoded = Trace::documents(&["-d", "-p", &pid]);
    // Nothing shows that the first is listening; attaching takes some tenths of a second.
    sleep(Duration::from_millis(1500));
    alone.enter(|| drop(TcpStream::connect("127.0.0.1:4200").unwrap()));
    trace.wait_for("-> accept4");
    trace.wait_for("-> accept4");
    drop(server);
    let (lines, said, code) = trace.finish(None);
    assert_eq!((code, summary(&said)[2]), (Some(0), 0));
    let steps = &text_lines_by_thread(&lines)[&pid.parse().unwrap()];
    let expected = [" -> accept4", " <- accept4", " -> shutdown", " <- shutdown", " -> accept4", " <- accept4"];
    assert_eq!(steps, &expected, "{lines:#?}");
    assert!(lines[..2].iter().all(|line| line.starts_with("     0 server(")), "{lines:#?}");
    let (lines, said, _) = decoded.finish(None);
    let records = Trace::records(&lines);
    assert_eq!((records[0].event.as_ref(), records[0].elapsed_us), ("leave", None));
    assert!(records[0].result.unwrap() >= 0);
    let peer = "{sa_family=AF_INET, sin_port=htons(";
    assert!(records[0].arguments.as_deref().unwrap().contains(peer), "{records:#?}");
    let last = records.last().unwrap();
    assert_eq!((last.result, last.error.as_deref()), (None, Some("ERESTARTSYS")), "{last:#?}");
    assert_eq!(summary(&said), [5, 5, 0]);
}

#[test]
fn a_flood_is_shown_or_counted() {
    let calls = amount(1_000_000, 30_000);
    for is_read in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().to_owned();
        let flood = Process::start(None, move |_| {
            while !gate(&inside).exists() {
                sleep(Duration::from_millis(20));
            }
            for _ in 0..calls {
                calls::shutdown(-1);
            }
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) }
        });
        let mut command = nettopd_command();
        command.args(["trace", "--backend", "tracepoint", "--format", "csv", "-p", &flood.pid().to_string()]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut header = String::new();
        stdout.read_line(&mut header).unwrap();
        fs::write(gate(folder.path()), "").unwrap();
        if !is_read {
            // A stuck reader, until all is over.
            let stat = format!("/proc/{}/stat", flood.pid());
            wait_until("all calls are made", || fs::read_to_string(&stat).unwrap().contains(") Z "));
            let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
            let rss = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
            let rss_kib: u64 = rss.split_whitespace().nth(1).unwrap().parse().unwrap();
            assert!(rss_kib < 64 * 1024, "{rss_kib} KiB");
        }
        let mut shown = 0;
        let mut told_lost = 0;
        for line in stdout.lines().map_while(Result::ok) {
            match line.rsplit(',').nth(1).unwrap() {
                "" => shown += 1,
                lost => told_lost += lost.parse::<u64>().unwrap(),
            }
        }
        assert_eq!(child.wait().unwrap().code(), Some(0));
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let [seen, summed, lost] = summary(&said);
        assert_eq!((shown, told_lost), (summed, lost));
        assert_eq!(seen, shown + lost);
        // From 7.0 on the kernel may skip a step and does not report whose.
        let made = 2 * calls;
        assert!(seen <= made && seen + skipped(&said) >= made, "{seen} of {made}: {said}");
        assert!(is_read || lost > 0 || calls < 100_000, "a reader that is stuck costs events");
    }
}

#[test]
fn functions_are_shown_where_the_kernel_allows() {
    let shell = ["--backend", "fentry", "--", "nettopd-no-such-command"];
    let output = run(&shell);
    if output.status.code() == Some(69) {
        assert!(String::from_utf8_lossy(&output.stderr).contains("back end fentry cannot be used for socket calls"));
        return skip("this kernel has no fentry");
    }
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().to_owned();
    let alone = Namespace::new();
    let worker = Process::start(Some(&alone), move |_| {
        knock(&gate(&inside));
        let listener = TcpListener::bind("127.0.0.1:4300").unwrap();
        let client = TcpStream::connect("127.0.0.1:4300").unwrap();
        drop((listener, client));
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) }
    });
    let trace = Trace::start(&["--backend", "fentry", "-p", &worker.pid().to_string()]);
    trace.wait_for("__sys_shutdown");
    fs::write(gate(folder.path()), "").unwrap();
    let (lines, said, code) = trace.finish(None);
    assert_eq!((code, summary(&said)[2]), (Some(0), 0), "{said}");
    let mut open: Vec<String> = Vec::new();
    for line in &lines {
        let (_, step) = line.split_once("):").unwrap();
        let (indent, step) = (step.len() - step.trim_start().len() - 1, step.trim_start());
        if let Some(name) = step.strip_prefix("-> ") {
            assert_eq!(indent, open.len(), "{lines:#?}");
            open.push(name.into());
        } else {
            assert_eq!(step.strip_prefix("<- "), open.pop().as_deref(), "{lines:#?}");
            assert_eq!(indent, open.len(), "{lines:#?}");
        }
    }
    assert!(open.is_empty(), "{lines:#?}");
    for name in ["__sys_socket", "__sock_create", "__sys_bind", "__sys_listen", "__sys_connect", "__sock_release"] {
        assert!(lines.iter().any(|line| line.ends_with(&format!("-> {name}"))), "{name}: {lines:#?}");
    }
    // A call within a call.
    assert!(lines.iter().any(|line| line.ends_with("):  -> __sock_create")), "{lines:#?}");
}
