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
pub struct Stream(Child);

impl Stream {
    /// Starts it. A slow screen costs it events, which it counts.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn start(command: &str, args: &[String], events: Sender<Event>) -> anyhow::Result<Self> {
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
            std::thread::spawn(move || read(stdout, &events));
        }
        if let Some(stderr) = stderr {
            std::thread::spawn(move || {
                read(stderr, &events);
                let _ = events.blocking_send(Event::StreamEnded("it has ended; esc goes back".into()));
            });
        }
        Ok(Self(child))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Ok(pid) = self.0.id().try_into() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        // Its descriptors are closed: whatever it writes ends it as well.
        let _ = self.0.wait();
    }
}

fn read(output: impl Read, events: &Sender<Event>) {
    let mut output = BufReader::new(output);
    loop {
        let mut line = Vec::new();
        match (&mut output).take(MAX_LINE_BYTES).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if events.blocking_send(Event::Line(line)).is_err() {
            return;
        }
    }
}
