//! `nettopd trace` against strace, and against what processes know of themselves.

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

use nettop_tests::{Moved, Namespace, Process, amount, calls, nettopd_command, set_name, skip};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

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
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let line = self.seen.recv_timeout(deadline - Instant::now());
            if line.unwrap_or_else(|error| panic!("no line has {text}: {error}")).contains(text) {
                return;
            }
        }
    }

    /// Interrupts it, or waits for its end. Returns its lines, what it said at the end, and its exit code.
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
    fn records(lines: &[String]) -> Vec<Value> {
        lines.iter().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn run(args: &[&str]) -> Output {
    let mut output = nettopd_command().arg("trace").args(args).output().unwrap();
    let lines = output.stdout.split_inclusive(|byte| *byte == b'\n');
    output.stdout = lines.filter(|line| !is_notice(&String::from_utf8_lossy(line))).collect::<Vec<_>>().concat();
    output
}

/// From 7.0 on the kernel may skip a run for whatever process comes next, and nettopd says so between the steps.
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

/// Runs of hooks that the kernel skipped, of whatever process.
fn skipped(said: &str) -> u64 {
    let line = said.lines().find_map(|line| line.strip_prefix("nettopd: the kernel skipped "));
    line.map_or(0, |line| line.split(' ').next().unwrap().parse().unwrap())
}

/// A file by which a process is let go: waiting for it takes no socket.
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

/// Lines of strace with contents left out, behind the last marker.
fn strace_lines(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let calls = text.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()));
    behind_marker(calls.map(without_contents).collect())
}

fn behind_marker(mut lines: Vec<String>) -> Vec<String> {
    let marker = lines.iter().rposition(|line| line.starts_with(calls::MARKER));
    lines.split_off(marker.map_or(0, |last| last + 1))
}

fn without_contents(line: &str) -> String {
    let mut shown = line.to_owned();
    let mut from = 0;
    while let Some(found) = shown[from..].find("iov_base=\"") {
        from = cut(&mut shown, from + found + "iov_base=".len());
    }
    let is_buffer = ["sendto(", "recvfrom("].iter().any(|call| line.starts_with(call));
    if is_buffer && let Some(comma) = shown.find(", \"") {
        cut(&mut shown, comma + 2);
    }
    shown
}

/// Replaces what is between quotes from here on, and returns where it ends.
fn cut(line: &mut String, from: usize) -> usize {
    let mut end = from + 1;
    while line.as_bytes()[end] != b'"' {
        end += if line.as_bytes()[end] == b'\\' { 2 } else { 1 };
    }
    end += 1;
    if end == from + 2 {
        return end;
    }
    let more = if line[end..].starts_with("...") { 3 } else { 0 };
    line.replace_range(from..end + more, "\"\"...");
    from + 5
}

#[test]
fn the_same_calls_and_results_as_strace() {
    let alone = Namespace::new();
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().to_owned();
    let worker = Process::start(Some(&alone), move |_| {
        knock(&gate(&inside));
        calls::script(&inside);
        // SAFETY: ends the child; what it would tell by its channel are calls, too.
        unsafe { libc::_exit(0) }
    });
    let pid = worker.pid().to_string();
    let files = folder.path().join("strace");
    let mut strace = Command::new("strace");
    strace.args(["-ff", "-qq", "-a", "1", "-e", "trace=network", "-e", "signal=none"]);
    strace.args(["-p", &pid, "-o"]).arg(&files);
    let mut strace = alone.inside(strace).stderr(Stdio::null()).spawn().unwrap();
    let trace = Trace::start(&["--decode", "-p", &pid]);
    trace.wait_for(calls::MARKER);
    let deadline = Instant::now() + Duration::from_secs(60);
    let first = folder.path().join(format!("strace.{pid}"));
    while !fs::read_to_string(&first).is_ok_and(|text| text.contains(calls::MARKER)) {
        assert!(Instant::now() < deadline, "strace does not come");
        sleep(Duration::from_millis(20));
    }
    fs::write(gate(folder.path()), "").unwrap();
    let (lines, said, code) = trace.finish(None);
    strace.wait().unwrap();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(summary(&said)[2], 0);
    let threads = text_lines_by_thread(&lines);
    // The process, its thread, and its child.
    assert_eq!(threads.len(), 3, "{threads:#?}");
    let mut compared = 0;
    for (tid, lines) in threads {
        let ours = lines.iter().filter_map(|line| line.split_once("<- ")).map(|(_, call)| call.to_owned());
        let ours = behind_marker(ours.collect());
        let theirs = strace_lines(&folder.path().join(format!("strace.{tid}")));
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours, theirs);
        }
        assert_eq!(ours.len(), theirs.len(), "{ours:#?} {theirs:#?}");
        compared += ours.len();
    }
    assert!(compared > 80, "{compared} calls");
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
    assert!(records.iter().all(|record| record["call"] == "shutdown" && record["uid"] == 0), "{records:#?}");
    let left: Vec<&Value> = records.iter().filter(|record| record["event"] == "leave").collect();
    let told: Vec<&str> = left.iter().map(|record| record["arguments"].as_str().unwrap()).collect();
    assert_eq!(told, ["-101, SHUT_RD", "-102, SHUT_RD", "-103, SHUT_RD", "-104, SHUT_RD"]);
    assert!(left.iter().all(|record| record["result"] == -1 && record["error"] == "EBADF"));
    let [first, second, third, fourth] = [0, 1, 2, 3].map(|at| left[at]);
    assert_eq!((&first["pid"], &first["tid"]), (&family.pid().into(), &family.pid().into()));
    assert_eq!(second["pid"], first["pid"]);
    assert_ne!(second["tid"], first["tid"]);
    assert!(third["pid"] != first["pid"] && fourth["pid"] != third["pid"]);
    assert_eq!(summary(&said), [8, 8, 0]);
}

