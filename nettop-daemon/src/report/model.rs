//! The document `nettop.snapshot/1`. Additive within the major version; unknown is null, counts are integers, times are UTC.
//!
//! docs/snapshot.schema.json is generated from these types. Whoever asks the daemon reads the document back into them.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::drops::Class;

/// Name and major version of the document.
pub const SCHEMA: &str = "nettop.snapshot/1";

/// One of the few words that a member may be.
pub type Word = Cow<'static, str>;

/// All that nettopd knows at the end of one interval.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone)]
pub struct Snapshot {
    /// Always `nettop.snapshot/1`.
    pub schema: Word,
    /// Version of nettopd.
    pub version: Word,
    pub host: String,
    /// Identity of this boot; with `pid` and `start_time_ns` it names a process for all time.
    pub boot_id: String,
    pub kernel: String,
    /// End of the interval, RFC 3339.
    pub time: String,
    pub interval_ms: u64,
    /// How long reading the ledger took.
    pub read_us: u64,
    /// When counting began, RFC 3339.
    pub accounting_since: String,
    pub hooks: Vec<HookReport>,
    pub rows: Vec<RowReport>,
    pub devices: Vec<DeviceReport>,
    /// Packets that the kernel dropped, by all that is known of them.
    pub drops: Vec<DropReport>,
    /// Drops for which the kernel's table had no room; in `total` also those it has given back since.
    pub other_drops: DropAmounts,
    /// Drops that the kernel did not let nettopd see, since the start.
    pub uncounted_drops: u64,
    /// What TCP did about losses.
    pub tcp: Vec<TcpReport>,
    /// What rows had counted that were given back: of ended processes, and of namespaces that are gone.
    pub exited: Traffic,
    pub loss: Loss,
}

/// One kernel hook.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone)]
pub struct HookReport {
    /// What it is for.
    pub purpose: Word,
    pub attached: bool,
    /// Program type and target.
    pub kind: String,
    /// Why it is not attached.
    pub reason: Option<String>,
}

/// What one process, as one user, moved through one device of one network namespace.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone)]
pub struct RowReport {
    /// 0 for the kernel and for overflow rows.
    pub pid: u32,
    /// RFC 3339; from the clock as it is set now.
    pub start_time: Option<String>,
    /// Since boot, as the kernel keeps it: exact.
    pub start_time_ns: Option<u64>,
    /// Name of the thread-group leader, escaped.
    pub comm: String,
    pub exe: Option<String>,
    pub uid: Option<u32>,
    pub user: Option<String>,
    pub cgroup: Option<String>,
    /// systemd unit.
    pub unit: Option<String>,
    pub container: Option<String>,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Low half of its cookie: another namespace may have got the inode number since.
    pub netns_cookie: u32,
    /// Null where no packet has told the device yet.
    pub device: Option<String>,
    pub ifindex: Option<u32>,
    /// How the owner was found: user, creator, listener, holder, kernel, overflow.
    pub owner: Word,
    pub exited: bool,
    pub interval: Traffic,
    /// Since `accounting_since`.
    pub total: Traffic,
    /// Its packets, by those in `drops` that are not of class lifecycle. What the table gives back is no longer there.
    pub drops: Count,
    /// Its segments, by those in `tcp`.
    pub retransmits: Count,
}

impl RowReport {
    /// Whether anything was counted in the interval.
    pub fn is_busy(&self) -> bool {
        self.interval != Traffic::default() || self.drops.interval + self.retransmits.interval > 0
    }
}

/// How often.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub interval: u64,
    /// Since `accounting_since`.
    pub total: u64,
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
    /// Null where neither a socket nor a device told.
    pub netns: Option<u32>,
    pub netns_cookie: Option<u32>,
    pub device: Option<String>,
    pub ifindex: Option<u32>,
    pub pid: Option<u32>,
    pub start_time_ns: Option<u64>,
    pub uid: Option<u32>,
    pub comm: Option<String>,
    /// How the owner was found: receiver (the kernel said for whose socket it was), packet (it had its socket), address
    /// (of those who bound where it was going, the last), listener, none.
    pub owner: Word,
    /// Of a listener.
    pub local_port: Option<u16>,
    pub interval: DropAmount,
    /// Since `accounting_since`.
    pub total: DropAmount,
}

/// What TCP did about losses, for one process on one device.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone)]
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

/// An interval's drops and all.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, Default)]
pub struct DropAmounts {
    pub interval: DropAmount,
    pub total: DropAmount,
}

