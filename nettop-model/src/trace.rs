//! Socket calls, as they enter and leave: a line for each, `nettop.trace/1`.
//! docs/trace.schema.json is generated from these types.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ProcessNames, Word};

/// Name and major version of the stream.
pub const SCHEMA: &str = "nettop.trace/1";

/// One step. Null: not known, or it means nothing here.
#[derive(Serialize, Deserialize, JsonSchema, Debug)]
pub struct Record {
    /// enter or leave
    pub event: Word,
    /// RFC 3339, UTC, from the kernel's clock.
    pub time: String,
    /// Of the process (thread group).
    pub pid: u32,
    /// Of the thread that called.
    pub tid: u32,
    /// When the process started, since boot.
    pub start_time_ns: u64,
    /// Of the process, in the initial user namespace.
    pub uid: u32,
    /// Of the thread.
    pub comm: String,
    /// A system call, as `sendto`, or a function of the kernel's net/socket.c, as `__sys_sendto`.
    pub call: Word,
    /// Calls around it.
    pub depth: u32,
    /// Since the thread's outermost call was entered. Null if its beginning was not reported.
    pub elapsed_us: Option<u64>,
    /// What a system call returned, -1 with `error`; a call to be restarted returns nothing.
    pub result: Option<i64>,
    /// Name of the error number.
    pub error: Option<String>,
    /// In strace's manner, with `--decode`.
    pub arguments: Option<String>,
    #[serde(flatten)]
    pub process: ProcessNames,
}
