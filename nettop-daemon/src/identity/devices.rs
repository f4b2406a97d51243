//! Network devices and their own counters, by rtnetlink, in every namespace that can be found.

mod absence;
mod basis;
mod device;
mod drivers;
mod links;
mod measured;
mod rules;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nettop_common::{Netns, TaskNetns};
use nettop_kernel::{
    existing_namespaces,
    ledger::{DeviceKey, Presence},
    netns,
};

#[cfg(test)]
pub use self::{
    basis::Known,
    device::{Identity, LinkLayer},
    drivers::DRIVERS,
};
pub use self::{
    basis::{Basis, Counts, Padding, RX, TX, Whole},
    device::{Counters, Device, Setup},
    drivers::POSTING_TIME,
    measured::Measured,
};
use self::{
    links::{Links, dump},
    rules::Related,
};
use crate::identity::namespaces;

/// Source of what a driver counts.
pub fn source_of_driver(name: &str) -> Option<&'static str> {
    drivers::find(name).map(|driver| driver.source)
}

/// Knows devices from reading to reading.
pub struct Devices {
    host: Netns,
    /// As of the last reading of their namespace.
    known: BTreeMap<DeviceKey, Device>,
    /// Those that were there before, for their names.
    gone: BTreeMap<DeviceKey, Device>,
    /// Namespaces read at least once.
    read: BTreeSet<Netns>,
    /// Namespaces of the last reading.
    fresh: BTreeSet<Netns>,
    /// Since when namespaces are not found any more.
    lost: BTreeMap<Netns, Instant>,
    /// Namespaces found only after an earlier search failed.
    late: BTreeSet<Netns>,
    /// Those of them that existed at the last search and the one before, or when nettopd began, and were not read.
    overlooked: HashSet<Netns>,
    /// Those that existed at the last search, where the kernel lists them.
    existing: Option<HashSet<Netns>>,
    /// What was observed of devices, by direction.
    measured: BTreeMap<DeviceKey, [Option<Measured>; 2]>,
    /// Namespaces with traffic that the last reading could not enter.
    unread: Vec<Netns>,
    paths: namespaces::Paths,
    /// Without it, looking for ways into namespaces costs a pass over /proc and leads nowhere.
    may_enter: bool,
    /// Namespaces with rows that do not exist any more.
    ended: BTreeSet<Netns>,
    /// When the kernel was last asked which exist, and the CPU time that took.
    asked: Option<(Instant, Duration)>,
}

/// Questions to the kernel about network namespaces, which it may leave unanswered.
pub struct Queries<T, E> {
    /// Where tasks are, and which namespaces exist.
    pub tasks: T,
    /// Which exist.
    pub existing: E,
    /// Those of drops, which may be quiet: whether they exist is asked as well.
    pub of_drops: BTreeSet<Netns>,
}

impl Devices {
    /// Devices that are gone and are remembered: their names are still known, and some come back.
    pub const MAX_GONE_DEVICES: usize = 4096;

    /// Reads every device that can be found, so that each later difference has a base. `tasks` is as for [`Self::update`].
    ///
    /// # Errors
    ///
    /// If rtnetlink does not answer for the daemon's own namespace.
    pub fn new(tasks: impl FnOnce() -> Option<Vec<TaskNetns>>) -> anyhow::Result<Self> {
        let host = netns::current().context("cannot find out the own network namespace")?;
        let mut devices = Self { may_enter: namespaces::may_enter(), ..Self::fixed(host, BTreeMap::new()) };
        devices.update(&BTreeMap::new(), Queries { tasks, existing: || None, of_drops: BTreeSet::new() })?;
        Ok(devices)
    }

    /// Knows these devices, and reads nothing.
    pub fn fixed(host: Netns, known: BTreeMap<DeviceKey, Device>) -> Self {
        Self {
            host,
            fresh: known.keys().map(|(netns, _)| *netns).collect(),
            known,
            gone: BTreeMap::new(),
            read: BTreeSet::new(),
            lost: BTreeMap::new(),
            late: BTreeSet::new(),
            overlooked: HashSet::new(),
            existing: None,
            measured: BTreeMap::new(),
            unread: Vec::new(),
            paths: namespaces::Paths::default(),
            may_enter: false,
            ended: BTreeSet::new(),
            asked: None,
        }
    }

