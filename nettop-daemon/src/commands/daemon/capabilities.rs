//! Gives up every capability once the programs are attached: what is left to do works on descriptors that are held.

use std::str::FromStr as _;

use anyhow::{Context as _, bail};
use caps::{CapSet, Capability, CapsHashSet};
use nettop_kernel::Programs;
use nix::sys::prctl;

use crate::config::ALL_CAPABILITIES;

/// Gives up all but `kept`, of this thread and all that it will start. The kernel keeps capabilities by thread: there may
/// be no other yet.
///
/// # Errors
///
/// If there is another thread, which would keep them, or a system call filter forbids `prctl` or `capset`: the daemon
/// must not go on.
pub fn give_up(programs: &Programs, kept: &[String]) -> anyhow::Result<()> {
    let threads = std::fs::read_dir("/proc/self/task").context("cannot read /proc/self/task")?.count();
    if threads != 1 {
        bail!("capabilities cannot be given up: there are {threads} threads already");
    }
    prctl::set_no_new_privs().context("cannot set no_new_privs")?;
    if kept.iter().any(|name| name == ALL_CAPABILITIES) {
        tracing::warn!("all capabilities are kept, as was asked for");
        return Ok(());
    }
    let permitted = caps::read(None, CapSet::Permitted)?;
    let mut kept: CapsHashSet = kept.iter().filter_map(|name| Capability::from_str(name).ok()).collect();
    for missing in kept.difference(&permitted) {
        tracing::warn!("{missing} cannot be kept: nettopd was started without it");
    }
    kept.retain(|capability| permitted.contains(capability));
    // First, while CAP_SETPCAP may still be there; else the unit has set the bounds.
    for capability in caps::read(None, CapSet::Bounding)?.difference(&kept) {
        if caps::drop(None, CapSet::Bounding, *capability).is_err() {
            break;
        }
    }
    caps::clear(None, CapSet::Ambient).context("cannot give up ambient capabilities")?;
    caps::clear(None, CapSet::Inheritable).context("cannot give up inheritable capabilities")?;
    caps::set(None, CapSet::Effective, &kept).context("cannot give up effective capabilities")?;
    if !programs.can_read_maps() {
        // Before 5.19, with unprivileged_bpf_disabled, bpf(2) asks for it even on descriptors that are held (c8644cd0efe7).
        kept.insert(Capability::CAP_BPF);
        caps::set(None, CapSet::Effective, &kept).context("cannot keep CAP_BPF")?;
        if !programs.can_read_maps() {
            bail!("maps cannot be read without more capabilities than CAP_BPF");
        }
        tracing::info!("CAP_BPF is kept: this kernel reads no map without it");
    }
    caps::set(None, CapSet::Permitted, &kept).context("cannot give up permitted capabilities")?;
    Ok(())
}
