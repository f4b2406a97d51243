//! Defaults of flags and keys, which help takes from here.

use std::fmt::Display;

use nettop_history::Keep;
use nettop_kernel::Limits;

/// Where packages put the configuration.
pub const CONFIG_FILE: &str = "/etc/nettopd/nettopd.toml";
pub const CONFIG_FOLDER: &str = "/etc/nettopd/conf.d";

pub const INTERVAL_S: f64 = 5.0;
/// Of `top`, where no daemon answers.
pub const TOP_INTERVAL_S: f64 = 1.0;
/// Of `--once`.
pub const ONCE_INTERVAL_S: f64 = 1.0;
pub const ROWS: u32 = 65_536;
pub const DROP_KINDS: u32 = 8192;
pub const LIMITS: Limits = Limits { rows: ROWS, drops: DROP_KINDS };
/// Whether names of users are not looked up.
pub const NUMERIC: bool = false;
/// Whether names of containers are read.
pub const CONTAINER_NAMES: bool = true;
/// Whether the daemon records.
pub const HISTORY_ENABLED: bool = true;
/// Where the packaged daemon listens.
pub const SOCKET: &str = "/run/nettopd/nettopd.sock";
/// Where packages put the history.
pub const HISTORY_FILE: &str = "/var/lib/nettopd/history.db";
pub const HISTORY_SIZE_MB: u32 = nettop_history::Limits::DEFAULT_SIZE_MB;
pub const HISTORY_KEEP: Keep = Keep::DEFAULT;
/// Whether arguments of processes are recorded.
pub const HISTORY_ARGUMENTS: bool = false;
/// Whether what processes use is recorded.
pub const HISTORY_RESOURCES: bool = true;
/// Rows of an answer from it.
pub const HISTORY_TOP_ROWS: usize = 20;

/// Help for a flag without a value of its own where it is absent.
pub fn help(what: &str, default: impl Display) -> String {
    format!("{what} [default: {default}]")
}