/// Dropped packets, a super-packet counting once, and their bytes as the kernel had them at that place.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DropAmount {
    pub packets: u64,
    /// Null where only packets are known.
    pub bytes: Option<u64>,
}

/// Both ways.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    pub tx: Amount,
    pub rx: Amount,
}

/// One way.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// IP bytes on the wire.
    pub bytes: u64,
    /// IP packets on the wire.
    pub packets: u64,
    /// Bytes that the program handed over or took.
    pub app_bytes: u64,
}

/// The books of one device: bytes + copied = attributed + kernel + unattributed.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone)]
pub struct DeviceReport {
    pub netns: u32,
    pub netns_cookie: u32,
    pub device: String,
    pub ifindex: u32,
    /// What the device's counters count: skb (a super-packet once) or wire (each segment).
    pub basis: Word,
    /// Link header that the counters include with each packet sent.
    pub tx_link_header_bytes: u32,
    pub rx_link_header_bytes: u32,
    pub interval: Books,
    /// Since `accounting_since`.
    pub total: Books,
}

/// Both ways.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Books {
    pub tx: Side,
    pub rx: Side,
}

/// One way, on the device's basis.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Side {
    /// By the device's own counter.
    pub bytes: u64,
    pub packets: u64,
    /// Rows of processes, and overflow rows.
    pub attributed_bytes: u64,
    pub attributed_packets: u64,
    /// Rows of the kernel.
    pub kernel_bytes: u64,
    pub kernel_packets: u64,
    /// Of those, what came around by loopback or was received by several sockets, and the device counted once or never.
    pub copied_bytes: u64,
    pub copied_packets: u64,
    /// The rest: no IP socket saw it. Negative where a packet was counted on its way to a device it never passed.
    pub unattributed_bytes: i64,
    pub unattributed_packets: i64,
}

/// What was lost, by cause. All zero: nothing.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loss {
    /// Requests for a row beyond --rows; the bytes are in overflow rows.
    pub rows_full: u64,
    /// Processes beyond --rows; their bytes are in overflow rows.
    pub owners_full: u64,
    /// Inserts that a kernel hash refused.
    pub index_full: u64,
    /// Packets and calls of sockets for which the kernel had no storage.
    pub tags_refused: u64,
    /// Wire bytes in overflow rows, of which the device is known or not.
    pub overflow_tx_bytes: u64,
    pub overflow_rx_bytes: u64,
    /// Reports that were not written because the reader was too slow; totals miss nothing.
    pub reports_skipped: u64,
    /// Readings that the history's file did not take; reports have them.
    pub history_shed: u64,
    /// Runs of hooks that the kernel skipped, since the task that was in them was preempted: a call each, whose app
    /// bytes are missing.
    pub runs_skipped: u64,
    /// Calls that a kprobe saw begin and had no room to remember: their app bytes are missing.
    pub calls_lost: u64,
    /// Sockets whose shadow others pushed out, with kprobes only: some app bytes of theirs may be missing.
    pub shadows_lost: u64,
    /// Namespaces with traffic whose devices could not be read.
    pub namespaces_unread: u64,
    /// Bound ports and listeners for which there was no room: owners by address, and what those turn away, may be missing.
    pub ports_full: u64,
    /// Events of TCP for which the table of drops had no room, or that the kernel did not let nettopd see.
    pub tcp_uncounted: u64,
    /// Hooks that this kernel has not, or refused.
    pub hooks_missing: u64,
}

impl Loss {
    /// Counters by name.
    pub const fn entries(&self) -> [(&'static str, u64); 15] {
        [
            ("rows_full", self.rows_full),
            ("owners_full", self.owners_full),
            ("index_full", self.index_full),
            ("tags_refused", self.tags_refused),
            ("overflow_tx_bytes", self.overflow_tx_bytes),
            ("overflow_rx_bytes", self.overflow_rx_bytes),
            ("reports_skipped", self.reports_skipped),
            ("history_shed", self.history_shed),
            ("runs_skipped", self.runs_skipped),
            ("calls_lost", self.calls_lost),
            ("shadows_lost", self.shadows_lost),
            ("namespaces_unread", self.namespaces_unread),
            ("ports_full", self.ports_full),
            ("tcp_uncounted", self.tcp_uncounted),
            ("hooks_missing", self.hooks_missing),
        ]
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_schema_in_docs_is_the_one_of_these_types() {
        crate::golden::hold_schema::<super::Snapshot>("../docs/snapshot.schema.json");
    }
}
