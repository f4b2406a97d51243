//! Groups of the cgroup2 hierarchy.

use std::{
    fs,
    path::{Path, PathBuf},
};

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