    /// Reads the host's devices and those of each namespace that can be found. `wanted` names those with traffic and the
    /// processes that may live there; `queries` ask the kernel.
    ///
    /// # Errors
    ///
    /// If rtnetlink does not answer for the daemon's own namespace.
    pub fn update(
        &mut self,
        wanted: &BTreeMap<Netns, Vec<u32>>,
        queries: Queries<impl FnOnce() -> Option<Vec<TaskNetns>>, impl FnOnce() -> Option<HashSet<Netns>>>,
    ) -> anyhow::Result<()> {
        let mut paths = HashMap::new();
        let mut missed = self.overlooked.clone();
        missed.extend(wanted.keys().filter(|netns| self.paths.misses(**netns) > 0));
        if self.may_enter {
            let others = self.read.iter().filter(|netns| !wanted.contains_key(netns)).map(|netns| (*netns, &[][..]));
            let sought = wanted.iter().map(|(netns, pids)| (*netns, pids.as_slice()));
            let mut search = None;
            let tasks = || {
                let reported = (queries.tasks)();
                // In a pid namespace tasks are not reported, and namespaces are.
                let existing = reported.as_deref().map_or_else(queries.existing, existing_namespaces);
                search = Some(existing);
                reported
            };
            paths.clone_from(self.paths.find(sought.chain(others), tasks));
            self.read_all(paths)?;
            self.note_overlooked(search);
            self.note_ended(wanted);
        } else {
            self.read_all(paths)?;
            self.find_ended(wanted, &queries.of_drops, queries.existing);
        }
        self.late = missed.into_iter().filter(|netns| self.fresh.contains(netns)).collect();
        self.forget_lost(wanted);
        self.unread = wanted.keys().filter(|netns| !self.read.contains(netns)).copied().collect();
        Ok(())
    }

    /// Forgets the names of gone devices, except those still needed.
    pub fn forget_gone(&mut self, is_needed: impl Fn(&DeviceKey) -> bool) {
        self.gone.retain(|key, _| is_needed(key));
    }

    /// The device, as it was when last seen.
    pub fn get(&self, key: DeviceKey) -> Option<&Device> {
        self.known.get(&key).or_else(|| self.gone.get(&key))
    }

    /// The device, if it is there as far as is known.
    pub fn present(&self, key: DeviceKey) -> Option<&Device> {
        self.known.get(&key)
    }

    /// All devices that are there, as far as is known.
    pub fn iter(&self) -> impl Iterator<Item = (&DeviceKey, &Device)> {
        self.known.iter()
    }

    /// Whether the last reading found the device, or, if the index is 0, its namespace.
    pub fn place(&self, (netns, ifindex): DeviceKey) -> Presence {
        if self.fresh.contains(&netns) {
            let is_there = ifindex == 0 || self.known.contains_key(&(netns, ifindex));
            return if is_there { Presence::Present } else { Presence::Gone };
        }
        if self.is_absent(netns) { Presence::Gone } else { Presence::Unknown }
    }

    /// Whether a device is gone that was there before the last search, or its namespace: also one that was not sought
    /// then, which [`Self::place`] does not know.
    pub fn is_long_gone(&self, device: DeviceKey) -> bool {
        let is_listed = || self.existing.as_ref().is_none_or(|existing| existing.contains(&device.0));
        self.place(device) == Presence::Gone || !self.fresh.contains(&device.0) && !is_listed()
    }

    pub const fn host(&self) -> Netns {
        self.host
    }

    /// Whether the last reading reached a namespace: its devices' counters are no older than the ledger's.
    pub fn is_fresh(&self, netns: Netns) -> bool {
        self.fresh.contains(&netns)
    }

    /// Whether the last reading reached a namespace that an earlier one did not find.
    pub fn is_late(&self, netns: Netns) -> bool {
        self.late.contains(&netns)
    }

    /// Namespaces with traffic whose devices were never read.
    pub fn unread(&self) -> &[Netns] {
        &self.unread
    }

    fn read_all(&mut self, mut paths: HashMap<u32, PathBuf>) -> anyhow::Result<()> {
        self.fresh.clear();
        paths.remove(&self.host.inode);
        let listed = dump()?;
        self.store(self.host, listed);
        let paths: Vec<PathBuf> = paths.into_values().collect();
        if !paths.is_empty() {
            for (path, visited) in paths.iter().zip(namespaces::visit(&paths, dump)) {
                match visited {
                    Ok((netns, listed)) => self.store(netns, listed),
                    Err(error) => tracing::debug!("cannot read the devices of {}: {error:#}", path.display()),
                }
            }
        }
        self.find_bases();
        Ok(())
    }

