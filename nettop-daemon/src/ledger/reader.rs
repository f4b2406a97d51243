//! One pass over the mapped rows per interval. A live row is never reset, so that no byte falls between two readings.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use nettop_common::{Flow, Owner, OwnerKey, RowKey, Stats, owner, row};

use super::retire::Retirement;
use crate::kernel::programs::Programs;

/// Counters by [`nettop_common::Family`], then [`nettop_common::Direction`].
pub type Flows = [[Flow; 2]; 2];

/// Who a row is billed to, raw as the kernel gave it.
#[derive(Clone, Copy, Debug)]
pub struct OwnerReading {
    pub key: OwnerKey,
    pub comm: [u8; 16],
    pub comm_time_ns: u64,
    pub exited: bool,
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

/// The whole ledger at one time.
#[derive(Debug)]
pub struct Reading {
    pub interval: Duration,
    /// How long the reading itself took.
    pub took: Duration,
    pub rows: Vec<RowReading>,
    /// All that retired rows ever counted.
    pub exited: Flows,
    /// What found no row of its own nor one of its device.
    pub overflow: Flows,
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
    /// Takes over freshly started programs.
    pub fn new(programs: Programs) -> Self {
        let retirement = Retirement::new(&programs);
        Self { programs, last: Vec::new(), last_at: Instant::now(), retirement }
    }

    /// Reads every row and retires those whose process is gone.
    pub fn read(&mut self) -> Reading {
        let at = Instant::now();
        let stats = self.programs.stats.read(0).unwrap_or_default();
        let owners = Owners::read(&self.programs, &stats);
        let used = used(stats.next_row, row::FIRST, self.programs.rows.len());
        if self.last.len() < used {
            self.last.resize(used, Flows::default());
        }
        let mut rows = Vec::new();
        for slot in row::FIRST as usize..used {
            let Some(row) = self.programs.rows.read(slot) else { break };
            if row.state != row::LIVE {
                continue;
            }
            let Some(owner) = owners.get(row.key.owner) else { continue };
            let interval = difference(&row.flows, &self.last[slot]);
            self.last[slot] = row.flows;
            self.retirement.note(slot, &row, &owner, interval != Flows::default());
            if row.flows != Flows::default() {
                rows.push(RowReading { key: row.key, owner, evidence: row.evidence, interval, total: row.flows });
            }
        }
        let overflow = self.programs.rows.read(row::OVERFLOW as usize).map(|row| row.flows).unwrap_or_default();
        for slot in self.retirement.run(&mut self.programs, &owners.entries, &stats) {
            self.last[slot] = Flows::default();
        }
        let interval = at.duration_since(self.last_at);
        self.last_at = at;
        Reading { took: at.elapsed(), interval, rows, exited: *self.retirement.exited(), overflow, stats }
    }
}

/// The owner table at one time.
struct Owners {
    entries: Vec<Owner>,
    /// Processes of which any owner was seen to exit: the others changed their uid.
    gone: HashSet<(u32, u64)>,
}

impl Owners {
    fn read(programs: &Programs, stats: &Stats) -> Self {
        let used = used(stats.next_owner, owner::FIRST, programs.owners.len());
        let entries: Vec<Owner> = (0..used).filter_map(|slot| programs.owners.read(slot)).collect();
        let gone = entries
            .iter()
            .filter(|entry| entry.state == owner::EXITED)
            .map(|entry| (entry.key.tgid, entry.key.start_time_ns))
            .collect();
        Self { entries, gone }
    }

    fn get(&self, slot: u32) -> Option<OwnerReading> {
        let entry = self.entries.get(slot as usize)?;
        Some(OwnerReading {
            key: entry.key,
            comm: entry.comm,
            comm_time_ns: entry.comm_time_ns,
            exited: self.gone.contains(&(entry.key.tgid, entry.key.start_time_ns)),
        })
    }
}

/// End of the slots ever handed out; the kernel's counter may run past a full table.
fn used(next: u64, first: u32, len: usize) -> usize {
    usize::try_from(next).unwrap_or(usize::MAX).saturating_add(first as usize).min(len)
}

/// Adds `more` to `sum`, counter by counter.
pub fn accumulate(sum: &mut Flows, more: &Flows) {
    for (sum, more) in sum.as_flattened_mut().iter_mut().zip(more.as_flattened()) {
        sum.skbs += more.skbs;
        sum.skb_bytes += more.skb_bytes;
        sum.gso_packets += more.gso_packets;
        sum.gso_bytes += more.gso_bytes;
        sum.app_bytes += more.app_bytes;
    }
}

fn difference(now: &Flows, before: &Flows) -> Flows {
    let mut flows = *now;
    for (flow, before) in flows.as_flattened_mut().iter_mut().zip(before.as_flattened()) {
        flow.skbs = flow.skbs.saturating_sub(before.skbs);
        flow.skb_bytes = flow.skb_bytes.saturating_sub(before.skb_bytes);
        flow.gso_packets = flow.gso_packets.saturating_sub(before.gso_packets);
        flow.gso_bytes = flow.gso_bytes.saturating_sub(before.gso_bytes);
        flow.app_bytes = flow.app_bytes.saturating_sub(before.app_bytes);
    }
    flows
}
