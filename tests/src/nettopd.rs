//! nettopd under test: started, read, stopped.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use nettop_model::Snapshot;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    Namespace, amount,
    bystander::Bystanders,
    hang_timeout,
    invariants::{self, Invariants},
};

/// A running nettopd that reports every 0.2 s, in an emulated machine every 0.5 s, unless the first argument is another
/// interval. All its documents are checked against
/// the `Invariants`; a broken invariant fails the scenario when this is dropped.
pub struct Nettopd {
    /// None where several scenarios share it.
    child: Option<Child>,
    pid: u32,
    latest: Arc<Latest>,
    /// What the kernel had skipped in scenarios before.
    skipped_before: u64,
    /// And how many of their namespaces were not found.
    unread_before: u64,
    /// How often scenarios before had broken what always holds.
    broken_before: usize,
    /// Devices whose rest may be negative.
    exempt: Arc<Mutex<Vec<(u32, String)>>>,
    /// None where they are the shared one's.
    _bystanders: Option<Bystanders>,
}

struct Latest {
    state: Mutex<State>,
    changed: Condvar,
}

/// What was read.
struct State {
    /// The latest.
    document: Arc<Snapshot>,
    /// Its size.
    bytes: usize,
    /// How many there were.
    written: u64,
    /// No more can come.
    has_ended: bool,
    invariants: Invariants,
}

impl Nettopd {
    /// Starts it and waits for its first report: everything from here on is counted.
    ///
    /// With `NETTOP_SHARED`, scenarios of one process that give no arguments share one: in an emulated machine the verifier
    /// takes a second for each.
    pub fn start(args: &[&str]) -> Self {
        static SHARED: Mutex<Option<Nettopd>> = Mutex::new(None);
        if !args.is_empty() || std::env::var_os("NETTOP_SHARED").is_none() {
            return Self::start_by(nettopd_command(), args);
        }
        let mut shared = SHARED.lock().unwrap();
        let shared = shared.get_or_insert_with(|| Self::start_by(nettopd_command(), args));
        // It is to have found the namespaces that were made since.
        let known = shared.made_from_now_on();
        let (skipped_before, unread_before) = (known.loss.runs_skipped, known.loss.namespaces_unread);
        let broken_before = shared.latest.state.lock().unwrap().invariants.broken();
        Self {
            child: None,
            pid: shared.pid,
            latest: Arc::clone(&shared.latest),
            skipped_before,
            unread_before,
            broken_before,
            exempt: Arc::clone(&shared.exempt),
            _bystanders: None,
        }
    }

    /// As `start`, where nettopd is another program, or is to run elsewhere.
    pub fn start_by(mut command: Command, args: &[&str]) -> Self {
        // What a test measures is not for the history of the machine that it runs on.
        let history = if args.contains(&"--history") { &[][..] } else { &["--no-history"] };
        let bystanders = Bystanders::start();
        let has_interval = args.first().is_some_and(|first| first.parse::<f64>().is_ok());
        let interval = if has_interval { None } else { Some(format!("0.{}", amount(2, 5))) };
        let mut child = command
            .args(["--format", "ndjson", "--whole"])
            .args(history)
            .args(args)
            .args(interval)
            .stdout(Stdio::piped())
            .spawn()
            .expect("nettopd does not start");
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let state = State {
            document: Arc::default(),
            bytes: 0,
            written: 0,
            has_ended: false,
            invariants: Invariants::new(args, bystanders.pids()),
        };
        let latest = Arc::new(Latest { state: Mutex::new(state), changed: Condvar::new() });
        let shared = Arc::clone(&latest);
        std::thread::spawn(move || {
            let mut line = String::new();
            // If it is killed, the last line may lack its end.
            while output.read_line(&mut line).is_ok_and(|_| line.ends_with('\n')) {
                let document = serde_json::from_str(&line).map(Arc::new);
                let mut state = shared.state.lock().unwrap();
                let document = match document {
                    Ok(document) => document,
                    Err(error) => {
                        state.invariants.violate(format!("a line is no document: {error}"));
                        break;
                    }
                };
                state.invariants.check(&document);
                (state.document, state.bytes, state.written) = (document, line.len(), state.written + 1);
                shared.changed.notify_all();
                line.clear();
            }
            shared.state.lock().unwrap().has_ended = true;
            shared.changed.notify_all();
        });
        let nettopd = Self {
            pid: child.id(),
            child: Some(child),
            latest,
            skipped_before: 0,
            unread_before: 0,
            broken_before: 0,
            exempt: Arc::default(),
            _bystanders: Some(bystanders),
        };
        nettopd.after(1);
        nettopd
    }

