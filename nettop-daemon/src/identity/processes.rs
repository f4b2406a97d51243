//! What a process is beside its name: program, script, cgroup, unit, container, parents. The kernel side records it for each
//! process that makes a socket; /proc, read once per name that it had, knows the others.

use std::{
    collections::HashMap,
    fs,
    hash::Hash,
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use nettop_common::OwnerKey;
use nettop_kernel::{boot::start_ticks, ledger::OwnerReading, processes::Described};
use procfs::{ProcResult, process::Process};

use crate::{
    identity::{
        ancestors::{ancestors, login, with_arguments},
        containers::Containers,
        details::{Details, arguments},
        script::script,
    },
    sys::escape::escape,
};

/// Rounds of a second: TCP gives up on what a process has left behind within two minutes or so.
const MAX_ENDED_ROUNDS: u64 = 120;
/// Has no process: its entry is read again.
const NO_COMM: [u8; 16] = [u8::MAX; 16];
/// Above so many processes, only those of this round are kept. With program, cgroup and parents one takes 2 KB.
const MAX_PROCESSES: usize = 16_384;

struct Entry {
    details: Details,
    comm: [u8; 16],
    comm_time_ns: u64,
    generation: u64,
}

/// Cache by process identity.
pub struct Processes {
    root: PathBuf,
    /// As the kernel side recorded them.
    recorded: HashMap<OwnerKey, Details>,
    /// Those before, of a stream: that does not hear which are gone.
    older: HashMap<OwnerKey, Details>,
    entries: HashMap<(u32, u64), Entry>,
    generation: u64,
    containers: Arc<Containers>,
    /// For the names of all containers of a round together.
    timeout: Duration,
    left: Duration,
    /// Whether /proc is asked for scripts and parents, too.
    with_parents: bool,
}

impl Processes {
    /// Reads below `root`, which is /proc outside of tests.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let [recorded, older] = [HashMap::new(), HashMap::new()];
        Self {
            root: root.into(),
            recorded,
            older,
            entries: HashMap::new(),
            generation: 0,
            containers: Containers::of_machine(),
            timeout: Duration::ZERO,
            left: Duration::ZERO,
            with_parents: false,
        }
    }

    /// For one document: reads scripts and parents as well, which may wait for other processes.
    pub fn with_parents(root: impl Into<PathBuf>) -> Self {
        Self { with_parents: true, ..Self::new(root) }
    }

    /// Waits so long for names of containers in each round. Else they are those that are known already.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, left: timeout, ..self }
    }

    /// Takes what the kernel side recorded. `owners` are as many as may be there at a time: if all had to move to the older
    /// ones, none of those is still there.
    pub fn learn(&mut self, described: Vec<Described>, owners: usize) {
        for described in described {
            let key = described.key;
            let mut details = Details::from_record(&described, &self.containers);
            let known = self.recorded.get(&key).or_else(|| self.older.get(&key));
            if let Some(known) = known.filter(|known| described.are_arguments_unread && known.exe == details.exe) {
                details.script.clone_from(&known.script);
                details.arguments.clone_from(&known.arguments);
            }
            self.recorded.insert(key, details);
            // What /proc knows in its place is asked again; where the process is gone it stays.
            if let Some(entry) = self.entries.get_mut(&(key.tgid, key.start_time_ns)) {
                entry.comm = NO_COMM;
            }
        }
        if self.recorded.len() >= owners.max(MAX_PROCESSES) {
            self.older = std::mem::take(&mut self.recorded);
        }
    }

    /// Forgets what was recorded of these.
    pub fn forget(&mut self, gone: &[OwnerKey]) {
        for key in gone {
            self.recorded.remove(key);
            self.older.remove(key);
        }
        shrink(&mut self.recorded);
        shrink(&mut self.older);
    }

    /// The details of a process; asked again after an exec or a rename.
    pub fn details(&mut self, owner: &OwnerReading) -> Details {
        let mut details = self.details_without_names(owner);
        if let Some(place) = &details.place {
            let begun = (!self.left.is_zero()).then(Instant::now);
            details.names = self.containers.names(place, self.left);
            self.left = self.left.saturating_sub(begun.map_or(Duration::ZERO, |begun| begun.elapsed()));
        }
        details
    }

    fn details_without_names(&mut self, owner: &OwnerReading) -> Details {
        let Some(recorded) = self.recorded.get(&owner.key).or_else(|| self.older.get(&owner.key)).cloned() else {
            return self.details_in_proc(owner);
        };
        if recorded.has_whole_exe() && recorded.cgroup.is_some() {
            return recorded;
        }
        let read = self.details_in_proc(owner);
        let exe = if recorded.has_whole_exe() || read.exe.is_none() { recorded.exe } else { read.exe };
        match recorded.cgroup {
            Some(_) => Details { exe, ..recorded },
            None => {
                let Details { script, parents, login, arguments, .. } = recorded;
                Details { exe, script, parents, login, arguments, ..read }
            }
        }
    }

    fn details_in_proc(&mut self, owner: &OwnerReading) -> Details {
        let key = (owner.key.tgid, owner.key.start_time_ns);
        let generation = self.generation;
        if let Some(entry) = self.entries.get_mut(&key)
            && entry.comm_time_ns >= owner.comm_time_ns
            && entry.comm == owner.comm
        {
            entry.generation = generation;
            return entry.details.clone();
        }
        let old = self.entries.remove(&key).map(|entry| entry.details).unwrap_or_default();
        // After exit only what was read before is left.
        let details = match self.read(owner, old.exe.as_ref()) {
            Some(fresh) if fresh.cgroup.is_some() => fresh,
            Some(fresh) => Details { exe: fresh.exe, ..old },
            None => old,
        };
        let entry = Entry { details: details.clone(), comm: owner.comm, comm_time_ns: owner.comm_time_ns, generation };
        self.entries.insert(key, entry);
        details
    }

    /// The details of a process that an event names. In another round it may run another program.
    pub fn details_for_event(&mut self, key: &OwnerKey, comm: [u8; 16]) -> Details {
        let generation = self.generation;
        if let Some(entry) = self.entries.get_mut(&(key.tgid, key.start_time_ns))
            && entry.generation != generation
        {
            // Asked again; what was known stays where the process is gone.
            entry.comm = NO_COMM;
        }
        self.details(&OwnerReading { key: *key, comm, comm_time_ns: 0, is_kernel_thread: false, exited: false })
    }

    /// Ends a round of events. A connection's end may be reported long after its process was read: running processes stay,
    /// ended ones for [`MAX_ENDED_ROUNDS`] more.
    pub fn forget_ended(&mut self) {
        let (root, generation) = (&self.root, self.generation);
        let least = if self.entries.len() > MAX_PROCESSES { 0 } else { MAX_ENDED_ROUNDS };
        self.entries.retain(|(tgid, start_time_ns), entry| {
            if generation - entry.generation <= least {
                return true;
            }
            let is_alive = least > 0 && is_process(root, *tgid, *start_time_ns);
            if is_alive {
                entry.generation = generation;
            }
            is_alive
        });
        shrink(&mut self.entries);
        self.generation += 1;
        self.left = self.timeout;
    }

    /// Ends a round: forgets processes that it did not ask for.
    pub fn forget_unused(&mut self) {
        let generation = self.generation;
        self.entries.retain(|_, entry| entry.generation == generation);
        shrink(&mut self.entries);
        self.generation += 1;
        self.left = self.timeout;
    }

    /// Compares the start time after reading as well: in between it was the same process.
    fn read(&self, owner: &OwnerReading, known_exe: Option<&String>) -> Option<Details> {
        let folder = self.root.join(owner.key.tgid.to_string());
        let process = Process::new_with_root(folder.clone()).ok()?;
        let is_same = |process: &Process| has_started(process, owner.key.start_time_ns);
        if !is_same(&process) {
            return None;
        }
        // Whoever may not see its program may see whose child it is.
        let parents = if self.with_parents { ancestors(&self.root, &process) } else { Vec::new() };
        let mut described = None;
        let exe = match exe(&folder) {
            Ok(path) => {
                if self.with_parents {
                    described = with_arguments(&folder, &path);
                }
                Some(escape(path.as_os_str().as_bytes()))
            }
            // While it exits, the program goes first (`exit_mm`).
            Err(error) if error.kind() == io::ErrorKind::NotFound => known_exe.cloned(),
            // It may be another by now, which we may not see.
            Err(_) => None,
        };
        let cgroup = cgroup_path(&process).ok().flatten();
        is_same(&process).then(|| Details {
            exe,
            script: described.as_ref().and_then(script).map(|path| escape(&path)),
            parents: parents.into(),
            login: Arc::new(login(&self.root, &process)),
            arguments: described.as_ref().and_then(arguments),
            ..Details::in_cgroup(cgroup.as_deref(), &self.containers)
        })
    }
}

