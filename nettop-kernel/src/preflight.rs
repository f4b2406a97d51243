//! Requirements before loading: capabilities, BTF, a cgroup2 hierarchy. Each lack is one line with its remedy.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use nettop_common::abi::{CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON};
use procfs::process::Process;

use super::{
    boot,
    btf::{self, Btf},
    places::{self, Hierarchy},
    refusal::Refusal,
};

/// By name and number.
const NEEDED_CAPABILITIES: [(&str, u32); 3] =
    [("CAP_BPF", CAP_BPF), ("CAP_PERFMON", CAP_PERFMON), ("CAP_NET_ADMIN", CAP_NET_ADMIN)];

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
/// [`Refusal`] if a capability is missing, the kernel has no BTF or no id of this boot, or as [`places::check`]. Another
/// error if /proc/self/status cannot be read: /proc is to be mounted.
pub fn check() -> anyhow::Result<()> {
    permitted(effective()?)?;
    if !has_btf() {
        return Err(Refusal::Kernel(format!(
            "this kernel has no {}; it must be built with CONFIG_DEBUG_INFO_BTF=y",
            btf::VMLINUX
        ))
        .into());
    }
    places::check()?;
    if boot::id().is_empty() {
        return Err(Refusal::Kernel(
            "cannot read this boot's id, /proc/sys/kernel/random/boot_id, which names processes beside their start; mount /proc without subset=pid".into(),
        )
        .into());
    }
    Ok(())
}

/// Capabilities that this process needs and lacks.
///
/// # Errors
///
/// If /proc cannot be read.
pub fn missing_capabilities() -> anyhow::Result<Vec<&'static str>> {
    Ok(missing(effective()?))
}

/// Whether the kernel has BTF.
pub fn has_btf() -> bool {
    Path::new(btf::VMLINUX).exists()
}

fn effective() -> anyhow::Result<u64> {
    let status = Process::myself().and_then(|me| me.status());
    Ok(status.context("cannot read /proc/self/status; is /proc mounted?")?.capeff)
}

fn missing(effective: u64) -> Vec<&'static str> {
    NEEDED_CAPABILITIES.iter().filter(|(_, number)| effective >> number & 1 == 0).map(|(name, _)| *name).collect()
}

fn permitted(effective: u64) -> Result<(), Refusal> {
    let missing = missing(effective);
    if missing.is_empty() { Ok(()) } else { Err(Refusal::Permission(missing.join(", "))) }
}

/// Opens the root of the cgroup2 hierarchy, wherever it is mounted; if nowhere, mounts it privately.
///
/// # Errors
///
/// [`Refusal`] if it cannot be mounted, or only a branch can be seen and that is not enough. Another error if
/// /proc/self/mountinfo or the root cannot be opened.
pub fn cgroup2() -> anyhow::Result<File> {
    match places::hierarchy()? {
        Hierarchy::At(path) => open(&path),
        Hierarchy::Branch(path) if places::is_branch_enough() => open(&path),
        Hierarchy::Branch(_) | Hierarchy::Nowhere => mount_cgroup2(),
    }
}

fn open(path: &Path) -> anyhow::Result<File> {
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
}

/// What a cgroup namespace hides.
const NOT_THE_ROOT_CGROUP: &str = "in a cgroup namespace only the packets of its own branch can be counted; run nettopd outside, or start its container with --cgroupns host";

/// A detached mount, invisible to others. It ends with its descriptor.
fn mount_cgroup2() -> anyhow::Result<File> {
    use nix::{
        mount::{MntFlags, MsFlags, mount, umount2},
        sched::{CloneFlags, unshare},
    };
    let refusal = |error: nix::Error| {
        Refusal::Kernel(format!(
            "the root of the cgroup2 hierarchy is not mounted and mounting it failed ({error}); the kernel must be built with CONFIG_CGROUPS=y and CONFIG_CGROUP_BPF=y, and `mount -t cgroup2 none DIR` must work"
        ))
    };
    std::thread::spawn(move || -> anyhow::Result<File> {
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).map_err(refusal)?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).map_err(refusal)?;
        // Any folder that surely exists, without a mounted branch of the hierarchy: `do_add_mount` (6.12) refuses to
        // mount a file system over itself.
        let path = PathBuf::from("/proc");
        mount(Some("none"), &path, Some("cgroup2"), MsFlags::empty(), None::<&str>).map_err(refusal)?;
        let root = File::open(&path).context("cannot open the cgroup2 root")?;
        let is_whole = places::is_root(&path);
        let _ = umount2(&path, MntFlags::MNT_DETACH);
        if is_whole || places::is_branch_enough() {
            Ok(root)
        } else {
            Err(Refusal::Kernel(NOT_THE_ROOT_CGROUP.into()).into())
        }
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
