//! Everything between a tick and its snapshot: the books of packets and drops, the devices' own counters, and names.

use nettop_common::Netns;

use crate::{
    drops::{Drops, Reasons},
    identity::devices::Devices,
    kernel::programs::{HookState, Kernel, Programs},
    ledger::Ledger,
    report::{Balance, Collector, HookReport, Snapshot, View},
};

/// Reads, names and balances.
pub struct Sampler {
    ledger: Ledger,
    devices: Devices,
    balance: Balance,
    /// Read only where they are shown.
    drops: Option<Drops>,
    collector: Collector,
}

impl Sampler {
    /// Begins with freshly started programs: whatever they counted before is the base. `with_drops` also reads drops.
    ///
    /// # Errors
    ///
    /// If the own namespace's devices cannot be read.
    pub fn start(kernel: &Kernel, programs: Programs, view: View, with_drops: bool) -> anyhow::Result<Self> {
        let devices = Devices::new()?;
        let hooks = programs.hooks.iter().map(hook_report).collect();
        let mut sampler = Self {
            balance: Balance::new(&devices),
            drops: with_drops.then(|| Drops::new(Reasons::new(kernel.types()))),
            ledger: Ledger::new(programs),
            devices,
            collector: Collector::new(view, hooks),
        };
        sampler.begin()?;
        Ok(sampler)
    }

    /// The first reading is the base of all later differences.
    fn begin(&mut self) -> anyhow::Result<()> {
        let reading = self.ledger.read(|_| false, |_| true);
        if let Some(drops) = &mut self.drops {
            drops.read(self.ledger.programs());
        }
        self.devices.update(&reading.namespaces)?;
        self.balance = Balance::new(&self.devices);
        Ok(())
    }

    /// The snapshot of the interval that ends now.
    ///
    /// # Errors
    ///
    /// If the own namespace's devices cannot be read.
    pub fn sample(&mut self, reports_skipped: u64) -> anyhow::Result<Snapshot> {
        let drops = self.drops.as_mut().map(|drops| drops.read(self.ledger.programs())).unwrap_or_default();
        let mut reading = self.ledger.read(|row| self.collector.wants(row), |netns| self.devices.is_fresh(netns));
        for (netns, pid) in drops.namespaces() {
            reading.namespaces.entry(netns).or_default().extend(pid);
        }
        self.devices.update(&reading.namespaces)?;
        let books = self.balance.update(&reading, &self.devices);
        Ok(self.collector.collect(reading, &drops, &self.devices, books, reports_skipped))
    }

    /// Hooks that this kernel has not, or refused.
    pub fn hooks_missing(&self) -> u64 {
        self.collector.hooks_missing()
    }

    /// Namespaces with traffic whose devices were never read.
    pub fn namespaces_unread(&self) -> &[Netns] {
        self.devices.unread()
    }

    /// Whether names of users are looked up from now on.
    pub fn set_numeric(&mut self, numeric: bool) {
        self.collector.set_numeric(numeric);
    }
}

fn hook_report(hook: &HookState) -> HookReport {
    HookReport {
        purpose: hook.purpose.into(),
        attached: hook.attached,
        kind: hook.kind.clone(),
        reason: (!hook.attached).then(|| {
            hook.refused.iter().map(|(way, reason)| format!("{way}: {reason}")).collect::<Vec<_>>().join("; ")
        }),
    }
}
