//! The document `nettop.status/1`: what the daemon says of itself.

use std::{borrow::Cow, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::report::{HookReport, Loss};

const SCHEMA: &str = "nettop.status/1";

/// What the daemon says of itself.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone)]
pub struct Status {
    /// Always `nettop.status/1`.
    pub schema: Cow<'static, str>,
    /// Version of nettopd.
    pub version: Cow<'static, str>,
    /// That it was built of, where the build knew.
    pub commit: Option<Cow<'static, str>>,
    pub pid: u32,
    /// RFC 3339.
    pub started: String,
    pub uptime_s: u64,
    /// Null until the first interval is over.
    pub last: Option<LastInterval>,
    pub hooks: Vec<HookReport>,
    pub loss: Option<Loss>,
    /// Null where none is recorded.
    pub history: Option<HistoryStatus>,
    /// Whether sockets can be listed.
    pub lists_sockets: bool,
    pub clients: Clients,
}

/// The last interval.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone)]
pub struct LastInterval {
    /// Its end, RFC 3339.
    pub time: String,
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

impl Status {
    pub fn schema() -> Cow<'static, str> {
        SCHEMA.into()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_schema_in_docs_is_the_one_of_these_types() {
        crate::golden::hold_schema::<super::Status>("../docs/status.schema.json");
    }
}
