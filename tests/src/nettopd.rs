//! nettopd under test: started, read, stopped; and questions to its documents.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::Moved;

/// A row of a document.
pub type Row = Value;

/// A running nettopd that reports every 0.2 s.
pub struct Nettopd {
    child: Child,
    latest: Arc<Latest>,
}

/// The latest line, how many there were, and whether more can come.
#[derive(Default)]
struct Latest {
    state: Mutex<(String, u64, bool)>,
    changed: Condvar,
}

impl Nettopd {
    /// Starts it and waits for its first report: everything from here on is counted.
    pub fn start(args: &[&str]) -> Self {
        Self::start_by(nettopd_command(), args)
    }

    /// As `start`, where nettopd is another program, or is to run elsewhere.
    pub fn start_by(mut command: Command, args: &[&str]) -> Self {
        // What a test measures is not for the history of the machine that it runs on.
        let history = if args.contains(&"--history") { &[][..] } else { &["--no-history"] };
        let mut child = command
            .args(["--format", "ndjson"])
            .args(history)
            .args(args)
            .arg("0.2")
            .stdout(Stdio::piped())
            .spawn()
            .expect("nettopd does not start");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let latest = Arc::new(Latest::default());
        let shared = Arc::clone(&latest);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut state = shared.state.lock().unwrap();
                (state.0, state.1) = (line, state.1 + 1);
                shared.changed.notify_all();
            }
            shared.state.lock().unwrap().2 = true;
            shared.changed.notify_all();
        });
        let nettopd = Self { child, latest };
        nettopd.after(1);
        nettopd
    }

    /// The first document to be read from the kernel after everything that was done before the call.
    pub fn settled(&self) -> Value {
        // Delayed acknowledgements and FINs are still under way: 0.2 s at most on these paths.
        std::thread::sleep(Duration::from_millis(400));
        let now = Timestamp::now();
        // Documents may wait in the pipe: one made later than now tells that the next was begun later.
        let mut made_later = false;
        loop {
            let written = self.latest.state.lock().unwrap().1;
            let document = self.after(written + 1);
            if made_later {
                return document;
            }
            let time = document["time"].as_str().unwrap();
            made_later = time.parse::<Timestamp>().unwrap() > now;
        }
    }

    /// The latest document, once `n` were written.
    fn after(&self, n: u64) -> Value {
        let state = self.latest.state.lock().unwrap();
        let wait =
            self.latest.changed.wait_timeout_while(state, Duration::from_secs(30), |state| state.1 < n && !state.2);
        let (state, timeout) = wait.unwrap();
        assert!(!timeout.timed_out() && state.1 >= n, "nettopd stopped reporting");
        serde_json::from_str(&state.0).expect("a line is a document")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end and returns its last report and exit code.
    pub fn stop(mut self, signal: Signal) -> (Value, Option<i32>) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
        let code = self.child.wait().unwrap().code();
        let state = self.latest.state.lock().unwrap();
        let state = self.latest.changed.wait_while(state, |state| !state.2).unwrap();
        (serde_json::from_str(&state.0).unwrap(), code)
    }

    /// Resident memory.
    pub fn rss_kib(&self) -> u64 {
        rss_kib(self.child.id())
    }
}

/// Resident memory of a process.
pub fn rss_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

impl Drop for Nettopd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs nettopd to its end.
pub fn run_nettopd(args: &[&str]) -> Output {
    nettopd_command().args(args).output().expect("nettopd does not start")
}

/// nettopd, to be given arguments.
pub fn nettopd_command() -> Command {
    let built = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/nettopd"));
    without_daemon(Command::new(std::env::var_os("NETTOPD_BIN").map_or(built, PathBuf::from)))
}

/// A daemon of the machine is not what is tested.
pub fn without_daemon(mut nettopd: Command) -> Command {
    nettopd.env("NETTOPD_SOCKET", "");
    nettopd
}

/// All rows of a process.
pub fn rows_of(document: &Value, pid: u32) -> Vec<&Row> {
    document["rows"].as_array().unwrap().iter().filter(|row| row["pid"] == pid).collect()
}

/// The only row of a process.
pub fn owner_row(document: &Value, pid: u32) -> &Row {
    let rows = rows_of(document, pid);
    assert_eq!(rows.len(), 1, "rows of process {pid}: {rows:#?}");
    rows[0]
}

/// Sum of the app bytes of a process.
pub fn app(document: &Value, pid: u32) -> Moved {
    sum(&rows_of(document, pid), "app_bytes")
}

/// Holds the app bytes of a process against what it moved. Where the kernel skipped runs of hooks, and says so in
/// `loss`, they may be less.
pub fn assert_app(document: &Value, pid: u32, moved: Moved) {
    let counted = app(document, pid);
    if document["loss"]["runs_skipped"] == 0 {
        assert_eq!(counted, moved, "process {pid}");
    } else {
        assert!(counted.sent <= moved.sent && counted.received <= moved.received, "{counted:?} of {moved:?}");
    }
}

/// Sum of the wire bytes of a process.
pub fn wire(document: &Value, pid: u32) -> Moved {
    sum(&rows_of(document, pid), "bytes")
}

fn sum(rows: &[&Row], what: &str) -> Moved {
    let sum = |way: &str| rows.iter().map(|row| row["total"][way][what].as_u64().unwrap()).sum();
    Moved { sent: sum("tx"), received: sum("rx") }
}

/// The books of a device since the start.
pub fn device<'a>(document: &'a Value, netns: u64, name: &str) -> &'a Value {
    let mut devices = document["devices"].as_array().unwrap().iter();
    let found = devices.find(|device| device["netns"] == netns && device["device"] == name);
    &found.unwrap_or_else(|| panic!("no device {name} of namespace {netns}"))["total"]
}
