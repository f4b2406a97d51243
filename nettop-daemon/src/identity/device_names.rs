//! Names of devices for a stream: read again each second, as devices are renamed, and when an unknown one shows up.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::{Duration, Instant},
};

use nettop_common::{Netns, filter::MAX_DEVICES};
use nettop_kernel::ledger::DeviceKey;

use crate::identity::devices::{Devices, Queries};

/// Devices by name, and those that were chosen.
pub struct DeviceNames {
    devices: Devices,
    asked: Instant,
    /// Not found when last read.
    unknown: HashSet<DeviceKey>,
    /// Namespaces with events since devices were last read, and processes that may live there.
    seen: BTreeMap<Netns, Vec<u32>>,
    /// Names that were asked for; none: all.
    wanted: Vec<String>,
    /// Devices that have, or once had, one of these names: a renamed device stays chosen.
    chosen: BTreeSet<DeviceKey>,
}

impl DeviceNames {
    const RETRY_INTERVAL: Duration = Duration::from_secs(1);
    /// Ways into a namespace that are tried.
    const MAX_PROCESSES: usize = 8;

    /// Chooses all devices of these names, in any namespace.
    ///
    /// # Errors
    ///
    /// If rtnetlink does not answer.
    pub fn new(wanted: &[String]) -> anyhow::Result<Self> {
        let mut names = Self {
            devices: Devices::new(|| None)?,
            asked: Instant::now(),
            unknown: HashSet::new(),
            seen: BTreeMap::new(),
            wanted: wanted.to_vec(),
            chosen: BTreeSet::new(),
        };
        names.choose();
        Ok(names)
    }

    /// The indexes of the chosen devices, for the kernel to select by; none if a name is not known or they are too many.
    pub fn indexes(&self) -> [u32; MAX_DEVICES] {
        let chosen: BTreeSet<u32> = self.chosen.iter().map(|(_, ifindex)| *ifindex).collect();
        let mut indexes = [0; MAX_DEVICES];
        if chosen.len() <= MAX_DEVICES && self.missing().next().is_none() {
            indexes.iter_mut().zip(chosen).for_each(|(index, chosen)| *index = chosen);
        }
        indexes
    }

    /// Names that no device has.
    pub fn missing(&self) -> impl Iterator<Item = &String> {
        let has = |name: &String| self.devices.iter().any(|(_, device)| device.name == *name);
        self.wanted.iter().filter(move |name| !has(name))
    }

    /// Whether a device is asked for.
    pub fn is_wanted(&self, key: DeviceKey) -> bool {
        self.wanted.is_empty() || self.chosen.contains(&key)
    }

    /// The name of a device; `if7` where none can be found.
    pub fn name(&mut self, netns: Netns, ifindex: u32, tgid: u32) -> String {
        let key = (netns, ifindex);
        let processes = self.seen.entry(netns).or_default();
        if tgid != 0 && processes.len() < Self::MAX_PROCESSES && !processes.contains(&tgid) {
            processes.push(tgid);
        }
        let is_late = self.asked.elapsed() > Self::RETRY_INTERVAL;
        if self.devices.get(key).is_none() && (self.unknown.insert(key) || is_late) {
            self.ask();
        }
        self.devices.get(key).map_or_else(|| format!("if{ifindex}"), |device| device.name.clone())
    }

    /// Called each second: asks for the names that devices have by now.
    pub fn refresh(&mut self) {
        if self.asked.elapsed() > Self::RETRY_INTERVAL / 2 {
            self.ask();
            self.seen.clear();
        }
    }

    fn ask(&mut self) {
        if self.asked.elapsed() > Self::RETRY_INTERVAL {
            self.unknown.clear();
        }
        if let Err(error) =
            self.devices.update(&self.seen, Queries { tasks: || None, existing: || None, of_drops: BTreeSet::new() })
        {
            tracing::warn!("cannot ask for devices: {error:#}");
        }
        self.choose();
        self.asked = Instant::now();
    }

    fn choose(&mut self) {
        let named = self.devices.iter().filter(|(_, device)| self.wanted.contains(&device.name));
        self.chosen.extend(named.map(|(key, _)| *key));
    }
}
