//! What is recorded of 10 s: plain numbers and names, all differences.

use std::collections::{BTreeMap, HashMap};

use indexmap::IndexMap;
use nettop_model::ContainerNames;

use crate::usage::{Disk, DiskUsage, HostUsage, MAX_DISKS, MOST_ROWS, Usage, keep_busiest, keep_recorded};

/// Length of a slot, and the finest resolution there is. Slots begin at multiples of it.
pub const SLOT_S: i64 = 10;

/// Name for the sum of rows beyond the cap.
pub const OTHER: &str = "[other]";

/// One process, as one user, on one device: what a row is about. Names are escaped already.
#[derive(Clone, Default, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Who {
    /// 0 for the kernel, for overflow, and for what is not distinguished.
    pub pid: u32,
    /// Since boot.
    pub start_time_ns: Option<u64>,
    pub uid: Option<u32>,
    pub comm: String,
    pub exe: Option<String>,
    pub script: Option<String>,
    pub unit: Option<String>,
    pub cgroup: Option<String>,
    pub container: Option<String>,
    /// Those that started it, the parent first.
    pub parents: Vec<Ancestor>,
    pub login: Login,
    pub device: Device,
}

/// Who logged in, in which session, with which arguments the program was called. Unknown is none.
#[derive(Clone, Default, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Login {
    pub login_uid: Option<u32>,
    /// Pid of the session's leader.
    pub session: Option<u32>,
    pub session_start_time_ns: Option<u64>,
    pub session_comm: Option<String>,
    /// Each in a line.
    pub arguments: Option<String>,
}

/// A process above.
#[derive(Clone, Default, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ancestor {
    pub pid: u32,
    pub start_time_ns: u64,
    pub uid: u32,
    pub comm: String,
    /// A shell or the like: who started it started what it starts.
    pub passes_on: bool,
}

/// A device of a namespace; without a name until a packet shows it.
#[derive(Clone, Default, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Device {
    pub netns: u32,
    pub netns_cookie: u32,
    pub ifindex: u32,
    pub name: Option<String>,
}

/// What one process moved, as reports count it.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Counters {
    pub tx_bytes: u64,
    pub rx_bytes: u64,
    pub tx_packets: u64,
    pub rx_packets: u64,
    pub tx_app_bytes: u64,
    pub rx_app_bytes: u64,
}

/// The balance of a device: bytes + copied = attributed + kernel + forwarded + upper + unattributed + undecided, each way.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct DeviceBalance {
    pub tx: DirectionBalance,
    pub rx: DirectionBalance,
}

/// One way.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct DirectionBalance {
    pub bytes: u64,
    pub packets: u64,
    pub attributed_bytes: u64,
    pub kernel_bytes: u64,
    pub forwarded_bytes: u64,
    pub upper_bytes: u64,
    pub copied_bytes: u64,
    /// Less what the device had not counted at the end of the slot, which it makes up for in a later one.
    pub unattributed_bytes: i64,
    /// The difference while it was not known how the device counts.
    pub undecided_bytes: i64,
}

/// Why and where packets were lost, or what TCP did about it (class `tcp`).
#[derive(Clone, Default, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DropKind {
    pub reason: String,
    pub class: String,
    pub location: String,
    pub protocol: Option<String>,
}

/// How much of it.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Dropped {
    pub packets: u64,
    pub bytes: u64,
}

/// The host, and how well it was measured.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
pub struct Tick {
    /// Sum of the intervals that ended in the slot.
    pub measured_ms: u64,
    pub readings: u64,
    /// By how much the latest of them was too late.
    pub late_ms: u64,
    /// By how much the clock was set, forward or back.
    pub clock_step_ms: i64,
    /// Load averages over 1, 5 and 15 minutes.
    pub load: Option<[f64; 3]>,
    /// Percent of the time in which tasks waited for a CPU.
    pub cpu_some: Option<f64>,
    /// For memory, some task or all of them.
    pub memory_some: Option<f64>,
    pub memory_full: Option<f64>,
    pub io_some: Option<f64>,
    pub io_full: Option<f64>,
    /// Namespaces with traffic whose devices could not be read; the most of all readings.
    pub namespaces_unread: Option<u64>,
}

/// 10 s of measuring.
#[derive(Clone, Default, Debug)]
pub struct Slot {
    /// Its begin, in seconds since 1970; a multiple of [`SLOT_S`].
    pub ts: i64,
    /// From the begin of the first interval that ended in it to the end of the last, in milliseconds since 1970.
    pub begin_ms: i64,
    pub end_ms: i64,
    pub tick: Tick,
    /// Those that moved nothing are left out. In the order of their first intervals, as all maps with names of processes: of
    /// one that got another name, the last is shown.
    pub samples: IndexMap<Who, Counters>,
    pub devices: HashMap<Device, DeviceBalance>,
    pub drops: IndexMap<(DropKind, Who), Dropped>,
    /// Of processes; their device is none.
    pub usage: IndexMap<Who, Usage>,
    /// If usage was read.
    pub host: Option<HostUsage>,
    pub disks: BTreeMap<Disk, DiskUsage>,
    /// By id, whether they have rows or not. The latest names count for all that a container ever did.
    pub containers: HashMap<String, ContainerNames>,
    /// The writer's number for the slot, rising: it finds the slot by it.
    pub flush: i64,
    /// By cause.
    pub losses: BTreeMap<&'static str, u64>,
}

