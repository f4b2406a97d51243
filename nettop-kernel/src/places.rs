//! Where this process runs: in which namespaces, and where the whole cgroup2 hierarchy is.

use std::{
    ffi::OsString,
    fs,
    os::unix::{ffi::OsStringExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use anyhow::Context as _;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::{
    mountinfo::{mounts, unescape},
    refusal::Refusal,
};

/// If set, nettopd runs in a pid or cgroup namespace anyway: it sees only the packets of that branch, and names only
/// the processes there.
const NAMESPACED: &str = "NETTOPD_NAMESPACED";
/// Inode of the root of every cgroup2 hierarchy: `kernfs_create_root` takes the first number (since 4.14). In a cgroup
/// namespace the mount's root is another group, with another inode.
const ROOT_INODE: u64 = 1;

/// The kinds of namespaces that matter here, with the inode of the first of its kind (include/linux/proc_ns.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Time,
    User,
    Pid,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::User => "user",
            Self::Pid => "pid",
        }
    }

    const fn first_inode(self) -> u64 {
        match self {
            Self::Time => 0xeffffffa,
            Self::Pid => 0xeffffffc,
            Self::User => 0xeffffffd,
        }
    }

    /// Whether this process is in the first namespace of the kind. True if the kernel has no others.
    pub fn is_first(self) -> bool {
        fs::metadata(format!("/proc/self/ns/{}", self.name())).map_or(true, |ns| ns.ino() == self.first_inode())
    }
}

/// Where the whole cgroup2 hierarchy is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Hierarchy {
    /// Mounted there.
    At(PathBuf),
    /// Only a branch is mounted, there.
    Branch(PathBuf),
    Nowhere,
}

/// Whether a branch of the machine is enough.
pub fn is_branch_enough() -> bool {
    std::env::var_os(NAMESPACED).is_some_and(|value| !value.is_empty())
}

/// Refuses a namespace whose numbers are not the kernel's.
///
/// # Errors
///
/// [`Refusal`] if this process is in a pid namespace of its own and a branch of the machine is not enough, if the mounted
/// /proc is of another pid namespace, or if the offset of a time namespace cannot be read. It has the remedy.
pub fn check() -> Result<(), Refusal> {
    if Kind::Pid.is_first() {
        // The kernel reports a process's number in the first namespace.
        let own = fs::read_link("/proc/self").ok().and_then(|pid| pid.to_str()?.parse().ok());
        if own != Some(std::process::id()) {
            return Err(Refusal::Kernel(
                "the /proc that is mounted here is not of this pid namespace; mount it anew: mount -t proc proc /proc"
                    .into(),
            ));
        }
    } else if !is_branch_enough() {
        return Err(Refusal::Kernel(
            "in a pid namespace the processes of the machine cannot be distinguished; run nettopd outside, or start its container with --pid host".into(),
        ));
    }
    boot_offset_ns().map(|_| ())
}

/// Shift of this process's boot clock by its time namespace: the kernel's times are earlier by this than what this
/// process reads.
///
/// # Errors
///
/// [`Refusal`] if a time namespace does not report it.
pub fn boot_offset_ns() -> Result<i64, Refusal> {
    static OFFSET_NS: OnceLock<Option<i64>> = OnceLock::new();
    let offset_ns = OFFSET_NS.get_or_init(|| {
        if Kind::Time.is_first() {
            return Some(0);
        }
        fs::read_to_string("/proc/self/timens_offsets").ok().as_deref().and_then(offset_of_boot_ns)
    });
    offset_ns.ok_or_else(|| {
        Refusal::Kernel(
            "in a time namespace, and /proc/self/timens_offsets does not have its offset; run nettopd outside".into(),
        )
    })
}

/// A line for each clock: its name, seconds, nanoseconds.
fn offset_of_boot_ns(offsets: &str) -> Option<i64> {
    const NS_PER_S: i64 = 1_000_000_000;
    let mut lines = offsets.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let boot = lines.find(|fields| fields.first() == Some(&"boottime"))?;
    let [_, seconds, ns] = boot[..] else { return None };
    seconds.parse::<i64>().ok()?.checked_mul(NS_PER_S)?.checked_add(ns.parse().ok()?)
}

/// Looks up the whole cgroup2 hierarchy.
///
/// # Errors
///
/// If /proc cannot be read.
pub fn hierarchy() -> anyhow::Result<Hierarchy> {
    let mounts = fs::read("/proc/self/mountinfo").context("cannot read /proc/self/mountinfo")?;
    let mut found = Hierarchy::Nowhere;
    for path in cgroup2_mounts(&mounts) {
        match root_inode(&path) {
            Some(ROOT_INODE) => return Ok(Hierarchy::At(path)),
            Some(_) if found == Hierarchy::Nowhere => found = Hierarchy::Branch(path),
            // Another mount covers it.
            _ => {}
        }
    }
    Ok(found)
}

/// Whether a folder is the root of the whole hierarchy.
pub fn is_root(path: &Path) -> bool {
    root_inode(path) == Some(ROOT_INODE)
}

/// Inode of a folder, if it is in cgroup2.
fn root_inode(path: &Path) -> Option<u64> {
    let is_cgroup2 = statfs(path).ok()?.filesystem_type() == CGROUP2_SUPER_MAGIC;
    if is_cgroup2 { fs::metadata(path).ok().map(|folder| folder.ino()) } else { None }
}

/// Mounts of cgroup2, from `/proc/PID/mountinfo`. The name of its root depends on the reader.
fn cgroup2_mounts(mountinfo: &[u8]) -> Vec<PathBuf> {
    let of_cgroup2 = mounts(mountinfo).filter(|mount| mount.kind == b"cgroup2");
    of_cgroup2.map(|mount| PathBuf::from(OsString::from_vec(unescape(mount.point)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_cgroup2_are_found_whatever_they_are_called() {
        let mounts = b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            41 31 0:38 / /sys/fs/a\\040b\\134c rw,relatime shared:4 master:2 - cgroup2 cgroup2 rw\n\
            42 31 0:38 /../.. /mnt/\xff rw - cgroup2 none rw\n43 31 0:3 broken\n";
        let found = cgroup2_mounts(mounts);
        let names: Vec<&[u8]> = found.iter().map(|path| path.as_os_str().as_encoded_bytes()).collect();
        assert_eq!(names, [b"/sys/fs/a b\\c".as_slice(), b"/mnt/\xff"]);
    }

    #[test]
    fn the_offset_of_a_time_namespace_is_read() {
        assert_eq!(offset_of_boot_ns("monotonic 0 0\nboottime      86400         5\n"), Some(86_400_000_000_005));
        assert_eq!(offset_of_boot_ns("monotonic  5 0\nboottime  -1  0\n"), Some(-1_000_000_000));
        assert_eq!(offset_of_boot_ns("monotonic 5 0\n"), None);
    }
}