#[test]
fn processes_are_found_by_their_names_now_and_later() {
    let folder = tempfile::tempdir().unwrap();
    let start = |before: &'static [u8], after: &'static [u8], fd: i32| {
        let gate = gate(folder.path());
        Process::start(None, move |parent| {
            set_name(before);
            parent.tell();
            while !gate.exists() {
                sleep(Duration::from_millis(20));
            }
            set_name(after);
            calls::shutdown(fd);
            parent.wait_for_parent();
            Moved::default()
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
    trace.wait_for("\"arguments\":\"-10");
    trace.wait_for("\"arguments\":\"-10");
    sleep(Duration::from_millis(300));
    let (lines, ..) = trace.finish(Some(Signal::SIGINT));
    let records = Trace::records(&lines);
    let told = |fd: &str| records.iter().find(|record| record["arguments"] == format!("{fd}, SHUT_RD"));
    assert_eq!(told("-101").unwrap()["comm"], "trace-me-too");
    assert_eq!(told("-102").unwrap()["comm"], "trace-me\\x07");
    assert!(told("-103").is_none());
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
        // What a document holds is escaped once more.
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
        parent.tell();
        drop(listener.accept().unwrap());
        calls::shutdown(-101);
        // The last one never comes: it is killed inside, and leaves the call to end.
        drop(listener.accept());
        Moved::default()
    });
    server.wait_until_ready();
    sleep(Duration::from_millis(300));
    let pid = server.pid().to_string();
    let trace = Trace::start(&["--backend", "tracepoint", "-p", &pid]);
    let decoded = Trace::documents(&["-d", "-p", &pid]);
    // Nothing tells that the first is listening.
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
    assert_eq!((&records[0]["event"], &records[0]["elapsed_us"]), (&"leave".into(), &Value::Null));
    assert!(records[0]["result"].as_i64().unwrap() >= 0);
    let peer = "{sa_family=AF_INET, sin_port=htons(";
    assert!(records[0]["arguments"].as_str().unwrap().contains(peer), "{records:#?}");
    let last = records.last().unwrap();
    assert_eq!((&last["result"], &last["error"]), (&Value::Null, &"ERESTARTSYS".into()), "{last:#?}");
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
            // A reader that is stuck, until all is over.
            let stat = format!("/proc/{}/stat", flood.pid());
            while !fs::read_to_string(&stat).unwrap().contains(") Z ") {
                sleep(Duration::from_millis(50));
            }
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
        // From 7.0 on, the kernel may skip a step, and does not tell whose.
        let made = 2 * calls;
        assert!(seen <= made && seen + skipped(&said) >= made, "{seen} of {made}: {said}");
        assert!(is_read || lost > 0 || calls < 100_000, "a reader that is stuck costs events");
    }
}

