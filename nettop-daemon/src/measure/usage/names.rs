//! Who the processes are that used most: program and cgroup from /proc, or as they were when the process executed the
//! program; parents from the pass over all processes.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use nettop_common::ProcessUsage;
use nettop_history::{Ancestor, Who};
use nettop_kernel::{ledger::OwnerReading, processes::Described, usage::ProcessReading};
use nettop_model::{ContainerNames, passes_on, snapshot::Parent};

use crate::{
    identity::{details::Details, executions::Executions, processes::Processes},
    sys::escape::escape_c,
};

/// As many as the kernel side records of processes that talk.
const MAX_ANCESTORS: usize = 8;
/// Number of the root of cgroup2: where systemd uses another hierarchy, all processes are in it.
const ROOT_CGROUP: u64 = 1;

/// Its file, and the script in it.
pub type Program<'a> = (Option<&'a str>, Option<&'a str>);

/// Remembers what /proc said.
pub struct Names {
    processes: Processes,
    executions: Executions,
    /// By container id, of this interval.
    pub containers: HashMap<String, ContainerNames>,
}

impl Names {
    pub fn new() -> Self {
        Self {
            processes: Processes::new("/proc").with_timeout(Duration::ZERO),
            executions: Executions::new(),
            containers: HashMap::new(),
        }
    }

    /// Takes which program a process executed.
    pub fn learn(&mut self, described: &Described) {
        self.executions.learn(described);
    }

    /// Forgets processes that have ended, and were named if they were to be.
    pub fn forget(&mut self, processes: impl Iterator<Item = (u32, u64)>) {
        processes.for_each(|key| self.executions.forget(key));
    }

    /// Program and script, if the process executed them since.
    pub fn program(&self, process: &ProcessUsage) -> Program<'_> {
        let details = executed(&self.executions, process).map(|(_, details)| details);
        details.map_or((None, None), |details| (details.exe.as_deref(), details.script.as_deref()))
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
            add_executed(&mut details, with_names(&mut self.executions, process));
            if details.cgroup.is_none()
                && let Some(neighbour) = living.get(&process.cgroup_id)
            {
                let (exe, script) = (details.exe.take(), details.script.take());
                details = self.processes.details(&owner(neighbour));
                (details.exe, details.script) = (exe, script);
            }
            if let Some(id) = &details.container
                && *details.names != ContainerNames::default()
            {
                self.containers.insert(id.clone(), ContainerNames::clone(&details.names));
            }
            let comm = escape_c(&process.comm);
            Who {
                pid: process.key.tgid,
                start_time_ns: Some(process.key.start_time_ns),
                uid: Some(process.key.uid),
                comm: if process.is_kernel_thread == 0 { comm } else { format!("[{comm}]") },
                exe: details.exe,
                script: details.script,
                unit: details.unit,
                cgroup: details.cgroup,
                container: details.container,
                parents: match ancestors(process, all) {
                    none if none.is_empty() && process.parent_tgid != 0 => {
                        details.parents.iter().map(ancestor).collect()
                    }
                    found => found,
                },
                ..Who::default()
            }
        });
        let named = named.collect();
        self.processes.forget_unused();
        named
    }
}

/// By pid and start.
type Key = (u32, u64);

/// What a process executed; of one that did not, what its parent did, if they have the same name.
fn executed<'a>(executions: &'a Executions, process: &ProcessUsage) -> Option<(Key, &'a Details)> {
    let own = (process.key.tgid, process.key.start_time_ns);
    if let Some(details) = executions.get(own) {
        return Some((own, details));
    }
    let parent = (process.parent_tgid, process.parent_start_time_ns);
    let details = executions.get(parent)?;
    let comm = escape_c(&process.comm);
    let has_name = [&details.exe, &details.script].into_iter().flatten().any(|path| is_named(path, &comm));
    has_name.then_some((parent, details))
}

/// The same with names of the container. The parent's ancestors are not all of the process's.
fn with_names(executions: &mut Executions, process: &ProcessUsage) -> Option<Details> {
    let (whose, _) = executed(executions, process)?;
    let mut details = executions.with_names(whose)?;
    if whose.0 != process.key.tgid {
        details.parents = Default::default();
    }
    Some(details)
}

/// Whether exec gave a process this name of a file (`begin_new_exec`).
fn is_named(path: &str, comm: &str) -> bool {
    /// Of `task_struct.comm`, without the zero.
    const COMM_BYTES: usize = 15;
    let name = path.rsplit('/').next().unwrap_or_default();
    !comm.is_empty() && (name == comm || comm.len() == COMM_BYTES && name.starts_with(comm))
}

/// What /proc says of a process that is there goes before.
fn add_executed(details: &mut Details, executed: Option<Details>) {
    let Some(executed) = executed else { return };
    if details.exe.is_none() {
        details.exe.clone_from(&executed.exe);
    }
    if details.exe == executed.exe {
        details.script.clone_from(&executed.script);
    }
    if details.cgroup.is_none() && executed.cgroup.is_some() {
        let Details { exe, script, .. } = std::mem::take(details);
        *details = executed;
        (details.exe, details.script) = (exe, script);
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

fn ancestor(parent: &Parent) -> Ancestor {
    let Parent { pid, start_time_ns, comm, uid } = parent.clone();
    Ancestor { passes_on: passes_on(&comm), pid, start_time_ns, uid, comm }
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

    #[test]
    fn a_child_that_executed_nothing_has_the_program_of_its_parent() {
        let described = |tgid, program: &[u8], script: &[u8]| Described {
            key: OwnerKey { tgid, start_time_ns: 1, uid: 0 },
            program: Some(program.to_vec()),
            arguments: vec![b"x".to_vec(), script.to_vec()],
            ..Described::default()
        };
        let mut executions = Executions::new();
        executions.learn(&described(5, b"/usr/bin/bash", b"/srv/a-long-name-of-a-script.sh"));
        executions.learn(&described(6, b"/usr/bin/cc1", b""));
        let mut exe = |tgid, parent_tgid, comm: &[u8]| {
            let mut process = ProcessUsage {
                key: OwnerKey { tgid, start_time_ns: 1, uid: 0 },
                parent_tgid,
                parent_start_time_ns: 1,
                ..ProcessUsage::default()
            };
            process.comm[..comm.len()].copy_from_slice(comm);
            let mut details = Details::default();
            add_executed(&mut details, with_names(&mut executions, &process));
            (details.exe, details.script)
        };
        let script = (Some("/usr/bin/bash".into()), Some("/srv/a-long-name-of-a-script.sh".into()));
        assert_eq!(exe(5, 1, b"a-long-name-of-"), script);
        assert_eq!(exe(9, 5, b"a-long-name-of-"), script);
        assert_eq!(exe(9, 5, b"bash"), script);
        assert_eq!(exe(9, 5, b"a-long"), (None, None), "it has another name");
        assert_eq!(exe(6, 5, b"a-long-name-of-"), (Some("/usr/bin/cc1".into()), None), "it executed a program");
        assert_eq!(exe(9, 8, b"bash"), (None, None));
    }
}
