//! What the kernel dropped, and what TCP did about losses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Word,
    amounts::{Count, DropAmount},
};

/// What a reason asks of an administrator.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Something was too small or too slow.
    Capacity,
    /// Somebody forbade it.
    Policy,
    /// Nobody was there, or no way led there.
    Routing,
    /// It was damaged or malformed.
    Corruption,
    /// No reason is given.
    Unspecified,
    /// A sniffer was too slow for its copy: the traffic itself went on.
    Capture,
    /// Nothing was lost: ends of connections, duplicates, packets for others.
    Lifecycle,
}

impl Class {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Capacity => "capacity",
            Self::Policy => "policy",
            Self::Routing => "routing",
            Self::Corruption => "corruption",
            Self::Unspecified => "unspecified",
            Self::Capture => "capture",
            Self::Lifecycle => "lifecycle",
        }
    }

    /// Whether a packet of the traffic itself did not arrive.
    pub const fn is_lost(self) -> bool {
        !matches!(self, Self::Lifecycle | Self::Capture)
    }
}

/// Packets dropped at one place, for one reason, of one owner, on one device.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone)]
pub struct DropReport {
    /// Name in the kernel's enum, or the number it has no name for; `LISTEN_OVERFLOW` for what a listener turned away.
    pub reason: String,
    /// As the running kernel numbers it.
    pub reason_code: Option<u32>,
    pub class: Class,
    /// Function and offset in it.
    pub location: String,
    /// TCP, UDP, ICMP, ARP and so on, or the number of one that has no name here.
    pub protocol: Option<String>,
    /// Inode number of the network namespace; null if neither a socket nor a device has it.
    pub netns: Option<u32>,
    /// Low half of the namespace's cookie: another may have got the inode number since.
    pub netns_cookie: Option<u32>,
    /// Null if the packet was on none, or its name is not known.
    pub device: Option<String>,
    /// Null if the packet was on no device.
    pub ifindex: Option<u32>,
    /// Null for what is the kernel's and no thread's, and where no owner was found.
    pub pid: Option<u32>,
    /// When the process started, since boot.
    pub start_time_ns: Option<u64>,
    pub uid: Option<u32>,
    /// Escaped, a kernel thread's in brackets; `[kernel]` and `[overflow]` where the owner is no process. Null where no owner
    /// was found, or it ended long before.
    pub comm: Option<String>,
    /// How the owner was found: receiver (the kernel reported the socket), packet (it had its socket), address (the last to
    /// bind its destination), listener, none.
    pub owner: Word,
    /// Of a listener.
    pub local_port: Option<u16>,
    pub interval: DropAmount,
    /// Since `accounting_since`.
    pub total: DropAmount,
}

/// What TCP did about losses, for one process on one device.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Default)]
pub struct TcpReport {
    /// retransmit, reset_sent, reset_received.
    pub event: Word,
    pub netns: Option<u32>,
    pub netns_cookie: Option<u32>,
    /// Of the socket's last packet.
    pub device: Option<String>,
    pub ifindex: Option<u32>,
    pub pid: Option<u32>,
    pub start_time_ns: Option<u64>,
    pub uid: Option<u32>,
    /// Null where there was no socket, as for a closed port.
    pub comm: Option<String>,
    /// Segments of retransmits, else how often.
    pub count: Count,
}
