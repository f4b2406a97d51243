//! The document `nettop.status/1`: the state of the daemon.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Word,
    snapshot::{HookReport, Loss},
};

/// Name and major version of the document.
pub const SCHEMA: &str = "nettop.status/1";

/// State of the daemon.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone)]
pub struct Status {
    /// Always `nettop.status/1`.
    pub schema: Word,
    /// Version of nettopd.
    pub version: Word,
    /// Source commit, if known.
    pub commit: Option<Word>,
    pub pid: u32,
    /// RFC 3339.
    pub started: String,
    /// Since `started`, by a clock that is not set and stands still while the machine sleeps.
    pub uptime_s: u64,
    /// Null until the first interval is over.
    pub last: Option<LastInterval>,
    pub hooks: Vec<HookReport>,
    pub loss: Option<Loss>,
    /// Null where none is recorded.
    pub history: Option<HistoryStatus>,
    /// Whether sockets can be listed.
    pub lists_sockets: bool,
    /// Folders with names of containers that could not be read for lack of permission, as far as they were looked for.
    #[serde(default)]
    pub container_names_closed: Vec<String>,
    pub clients: Clients,
}

/// The last interval.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone)]
pub struct LastInterval {
    /// Its end, RFC 3339.
    pub time: String,
    /// From the reading before it to its own, by a clock that is not set.
    pub interval_ms: u64,
    /// Since its end, by a clock that is not set.
    pub age_ms: u64,
    /// How long reading the ledger took.
    pub read_us: u64,
    pub rows: usize,
}

/// The recorded history.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone)]
pub struct HistoryStatus {
    pub file: PathBuf,
    /// Without its log; null where there is no file.
    pub size_bytes: Option<u64>,
    /// Readings that the file did not take.
    pub shed: u64,
}

/// Clients of the API since the start.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Clients {
    /// Now.
    pub connected: u64,
    /// Connections that were let in.
    pub served: u64,
    /// That were turned away: too many at once, or not permitted.
    pub refused: u64,
    /// That were cut off: they asked or read too slowly.
    pub dropped: u64,
}
