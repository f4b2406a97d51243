//! What /proc adds to a process the kernel named: executable, cgroup, unit, container. Read once per name it bore.

use std::{collections::HashMap, os::unix::ffi::OsStrExt as _, path::PathBuf};

use nettop_common::OwnerKey;
use procfs::{ProcResult, process::Process};

use super::{cgroup, escape::escape};
use crate::ledger::OwnerReading;

/// Names from /proc, escaped; `None` where the process was gone or its /proc entries are closed to us.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Details {
    pub exe: Option<String>,
    pub cgroup: Option<String>,
    pub unit: Option<String>,
    pub container: Option<String>,
}

struct Entry {
    details: Details,
    comm: [u8; 16],
    comm_time_ns: u64,
    generation: u64,
}

/// Cache by process identity.
pub struct Processes {
    root: PathBuf,
    entries: HashMap<(u32, u64), Entry>,
    generation: u64,
}

impl Processes {
    /// Reads below `root`, which is /proc outside of tests.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), entries: HashMap::new(), generation: 0 }
    }

    /// The details of a process; asked again after an exec or a rename.
    pub fn details(&mut self, owner: &OwnerReading) -> Details {
        let key = (owner.key.tgid, owner.key.start_time_ns);
        let generation = self.generation;
        if let Some(entry) = self.entries.get_mut(&key)
            && entry.comm_time_ns >= owner.comm_time_ns
            && entry.comm == owner.comm
        {
            entry.generation = generation;
            return entry.details.clone();
        }
        let fresh = self.read(owner).unwrap_or_default();
        let old = self.entries.remove(&key).map(|entry| entry.details).unwrap_or_default();
        // After exit only what was read before is left.
        let details = if fresh == Details::default() { old } else { fresh };
        let entry = Entry { details: details.clone(), comm: owner.comm, comm_time_ns: owner.comm_time_ns, generation };
        self.entries.insert(key, entry);
        details
    }

    /// The details of a process that an event names.
    pub fn of(&mut self, key: &OwnerKey, comm: [u8; 16]) -> Details {
        self.details(&OwnerReading { key: *key, comm, comm_time_ns: 0, is_kernel_thread: false, exited: false })
    }

    /// Ends a round: forgets processes that it did not ask for.
    pub fn forget_unused(&mut self) {
        let generation = self.generation;
        self.entries.retain(|_, entry| entry.generation == generation);
        self.generation += 1;
    }

    /// The start time is compared after reading as well: between the two it was one process all along.
    fn read(&self, owner: &OwnerReading) -> Option<Details> {
        let process = Process::new_with_root(self.root.join(owner.key.tgid.to_string())).ok()?;
        let is_same =
            |process: &Process| process.stat().is_ok_and(|stat| stat.starttime == start_ticks(owner.key.start_time_ns));
        if !is_same(&process) {
            return None;
        }
        let exe = process.exe().ok().map(|path| escape(path.as_os_str().as_bytes()));
        let cgroup = cgroup_path(&process).ok().flatten();
        is_same(&process).then(|| Details {
            exe,
            unit: cgroup.as_deref().and_then(cgroup::unit).map(|unit| escape(unit.as_bytes())),
            container: cgroup.as_deref().and_then(cgroup::container).map(|id| escape(id.as_bytes())),
            cgroup: cgroup.map(|path| escape(path.as_bytes())),
        })
    }
}

/// The cgroup2 path, or where systemd runs on the older hierarchy, that one's.
fn cgroup_path(process: &Process) -> ProcResult<Option<String>> {
    let groups = process.cgroups()?.0;
    let unified = groups.iter().find(|group| group.hierarchy == 0 && group.pathname != "/");
    let systemd = groups.iter().find(|group| group.controllers.iter().any(|name| name == "name=systemd"));
    Ok(unified.or(systemd).or(groups.first()).map(|group| group.pathname.clone()))
}

/// `starttime` of /proc/PID/stat for a start time as the kernel keeps it.
pub fn start_ticks(start_time_ns: u64) -> u64 {
    const NS_PER_S: u64 = 1_000_000_000;
    start_time_ns / (NS_PER_S / procfs::ticks_per_second().max(1))
}
