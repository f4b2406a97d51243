//! The document `nettop.sockets/1`. docs/sockets.schema.json is generated from these types.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ProcessNames, Word};

/// Name and major version of the document.
pub const SCHEMA: &str = "nettop.sockets/1";

/// All sockets at one time.
#[derive(Serialize, Deserialize, JsonSchema, Debug)]
pub struct Document {
    pub schema: Word,
    pub version: Word,
    pub host: String,
    /// With a holder's pid and start time it names a process for all time.
    pub boot_id: String,
    pub kernel: String,
    /// RFC 3339.
    pub time: String,
    /// How long the listing watched; null if it did not.
    pub interval_ms: Option<u64>,
    pub sockets: Vec<SocketReport>,
    /// Whether there are more that match: an answer of the daemon has room for so many.
    #[serde(default)]
    pub truncated: bool,
    /// Namespaces that could not be entered: there, sockets that nobody holds are missing.
    pub namespaces_unread: u64,
    /// Packets that belong to a socket's `interval` and are not in it; null if the listing did not watch.
    pub packets_uncounted: Option<u64>,
    /// Addresses whose names the resolver did not find in time.
    pub names_unanswered: u64,
}

impl Document {
    /// Whether no socket is listed.
    pub const fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }
}

/// One socket.
#[derive(Serialize, Deserialize, JsonSchema, PartialEq, Eq, Debug)]
pub struct SocketReport {
    /// tcp, udp, udplite, raw, icmp, sctp, mptcp, packet, or the number of another.
    pub protocol: String,
    /// 4 or 6; null for packet sockets.
    pub ip_version: Option<u8>,
    /// As TCP names it; UDP and others are established or unconnected.
    pub state: Word,
    /// Address, and port where there are ports; by name where one is known and wanted.
    pub local: String,
    pub remote: String,
    /// By number; null for packet sockets.
    pub local_address: Option<String>,
    pub remote_address: Option<String>,
    pub local_port: Option<u16>,
    pub remote_port: Option<u16>,
    pub netns: u32,
    pub netns_cookie: u32,
    /// That it is bound to.
    pub device: Option<String>,
    pub uid: u32,
    pub user: Option<String>,
    /// As /proc/PID/fd shows it.
    pub inode: Option<u64>,
    /// Bytes that the program has not taken; of a listener, connections that wait.
    pub receive_queue: Option<u32>,
    /// Bytes that were not acknowledged or sent; of a listener, how many connections may wait.
    pub send_queue: Option<u32>,
    /// Of a connection of TCP.
    pub tcp: Option<Tcp>,
    /// Since it was made; null if that was before the listing began to watch: the kernel does not keep it.
    pub age_ms: Option<u64>,
    /// On the wire, while the listing watched; null if it did not, and where packets are not counted by socket.
    pub interval: Option<Moved>,
    /// Everybody that holds it. None: it is the kernel's, or its program has closed it.
    pub holders: Vec<HolderReport>,
    /// The RPC program that the local portmapper has at this port.
    pub rpc_program: Option<String>,
}

/// What TCP knows of a connection. Null: this kernel does not show it.
#[derive(Serialize, Deserialize, JsonSchema, PartialEq, Eq, Debug)]
pub struct Tcp {
    /// Smoothed round-trip time (`srtt_us`).
    pub rtt_us: Option<u32>,
    /// Congestion window (`snd_cwnd`).
    pub cwnd_segments: Option<u32>,
    /// Segments that were sent again, since the connection began (`total_retrans`).
    pub retransmits: Option<u32>,
    /// Sent, and acknowledged (`bytes_acked`). SYN and FIN may count as a byte each.
    pub acked_bytes: Option<u64>,
    /// Received in order (`bytes_received`). The FIN counts as a byte.
    pub received_bytes: Option<u64>,
    /// All, also repeated ones and those without data (`segs_out`).
    pub segments_sent: Option<u32>,
    /// All, also repeated ones and those without data (`segs_in`).
    pub segments_received: Option<u32>,
    /// Those with data, repeated ones included (`data_segs_out`).
    pub data_segments_sent: Option<u32>,
    /// Those with data, repeated ones included (`data_segs_in`).
    pub data_segments_received: Option<u32>,
}

/// What a socket moved.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moved {
    pub tx: Amount,
    pub rx: Amount,
}

/// Packets on the wire, and their bytes from the IP header on.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq, Debug)]
pub struct Amount {
    pub packets: u64,
    pub bytes: u64,
}

/// A process that holds a socket, as it is now. Start times of `parents` are to a hundredth of a second.
#[derive(Serialize, Deserialize, JsonSchema, PartialEq, Eq, Debug)]
pub struct HolderReport {
    pub pid: u32,
    pub start_time_ns: u64,
    pub fd: u32,
    pub comm: String,
    #[serde(flatten)]
    pub process: ProcessNames,
    /// Signs that the program is not what it seems.
    pub warnings: Vec<ProgramWarning>,
}

/// What is odd about a process's program.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum ProgramWarning {
    /// Its file is gone, or another is in its place.
    Deleted,
    /// Its file lies where everybody may write.
    WorldWritable,
    /// Its name is neither its file's nor its script's.
    Renamed,
}

impl ProgramWarning {
    /// In words.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Deleted => "file deleted",
            Self::WorldWritable => "file in world-writable directory",
            Self::Renamed => "name is not its file's",
        }
    }
}