    /// Takes over what was observed, for the next reading.
    pub fn set_measured(&mut self, measured: BTreeMap<DeviceKey, [Option<Measured>; 2]>) {
        self.measured = measured;
    }

    /// Finds out what the devices of the last reading count. Bonds come last: their parts decide.
    fn find_bases(&mut self) {
        let is_bond = |device: &Device| device.identity.kind == "bond";
        for of_bonds in [false, true] {
            let veths = self.veths();
            let found: Vec<(DeviceKey, [Basis; 2], Whole, [bool; 2])> = self
                .known
                .iter()
                .filter(|(key, device)| self.fresh.contains(&key.0) && is_bond(device) == of_bonds)
                .map(|(key, device)| {
                    let related = self.related(*key, device, &veths);
                    let part = related.parts.first().filter(|_| of_bonds);
                    let mut basis = rules::basis(device, &related);
                    let measured = self.measured.get(key).filter(|_| device.is_hardware());
                    for (basis, measured) in basis.iter_mut().zip(measured.into_iter().flatten()) {
                        *basis = measured.as_ref().map_or(*basis, |measured| measured.or_source(*basis));
                    }
                    let whole = part.map_or_else(|| rules::whole(device), |part| part.whole);
                    (
                        *key,
                        basis,
                        whole,
                        part.map_or_else(|| rules::counts_tags(device, &basis), |part| part.counts_tags),
                    )
                })
                .collect();
            for (key, basis, whole, counts_tags) in found {
                if let Some(device) = self.known.get_mut(&key) {
                    (device.basis, device.whole, device.counts_tags) = (basis, whole, counts_tags);
                }
            }
        }
    }

    /// The veths of the last reading by their index and that of their other end, which may be in any namespace.
    fn veths(&self) -> HashMap<(u32, u32), Vec<&Device>> {
        let mut veths = HashMap::<_, Vec<&Device>>::new();
        for ((netns, ifindex), device) in &self.known {
            if let Some(link) = device.identity.link
                && device.identity.kind == "veth"
                && self.fresh.contains(netns)
            {
                veths.entry((*ifindex, link)).or_default().push(device);
            }
        }
        veths
    }

    /// The devices that affect what one counts.
    fn related<'a>(
        &'a self,
        (netns, ifindex): DeviceKey,
        device: &Device,
        veths: &HashMap<(u32, u32), Vec<&'a Device>>,
    ) -> Related<'a> {
        let mut related = Related::default();
        if let Some(link) = device.identity.link
            && device.identity.kind == "veth"
        {
            related.peers = veths.get(&(link, ifindex)).cloned().unwrap_or_default();
        }
        if device.identity.kind == "bond" || device.is_hardware() {
            let here = self.known.range((netns, 0)..=(netns, u32::MAX));
            related.parts = here.map(|(_, other)| other).filter(|other| other.setup.master == Some(ifindex)).collect();
        }
        related
    }

    fn store(&mut self, netns: Netns, Links { devices, is_whole }: Links) {
        self.read.insert(netns);
        self.fresh.insert(netns);
        let all = (netns, 0)..=(netns, u32::MAX);
        let mut before: BTreeMap<DeviceKey, Device> = self.known.extract_if(all, |_, _| true).collect();
        for (ifindex, mut device) in devices {
            let known = before.remove(&(netns, ifindex));
            // One that is down is not asked, and one that went meanwhile does not answer.
            if let Some(known) = known.filter(|known| known.identity == device.identity) {
                device.setup.features = device.setup.features.or(known.setup.features);
                if device.setup.driver.is_empty() {
                    device.setup.driver = known.setup.driver;
                }
            }
            self.gone.remove(&(netns, ifindex));
            self.known.insert((netns, ifindex), device);
        }
        for (key, device) in before {
            if is_whole || device.is_unlisted {
                self.gone.insert(key, device);
            } else {
                self.known.insert(key, Device { is_unlisted: true, ..device });
            }
        }
        while self.gone.len() > Self::MAX_GONE_DEVICES {
            self.gone.pop_first();
        }
    }
}
