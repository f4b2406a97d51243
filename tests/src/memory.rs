//! A memory cgroup, of whichever version the machine has, to see what nettopd costs with all that the kernel keeps for it.

use std::{fs, path::PathBuf};

/// A cgroup with a limit, removed when dropped.
pub struct MemoryCgroup {
    path: PathBuf,
    is_v2: bool,
}

impl MemoryCgroup {
    /// `None` where no hierarchy has the controller.
    pub fn new(limit_bytes: u64) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mounts = mounts.lines().map(|line| Vec::from_iter(line.split(' ')));
        let (root, is_v2) = mounts.into_iter().find_map(|mount| {
            let [_, at, kind, options, ..] = mount[..] else { return None };
            let at = PathBuf::from(at);
            match kind {
                "cgroup" if options.split(',').any(|option| option == "memory") => Some((at, false)),
                "cgroup2" => {
                    // It may be enabled already.
                    let _ = fs::write(at.join("cgroup.subtree_control"), "+memory");
                    let children = fs::read_to_string(at.join("cgroup.subtree_control")).ok()?;
                    children.split_whitespace().any(|controller| controller == "memory").then_some((at, true))
                }
                _ => None,
            }
        })?;
        let path = root.join(format!("nettop-tests-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        let cgroup = Self { path, is_v2 };
        let limit = if is_v2 { "memory.max" } else { "memory.limit_in_bytes" };
        fs::write(cgroup.path.join(limit), limit_bytes.to_string()).unwrap();
        Some(cgroup)
    }

    /// What is begun meanwhile is in it.
    pub fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        fs::write(self.path.join("cgroup.procs"), "0").unwrap();
        let done = work();
        fs::write(self.path.join("../cgroup.procs"), "0").unwrap();
        done
    }

    pub fn bytes(&self) -> u64 {
        let usage = if self.is_v2 { "memory.current" } else { "memory.usage_in_bytes" };
        fs::read_to_string(self.path.join(usage)).unwrap().trim().parse().unwrap()
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        // Its processes have ended, but may not be gone.
        for _ in 0..100 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
