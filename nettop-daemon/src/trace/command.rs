//! A command that is started to be traced: as if nettopd was not there.

use std::{
    ffi::{OsStr, OsString},
    io::IsTerminal as _,
    os::unix::process::ExitStatusExt as _,
    process::{Child, ExitCode},
};

use nix::{
    sys::signal::{SigHandler, Signal, kill, signal},
    unistd::Pid,
};

use crate::{identity::escape::escape, kernel::tracing::Chosen, stream::End};

/// As shells and env(1) have it.
pub const CANNOT_RUN: u8 = 127;
const ENDED_BY_SIGNAL: u8 = 128;

/// A running command.
pub struct Command(Child);

impl Command {
    /// Starts a command, traced from its first instruction on. What the inner error says is for its user.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to trace it.
    pub fn start(program: &OsStr, arguments: &[OsString], chosen: &mut Chosen) -> anyhow::Result<Result<Self, String>> {
        let mut command = std::process::Command::new(program);
        command.args(arguments);
        let child = chosen.child(|| command.spawn())?;
        Ok(child.map(Self).map_err(|error| format!("cannot run {}: {error}", escape(program.as_encoded_bytes()))))
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
        // The terminal has told its whole foreground group.
        let is_told = asked == Signal::SIGINT && std::io::stdin().is_terminal();
        if !is_told && let Ok(pid) = i32::try_from(self.0.id()) {
            let _ = kill(Pid::from_raw(pid), asked);
        }
        // Who asks again does not want to wait for the command.
        for signum in [Signal::SIGINT, Signal::SIGTERM] {
            // SAFETY: the default action replaces a handler that nobody listens to any more.
            let _ = unsafe { signal(signum, SigHandler::SigDfl) };
        }
    }
}
