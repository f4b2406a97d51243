//! The running kernel side: its maps, and what holds it.

use std::{
    mem::offset_of,
    os::fd::OwnedFd,
    sync::{Arc, atomic::Ordering},
};

use anyhow::Context as _;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuHashMap, Queue};
use nettop_common::{
    DropEntry, DropKey, Listener, Owner, Pair, PairKey, ProcessDrops, ProcessDropsKey, Row, RowKey, Share, Stats, share,
};

use super::{
    bpf_syscall,
    events::{AssociationMap, Associations, Events, Loss},
    limits::Limits,
    log::KernelLog,
    mapping::{Mapping, mapped},
    processes::{Arrivals, Records},
    recursion_misses::{self, Misses},
    state::{HookState, Link, LoadState},
};

/// The running kernel side. Dropping it detaches everything.
pub struct Programs {
    pub(super) rows: Mapping<Row>,
    pub(super) owners: Mapping<Owner>,
    /// The reader of usage has it as well.
    pub(super) stats: Arc<Mapping<Stats>>,
    pub(super) shares: Mapping<Share>,
    pub(super) row_index: HashMap<MapData, [u32; size_of::<RowKey>() / 4], u32>,
    pub(super) owner_index: HashMap<MapData, [u64; 2], u32>,
    pub(super) free_rows: Queue<MapData, u32>,
    pub(super) free_owners: Queue<MapData, u32>,
    pub(super) forwarded: HashMap<MapData, [u32; size_of::<PairKey>() / 4], [u64; size_of::<Pair>() / 8]>,
    pub(super) drops: PerCpuHashMap<MapData, [u64; size_of::<DropKey>() / 8], [u64; size_of::<DropEntry>() / 8]>,
    pub(super) other_drops: PerCpuArray<MapData, [u64; 2]>,
    pub(super) process_drops:
        HashMap<MapData, [u64; size_of::<ProcessDropsKey>() / 8], [u64; size_of::<ProcessDrops>() / 8]>,
    pub(super) listeners: HashMap<MapData, u64, [u64; size_of::<Listener>() / 8]>,
    pub(super) drops_limit: u32,
    pub(super) addresses: Array<MapData, u64>,
    /// Taken by their readers.
    pub(super) processes: Option<Records>,
    pub(super) ended_usage: Option<Map>,
    pub(super) executed: Option<Map>,
    pub(super) events: Option<Events>,
    pub(super) associations: Option<AssociationMap>,
    pub(super) emits_packets: bool,
    /// Runs reported as skipped: never fewer later.
    skipped: u64,
    pub(super) log: Option<KernelLog>,
    pub hooks: Vec<HookState>,
    pub load: LoadState,
    pub(super) misses: Misses,
    links: Vec<Link>,
    /// Loaded, and attached when needed.
    pub(super) recovery_probes: Vec<(String, OwnedFd)>,
    /// Loaded, and run for each query.
    pub(super) query_programs: Vec<(String, OwnedFd)>,
    /// The maps' descriptors, to keep; empty if kept already.
    pub(super) maps: Vec<(String, OwnedFd)>,
}

/// Parts of [`Programs`] besides the maps.
pub(super) struct Parts {
    pub maps: Vec<(String, OwnedFd)>,
    pub hooks: Vec<HookState>,
    pub load: LoadState,
    pub misses: Misses,
    pub recovery_probes: Vec<(String, OwnedFd)>,
    pub query_programs: Vec<(String, OwnedFd)>,
    pub links: Vec<Link>,
}

