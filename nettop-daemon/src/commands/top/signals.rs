//! Signals that a full-screen program answers: to end, to stop for a while, to go on.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug)]
pub enum Asked {
    End,
    Stop,
    GoOn,
}

pub struct Signals {
    ends: [Signal; 4],
    stop: Signal,
    go_on: Signal,
}

impl Signals {
    /// From here on a signal waits to be asked for, and does not leave the terminal as it is.
    ///
    /// # Errors
    ///
    /// If there are no descriptors left.
    pub fn watch() -> anyhow::Result<Self> {
        let watch = |kind: SignalKind| signal(kind).context("cannot handle signals");
        let ends =
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()].map(watch);
        let [interrupt, terminate, hangup, quit] = ends;
        Ok(Self {
            ends: [interrupt?, terminate?, hangup?, quit?],
            stop: watch(SignalKind::from_raw(libc::SIGTSTP))?,
            go_on: watch(SignalKind::from_raw(libc::SIGCONT))?,
        })
    }

    /// Waits for one.
    pub async fn next(&mut self) -> Asked {
        let [interrupt, terminate, hangup, quit] = &mut self.ends;
        tokio::select! {
            _ = interrupt.recv() => Asked::End,
            _ = terminate.recv() => Asked::End,
            _ = hangup.recv() => Asked::End,
            _ = quit.recv() => Asked::End,
            _ = self.stop.recv() => Asked::Stop,
            _ = self.go_on.recv() => Asked::GoOn,
        }
    }
}
