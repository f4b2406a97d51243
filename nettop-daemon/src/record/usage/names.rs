//! Who the processes are that used most: program and cgroup from /proc, parents from the pass over all processes.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use nettop_common::ProcessUsage;
use nettop_history::{Ancestor, Who};
use nettop_kernel::{ledger::OwnerReading, usage::ProcessReading};
use nettop_model::{ContainerNames, passes_on};

use crate::{identity::processes::Processes, sys::escape::escape_c};

/// As many as the kernel side records of processes that talk.
const MAX_ANCESTORS: usize = 8;
/// Number of the root of cgroup2: where systemd uses another hierarchy, all processes are in it.
const ROOT_CGROUP: u64 = 1;

/// Remembers what /proc said.
pub struct Names {
    processes: Processes,
    /// By container id, of this interval.
    pub containers: HashMap<String, ContainerNames>,
}

impl Names {
    pub fn new() -> Self {
        Self { processes: Processes::new("/proc").with_timeout(Duration::ZERO), containers: HashMap::new() }
    }

    /// Names of processes, some of which may have ended. `all` are those that are there, by pid.
    pub fn of(&mut self, processes: &[ProcessUsage], all: &[ProcessReading]) -> Vec<Who> {
        let wanted: HashSet<u64> = processes.iter().map(|process| process.cgroup_id).collect();
        // Who ended was in a cgroup of which others know the path.
        let mut living: HashMap<u64, &ProcessUsage> = HashMap::new();
        for ProcessReading { process, .. } in all {
            if process.cgroup_id > ROOT_CGROUP && wanted.contains(&process.cgroup_id) {
                living.entry(process.cgroup_id).or_insert(process);
            }
        }
        let named = processes.iter().map(|process| {
            let mut details = self.processes.details(&owner(process));
            if details.cgroup.is_none()
                && let Some(neighbour) = living.get(&process.cgroup_id)
            {
                let exe = details.exe.take();
                details = self.processes.details(&owner(neighbour));
                details.exe = exe;
            }
            if let Some(id) = &details.container {
                self.containers.insert(id.clone(), ContainerNames::clone(&details.names));
            }
            let comm = escape_c(&process.comm);
            Who {
                pid: process.key.tgid,
                start_time_ns: Some(process.key.start_time_ns),
                uid: Some(process.key.uid),
                comm: if process.is_kernel_thread == 0 { comm } else { format!("[{comm}]") },
                exe: details.exe,
                script: None,
                unit: details.unit,
                cgroup: details.cgroup,
                container: details.container,
                parents: ancestors(process, all),
                ..Who::default()
            }
        });
        let named = named.collect();
        self.processes.forget_unused();
        named
    }
}

/// The parent first. The chain ends with one that has ended.
fn ancestors(process: &ProcessUsage, all: &[ProcessReading]) -> Vec<Ancestor> {
    let mut ancestors = Vec::new();
    let mut of = process;
    while ancestors.len() < MAX_ANCESTORS
        && let Ok(at) = all.binary_search_by_key(&of.parent_tgid, |reading| reading.process.key.tgid)
        && let parent = &all[at].process
        && parent.key.start_time_ns == of.parent_start_time_ns
    {
        let comm = escape_c(&parent.comm);
        ancestors.push(Ancestor {
            pid: parent.key.tgid,
            start_time_ns: parent.key.start_time_ns,
            uid: parent.key.uid,
            passes_on: passes_on(&comm),
            comm,
        });
        of = parent;
    }
    ancestors
}

/// As the names are asked for: read again once it has another name.
const fn owner(process: &ProcessUsage) -> OwnerReading {
    OwnerReading {
        key: process.key,
        comm: process.comm,
        comm_time_ns: 0,
        is_kernel_thread: process.is_kernel_thread != 0,
        exited: false,
    }
}

#[cfg(test)]
mod tests {
    use nettop_common::OwnerKey;

    use super::*;

    #[test]
    fn ancestors_are_those_that_are_there() {
        let process = |tgid, start_time_ns, parent_tgid, parent_start_time_ns, comm: &[u8; 4]| {
            let mut process = ProcessUsage {
                key: OwnerKey { tgid, start_time_ns, uid: 5 },
                parent_tgid,
                parent_start_time_ns,
                ..ProcessUsage::default()
            };
            process.comm[..4].copy_from_slice(comm);
            process
        };
        let all = [process(1, 10, 0, 0, b"init"), process(7, 70, 1, 10, b"bash"), process(9, 90, 7, 70, b"make")]
            .map(|process| ProcessReading { process, runnable: 0, blocked: 0 });
        let names = |of: &ProcessUsage| ancestors(of, &all).into_iter().map(|one| one.comm).collect::<Vec<_>>();
        assert_eq!(names(&process(20, 200, 9, 90, b"cc1\0")), ["make", "bash", "init"]);
        assert!(ancestors(&all[2].process, &all)[0].passes_on);
        assert!(names(&process(20, 200, 9, 91, b"cc1\0")).is_empty(), "another process had the pid");
        assert!(names(&all[0].process).is_empty());
    }
}