#[test]
fn calls_of_32_bit_programs_are_not_taken_for_others() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().to_owned();
    let old = Process::start(None, move |_| {
        while !gate(&inside).exists() {
            sleep(Duration::from_millis(20));
        }
        // 41 is `dup` there and `socket` here; 359 is `socket` there.
        calls::call_32bit(41);
        calls::call_32bit(359);
        calls::shutdown(-101);
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) }
    });
    let trace = Trace::documents(&["--backend", "tracepoint", "-p", &old.pid().to_string()]);
    fs::write(gate(folder.path()), "").unwrap();
    let (lines, said, _) = trace.finish(None);
    let records = Trace::records(&lines);
    if records.is_empty() {
        return skip("this kernel runs no programs of 32 bits");
    }
    assert!(records.iter().all(|record| record["call"] == "shutdown") && records.len() == 2, "{records:#?}");
    assert!(said.contains("nettopd: 1 calls of 32-bit programs are not shown\n"), "{said}");
}

#[test]
fn functions_are_told_where_the_kernel_allows() {
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

#[test]
fn a_command_ends_as_it_would_without() {
    let code = |args: &[&str]| run(&[&["-d", "--"], args].concat()).status.code();
    assert_eq!(code(&["sleep", "0"]), Some(0));
    assert_eq!(code(&["sleep", "x"]), Some(1));
    let absent = run(&["-d", "--", "/nettopd-no-such-command"]);
    assert_eq!(absent.status.code(), Some(127));
    let said = String::from_utf8_lossy(&absent.stderr);
    assert!(said.starts_with("nettopd: cannot run /nettopd-no-such-command: ") && said.lines().count() == 1, "{said}");
    // Asked to end, nettopd passes it on.
    let trace = Trace::documents(&["-d", "--", "sleep", "1000"]);
    let (_, said, code) = trace.finish(Some(Signal::SIGTERM));
    assert_eq!(code, Some(128 + 15));
    assert_eq!(summary(&said), [0, 0, 0]);
}

#[test]
fn a_command_is_traced_from_its_first_call() {
    let output = run(&["-d", "--", "ss", "-tn"]);
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout);
    let steps = text.lines().filter(|line| line.contains(" ss("));
    let first: Vec<&str> = steps.take(2).map(|line| line.split_once("): ").unwrap().1).collect();
    assert_eq!(first[0], "-> socket");
    assert!(first[1].starts_with("<- socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_SOCK_DIAG) = "), "{text}");
    // Its own output is among the lines.
    assert!(text.lines().any(|line| line.starts_with("State")), "{text}");
}

#[test]
fn head_ends_it_quietly() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().to_owned();
    let knocker = Process::start(None, move |_| {
        knock(&gate(&inside));
        Moved::default()
    });
    let mut command = nettopd_command();
    command.args(["trace", "-d", "-p", &knocker.pid().to_string()]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("-> "), "{line}");
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), b"".as_slice()));
    let counted = run(&["-d", "--count", "3", "-p", &knocker.pid().to_string()]);
    assert_eq!(String::from_utf8_lossy(&counted.stdout).lines().count(), 3);
    fs::write(gate(folder.path()), "").unwrap();
}

#[test]
fn all_tells_of_everybody_but_nettopd() {
    let trace = Trace::documents(&["--all", "-d"]);
    let own = trace.child.id();
    calls::shutdown(-101);
    trace.wait_for("-101, SHUT_RD");
    let (lines, ..) = trace.finish(Some(Signal::SIGINT));
    let records = Trace::records(&lines);
    assert!(records.iter().all(|record| record["pid"] != own), "{records:#?}");
}

#[test]
fn wrong_usage_is_told_in_one_line() {
    for (args, said) in [
        (&[][..], "nettopd: whose calls? choose by -p PID, -c NAME, -- COMMAND, or --all\n"),
        (&["-p", "4294967295"], "nettopd: there is no process 4294967295\n"),
        (&["-p", "0"], "nettopd: there is no process 0\n"),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(String::from_utf8_lossy(&output.stderr), said);
    }
    assert_eq!(run(&["-p", "x"]).status.code(), Some(2));
    // A name that is not kept in full is known by its beginning; too many are refused.
    let many: Vec<&str> = ["-c", "x"].repeat(17);
    assert_eq!(run(&many).status.code(), Some(2));
    let output = run(&["--backend", "kprobe", "-c", "x"]);
    assert_eq!(output.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&output.stderr).contains("back end kprobe cannot be used for socket calls"));
}
