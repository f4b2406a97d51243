//! What must hold before anything is loaded: capabilities, BTF, a cgroup2 hierarchy. Each lack is one line with its remedy.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use procfs::process::Process;
use thiserror::Error;

use super::btf::{self, Btf};

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
    /// Exit code 77.
    #[error(
        "not permitted: the daemon at {0} answers root and members of the group nettopd; have the administrator add you to it (adduser USER nettopd), and log in again"
    )]
    Daemon(String),
    /// Exit code 69.
    #[error("no daemon answers at {0}; start it with 'systemctl start nettopd', or 'nettopd daemon'")]
    NoDaemon(String),
}

/// Capabilities by number, capability.h.
const NEEDED: [(&str, u32); 3] = [("CAP_BPF", 39), ("CAP_PERFMON", 38), ("CAP_NET_ADMIN", 12)];

/// Helpers that the programs call, youngest first: 5.11, 5.11, 5.9, 5.2.
const HELPERS: [&str; 4] = ["get_current_task_btf", "sock_from_file", "skc_to_tcp_sock", "sk_storage_get"];

/// Names the first helper that the kernel lacks.
///
/// # Errors
///
/// [`Refusal`], for a kernel that is too old.
pub fn helpers(types: &Btf) -> Result<(), Refusal> {
    let is_missing = |helper: &&&str| types.enumerator("bpf_func_id", &format!("BPF_FUNC_{helper}")).is_err();
    HELPERS.iter().find(is_missing).map_or(Ok(()), |helper| {
        Err(Refusal::Kernel(format!("this kernel has no BPF helper {helper}; nettopd needs Linux 5.15 or later")))
    })
}

/// Names every missing capability, then a missing BTF.
///
/// # Errors
///
/// [`Refusal`], or if /proc cannot be read.
pub fn check() -> anyhow::Result<()> {
    permitted(effective()?)?;
    if !has_btf() {
        return Err(Refusal::Kernel(format!(
            "this kernel has no {}; it must be built with CONFIG_DEBUG_INFO_BTF=y",
            btf::VMLINUX
        ))
        .into());
    }
    Ok(())
}

/// Capabilities that this process needs and has not.
///
/// # Errors
///
/// If /proc cannot be read.
pub fn missing_capabilities() -> anyhow::Result<Vec<&'static str>> {
    Ok(missing(effective()?))
}

/// Whether the kernel tells its types.
pub fn has_btf() -> bool {
    Path::new(btf::VMLINUX).exists()
}

fn effective() -> anyhow::Result<u64> {
    let status = Process::myself().and_then(|me| me.status());
    Ok(status.context("cannot read /proc/self/status; is /proc mounted?")?.capeff)
}

fn missing(effective: u64) -> Vec<&'static str> {
    NEEDED.iter().filter(|(_, number)| effective >> number & 1 == 0).map(|(name, _)| *name).collect()
}

fn permitted(effective: u64) -> Result<(), Refusal> {
    let missing = missing(effective);
    if missing.is_empty() { Ok(()) } else { Err(Refusal::Permission(missing.join(", "))) }
}

/// Opens the root of the cgroup2 hierarchy, wherever it is mounted; mounts it in private if it is nowhere.
///
/// # Errors
///
/// [`Refusal`] if the kernel has none.
pub fn cgroup2() -> anyhow::Result<File> {
    match cgroup2_path()? {
        Some(path) => File::open(&path).with_context(|| format!("cannot open {}", path.display())),
        None => mount_cgroup2(),
    }
}

/// Where the whole cgroup2 hierarchy is mounted, if it is.
///
/// # Errors
///
/// If /proc cannot be read.
pub fn cgroup2_path() -> anyhow::Result<Option<PathBuf>> {
    let mounts = Process::myself().and_then(|me| me.mountinfo()).context("cannot read /proc/self/mountinfo")?;
    // A container's view may be a mount of some inner group: only the whole hierarchy will do.
    let mut whole = mounts.into_iter().filter(|mount| mount.fs_type == "cgroup2" && mount.root == "/");
    Ok(whole.next().map(|mount| mount.mount_point))
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
