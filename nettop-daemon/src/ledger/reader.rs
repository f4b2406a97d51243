//! One pass over the mapped rows per interval. A live row is never reset, so that no byte falls between two readings.

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use nettop_common::{Flow, Netns, Owner, OwnerKey, Ref, RowKey, Stats, owner, row};

use super::retire::Retirement;
use crate::kernel::programs::Programs;

/// Counters by [`nettop_common::Direction`].
pub type Flows = [Flow; 2];

/// Who a row is billed to, raw as the kernel gave it.
#[derive(Clone, Copy, Debug)]
pub struct OwnerReading {
    pub key: OwnerKey,
    pub comm: [u8; 16],
    pub comm_time_ns: u64,
    pub is_kernel_thread: bool,
    pub exited: bool,
}

impl OwnerReading {
    /// The process behind a reference, while the slot is still its own. The kernel is none.
    pub fn of(programs: &Programs, owner: Ref) -> Option<Self> {
        let entry = programs.owners.read(owner.slot() as usize)?;
        (owner.slot() >= owner::FIRST && entry.generation == owner.generation()).then(|| Self::new(&entry))
    }

    /// Of an owner whose other entries may know more of its end.
    fn new(entry: &Owner) -> Self {
        Self {
            key: entry.key,
            comm: entry.comm,
            comm_time_ns: entry.comm_time_ns,
            is_kernel_thread: entry.is_kernel_thread != 0,
            exited: entry.state == owner::EXITED,
        }
    }
}

/// One row at one time.
#[derive(Clone, Copy, Debug)]
pub struct RowReading {
    pub key: RowKey,
    pub owner: OwnerReading,
    pub evidence: u32,
    pub interval: Flows,
    pub total: Flows,
}

impl RowReading {
    /// Of an owner that moved nothing.
    pub fn empty(key: RowKey, owner: OwnerReading) -> Self {
        Self { key, owner, evidence: 0, interval: Flows::default(), total: Flows::default() }
    }
}

/// What all rows of one device moved in the interval.
#[derive(Clone, Copy, Default, Debug)]
pub struct DeviceReading {
    /// Rows of processes, and overflow rows.
    pub processes: Flows,
    pub kernel: Flows,
    /// Of both, what the device did not count again.
    pub copies: Flows,
}

/// The whole ledger at one time.
#[derive(Debug)]
pub struct Reading {
    pub interval: Duration,
    /// How long the reading itself took.
    pub took: Duration,
    /// The rows that were asked for.
    pub rows: Vec<RowReading>,
    /// By namespace and interface index.
    pub devices: BTreeMap<(Netns, u32), DeviceReading>,
    /// The namespaces of all rows, each with a few living processes that used it.
    pub namespaces: BTreeMap<Netns, Vec<u32>>,
    /// All that retired rows ever counted, by [`nettop_common::Family`].
    pub exited: [Flows; 2],
    /// All that overflow rows ever counted, and what found not even one of those.
    pub overflow: Flows,
    /// Runs of hooks that the kernel skipped.
    pub runs_skipped: u64,
    pub stats: Stats,
}

/// The daemon's view of the ledger.
pub struct Ledger {
    programs: Programs,
    last: Vec<Flows>,
    last_at: Instant,
    retirement: Retirement,
}

impl Ledger {
    /// The programs, whose other maps have other readers.
    pub const fn programs(&mut self) -> &mut Programs {
        &mut self.programs
    }

    /// Takes over freshly started programs.
    pub fn new(programs: Programs) -> Self {
        let retirement = Retirement::new(&programs);
        Self { programs, last: Vec::new(), last_at: Instant::now(), retirement }
    }