/// Gives back room that a crowd took.
fn shrink<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    if map.len() < map.capacity() / 4 {
        map.shrink_to(map.len() * 2);
    }
}

fn is_process(root: &Path, tgid: u32, start_time_ns: u64) -> bool {
    Process::new_with_root(root.join(tgid.to_string())).is_ok_and(|process| has_started(&process, start_time_ns))
}

fn has_started(process: &Process, start_time_ns: u64) -> bool {
    process.stat().is_ok_and(|stat| stat.starttime == start_ticks(start_time_ns))
}

/// The program of a process, by its folder in /proc. An ended main thread has dropped it, others still have it
/// (`exit_mm`, `proc_exe_link`).
///
/// # Errors
///
/// If the process has ended, is a kernel thread, or is one whose program the caller may not see.
pub fn exe(folder: &Path) -> io::Result<PathBuf> {
    let error = match fs::read_link(folder.join("exe")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => error,
        found => return found,
    };
    let mut threads = fs::read_dir(folder.join("task"))?.flatten();
    threads.find_map(|thread| fs::read_link(thread.path().join("exe")).ok()).ok_or(error)
}

/// The cgroup2 path, or the older hierarchy's if systemd runs on that.
fn cgroup_path(process: &Process) -> ProcResult<Option<String>> {
    let groups = process.cgroups()?.0;
    let unified = groups.iter().find(|group| group.hierarchy == 0 && group.pathname != "/");
    let systemd = groups.iter().find(|group| group.controllers.iter().any(|name| name == "name=systemd"));
    Ok(unified.or(systemd).or(groups.first()).map(|group| group.pathname.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: OwnerKey = OwnerKey { tgid: 42, start_time_ns: 5_000_000_000, uid: 0 };

    /// What /proc has of `/usr/bin/x` in x.service.
    fn process() -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        let folder = proc.path().join("42");
        fs::create_dir_all(folder.join("task/42")).unwrap();
        let (zeros, starttime) = (" 0".repeat(17), start_ticks(KEY.start_time_ns));
        fs::write(folder.join("stat"), format!("42 (x) S 1{zeros} {starttime} {}", "0 ".repeat(30))).unwrap();
        fs::write(folder.join("cgroup"), "0::/system.slice/x.service\n").unwrap();
        std::os::unix::fs::symlink("/usr/bin/x", folder.join("exe")).unwrap();
        proc
    }

    /// As asked in another round.
    fn again(processes: &mut Processes) -> Details {
        processes.forget_ended();
        processes.details_for_event(&KEY, [0; 16])
    }

    #[test]
    fn what_is_known_of_a_process_stays_while_it_exits_and_after() {
        let proc = process();
        let folder = proc.path().join("42");
        let mut processes = Processes::new(proc.path());
        let mut details = || again(&mut processes);
        let known = details();
        assert_eq!((known.exe.as_deref(), known.unit.as_deref()), (Some("/usr/bin/x"), Some("x.service")));
        fs::remove_file(folder.join("exe")).unwrap();
        assert_eq!(details(), known);
        fs::remove_file(folder.join("cgroup")).unwrap();
        assert_eq!(details(), known);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(details(), known);
    }

    #[test]
    fn a_program_that_may_not_be_seen_is_not_the_one_before() {
        let proc = process();
        let folder = proc.path().join("42");
        let mut processes = Processes::new(proc.path());
        let mut details = || again(&mut processes);
        assert!(details().exe.is_some());
        fs::remove_file(folder.join("exe")).unwrap();
        // Any error except not found: this is no link.
        fs::write(folder.join("exe"), "").unwrap();
        assert_eq!(details().exe, None);
    }

    #[test]
    fn who_is_moved_keeps_its_script_and_has_its_new_unit() {
        let described = |cgroup: &str, arguments: &[&str]| Described {
            key: KEY,
            program: Some(b"/usr/bin/bash".into()),
            cgroup: Some(cgroup.into()),
            arguments: arguments.iter().map(|argument| argument.as_bytes().to_vec()).collect(),
            are_arguments_unread: arguments.is_empty(),
            ..Described::default()
        };
        let proc = process();
        let mut processes = Processes::new(proc.path());
        let mut known = |described| {
            processes.learn(vec![described], 0);
            let Details { script, unit, .. } = processes.details_for_event(&KEY, [0; 16]);
            [script, unit].map(Option::unwrap)
        };
        assert_eq!(known(described("/system.slice/a.service", &["bash", "x.sh"])), ["x.sh", "a.service"]);
        assert_eq!(known(described("/system.slice/b.service", &[])), ["x.sh", "b.service"]);
        // Where systemd uses an older hierarchy, /proc knows the unit.
        assert_eq!(known(described("/", &[])), ["x.sh", "x.service"]);
        fs::write(proc.path().join("42/cgroup"), "0::/system.slice/y.service\n").unwrap();
        assert_eq!(known(described("/", &[])), ["x.sh", "y.service"]);
    }

    #[test]
    fn what_was_recorded_of_a_living_owner_stays_however_many_there_are() {
        let described = |tgid| Described {
            key: OwnerKey { tgid, ..KEY },
            program: Some(b"/usr/bin/x".into()),
            cgroup: Some(b"/".into()),
            ..Described::default()
        };
        let first_after = |owners: usize| {
            let mut processes = Processes::new("/nonexistent");
            let all = 1..=u32::try_from(2 * MAX_PROCESSES).unwrap();
            all.for_each(|tgid| processes.learn(vec![described(tgid)], owners));
            processes.details_for_event(&described(1).key, [0; 16]).exe
        };
        assert_eq!(first_after(2 * MAX_PROCESSES).as_deref(), Some("/usr/bin/x"));
        assert_eq!(first_after(0), None, "a stream has an end");
    }
}
