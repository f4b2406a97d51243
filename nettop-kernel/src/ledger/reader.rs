//! One pass over the mapped rows per interval. A live row is never reset, so that no byte falls between two readings.

use std::{
    collections::{BTreeMap, HashSet},
    mem::offset_of,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use nettop_common::{Direction, Flow, Forwarded, Netns, Owner, OwnerKey, Ref, Row, RowKey, Sent, Stats, owner, row};

use super::{
    flows::{Flows, accumulate, difference, moved},
    forwarded::{PairReading, Pairs},
    retire::Retirement,
    sparse::Sparse,
};
use crate::{
    ledger::Presence,
    processes::{Described, Records},
    programs::Programs,
};

#[cfg(test)]
mod simulated;
#[cfg(test)]
mod tests;

/// A row's owner, raw from the kernel.
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
    pub fn find(programs: &Programs, owner: Ref) -> Option<Self> {
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
    pub attribution: u32,
    pub interval: Flows,
    pub total: Flows,
}

impl RowReading {
    /// For an owner without traffic.
    pub fn empty(key: RowKey, owner: OwnerReading) -> Self {
        Self { key, owner, attribution: 0, interval: Flows::default(), total: Flows::default() }
    }
}

/// Traffic of all rows of one device in the interval.
#[derive(Clone, Copy, Default, Debug)]
pub struct DeviceReading {
    /// Rows of processes, and overflow rows.
    pub processes: Flows,
    pub kernel: Flows,
    /// Of both, what the device did not count again.
    pub copies: Flows,
    /// Of both without copies, what the device may not count as segments, by [`nettop_common::Family`].
    pub super_packets: [SuperPackets; 2],
    /// What the reader of pairs has found to be the device's, by [`nettop_common::Family`] and direction.
    pub forwarded: [[Forwarded; 2]; 2],
    /// Received and forwarded packets that the stack may have made of super-packets before it sent them.
    pub forwarded_cut: u64,
    /// Forwarded packets that may carry tags of VLANs, by direction: whether a device counts those is not known.
    pub forwarded_tagged: [u64; 2],
}

/// Super-packets by who makes or segments them. In the kinds, `app_bytes` are of jumbo headers.
#[derive(Clone, Copy, Default, Debug)]
pub struct SuperPackets {
    /// All packets.
    pub all: Flows,
    /// [`owner::MERGED`].
    pub merged: Flows,
    /// [`owner::UDP_SEGMENTED`].
    pub udp: Flows,
    /// [`owner::LARGE`].
    pub large: Flows,
}

impl DeviceReading {
    pub fn is_empty(&self) -> bool {
        [&self.processes, &self.kernel, &self.copies].iter().all(|flows| **flows == Flows::default())
            && self.forwarded == <[[Forwarded; 2]; 2]>::default()
    }

    /// Adds what another holds.
    pub fn add(&mut self, more: &Self) {
        accumulate(&mut self.processes, &more.processes);
        accumulate(&mut self.kernel, &more.kernel);
        accumulate(&mut self.copies, &more.copies);
        for (sum, more) in self.super_packets.iter_mut().zip(&more.super_packets) {
            accumulate(&mut sum.all, &more.all);
            accumulate(&mut sum.merged, &more.merged);
            accumulate(&mut sum.udp, &more.udp);
            accumulate(&mut sum.large, &more.large);
        }
        for (sum, more) in self.forwarded.iter_mut().flatten().zip(more.forwarded.iter().flatten()) {
            sum.add(more);
        }
        self.forwarded_cut += more.forwarded_cut;
        for (sum, more) in self.forwarded_tagged.iter_mut().zip(more.forwarded_tagged) {
            *sum += more;
        }
    }
}

/// The whole ledger at one time.
#[derive(Debug)]
pub struct Reading {
    pub interval: Duration,
    /// How long the reading itself took.
    pub took: Duration,
    /// The requested rows.
    pub rows: Vec<RowReading>,
    /// By namespace and interface index.
    pub devices: BTreeMap<(Netns, u32), DeviceReading>,
    /// The namespaces of all rows, each with a few running processes that used it.
    pub namespaces: BTreeMap<Netns, Vec<u32>>,
    /// Pairs of devices with forwarded traffic.
    pub forwarded: Vec<PairReading>,
    /// Sum of all retired rows, by [`nettop_common::Family`].
    pub exited: [Flows; 2],
    /// Sum of all overflow rows, and what found not even one of those.
    pub overflow: Flows,
    /// Runs of hooks that the kernel skipped: of calls, and of renames.
    pub runs_skipped: u64,
    pub renames_skipped: u64,
    /// Processes that became known since the last reading: those of all new rows, unless `stats` says that some were lost.
    pub processes: Vec<Described>,
    /// Owners that were given back since the last reading.
    pub processes_gone: Vec<OwnerKey>,
    pub stats: Stats,
}

/// The daemon's view of the ledger.
pub struct Ledger {
    programs: Programs,
    /// What each row had at the last reading.
    last: Sparse<Flows>,
    last_at: Instant,
    retirement: Retirement,
    pairs: Pairs,
}

impl Ledger {
    /// The programs, whose other maps have other readers.
    pub const fn programs(&mut self) -> &mut Programs {
        &mut self.programs
    }

    /// Takes over freshly started programs.
    pub fn new(programs: Programs) -> Self {
        let retirement = Retirement::new();
        Self { programs, last: Sparse::new(), last_at: Instant::now(), retirement, pairs: Pairs::default() }
    }

    /// Reads every row, copies the wanted ones, and retires those whose process, device or namespace is gone. `place`
    /// reports whether a row's device, or its namespace, is still there.
    pub fn read(&mut self, wanted: impl Fn(&RowReading) -> bool, place: impl Fn((Netns, u32)) -> Presence) -> Reading {
        let at = Instant::now();
        self.programs.hand_on_log();
        let stats = self.programs.stats.read(0).unwrap_or_default();
        let owners = used(stats.next_owner, owner::FIRST, self.programs.owners.len());
        let used = used(stats.next_row, row::FIRST, self.programs.rows.len());
        let runs_unrecovered = self.programs.runs_unrecovered();
        let mut reading = Reading {
            interval: at.duration_since(self.last_at),
            took: Duration::ZERO,
            rows: Vec::new(),
            devices: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            forwarded: self.pairs.read(&mut self.programs, &place),
            exited: stats.exited,
            overflow: stats.overflow_given_back,
            runs_skipped: 0,
            renames_skipped: self.programs.renames_skipped(),
            processes: Vec::new(),
            processes_gone: Vec::new(),
            stats,
        };
        if let Some(row) = self.programs.rows.read(row::OVERFLOW as usize) {
            accumulate(&mut reading.overflow, &row.flows);
        }
        let gone = exited(&self.programs, owners);
        // Rows that repeat others are read last: a packet seen in its own row is seen in these as well.
        let is_last = |slot: &usize| {
            let owner = self.programs.rows.word(*slot, offset_of!(Row, key) + offset_of!(RowKey, owner));
            owner.is_some_and(|owner| owner::is_repeated(owner.load(Ordering::Relaxed)))
        };
        let (last, first): (Vec<usize>, Vec<usize>) = (row::FIRST as usize..used).partition(is_last);
        for slot in first.into_iter().chain(last) {
            let Some(row) = self.programs.rows.read(slot) else { break };
            if row.state == row::FREE {
                continue;
            }
            let last = self.last.at(slot);
            let Some(owner) = owner_of(&self.programs, &gone, row.key.owner) else { continue };
            let total = moved(&row);
            let interval = difference(&total, &std::mem::replace(last, total));
            note_reported(&self.programs, slot, &row, &total);
            let is_busy = interval != Flows::default();
            let lives = row.key.owner >= owner::FIRST && !owner.exited;
            let place = if row.key.netns == Netns::default() { Presence::Present } else { place(row.key.place()) };
            self.retirement.note(slot, &row.key, place, lives, is_busy);
            if total == Flows::default() {
                continue;
            }
            let is_leaving = row.state == row::LEAVING;
            let row = RowReading { key: row.key, owner, attribution: row.attribution, interval, total };
            reading.add(&row);
            if owner::is_repeated(row.key.owner) {
                continue;
            }
            if is_leaving {
                // Another row may have its key by now. The last packets that found it are in the sum of gone rows.
                accumulate(&mut reading.exited[row.key.family as usize & 1], &row.total);
            } else if wanted(&row) {
                reading.rows.push(row);
            }
        }
        for pair in &reading.forwarded {
            reading.namespaces.entry(pair.key.netns).or_default();
        }
        for slot in self.retirement.run(&mut self.programs, owners) {
            *self.last.at(slot) = Flows::default();
        }
        // Every row was read that is not free.
        self.last.drop_unread();
        self.last_at = at;
        // A process is recorded before its first row is made.
        reading.processes_gone = self.retirement.take_given_back();
        reading.processes = self.programs.processes.as_mut().map(Records::take).unwrap_or_default();
        reading.runs_skipped = self.programs.runs_skipped(runs_unrecovered);
        reading.took = at.elapsed();
        reading
    }
}

impl Reading {
    fn add(&mut self, row: &RowReading) {
        /// One running process is enough, but it may have moved or ended.
        const MAX_PIDS: usize = 8;
        let device = self.devices.entry((row.key.netns, row.key.ifindex)).or_default();
        let kinds = &mut device.super_packets[row.key.family as usize & 1];
        let side = match row.key.owner {
            owner::MERGED => &mut kinds.merged,
            owner::UDP_SEGMENTED => &mut kinds.udp,
            owner::LARGE => &mut kinds.large,
            owner::COPIES => &mut device.copies,
            other => {
                accumulate(&mut kinds.all, &row.interval);
                let is_kernel = other == owner::KERNEL || row.owner.is_kernel_thread;
                if is_kernel { &mut device.kernel } else { &mut device.processes }
            }
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
        if row.key.owner >= owner::FIRST && !row.owner.exited && pids.len() < MAX_PIDS && !pids.contains(&pid) {
            pids.push(pid);
        }
    }
}

/// For the next daemon: what is sent may be dropped yet.
fn note_reported(programs: &Programs, slot: usize, row: &Row, total: &Flows) {
    let Flow { skbs, skb_bytes, gso_packets, gso_bytes, .. } = total[Direction::Tx as usize];
    let reported = Sent { skbs, skb_bytes, gso_packets, gso_bytes };
    if reported == row.reported {
        return;
    }
    let words: [u64; size_of::<Sent>() / 8] = bytemuck::cast(reported);
    for (index, word) in words.into_iter().enumerate() {
        if let Some(noted) = programs.rows.double_word(slot, offset_of!(Row, reported) + index * 8) {
            noted.store(word, Ordering::Relaxed);
        }
    }
}

/// Processes with an owner that exited: their other owners changed their uid.
fn exited(programs: &Programs, owners: usize) -> HashSet<(u32, u64)> {
    let entries = || (0..owners).filter_map(|slot| Some((slot, programs.owners.read(slot)?)));
    let process_of = |entry: &Owner| (entry.key.tgid, entry.key.start_time_ns);
    let exited: HashSet<_> =
        entries().filter(|(_, entry)| entry.state == owner::EXITED).map(|(_, entry)| process_of(&entry)).collect();
    for (slot, entry) in entries().skip(owner::FIRST as usize) {
        if entry.state == owner::LIVE
            && exited.contains(&process_of(&entry))
            && let Some(state) = programs.owners.word(slot, offset_of!(Owner, state))
        {
            state.store(owner::EXITED, Ordering::Relaxed);
        }
    }
    exited
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
