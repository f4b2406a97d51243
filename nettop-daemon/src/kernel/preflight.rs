//! What must hold before anything is loaded: capabilities, BTF, a cgroup2 hierarchy. Each lack is one line with its remedy.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use procfs::process::Process;
use thiserror::Error;

use super::btf;

/// Why nettopd cannot run here.
#[derive(Debug, Error)]
pub enum Refusal {
    /// Exit code 77.
    #[error(
        "not permitted: missing {0}; run as root, or grant the capabilities (setcap, or AmbientCapabilities= in a unit)"
    )]
    Permission(String),
    /// Exit code 69.
    #[error("{0}")]
    Kernel(String),
}

/// Capabilities by number, capability.h.
const NEEDED: [(&str, u32); 3] = [("CAP_BPF", 39), ("CAP_PERFMON", 38), ("CAP_NET_ADMIN", 12)];

/// Names every missing capability, then a missing BTF.
///
/// # Errors
///
/// [`Refusal`], or if /proc cannot be read.
pub fn check() -> anyhow::Result<()> {
    let effective = Process::myself()
        .and_then(|me| me.status())
        .context("cannot read /proc/self/status; is /proc mounted?")?
        .capeff;
    permitted(effective)?;
    if !Path::new(btf::VMLINUX).exists() {
        return Err(Refusal::Kernel(format!(
            "this kernel has no {}; it must be built with CONFIG_DEBUG_INFO_BTF=y",
            btf::VMLINUX
        ))
        .into());
    }
    Ok(())
}

fn permitted(effective: u64) -> Result<(), Refusal> {
    let missing: Vec<&str> =
        NEEDED.iter().filter(|(_, number)| effective >> number & 1 == 0).map(|(name, _)| *name).collect();
    if missing.is_empty() { Ok(()) } else { Err(Refusal::Permission(missing.join(", "))) }
}

/// Opens the root of the cgroup2 hierarchy, wherever it is mounted; mounts it in private if it is nowhere.
///
/// # Errors
///
/// [`Refusal`] if the kernel has none.
pub fn cgroup2() -> anyhow::Result<File> {
    let mounts = Process::myself().and_then(|me| me.mountinfo()).context("cannot read /proc/self/mountinfo")?;
    // A container's view may be a mount of some inner group: only the whole hierarchy will do.
    let mounted =
        mounts.into_iter().find(|mount| mount.fs_type == "cgroup2" && mount.root == "/").map(|mount| mount.mount_point);
    match mounted {
        Some(path) => File::open(&path).with_context(|| format!("cannot open {}", path.display())),
        None => mount_cgroup2(),
    }
}

/// A detached mount, seen by nobody else and gone with its descriptor.
fn mount_cgroup2() -> anyhow::Result<File> {
    use nix::{
        mount::{MntFlags, MsFlags, mount, umount2},
        sched::{CloneFlags, unshare},
    };
    let refusal = |error: nix::Error| {
        Refusal::Kernel(format!(
            "no cgroup2 hierarchy is mounted and mounting one failed ({error}); the kernel must be built with CONFIG_CGROUPS=y and CONFIG_CGROUP_BPF=y, and `mount -t cgroup2 none DIR` must work"
        ))
    };
    std::thread::spawn(move || -> anyhow::Result<File> {
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).map_err(refusal)?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).map_err(refusal)?;
        let path = PathBuf::from("/sys/fs/cgroup");
        mount(Some("none"), &path, Some("cgroup2"), MsFlags::empty(), None::<&str>).map_err(refusal)?;
        let root = File::open(&path).context("cannot open the cgroup2 root")?;
        let _ = umount2(&path, MntFlags::MNT_DETACH);
        Ok(root)
    })
    .join()
    .map_err(|_| anyhow::anyhow!("the thread that mounts cgroup2 panicked"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_missing_capability_is_named() {
        assert!(permitted(u64::MAX).is_ok());
        assert_eq!(
            permitted(1 << 12).unwrap_err().to_string(),
            "not permitted: missing CAP_BPF, CAP_PERFMON; run as root, or grant the capabilities (setcap, or AmbientCapabilities= in a unit)"
        );
    }
}
