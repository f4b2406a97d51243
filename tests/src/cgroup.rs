//! Groups of the cgroup2 hierarchy.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// Ten thousand processes that were killed take some seconds on two busy CPUs.
const MAX_ENDING_TIME: Duration = Duration::from_secs(120);

/// Where cgroup2 is mounted, alone or beside others.
pub fn cgroup2() -> PathBuf {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    PathBuf::from(mounts.find(|mount| mount[2] == "cgroup2").expect("cgroup2 is not mounted")[1])
}

/// A group that is removed in the end.
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// Below the root. `name` tells it from the scenario's others.
    pub fn new(name: &str) -> Self {
        Self::at(cgroup2().join(format!("nettop-tests-{}-{name}", std::process::id())))
    }

    /// Below this one.
    pub fn child(&self, name: &str) -> Self {
        Self::at(self.0.join(name))
    }

    fn at(path: PathBuf) -> Self {
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Moves the calling process into it.
    pub fn enter(&self) {
        fs::write(self.0.join("cgroup.procs"), "0").unwrap();
    }

    /// As reports have it.
    pub fn name(&self) -> String {
        format!("/{}", self.0.strip_prefix(cgroup2()).unwrap().display())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// A group in which no more than so many processes can be, of whichever version the machine has. When dropped, it is
/// removed as soon as all of them have ended.
pub struct PidsLimit(PathBuf);

/// # Panics
///
/// Where no hierarchy has the controller.
pub fn limit_pids(most: u64) -> PidsLimit {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let older = mounts.find(|mount| mount[2] == "cgroup" && mount[3].split(',').any(|option| option == "pids"));
    let root = older.map_or_else(cgroup2, |mount| PathBuf::from(mount[1]));
    // Of cgroup2 it has to be enabled, if it is not already.
    let _ = fs::write(root.join("cgroup.subtree_control"), "+pids");
    let path = root.join(format!("nettop-tests-{}-pids", std::process::id()));
    fs::create_dir(&path).unwrap();
    fs::write(path.join("pids.max"), most.to_string()).expect("no hierarchy has the controller of pids");
    PidsLimit(path)
}

impl PidsLimit {
    /// Moves the calling process into it.
    pub fn enter(&self) {
        fs::write(self.0.join("cgroup.procs"), "0").unwrap();
    }

    /// Waits until all of its processes have ended.
    pub fn wait_until_empty(&self) {
        crate::wait_until("all have ended", || fs::read_to_string(self.0.join("pids.current")).unwrap().trim() == "0");
    }
}

impl Drop for PidsLimit {
    fn drop(&mut self) {
        let begin = Instant::now();
        // A crowd that was killed takes seconds to end. It would have its part of the next scenario's tables.
        while fs::remove_dir(&self.0).is_err() && begin.elapsed() < MAX_ENDING_TIME {
            thread::sleep(Duration::from_millis(20));
        }
    }
}