impl Counters {
    pub const fn add(&mut self, more: &Self) {
        self.tx_bytes += more.tx_bytes;
        self.rx_bytes += more.rx_bytes;
        self.tx_packets += more.tx_packets;
        self.rx_packets += more.rx_packets;
        self.tx_app_bytes += more.tx_app_bytes;
        self.rx_app_bytes += more.rx_app_bytes;
    }

    /// What is left without the others.
    pub(crate) const fn without(&self, others: &Self) -> Self {
        Self {
            tx_bytes: self.tx_bytes.saturating_sub(others.tx_bytes),
            rx_bytes: self.rx_bytes.saturating_sub(others.rx_bytes),
            tx_packets: self.tx_packets.saturating_sub(others.tx_packets),
            rx_packets: self.rx_packets.saturating_sub(others.rx_packets),
            tx_app_bytes: self.tx_app_bytes.saturating_sub(others.tx_app_bytes),
            rx_app_bytes: self.rx_app_bytes.saturating_sub(others.rx_app_bytes),
        }
    }

    /// Both ways.
    pub const fn bytes(&self) -> u64 {
        self.tx_bytes + self.rx_bytes
    }
}

impl DirectionBalance {
    const fn add(&mut self, more: &Self) {
        self.bytes += more.bytes;
        self.packets += more.packets;
        self.attributed_bytes += more.attributed_bytes;
        self.kernel_bytes += more.kernel_bytes;
        self.forwarded_bytes += more.forwarded_bytes;
        self.upper_bytes += more.upper_bytes;
        self.copied_bytes += more.copied_bytes;
        self.unattributed_bytes += more.unattributed_bytes;
        self.undecided_bytes += more.undecided_bytes;
    }
}

impl DeviceBalance {
    pub const fn add(&mut self, more: &Self) {
        self.tx.add(&more.tx);
        self.rx.add(&more.rx);
    }
}

impl Who {
    /// Those that are not told apart.
    #[must_use]
    pub fn other() -> Self {
        Self { comm: OTHER.into(), ..Self::default() }
    }

    /// All that have this name, user, cgroup and program, whatever their parents are.
    fn crowd(&self) -> Self {
        Self { pid: 0, start_time_ns: None, parents: Vec::new(), login: Login::default(), ..self.clone() }
    }
}

impl Slot {
    /// Of processes, devices, drops, usage and disks.
    pub(crate) fn rows(&self) -> u64 {
        (self.samples.len() + self.devices.len() + self.drops.len() + self.usage.len() + self.disks.len()) as u64
    }

    /// Keeps the `most` busiest rows of processes and of drops. The others are added up per device as `[other]`, so that
    /// sums stay the same. Of what processes used the leaders stay, and those of one program that lead together.
    pub fn cap(&mut self, most: usize) {
        let other = |who: &Who| Who { device: who.device.clone(), ..Who::other() };
        if self.samples.len() > most {
            let rows = std::mem::take(&mut self.samples);
            let is_kept = busiest(rows.values().map(Counters::bytes), most);
            for ((who, counters), is_kept) in rows.into_iter().zip(is_kept) {
                let who = if is_kept { who } else { other(&who) };
                self.samples.entry(who).or_default().add(&counters);
            }
        }
        if self.usage.len() > most.min(MOST_ROWS) {
            // What is others already leads in nothing.
            let mut others = self.usage.shift_remove(&Who::other()).unwrap_or_default();
            let rows = std::mem::take(&mut self.usage).into_iter().collect();
            let recorded = keep_recorded(rows, |who: &Who| (who.crowd(), who.parents.clone()));
            self.usage.extend(recorded.leaders);
            for (who, parents, usage) in recorded.crowds {
                let who = Who { parents: parents.unwrap_or_default(), ..who };
                self.usage.entry(who).or_default().add(&usage);
            }
            others.add(&recorded.others);
            if others != Usage::default() {
                self.usage.entry(Who::other()).or_default().add(&others);
            }
        }
        if self.disks.len() > MAX_DISKS {
            let mut disks = std::mem::take(&mut self.disks).into_iter().collect();
            keep_busiest(&mut disks);
            self.disks.extend(disks);
        }
        if self.drops.len() > most {
            let rows = std::mem::take(&mut self.drops);
            let is_kept = busiest(rows.values().map(|dropped| dropped.packets), most);
            for (((kind, who), dropped), is_kept) in rows.into_iter().zip(is_kept) {
                let key = if is_kept { (kind, who) } else { (DropKind { reason: OTHER.into(), ..kind }, other(&who)) };
                let sum = self.drops.entry(key).or_default();
                sum.packets += dropped.packets;
                sum.bytes += dropped.bytes;
            }
        }
    }
}

/// Which of them are among the `most` that have the most.
fn busiest(amounts: impl Iterator<Item = u64>, most: usize) -> Vec<bool> {
    let mut order: Vec<(usize, u64)> = amounts.enumerate().collect();
    let mut is_kept = vec![false; order.len()];
    order.sort_by_key(|(_, amount)| std::cmp::Reverse(*amount));
    order.into_iter().take(most).for_each(|(at, _)| is_kept[at] = true);
    is_kept
}
