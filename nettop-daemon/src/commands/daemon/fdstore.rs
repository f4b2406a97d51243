//! The kernel side in systemd's keeping: its descriptors outlive a daemon that crashes, and what is counted with them.

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io::Write as _,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::FileExt as _,
    },
};

use anyhow::{Context as _, bail};
use nettop_kernel::{Kernel, Limits, Programs, adopt::HookNote};
use nix::sys::memfd::{MFdFlags, memfd_create};
use sd_notify::{NotifyState, notify, notify_with_fds};
use serde::{Deserialize, Serialize};

use crate::sys::{clock, descriptors::given_by_systemd};

/// What names of descriptors begin with; the layout follows, then what it is.
const PREFIX: &str = "nettopd-";
const NOTE: &str = "note";
/// A note has some kilobytes. More is not read, and what is cut off is no valid JSON.
const MAX_NOTE_BYTES: u64 = 1 << 20;

/// What is handed on beside descriptors.
#[derive(Serialize, Deserialize)]
struct Note {
    /// When counting began.
    since: String,
    hooks: Vec<HookNote>,
    /// Of all descriptors: all of them or none.
    names: BTreeSet<String>,
}

/// Takes over what another daemon left if it is whole and has this one's layout, else loads its own and has it kept.
/// Returns when counting began.
///
/// # Errors
///
/// [`nettop_kernel::Refusal`] if a capability or something in the kernel is missing, which its message names; else the
/// error of loading or attaching. What another daemon left is no reason to fail: what cannot be used is logged.
pub fn start(kernel: &Kernel, limits: Limits) -> anyhow::Result<(Programs, String)> {
    let layout = kernel.layout(limits);
    let given = given_by_systemd(PREFIX);
    if !given.is_empty() {
        let names: Vec<String> = given.iter().map(|(name, _)| name.clone()).collect();
        match take_over(kernel, limits, &layout, given) {
            Ok((programs, since)) => {
                tracing::info!("counting goes on where another daemon ended; it began at {since}");
                return Ok((programs, since));
            }
            Err(error) => tracing::warn!("counting begins anew, what another daemon left cannot be used: {error:#}"),
        }
        for name in names {
            let _ = notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(&name)]);
        }
    }
    let programs = kernel.start(limits, None)?;
    let since = clock::now();
    if let Err(error) = keep(&programs, &layout, &since) {
        tracing::warn!("counters will not outlive a crash: {error:#}");
    }
    Ok((programs, since))
}

fn take_over(
    kernel: &Kernel,
    limits: Limits,
    layout: &str,
    given: Vec<(String, OwnedFd)>,
) -> anyhow::Result<(Programs, String)> {
    let mut descriptors = HashMap::new();
    for (name, fd) in given {
        let Some(name) = name.strip_prefix(PREFIX).and_then(|name| name.strip_prefix(layout)) else {
            bail!("it has another layout");
        };
        descriptors.insert(name.trim_start_matches('.').to_owned(), fd);
    }
    let note = read(descriptors.remove(NOTE).context("there is no note")?)?;
    let names: BTreeSet<String> = descriptors.keys().cloned().collect();
    if names != note.names {
        let missing: Vec<&str> = note.names.difference(&names).map(String::as_str).collect();
        bail!("it is not whole: of {} descriptors there are not {}", note.names.len(), missing.join(", "));
    }
    Ok((kernel.adopt(limits, descriptors, note.hooks)?, note.since))
}

fn read(note: OwnedFd) -> anyhow::Result<Note> {
    let file = File::from(note);
    let len = file.metadata()?.len().min(MAX_NOTE_BYTES);
    let mut text = vec![0; usize::try_from(len)?];
    file.read_exact_at(&mut text, 0)?;
    serde_json::from_slice(&text).context("the note cannot be read")
}

/// Hands every descriptor to systemd, the note last.
fn keep(programs: &Programs, layout: &str, since: &str) -> anyhow::Result<()> {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return Ok(());
    }
    let mut descriptors = programs.descriptors()?;
    let names = descriptors.iter().map(|(name, _)| name.clone()).collect();
    let note = Note { since: since.to_owned(), hooks: programs.hook_notes(), names };
    let mut file = File::from(memfd_create("nettopd", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(&serde_json::to_vec(&note)?)?;
    descriptors.push((NOTE.to_owned(), file.into()));
    for (name, fd) in descriptors {
        let name = format!("{PREFIX}{layout}.{name}");
        // epoll reports an error for a map, and systemd would close it at once: no polling.
        let states = [NotifyState::FdStore, NotifyState::FdName(&name), NotifyState::Custom("FDPOLL=0")];
        notify_with_fds(&states, &[fd.as_fd()]).context("systemd does not take descriptors")?;
    }
    Ok(())
}
