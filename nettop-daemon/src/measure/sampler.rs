//! Everything between a tick and its snapshot: packets and drops, the devices' own counters, and names.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use nettop_common::{Netns, TaskNetns};
use nettop_kernel::{
    Kernel, Programs,
    drops::{Drops, Reasons},
    ledger::{DeviceKey, Ledger, Presence},
    state::HookState,
};
use nettop_model::{Snapshot, snapshot::HookReport};

use crate::{
    identity::{
        containers::Containers,
        devices::{Devices, Measured, Queries},
        users::Users,
    },
    measure::{
        arrivals,
        balance::Balance,
        collect::{Collector, DeviceBalances, View},
        forwarded,
        usage::{Interval, UsageThread},
    },
};

/// Processes that are tried for a way into a namespace.
const MAX_PROCESSES_TRIED: usize = 8;

/// Reads, names and balances.
pub struct Sampler {
    ledger: Ledger,
    devices: Devices,
    balance: Balance,
    /// Read only where they are shown.
    drops: Option<Drops>,
    collector: Collector,
    /// By name: earlier losses of maps that were taken over.
    losses_before: Vec<(&'static str, u64)>,
}

impl Sampler {
    /// Begins with freshly started programs: what they counted before is the base. `with_drops` also reads drops.
    ///
    /// # Errors
    ///
    /// If the own namespace's devices cannot be read.
    pub fn start(kernel: &Kernel, mut programs: Programs, view: View, with_drops: bool) -> anyhow::Result<Self> {
        let devices = Devices::new(|| tasks_elsewhere(&programs))?;
        let hooks = programs.hooks.iter().map(hook_report).collect();
        arrivals::watch(programs.arrivals()?, Containers::of_machine());
        let mut sampler = Self {
            balance: Balance::new(&devices),
            drops: with_drops.then(|| Drops::new(Reasons::new(kernel.types()), &mut programs)),
            ledger: Ledger::new(programs),
            devices,
            collector: Collector::new(view, hooks),
            losses_before: Vec::new(),
        };
        sampler.begin()?;
        Ok(sampler)
    }

    /// The first reading is the base of all later differences.
    fn begin(&mut self) -> anyhow::Result<()> {
        let mut reading = self.ledger.read(|_| false, |_| Presence::Present);
        // Each is recorded once.
        self.collector.learn(&mut reading);
        let drops = self.drops.as_mut().map(|drops| drops.read(self.ledger.programs(), |_| false));
        let drops = drops.unwrap_or_default();
        self.update_devices(&reading.namespaces, BTreeSet::new())?;
        self.losses_before = self.collector.loss(&reading, &drops, &self.devices, 0).entries().into();
        self.losses_before.push(("drops_uncounted", drops.uncounted));
        self.balance = Balance::new(&self.devices);
        Ok(())
    }

    /// The snapshot of the interval that ends now.
    ///
    /// # Errors
    ///
    /// If the own namespace's devices cannot be read.
    pub fn sample(&mut self, reports_skipped: u64) -> anyhow::Result<Snapshot> {
        let is_gone = |device| self.devices.is_long_gone(device);
        let drops = self.drops.as_mut().map(|drops| drops.read(self.ledger.programs(), is_gone)).unwrap_or_default();
        let mut reading = self.ledger.read(|row| self.collector.wants(row), |device| self.devices.place(device));
        for (netns, pid) in drops.namespaces() {
            let pids = reading.namespaces.entry(netns).or_default();
            pids.extend(pid.filter(|pid| pids.len() < MAX_PROCESSES_TRIED && !pids.contains(pid)));
        }
        self.update_devices(&reading.namespaces, drops.all_namespaces())?;
        forwarded::add(&reading.forwarded, &self.devices, &mut reading.devices);
        let named = forwarded::named(&reading.forwarded);
        self.devices.forget_gone(|device| reading.devices.contains_key(device) || named.contains(device));
        let reports = self.balance.update(reading.interval, &reading.devices, &self.devices);
        self.devices.set_measured(self.balance.measured());
        let balance = DeviceBalances { reports, gone: *self.balance.gone() };
        Ok(self.collector.collect(reading, &drops, &self.devices, balance, reports_skipped))
    }

    /// Shows what processes used in the snapshot.
    pub fn add_resources(&mut self, snapshot: &mut Snapshot, used: &Interval) {
        self.collector.add_resources(snapshot, used);
    }

    /// The own network namespace.
    pub const fn host(&self) -> Netns {
        self.devices.host()
    }

    /// Hooks that this kernel lacks or refused.
    pub fn hooks_missing(&self) -> u64 {
        self.collector.hooks_missing()
    }

    /// Begins to read what processes use, once; none if this kernel lacks what it reads.
    pub fn start_usage(&mut self, kernel: &Kernel) -> Option<UsageThread> {
        match self.ledger.programs().take_usage(kernel) {
            Ok(None) => {
                tracing::warn!(
                    "what processes use is not measured: this kernel does not offer it, see 'nettopd check'"
                );
            }
            Err(error) => tracing::warn!("what processes use is not measured: {error:#}"),
            Ok(Some(reader)) => return UsageThread::start(reader),
        }
        None
    }

    /// What was lost before it began.
    pub fn losses_before(&self) -> &[(&'static str, u64)] {
        &self.losses_before
    }

    fn update_devices(&mut self, wanted: &BTreeMap<Netns, Vec<u32>>, of_drops: BTreeSet<Netns>) -> anyhow::Result<()> {
        let programs = self.ledger.programs();
        let queries = Queries { tasks: || tasks_elsewhere(programs), existing: || existing(programs), of_drops };
        self.devices.update(wanted, queries)
    }

    /// What was observed of a device, by direction. None if its counters are known by its kind.
    pub fn measured(&self, device: DeviceKey) -> Option<[Option<Measured>; 2]> {
        self.balance.measured().remove(&device)
    }

    /// Namespaces with traffic whose devices were never read.
    pub fn namespaces_unread(&self) -> &[Netns] {
        self.devices.unread()
    }

    /// Whether users have names from now on.
    pub fn set_users(&mut self, users: Option<Users>) {
        self.collector.set_users(users);
    }
}

fn tasks_elsewhere(programs: &Programs) -> Option<Vec<TaskNetns>> {
    programs.tasks_elsewhere().unwrap_or_else(|error| {
        tracing::debug!("the kernel does not report where tasks are: {error:#}");
        None
    })
}

fn existing(programs: &Programs) -> Option<HashSet<Netns>> {
    programs.existing_namespaces().unwrap_or_else(|error| {
        tracing::debug!("the kernel does not report which namespaces exist: {error:#}");
        None
    })
}

fn hook_report(hook: &HookState) -> HookReport {
    HookReport {
        purpose: hook.purpose.into(),
        attached: hook.attached,
        kind: hook.kind.clone(),
        reason: (!hook.attached).then(|| {
            hook.refused.iter().map(|(backend, reason)| format!("{backend}: {reason}")).collect::<Vec<_>>().join("; ")
        }),
    }
}
