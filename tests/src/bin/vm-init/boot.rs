//! What a guest needs before anything runs: file systems and modules.

use std::{
    fs::{self, File},
    path::Path,
};

use anyhow::Context as _;
use nix::{
    kmod::{ModuleInitFlags, finit_module},
    mount::{MsFlags, mount},
};

pub fn mount_all() -> anyhow::Result<()> {
    for (kind, at) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/tmp"),
        ("tmpfs", "/run"),
        ("cgroup2", "/sys/fs/cgroup"),
    ] {
        mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("cannot mount {at}"))?;
    }
    // Absent where the kernel has no tracing; nothing here depends on it.
    let _ = mount(Some("tracefs"), "/sys/kernel/tracing", Some("tracefs"), MsFlags::empty(), None::<&str>);
    Ok(())
}

/// Those that the initrd has, in their order.
pub fn load_modules() -> anyhow::Result<()> {
    for name in fs::read_to_string("/modules/order")?.lines() {
        let module = File::open(Path::new("/modules").join(name))?;
        if let Err(error) = finit_module(&module, c"", ModuleInitFlags::empty()) {
            println!("vm: note module {name} is not loaded: {error}");
        }
    }
    Ok(())
}
