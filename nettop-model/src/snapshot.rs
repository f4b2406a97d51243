//! The document `nettop.snapshot/1`. Additive within a major version; unknown is null, counts are integers, times are UTC.
//!
//! docs/snapshot.schema.json is generated from these types. Clients of the daemon read the document back into them.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ProcessNames, Resources, ResourcesReport, Word,
    drops::{DropReport, TcpReport},
};
pub use crate::{
    amounts::{Amount, Count, DeviceBalance, DirectionBalance, DropAmount, DropAmounts, ForwardedAmount, Traffic},
    parent::Parent,
};

/// Name and major version of the document.
pub const SCHEMA: &str = "nettop.snapshot/1";

/// All that nettopd knows at the end of one interval.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Default)]
pub struct Snapshot {
    /// Always `nettop.snapshot/1`.
    pub schema: Word,
    /// Version of nettopd.
    pub version: Word,
    /// Name of this machine, as `uname -n` has it, escaped.
    pub host: String,
    /// Identity of this boot; with `pid` and `start_time_ns` it names a process for all time.
    pub boot_id: String,
    /// Release of the running kernel, as `uname -r` has it.
    pub kernel: String,
    /// End of the interval, RFC 3339.
    pub time: String,
    /// From the last reading to this one, by a clock that is not set.
    pub interval_ms: u64,
    /// How long reading the ledger took.
    pub read_us: u64,
    /// When counting began, RFC 3339.
    pub accounting_since: String,
    /// In lines of a stream, only if they differ from the line before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookReport>,
    pub rows: Vec<RowReport>,
    /// What rows are added up by, if they are: `groups` has them then, and `rows` none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Word>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupReport>,
    /// In lines of a stream, only those that counted something since they were last in a line.
    pub devices: Vec<DeviceReport>,
    /// What was forwarded between pairs of devices, most bytes of the interval first. In lines of a stream, only pairs that
    /// counted something. Pairs of which a device is gone are left out.
    #[serde(default)]
    pub forwarded: Vec<ForwardedReport>,
    /// Packets that the kernel dropped, by all that is known of them.
    pub drops: Vec<DropReport>,
    /// Drops for which the kernel's table had no room; in `total` also those it has given back since.
    pub other_drops: DropAmounts,
    /// Drops that the kernel did not let nettopd see, since the start.
    pub uncounted_drops: u64,
    /// What TCP did about losses.
    pub tcp: Vec<TcpReport>,
    /// What rows that were given back had counted: of ended processes, and of devices and namespaces that are gone.
    pub exited: Traffic,
    /// The balance of devices that left their namespace, each on its own basis.
    #[serde(default)]
    pub gone_devices: DeviceBalance,
    /// When the balance of devices began, RFC 3339: with nettopd itself, if it took over what another had counted.
    #[serde(default)]
    pub devices_since: Option<String>,
    /// Only on request, and where it is measured: what processes used besides the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourcesReport>,
    pub loss: Loss,
}

/// One kernel hook.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
pub struct HookReport {
    /// What it is for.
    pub purpose: Word,
    pub attached: bool,
    /// Program type and target.
    pub kind: String,
    /// Why it is not attached.
    pub reason: Option<String>,
}

/// What one process, as one user, moved through one device of one network namespace. `parents` are those of when the process
/// made its first socket, or executed another program after that.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Default)]
pub struct RowReport {
    /// 0 for the kernel and for overflow rows.
    pub pid: u32,
    /// RFC 3339; from the clock as it is set now.
    pub start_time: Option<String>,
    /// Since boot, as the kernel keeps it: exact.
    pub start_time_ns: Option<u64>,
    /// Name of the thread-group leader, escaped.
    pub comm: String,
    pub uid: Option<u32>,
    pub user: Option<String>,
    #[serde(flatten)]
    pub process: ProcessNames,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Low half of its cookie: another namespace may have got the inode number since.
    pub netns_cookie: u32,
    /// Null until a packet shows the device.
    pub device: Option<String>,
    pub ifindex: Option<u32>,
    /// How the owner was found: user, creator, listener, holder, kernel, overflow.
    pub owner: Word,
    /// Whether the process has ended. Its row is given back after its last traffic was reported; the document's
    /// `exited` has its total then.
    pub exited: bool,
    pub interval: Traffic,
    /// Since `accounting_since`.
    pub total: Traffic,
    /// Its packets in `drops`, without those of class lifecycle or capture. What the table gives back is no longer there.
    pub drops: Count,
    /// Its segments in `tcp`.
    pub retransmits: Count,
    /// What the process used besides the network, on each of its rows. Only on request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Arc<Resources>>,
}

