//! Defaults of flags and keys.

use nettop_kernel::Limits;

pub const INTERVAL_S: f64 = 5.0;
/// Of `--once`.
pub const ONCE_INTERVAL_S: f64 = 1.0;
pub const ROWS: u32 = 65_536;
pub const DROP_KINDS: u32 = 8192;
pub const LIMITS: Limits = Limits { rows: ROWS, drops: DROP_KINDS };
/// Where the packaged daemon listens.
pub const SOCKET: &str = "/run/nettopd/nettopd.sock";
/// Where packages put the history.
pub const HISTORY_FILE: &str = "/var/lib/nettopd/history.db";
pub const HISTORY_SIZE_MB: u32 = 512;
/// Rows of an answer from it.
pub const HISTORY_TOP: usize = 20;
