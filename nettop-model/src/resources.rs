//! What processes and the host used besides the network: a part of snapshots and of answers from the history.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ContainerNames, parent::Parent};

/// What processes used. Counts are sums over the period or interval, `mean` is over the time in which it was measured; null is what the
/// kernel does not tell.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Default, Debug, PartialEq)]
pub struct Resources {
    /// Time on a CPU.
    pub user_us: u64,
    pub system_us: u64,
    /// Of one CPU.
    pub cpu_percent: f64,
    /// Time in which threads were runnable and waited for a CPU.
    pub wait_us: Option<u64>,
    /// Time in which threads waited for block I/O, if `kernel.task_delayacct` is on.
    pub block_io_us: Option<u64>,
    /// Threads in the run queue or on a CPU, seen once each interval.
    pub runnable_mean: f64,
    /// Threads that waited uninterruptibly, likewise. Both together are what the load average counts.
    pub blocked_mean: f64,
    /// Resident memory; shared pages are in each process.
    pub rss_mean_bytes: Option<u64>,
    /// The most that one process had in its life.
    pub rss_peak_bytes: Option<u64>,
    pub swap_mean_bytes: Option<u64>,
    /// From and to storage.
    pub read_bytes: Option<u64>,
    pub write_bytes: Option<u64>,
    /// Of what was written, what was deleted before it reached the storage.
    pub cancelled_write_bytes: Option<u64>,
    pub major_faults: u64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
    /// The most of one process.
    pub threads: u64,
    /// Processes that the kernel ended to free memory.
    pub oom_kills: Option<u64>,
    /// Processes that ended, and of those the ones with a code that is not 0, and by a signal.
    #[serde(default)]
    pub exits: Option<u64>,
    #[serde(default)]
    pub exits_failed: Option<u64>,
    #[serde(default)]
    pub exits_signaled: Option<u64>,
    /// Of one process that ended with a code.
    #[serde(default)]
    pub exit_code: Option<u32>,
    /// Of one that ended by a signal, its number.
    #[serde(default)]
    pub exit_signal: Option<u32>,
}

/// The host in the selected moments or the interval, by its own counters.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Default, Debug, PartialEq)]
pub struct Host {
    /// How long it was measured what processes use.
    pub usage_ms: u64,
    /// All CPUs together, by kind.
    pub user_ms: u64,
    pub system_ms: u64,
    pub irq_ms: u64,
    pub iowait_ms: u64,
    pub idle_ms: u64,
    pub steal_ms: u64,
    /// Of block devices; those of loop devices twice, and what goes over the network not at all.
    pub disk_read_bytes: u64,
    pub disk_write_bytes: u64,
    pub swap_in_bytes: u64,
    pub swap_out_bytes: u64,
    pub oom_kills: u64,
    /// At most; used is what is not available.
    pub memory_bytes: u64,
    pub memory_used_bytes: u64,
    pub swap_bytes: u64,
    pub swap_used_bytes: u64,
}

/// A block device in the same time, by its own counters. Its partitions, and what is built upon it, are others.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Default, Debug, PartialEq)]
pub struct Disk {
    /// As in /proc/diskstats.
    pub name: String,
    /// Where its file system is mounted.
    pub mounted_on: Option<String>,
    /// Of the time, with a request in flight.
    pub busy_percent: f64,
    /// Requests in flight, seen once each interval.
    pub in_flight_mean: f64,
    pub read_bytes: u64,
    pub write_bytes: u64,
}

/// What processes used in an interval, whether they talked or not.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default)]
pub struct ResourcesReport {
    /// Its `usage_ms` is the interval, from one reading of all processes to the next.
    pub host: Host,
    /// Those with the most requests in flight.
    #[serde(default)]
    pub disks: Vec<Disk>,
    /// Those that lead in CPU, memory, storage, load or waiting, or were ended by a signal; most CPU time first.
    pub processes: Vec<ProcessResources>,
    /// All others together, and whatever is selected.
    pub others: Resources,
}

/// One of them.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default)]
pub struct ProcessResources {
    /// 0 for several processes of one name, user and cgroup, of which none leads by itself.
    pub pid: u32,
    /// Since boot.
    pub start_time_ns: Option<u64>,
    /// Name of the thread-group leader, escaped.
    pub comm: String,
    pub exe: Option<String>,
    pub script: Option<String>,
    pub uid: Option<u32>,
    pub user: Option<String>,
    pub cgroup: Option<String>,
    pub unit: Option<String>,
    pub container: Option<String>,
    #[serde(flatten)]
    pub names: Arc<ContainerNames>,
    /// The parent first, of those that are there.
    #[serde(default)]
    pub parents: Arc<[Parent]>,
    pub resources: Resources,
}

impl Resources {
    /// Adds those of another process in the same time. What is unknown of one is unknown of both.
    pub fn add(&mut self, more: &Self) {
        let sum = |a: &mut Option<u64>, b: Option<u64>| *a = a.zip(b).map(|(a, b)| a.saturating_add(b));
        self.user_us += more.user_us;
        self.system_us += more.system_us;
        self.cpu_percent += more.cpu_percent;
        sum(&mut self.wait_us, more.wait_us);
        sum(&mut self.block_io_us, more.block_io_us);
        self.runnable_mean += more.runnable_mean;
        self.blocked_mean += more.blocked_mean;
        sum(&mut self.rss_mean_bytes, more.rss_mean_bytes);
        self.rss_peak_bytes = self.rss_peak_bytes.zip(more.rss_peak_bytes).map(|(a, b)| a.max(b));
        sum(&mut self.swap_mean_bytes, more.swap_mean_bytes);
        sum(&mut self.read_bytes, more.read_bytes);
        sum(&mut self.write_bytes, more.write_bytes);
        sum(&mut self.cancelled_write_bytes, more.cancelled_write_bytes);
        self.major_faults += more.major_faults;
        self.voluntary_switches += more.voluntary_switches;
        self.involuntary_switches += more.involuntary_switches;
        self.threads = self.threads.max(more.threads);
        sum(&mut self.oom_kills, more.oom_kills);
        sum(&mut self.exits, more.exits);
        sum(&mut self.exits_failed, more.exits_failed);
        sum(&mut self.exits_signaled, more.exits_signaled);
        (self.exit_code, self.exit_signal) = (None, None);
    }

    /// Threads in the load average.
    pub const fn load(&self) -> f64 {
        self.runnable_mean + self.blocked_mean
    }

    /// From and to storage.
    pub fn disk_bytes(&self) -> Option<u64> {
        Some(self.read_bytes?.saturating_add(self.write_bytes?))
    }

    pub const fn cpu_us(&self) -> u64 {
        self.user_us.saturating_add(self.system_us)
    }
}
