//! Who logged in and in which session a process is: a part of each document that names processes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// As it was when the process was recorded.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Default, Debug, PartialEq, Eq)]
pub struct Login {
    /// User who logged in, whatever the process has become since (`/proc/PID/loginuid`). Null: nobody did, as for services, or
    /// this kernel does not keep it.
    #[serde(default)]
    pub login_uid: Option<u32>,
    #[serde(default)]
    pub session: Option<Session>,
}

/// A session (setsid(2)), by its leader.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Default, Debug, PartialEq, Eq)]
pub struct Session {
    /// Of the leader; the session's id.
    pub pid: u32,
    /// Null if the leader had ended.
    pub start_time_ns: Option<u64>,
    /// Name of the leader, escaped; null if it had ended.
    pub comm: Option<String>,
}
