//! What goes with every command.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use nettop_kernel::hooks::Backend;
use serde::{Deserialize, Serialize};

use super::report::path;
use crate::defaults;

/// Flags of all commands.
#[derive(Args, Debug, Clone)]
pub struct Global {
    /// Use this back end where there are several, and no other; `nettopd check` shows what there is
    #[arg(long, value_name = "BACKEND", env = "NETTOPD_BACKEND", global = true)]
    pub backend: Option<BackendChoice>,
    /// Attach recovery probes from the start, and not only when the kernel has skipped a run; for tests
    #[arg(long, hide = true, global = true)]
    pub recovery_probe: bool,
    #[arg(help = defaults::help("The daemon's socket, '' for none", format_args!("as configured, or {}", defaults::SOCKET)))]
    #[arg(long, value_name = "PATH", env = "NETTOPD_SOCKET", value_parser = path, global = true)]
    pub socket: Option<PathBuf>,
    /// Measure without asking a daemon
    #[arg(long, global = true)]
    pub standalone: bool,
    /// Print more on standard error; twice for the kernel's own messages
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
}

impl Global {
    /// The back end that is to be used and no other.
    pub fn forced(&self) -> Option<Backend> {
        self.backend.and_then(BackendChoice::forced)
    }

    /// Whether hooks are asked for that the daemon may not have.
    pub const fn has_own_hooks(&self) -> bool {
        self.backend.is_some() || self.recovery_probe
    }
}

/// Which back end is used.
#[derive(ValueEnum, Deserialize, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum BackendChoice {
    #[default]
    #[value(skip)]
    Best,
    /// Tracepoints with types (`tp_btf`)
    Tracepoint,
    /// Trampolines at the entry and exit of functions (`fentry`, `fexit`)
    Fentry,
    /// Breakpoints in functions (`kprobe`, `kretprobe`)
    Kprobe,
}

impl BackendChoice {
    /// The one that is to be used and no other.
    pub const fn forced(self) -> Option<Backend> {
        match self {
            Self::Best => None,
            Self::Tracepoint => Some(Backend::Tracepoint),
            Self::Fentry => Some(Backend::Fentry),
            Self::Kprobe => Some(Backend::Kprobe),
        }
    }
}