    /// Lets the rest of a device be negative, for the reason `_why`.
    pub fn allow_negative_rest(&self, namespace: &Namespace, device: &str, _why: &str) {
        self.exempt.lock().unwrap().push((namespace.inode(), device.to_owned()));
    }

    /// The first document to be read from the kernel after everything that was done before the call, with the devices of
    /// all namespaces that can be entered.
    pub fn settled(&self) -> Arc<Snapshot> {
        // Delayed acknowledgements and FINs are still under way: 0.2 s at most on these paths.
        std::thread::sleep(Duration::from_millis(400));
        let mut document = self.made_from_now_on();
        // A namespace is looked for again after a while; one that nobody is in any more is not found at all.
        let (from, limit) = (Instant::now(), Duration::from_secs(amount(3, 12)));
        while document.loss.namespaces_unread > self.unread_before && from.elapsed() < limit {
            document = self.after_this();
        }
        // Less than a device's first rest needs to be taken for its own: one that is wrong must be seen.
        let (from, limit) = (Instant::now(), Duration::from_secs(3));
        let is_whole = self.latest.state.lock().unwrap().invariants.is_whole();
        let exempt = self.exempt.lock().unwrap().clone();
        let is_early = |document: &Snapshot| {
            invariants::is_behind(document, &exempt) || is_whole && invariants::lacks_namespaces(document)
        };
        while is_early(&document) && from.elapsed() < limit {
            document = self.after_this();
        }
        if is_early(&document) {
            println!("what is under way in this scenario's namespaces, or one of them, stays away");
        }
        document
    }

    /// The first document whose reading was begun later than now.
    fn made_from_now_on(&self) -> Arc<Snapshot> {
        let now = Timestamp::now();
        // Documents may wait in the pipe: one made later than now means that the next was begun later.
        let mut made_later = false;
        loop {
            let document = self.after_this();
            if made_later {
                return document;
            }
            made_later = document.time.parse::<Timestamp>().unwrap() > now;
        }
    }

    /// The document after the latest.
    fn after_this(&self) -> Arc<Snapshot> {
        let written = self.latest.state.lock().unwrap().written;
        self.after(written + 1)
    }

    /// The latest document, once `n` were written.
    fn after(&self, n: u64) -> Arc<Snapshot> {
        let is_awaited = |state: &mut State| state.written < n && !state.has_ended;
        let state = self.latest.state.lock().unwrap();
        let (state, timeout) = self.latest.changed.wait_timeout_while(state, hang_timeout(), is_awaited).unwrap();
        assert!(!timeout.timed_out() && state.written >= n, "nettopd stopped reporting");
        let mut document = Arc::clone(&state.document);
        if self.child.is_none() {
            // Scenarios before had namespaces that may have had the same numbers.
            invariants::forget_dead_namespaces(Arc::make_mut(&mut document));
        }
        if self.skipped_before > 0 {
            Arc::make_mut(&mut document).loss.runs_skipped -= self.skipped_before;
        }
        document
    }

    /// Size of the latest.
    pub fn document_bytes(&self) -> usize {
        self.latest.state.lock().unwrap().bytes
    }

    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Asks it to end and returns its last report and exit code.
    pub fn stop(mut self, signal: Signal) -> (Arc<Snapshot>, Option<i32>) {
        let child = self.child.as_mut().expect("others use it as well");
        kill(Pid::from_raw(self.pid.cast_signed()), signal).unwrap();
        let code = child.wait().unwrap().code();
        let state = self.latest.state.lock().unwrap();
        let state = self.latest.changed.wait_while(state, |state| !state.has_ended).unwrap();
        (Arc::clone(&state.document), code)
    }

    /// Resident memory.
    pub fn rss_kib(&self) -> u64 {
        rss_kib(self.pid)
    }
}

/// Resident memory of a process.
pub fn rss_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

impl Nettopd {
    /// Waits for what is on its way: a rest is judged by the documents of seconds.
    fn violations(&self) -> Vec<String> {
        let exempt = self.exempt.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.latest.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_awaited = |state: &mut State| state.invariants.is_negative_now() && !state.has_ended;
        let wait = self.latest.changed.wait_timeout_while(state, Duration::from_secs(10), is_awaited);
        let (state, _) = wait.unwrap_or_else(PoisonError::into_inner);
        state.invariants.violations(self.broken_before, &exempt)
    }
}

impl Drop for Nettopd {
    fn drop(&mut self) {
        let violations = self.violations();
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            return eprintln!("{}", violations.join("\n"));
        }
        assert!(violations.is_empty(), "documents broke what always holds:\n{}", violations.join("\n"));
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
