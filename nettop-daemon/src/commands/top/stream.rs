//! `nettopd packets` or `nettopd connections` of a line, run as their own process and read line by line.

use std::{
    io::{BufRead as _, BufReader, Read},
    process::{Child, Command, Stdio},
};

use anyhow::Context as _;
use nettop_top::Event;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::sync::mpsc::Sender;

/// Longer lines are cut.
const MAX_LINE_BYTES: u64 = 4096;

/// Ended when dropped.
pub struct Stream(Option<Child>);

impl Stream {
    /// Starts it. A slow screen costs it events, which it counts.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn start(number: u64, command: &str, args: &[String], events: Sender<Event>) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find the own program")?;
        let mut child = Command::new(program)
            .arg(command)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start nettopd {command}"))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        if let Some(stdout) = stdout {
            let events = events.clone();
            std::thread::spawn(move || read(number, stdout, &events));
        }
        if let Some(stderr) = stderr {
            std::thread::spawn(move || {
                read(number, stderr, &events);
                let _ = events.blocking_send(Event::StreamEnded(number, "it has ended; esc goes back".into()));
            });
        }
        Ok(Self(Some(child)))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let Some(mut child) = self.0.take() else { return };
        if let Ok(pid) = child.id().try_into() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        // It detaches its hooks first: nobody waits for that.
        std::thread::spawn(move || child.wait());
    }
}

fn read(number: u64, output: impl Read, events: &Sender<Event>) {
    let mut output = BufReader::new(output);
    loop {
        let mut line = Vec::new();
        match (&mut output).take(MAX_LINE_BYTES).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if events.blocking_send(Event::Line(number, line)).is_err() {
            return;
        }
    }
}
