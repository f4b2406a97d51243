//! Packets, as they pass: a line for each, `nettop.packets/1`. docs/packets.schema.json is generated from these types.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ProcessNames, Word};

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
    /// tcp, udp, udplite, icmp, icmp6, igmp, gre, esp, sctp; `ip` and the number of another.
    pub protocol: String,
    /// 4 or 6
    pub ip_version: u8,
    /// As a number; an address of one link has its device, as `fe80::1%eth0`.
    pub source: String,
    /// Of tcp, udp, udplite and sctp; null in all fragments but the first.
    pub source_port: Option<u16>,
    /// As a number; an address of one link has its device, as `fe80::1%eth0`.
    pub destination: String,
    /// As `source_port`.
    pub destination_port: Option<u16>,
    /// Letters out of UAPRSF.
    pub tcp_flags: Option<String>,
    /// From the IP header on; of a super-packet with its headers once.
    pub bytes: u32,
    /// Packets that it is on a wire.
    pub segments: u16,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Low half of its cookie: another namespace may have got the inode number since.
    pub netns_cookie: u32,
    pub device: String,
    pub ifindex: u32,
    /// Of the process whose packet it is; 0 for the kernel, null for nobody's.
    pub pid: Option<u32>,
    /// When the process started, since boot.
    pub start_time_ns: Option<u64>,
    pub comm: Option<String>,
    pub uid: Option<u32>,
    #[serde(flatten)]
    pub process: ProcessNames,
    /// user, holder, creator, listener, kernel, none
    pub owner: Word,
}
