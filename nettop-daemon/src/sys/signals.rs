//! SIGINT and SIGTERM: waited for while a command works, and let through once it only writes what is left. And names of
//! signals.

use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{SigHandler, Signal, signal};
use tokio::signal::unix::{self, SignalKind};

/// A signal's name; one that has none, as those for real time, by its number.
pub fn signal_name(number: u32) -> String {
    let known = i32::try_from(number).ok().and_then(|number| Signal::try_from(number).ok());
    known.map_or_else(|| format!("signal {number}"), |signal| signal.as_str().to_owned())
}

/// Both signals, from when this was made.
pub struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Signals {
    /// From here on a signal waits to be asked for, and does not end the process with its hooks half attached.
    ///
    /// # Errors
    ///
    /// If there are no descriptors left.
    pub fn watch() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: unix::signal(SignalKind::interrupt()).context("cannot handle SIGINT")?,
            terminate: unix::signal(SignalKind::terminate()).context("cannot handle SIGTERM")?,
        })
    }

    /// Waits for one.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::SIGINT,
            _ = self.terminate.recv() => Signal::SIGTERM,
        }
    }

    /// From here on a signal ends the process at once. Returns one that came before and was not asked for.
    ///
    /// # Errors
    ///
    /// As [`let_signals_end`].
    pub async fn let_through(&mut self) -> anyhow::Result<Option<Signal>> {
        let_signals_end()?;
        // The runtime sees signals when it waits.
        Ok(tokio::time::timeout(Duration::from_millis(1), self.next()).await.ok())
    }
}

/// From here on SIGINT and SIGTERM end the process at once, whatever it waits for.
///
/// # Errors
///
/// If a system call filter forbids `rt_sigaction`: the caller is to end now, for no signal would end it later.
pub fn let_signals_end() -> anyhow::Result<()> {
    for signum in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the default action is no code of ours.
        unsafe { signal(signum, SigHandler::SigDfl) }.context("cannot let signals through")?;
    }
    Ok(())
}
