//! Commands and questions that go on while everything comes and goes.

use std::{
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use nettop_tests::{api::Daemon, nettopd_command, run_nettopd};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A command that is run again and again, or goes on, until the end.
pub struct Running {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Running {
    pub fn start(run: impl Fn() + Send + 'static) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            let mut runs = 0;
            while !seen.load(Ordering::Relaxed) {
                run();
                runs += 1;
                std::thread::sleep(Duration::from_millis(200));
            }
            runs
        });
        Self { ends, thread }
    }

    /// How often it ran.
    pub fn end(self) -> u64 {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// A command whose output nobody wants, ended when dropped.
pub struct Ignored(Child);

impl Ignored {
    pub fn start(args: &[&str]) -> Self {
        let mut command = nettopd_command();
        Self(command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Has it end as Ctrl-C does. Returns its exit code, if it has one.
    pub fn end(mut self) -> Option<i32> {
        kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGINT).unwrap();
        self.0.wait().unwrap().code()
    }
}

impl Drop for Ignored {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks the daemon for all it has, in turn.
pub fn ask(daemon: &Daemon) {
    for target in ["/v1/status", "/v1/snapshot", "/v1/drops", "/v1/sockets", "/v1/history?from=-1h"] {
        let status = daemon.get(target).unwrap_or_default().status;
        // Where an answer is too much or takes too long: try again.
        assert!([200, 503, 0].contains(&status), "{target}: {status}");
    }
}

/// Runs commands that end, in turn: by themselves, and what the daemon has.
pub fn run_commands(daemon: &Daemon) {
    let of_its_own = [&["sockets", "--format", "json"][..], &["sockets", "0.1"], &["check"]];
    let file = daemon.folder.join("history.db");
    let of_the_file = [&["history", "--history", file.to_str().unwrap(), "--from", "-1h"][..]];
    for args in of_its_own.into_iter().chain(of_the_file) {
        let output = run_nettopd(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
    }
}