    /// Reads every row, copies those that are wanted, and retires those whose process or namespace is gone.
    pub fn read(&mut self, wanted: impl Fn(&RowReading) -> bool, is_reached: impl Fn(Netns) -> bool) -> Reading {
        let at = Instant::now();
        let stats = self.programs.stats.read(0).unwrap_or_default();
        let owners = used(stats.next_owner, owner::FIRST, self.programs.owners.len());
        let used = used(stats.next_row, row::FIRST, self.programs.rows.len());
        if self.last.len() < used {
            self.last.resize(used, Flows::default());
        }
        let mut reading = Reading {
            interval: at.duration_since(self.last_at),
            took: Duration::ZERO,
            rows: Vec::new(),
            devices: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            exited: *self.retirement.exited(),
            overflow: self.programs.rows.read(row::OVERFLOW as usize).map(|row| row.flows).unwrap_or_default(),
            runs_skipped: self.programs.runs_skipped(),
            stats,
        };
        let gone = exited(&self.programs, owners);
        for slot in row::FIRST as usize..used {
            let Some(row) = self.programs.rows.read(slot) else { break };
            if row.state != row::LIVE {
                continue;
            }
            let Some(owner) = owner_of(&self.programs, &gone, row.key.owner) else { continue };
            let interval = difference(&row.flows, &self.last[slot]);
            self.last[slot] = row.flows;
            let is_gone = owner.exited && row.key.owner >= owner::FIRST
                || row.key.netns != Netns::default() && !is_reached(row.key.netns);
            self.retirement.note(slot, is_gone, interval != Flows::default());
            if row.flows != Flows::default() {
                let row = RowReading { key: row.key, owner, evidence: row.evidence, interval, total: row.flows };
                reading.add(&row);
                if row.key.owner != owner::COPIES && wanted(&row) {
                    reading.rows.push(row);
                }
            }
        }
        for slot in self.retirement.run(&mut self.programs, owners, &stats) {
            self.last[slot] = Flows::default();
        }
        self.last_at = at;
        reading.took = at.elapsed();
        reading
    }
}

impl Reading {
    fn add(&mut self, row: &RowReading) {
        /// One living process is enough, but it may have moved or ended.
        const CANDIDATES: usize = 8;
        let device = self.devices.entry((row.key.netns, row.key.ifindex)).or_default();
        let side = match row.key.owner {
            owner::KERNEL => &mut device.kernel,
            owner::COPIES => &mut device.copies,
            _ if row.owner.is_kernel_thread => &mut device.kernel,
            _ => &mut device.processes,
        };
        accumulate(side, &row.interval);
        if row.key.owner == owner::OVERFLOW {
            accumulate(&mut self.overflow, &row.total);
        }
        if row.key.netns.inode == 0 {
            return;
        }
        let pids = self.namespaces.entry(row.key.netns).or_default();
        let pid = row.owner.key.tgid;
        if row.key.owner >= owner::FIRST && !row.owner.exited && pids.len() < CANDIDATES && !pids.contains(&pid) {
            pids.push(pid);
        }
    }
}

/// Processes of which any owner was seen to exit: their other owners changed their uid.
fn exited(programs: &Programs, owners: usize) -> HashSet<(u32, u64)> {
    let entries = (0..owners).filter_map(|slot| programs.owners.read(slot));
    let exited = entries.filter(|entry| entry.state == owner::EXITED);
    exited.map(|entry| (entry.key.tgid, entry.key.start_time_ns)).collect()
}

fn owner_of(programs: &Programs, gone: &HashSet<(u32, u64)>, slot: u32) -> Option<OwnerReading> {
    let entry = programs.owners.read(slot as usize)?;
    let exited = gone.contains(&(entry.key.tgid, entry.key.start_time_ns));
    Some(OwnerReading { exited, ..OwnerReading::new(&entry) })
}

/// End of the slots ever handed out; the kernel's counter may run past a full table.
fn used(next: u64, first: u32, len: usize) -> usize {
    usize::try_from(next).unwrap_or(usize::MAX).saturating_add(first as usize).min(len)
}

/// Adds `more` to `sum`, counter by counter.
pub fn accumulate(sum: &mut Flows, more: &Flows) {
    for (sum, more) in sum.iter_mut().zip(more) {
        sum.skbs += more.skbs;
        sum.skb_bytes += more.skb_bytes;
        sum.gso_packets += more.gso_packets;
        sum.gso_bytes += more.gso_bytes;
        sum.app_bytes += more.app_bytes;
    }
}

fn difference(now: &Flows, before: &Flows) -> Flows {
    let mut flows = *now;
    for (flow, before) in flows.iter_mut().zip(before) {
        flow.skbs = flow.skbs.saturating_sub(before.skbs);
        flow.skb_bytes = flow.skb_bytes.saturating_sub(before.skb_bytes);
        flow.gso_packets = flow.gso_packets.saturating_sub(before.gso_packets);
        flow.gso_bytes = flow.gso_bytes.saturating_sub(before.gso_bytes);
        flow.app_bytes = flow.app_bytes.saturating_sub(before.app_bytes);
    }
    flows
}
