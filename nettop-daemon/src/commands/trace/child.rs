//! A command that is started to be traced: as if nettopd was not there.

use std::{
    ffi::{OsStr, OsString},
    io::IsTerminal as _,
    os::unix::process::ExitStatusExt as _,
    process::{Child, ExitCode},
};

use nettop_kernel::tracer::TraceTargets;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    events::End,
    sys::{limits, signals::let_signals_end},
};

/// As shells and env(1) have it.
pub const CANNOT_RUN: u8 = 127;
const ENDED_BY_SIGNAL: u8 = 128;

/// A running command.
pub struct Command(Child);

impl Command {
    /// Starts a command, traced from its first instruction on. The inner error is for its user.
    ///
    /// # Errors
    ///
    /// If nettopd itself cannot be marked as traced.
    pub fn start(
        program: &OsStr,
        arguments: &[OsString],
        targets: &mut TraceTargets,
    ) -> anyhow::Result<Result<Self, String>> {
        let mut command = std::process::Command::new(program);
        command.args(arguments);
        limits::restore_for(&mut command);
        let child = targets.child(|| command.spawn())?;
        Ok(child.map(Self).map_err(|error| format!("cannot run {}: {error}", program.display())))
    }

    /// Passes on what ended nettopd, and waits for the command; one whose calls nobody reads any more is left alone.
    pub fn finish(&mut self, end: End) -> ExitCode {
        match end {
            End::Enough => return ExitCode::SUCCESS,
            End::Done => {}
            End::Asked(asked) => self.pass_on(asked),
        }
        let Ok(status) = self.0.wait() else { return ExitCode::FAILURE };
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        let signal = status.signal().and_then(|signal| u8::try_from(signal).ok());
        match (code, signal) {
            (Some(code), _) => code.into(),
            (None, Some(signal)) => ENDED_BY_SIGNAL.saturating_add(signal).into(),
            (None, None) => ExitCode::FAILURE,
        }
    }

    fn pass_on(&self, asked: Signal) {
        // The terminal signals its whole foreground group.
        let has_it = asked == Signal::SIGINT && std::io::stdin().is_terminal();
        if !has_it && let Ok(pid) = i32::try_from(self.0.id()) {
            let _ = kill(Pid::from_raw(pid), asked);
        }
        // A second signal ends nettopd without waiting.
        let _ = let_signals_end();
    }
}
