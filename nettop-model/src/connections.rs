//! Connections, as they are accepted, opened, closed, or fail: a line for each, `nettop.connections/1`.
//! docs/connections.schema.json is generated from these types.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ContainerNames, Word, snapshot::Parent};

/// Name and major version of the stream.
pub const SCHEMA: &str = "nettop.connections/1";

/// One event. Null: not known, or it means nothing for this kind.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone)]
pub struct Record {
    /// accepted, opened, closed, failed; of UDP sent and received
    pub event: Word,
    /// RFC 3339, UTC, from the kernel's clock.
    pub time: String,
    pub pid: Option<u32>,
    pub start_time_ns: Option<u64>,
    pub comm: Option<String>,
    pub exe: Option<String>,
    /// What an interpreter runs.
    pub script: Option<String>,
    pub unit: Option<String>,
    /// Id of the container, or its name where it has no other (nspawn, LXC).
    pub container: Option<String>,
    #[serde(flatten)]
    pub names: Arc<ContainerNames>,
    /// Those that started the process, the parent first.
    pub parents: Vec<Parent>,
    pub uid: Option<u32>,
    pub user: Option<String>,
    pub protocol: Word,
    pub ip_version: u8,
    pub local: String,
    pub local_port: u16,
    pub remote: String,
    pub remote_port: u16,
    pub netns: u32,
    pub netns_cookie: u32,
    /// Since the connection was established; of opened and failed ones, since it was asked for.
    pub duration_us: Option<u64>,
    /// Of TCP data, each byte once; of UDP IP packets.
    pub sent_bytes: Option<u64>,
    pub received_bytes: Option<u64>,
    /// Of UDP.
    pub sent_packets: Option<u64>,
    pub received_packets: Option<u64>,
    /// Of TCP.
    pub retransmits: Option<u32>,
    /// finished, aborted, reset, refused, timed out, given up, not sent, silence, …
    pub outcome: Option<Word>,
    /// Name of the error number.
    pub error: Option<String>,
}