/// What all rows of one name moved through one device of one network namespace.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Default)]
pub struct GroupReport {
    /// Of what `by` says; `-` for rows that have none.
    pub name: String,
    /// Processes of this name, on any device.
    pub processes: u64,
    pub netns: u32,
    pub netns_cookie: u32,
    pub device: Option<String>,
    pub ifindex: Option<u32>,
    pub interval: Traffic,
    /// Of rows that were not given back: it falls when one is.
    pub total: Traffic,
    pub drops: Count,
    pub retransmits: Count,
    /// What its processes on this device used besides the network. Only on request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

impl GroupReport {
    /// Whether anything was counted in the interval.
    pub fn is_busy(&self) -> bool {
        self.interval != Traffic::default() || self.drops.interval + self.retransmits.interval > 0
    }
}

impl RowReport {
    /// Whether anything was counted in the interval.
    pub fn is_busy(&self) -> bool {
        self.interval != Traffic::default() || self.drops.interval + self.retransmits.interval > 0
    }
}

/// Balance of one device.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceReport {
    pub netns: u32,
    pub netns_cookie: u32,
    pub device: String,
    pub ifindex: u32,
    /// The device below, of a VLAN, macvlan or ipvlan, if it is in this namespace.
    #[serde(default)]
    pub lower_ifindex: Option<u32>,
    /// The bridge, bond, team or VRF that it is part of.
    #[serde(default)]
    pub master_ifindex: Option<u32>,
    /// Of hardware, as `ethtool -i` has it.
    pub driver: Option<String>,
    pub tx_basis: BasisReport,
    pub rx_basis: BasisReport,
    pub interval: DeviceBalance,
    /// Since `devices_since`, or since the device came into this namespace.
    pub total: DeviceBalance,
}

/// What one device received and another sent again, routed or bridged. A packet is with each device that sends it: a bridge,
/// and its port.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Default, PartialEq, Eq)]
pub struct ForwardedReport {
    pub netns: u32,
    pub netns_cookie: u32,
    /// The topmost that received it. Null for frames to many, which may be sent in copies.
    pub received_on: Option<String>,
    pub received_on_ifindex: Option<u32>,
    pub sent_on: Option<String>,
    pub sent_on_ifindex: u32,
    pub interval: ForwardedAmount,
    /// Since `accounting_since`.
    pub total: ForwardedAmount,
}

/// What a device's counters count, one way.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Default, PartialEq, Eq)]
pub struct BasisReport {
    /// segments, as they are on the wire; once, where the device itself splits or joins a super-packet; buffers, where
    /// every super-packet counts once.
    pub packets: Word,
    /// Which of those have their headers counted.
    pub bytes: Word,
    /// Link header that is counted with each.
    pub link_header_bytes: u32,
    /// source, of the driver or of the kind of device; measured, by what passed, where no source has it; conflict, measured
    /// otherwise than the source; undecided.
    pub known: Word,
    /// Why it is undecided, or a conflict.
    pub reason: Option<String>,
}

impl BasisReport {
    /// Whether it is known; else there is no rest.
    pub fn is_decided(&self) -> bool {
        self.known != "undecided"
    }
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
    /// Renames that the kernel did not show for the same reason: a process may have the name that it had before an exec.
    #[serde(default)]
    pub renames_skipped: u64,
    /// Calls that a kprobe saw begin and had no room to remember: their app bytes are missing.
    pub calls_lost: u64,
    /// Sockets whose shadow others pushed out, with kprobes only: some app bytes of theirs may be missing.
    pub shadows_lost: u64,
    /// Namespaces with traffic whose devices could not be read.
    pub namespaces_unread: u64,
    /// Bound ports and listeners for which there was no room: owners by address, and what those turn away, may be missing.
    pub ports_full: u64,
    /// Processes of which program, cgroup and parents found no room before the next reading: they are what /proc still knew.
    #[serde(default)]
    pub processes_unrecorded: u64,
    /// Forwarded packets for whose devices there was no room.
    #[serde(default)]
    pub forwarded_full: u64,
    /// Events of TCP for which the table of drops had no room, or that the kernel did not let nettopd see.
    pub tcp_uncounted: u64,
    /// Processes that ended, and for which there was no room: what they used since their last reading is in no row.
    #[serde(default)]
    pub usage_lost: u64,
    /// Hooks that this kernel lacks or refused.
    pub hooks_missing: u64,
}

impl Loss {
    /// Counters by name.
    pub const fn entries(&self) -> [(&'static str, u64); 19] {
        // Each field has to be named here.
        let Self {
            rows_full,
            owners_full,
            index_full,
            tags_refused,
            overflow_tx_bytes,
            overflow_rx_bytes,
            reports_skipped,
            history_shed,
            runs_skipped,
            renames_skipped,
            calls_lost,
            shadows_lost,
            namespaces_unread,
            ports_full,
            processes_unrecorded,
            forwarded_full,
            tcp_uncounted,
            usage_lost,
            hooks_missing,
        } = *self;
        [
            ("rows_full", rows_full),
            ("owners_full", owners_full),
            ("index_full", index_full),
            ("tags_refused", tags_refused),
            ("overflow_tx_bytes", overflow_tx_bytes),
            ("overflow_rx_bytes", overflow_rx_bytes),
            ("reports_skipped", reports_skipped),
            ("history_shed", history_shed),
            ("runs_skipped", runs_skipped),
            ("renames_skipped", renames_skipped),
            ("calls_lost", calls_lost),
            ("shadows_lost", shadows_lost),
            ("namespaces_unread", namespaces_unread),
            ("ports_full", ports_full),
            ("processes_unrecorded", processes_unrecorded),
            ("forwarded_full", forwarded_full),
            ("tcp_uncounted", tcp_uncounted),
            ("usage_lost", usage_lost),
            ("hooks_missing", hooks_missing),
        ]
    }
}
