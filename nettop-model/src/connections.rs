//! Connections, as they are accepted, opened, closed, or fail: a line for each, `nettop.connections/1`.
//! docs/connections.schema.json is generated from these types.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ProcessNames, Word};

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
    #[serde(flatten)]
    pub process: ProcessNames,
    pub uid: Option<u32>,
    pub user: Option<String>,
    /// tcp or udp
    pub protocol: Word,
    /// 4 or 6; 4 also where a socket of IPv6 has a peer of IPv4.
    pub ip_version: u8,
    /// As a number; an address of one link has its device, as `fe80::1%eth0`.
    pub local: String,
    pub local_port: u16,
    /// As a number; an address of one link has its device, as `fe80::1%eth0`.
    pub remote: String,
    pub remote_port: u16,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Low half of its cookie: another namespace may have got the inode number since.
    pub netns_cookie: u32,
    /// Since the connection was established; of opened and failed ones, since it was asked for.
    pub duration_us: Option<u64>,
    /// Only of closed. Of TCP data, each byte once; of UDP IP packets, a super-packet's headers once.
    pub sent_bytes: Option<u64>,
    /// As `sent_bytes`.
    pub received_bytes: Option<u64>,
    /// Only of closed, of UDP: IP packets, a super-packet counting once.
    pub sent_packets: Option<u64>,
    /// As `sent_packets`.
    pub received_packets: Option<u64>,
    /// Only of closed, of TCP: segments that were sent again.
    pub retransmits: Option<u32>,
    /// finished, aborted, reset, refused, timed out, given up, not sent, silence, …
    pub outcome: Option<Word>,
    /// Name of the socket's error number, as ECONNRESET; only of TCP.
    pub error: Option<String>,
}