impl Programs {
    pub(super) fn assemble(
        limits: Limits,
        parts: Parts,
        mut take: impl FnMut(&str) -> anyhow::Result<Map>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            rows: mapped(take("ROWS")?, "ROWS", limits.row_entries())?,
            owners: mapped(take("OWNERS")?, "OWNERS", limits.owner_entries())?,
            stats: Arc::new(mapped(take("STATS")?, "STATS", 1)?),
            shares: mapped(take("SHARES")?, "SHARES", share::SHARE_COUNT)?,
            row_index: HashMap::try_from(take("ROW_INDEX")?)?,
            owner_index: HashMap::try_from(take("OWNER_INDEX")?)?,
            free_rows: Queue::try_from(take("FREE_ROWS")?)?,
            free_owners: Queue::try_from(take("FREE_OWNERS")?)?,
            forwarded: HashMap::try_from(take("FORWARDED")?)?,
            drops: PerCpuHashMap::try_from(take("DROPS")?)?,
            other_drops: PerCpuArray::try_from(take("OTHER_DROPS")?)?,
            process_drops: HashMap::try_from(take("PROCESS_DROPS")?)?,
            listeners: HashMap::try_from(take("LISTENERS")?)?,
            drops_limit: limits.drops,
            emits_packets: false,
            skipped: 0,
            log: None,
            addresses: Array::try_from(take("ADDRESSES")?)?,
            processes: Some(Records::from_map(take("PROCESSES")?)?),
            ended_usage: Some(take("ENDED_USAGE")?),
            executed: Some(take("EXECUTED")?),
            events: None,
            associations: None,
            hooks: parts.hooks,
            load: parts.load,
            misses: parts.misses,
            recovery_probes: parts.recovery_probes,
            query_programs: parts.query_programs,
            maps: parts.maps,
            links: parts.links,
        })
    }

    /// Counts that an entry of a table was taken out: in the statistics, and in its share. `in_use` and `of_share` are
    /// offsets. Never below zero, whatever a daemon that crashed already did.
    pub(super) fn count_down(&self, in_use: usize, share: u32, of_share: usize) {
        if let Some(counter) = self.stats.double_word(0, in_use) {
            let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1));
        }
        if let Some(counter) = self.shares.word(share as usize, of_share) {
            let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1));
        }
    }

    /// Whether recovery probes were ever needed.
    pub(super) fn has_recovery_probes(&self) -> bool {
        self.stats.read(0).is_some_and(|stats| stats.recovery_probe != 0)
    }

    /// Runs that the kernel skipped, not recovered so far.
    pub fn runs_unrecovered(&self) -> u64 {
        let skipped = self.misses.calls();
        skipped.saturating_sub(self.stats.read(0).map_or(0, |stats| stats.recovered_calls))
    }

    /// Runs that the kernel skipped and that were not recovered. The first attaches the recovery probes. `before` is
    /// [`Self::runs_unrecovered`] at the start of the reading: a recovery probe runs a moment after the skipped run.
    pub fn runs_skipped(&mut self, before: u64) -> u64 {
        // Without recovery probes nothing is recovered.
        if before > 0 && !self.has_recovery_probes() {
            self.attach_recovery();
        }
        if before > self.skipped {
            self.skipped = self.skipped.max(self.runs_unrecovered().min(before));
        }
        self.skipped
    }

    /// Renames that the kernel did not show.
    pub(super) fn renames_skipped(&self) -> u64 {
        self.misses.sum_of(&[recursion_misses::RENAMES])
    }

    /// The ring of the events.
    ///
    /// # Errors
    ///
    /// If it was taken before.
    pub fn take_events(&mut self) -> anyhow::Result<Events> {
        self.events.take().context("the ring was taken before")
    }

    /// Records of processes as they come, before they are read.
    ///
    /// # Errors
    ///
    /// If they were taken, or their descriptor cannot be duplicated.
    pub fn arrivals(&self) -> anyhow::Result<Arrivals> {
        self.processes.as_ref().context("the records were taken before")?.arrivals()
    }

    /// The records of processes.
    ///
    /// # Errors
    ///
    /// If they were taken before.
    pub fn take_processes(&mut self) -> anyhow::Result<Records> {
        self.processes.take().context("the records were taken before")
    }

    /// The UDP conversations.
    ///
    /// # Errors
    ///
    /// If they were taken before.
    pub fn take_associations(&mut self) -> anyhow::Result<Associations> {
        Ok(Associations::new(self.associations.take().context("the table was taken before")?))
    }

    /// The hooks that serve these purposes.
    pub fn hook_kinds(&self, purposes: &[&str]) -> Vec<(&'static str, String)> {
        let wanted = self.hooks.iter().filter(|hook| hook.attached && purposes.contains(&hook.purpose));
        wanted.map(|hook| (hook.purpose, hook.kind.clone())).collect()
    }

    /// Events lost so far.
    pub fn events_lost(&self) -> Loss {
        let stats = self.stats.read(0).unwrap_or_default();
        let frees_skipped = if self.emits_packets { self.misses.sum_of(&[recursion_misses::DROPS]) } else { 0 };
        Loss {
            events: stats.events_lost + stats.associations_full,
            runs_skipped: self.misses.sum_of(&recursion_misses::EVENT_PROGRAMS) + frees_skipped,
        }
    }

    /// Logs the programs' new records, if their log is on.
    pub fn hand_on_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.hand_on(self.stats.read(0).unwrap_or_default().log_lost);
        }
    }

    /// Ends accounting; the counters can still be read.
    pub fn detach(&mut self) {
        self.links.clear();
    }

    /// Whether the remaining capabilities suffice for reading maps.
    pub fn can_read_maps(&self) -> bool {
        let is_forbidden = |error: &MapError| matches!(error, MapError::SyscallError(error) if error.io_error.raw_os_error() == Some(libc::EPERM));
        !self.row_index.get(&Default::default(), 0).is_err_and(|error| is_forbidden(&error))
    }

    /// Attaches a second program after each tracepoint program that counts calls.
    pub fn attach_recovery(&mut self) {
        if let Some(recovery_probe) = self.stats.double_word(0, offset_of!(Stats, recovery_probe)) {
            recovery_probe.store(1, Ordering::Relaxed);
        }
        for (name, again) in std::mem::take(&mut self.recovery_probes) {
            match bpf_syscall::attach_tracepoint(&again) {
                Ok(link) => self.links.push(Box::new(link)),
                Err(error) => ::tracing::warn!("{name} cannot be attached: {error}"),
            }
        }
    }
}
