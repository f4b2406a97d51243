//! An ancestor of a process: a part of documents.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An ancestor of a process.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Default, PartialEq, Eq)]
pub struct Parent {
    pub pid: u32,
    pub start_time_ns: u64,
    /// Name of the thread-group leader, escaped.
    pub comm: String,
    pub uid: u32,
}
