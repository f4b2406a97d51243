//! Packets, as they pass: a line for each, `nettop.packets/1`. docs/packets.schema.json is generated from these types.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Word;

/// Name and major version of the stream.
pub const SCHEMA: &str = "nettop.packets/1";

/// One packet as one device had it. Null: not known, or the protocol has none.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone)]
pub struct Record {
    /// packet
    pub event: Word,
    /// RFC 3339, UTC, from the kernel's clock.
    pub time: String,
    /// tx or rx
    pub direction: Word,
    pub protocol: String,
    pub ip_version: u8,
    pub source: String,
    pub source_port: Option<u16>,
    pub destination: String,
    pub destination_port: Option<u16>,
    /// Letters out of UAPRSF.
    pub tcp_flags: Option<String>,
    /// From the IP header on; of a super-packet with its headers once.
    pub bytes: u32,
    /// Packets that it is on a wire.
    pub segments: u16,
    pub netns: u32,
    pub netns_cookie: u32,
    pub device: String,
    pub ifindex: u32,
    /// 0: the kernel.
    pub pid: Option<u32>,
    pub start_time_ns: Option<u64>,
    pub comm: Option<String>,
    pub uid: Option<u32>,
    /// user, holder, creator, listener, kernel, none
    pub owner: Word,
}
