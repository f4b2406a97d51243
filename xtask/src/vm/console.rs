//! A virtual machine as a process: QEMU, and the lines that its guest prints.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

/// What the guest's init prints last.
pub const END: &str = "vm: end";

/// A machine that is off when dropped.
pub struct Console {
    qemu: Child,
    pub lines: Receiver<String>,
}

impl Console {
    /// Starts it. All it prints goes to the log as well.
    ///
    /// # Errors
    ///
    /// If QEMU cannot be started.
    pub fn start(qemu: &mut Command, log: Option<File>) -> anyhow::Result<Self> {
        let child = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut qemu = child.context("cannot run QEMU")?;
        let stdout = qemu.stdout.take().context("QEMU has no output")?;
        let mut log = log;
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if let Some(log) = &mut log {
                    let _ = writeln!(log, "{line}");
                }
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { qemu, lines })
    }

    /// All it prints up to this line.
    ///
    /// # Errors
    ///
    /// If the line does not come in time.
    pub fn until(&self, last: &str, timeout: Duration) -> anyhow::Result<Vec<String>> {
        let deadline = Instant::now() + timeout;
        let mut printed = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if line == last {
                return Ok(printed);
            }
            printed.push(line);
        }
        bail!("the machine never printed '{last}', but:\n{}", printed.join("\n"))
    }

    /// Of QEMU.
    pub fn pid(&self) -> u32 {
        self.qemu.id()
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
