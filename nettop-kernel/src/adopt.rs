//! A kernel side that outlives its daemon: the descriptors that hold it, and how the next daemon takes over.

use std::{
    collections::HashMap,
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    mem::offset_of,
    os::fd::{BorrowedFd, OwnedFd, RawFd},
    sync::atomic::Ordering,
};

use anyhow::{Context as _, bail};
use aya::{
    Ebpf,
    maps::{Map, MapData},
};
use nettop_common::{Owner, owner};
use serde::{Deserialize, Serialize};

use super::{
    choose::Reason,
    hooks::{AFTER_SEEDING, BEFORE_SEEDING},
    kernel::Kernel,
    limits::Limits,
    object::OBJECT,
    programs::{Parts, Programs},
    recursion_misses::Misses,
    state::{HookState, Link, LoadState},
    usage,
};

/// Maps that the daemon reads.
const MAPS: [&str; 17] = [
    "ROWS",
    "OWNERS",
    "STATS",
    "SHARES",
    "ROW_INDEX",
    "OWNER_INDEX",
    "FREE_ROWS",
    "FREE_OWNERS",
    "FORWARDED",
    "DROPS",
    "OTHER_DROPS",
    "PROCESS_DROPS",
    "LISTENERS",
    "ADDRESSES",
    "PROCESSES",
    "ENDED_USAGE",
    "EXECUTED",
];

/// The state of a purpose, for the next daemon.
#[derive(Serialize, Deserialize)]
pub struct HookNote {
    purpose: String,
    kind: String,
    attached: bool,
    refused: Vec<(String, String)>,
}

/// Descriptors of maps, before they are taken out of the object.
pub(super) fn maps(ebpf: &Ebpf) -> anyhow::Result<Vec<(String, OwnedFd)>> {
    let copy = |name: &str| {
        let data = match ebpf.map(name) {
            Some(
                Map::Array(data)
                | Map::HashMap(data)
                | Map::Queue(data)
                | Map::PerCpuHashMap(data)
                | Map::PerCpuArray(data)
                | Map::RingBuf(data),
            ) => data,
            _ => bail!("the object has no map {name}"),
        };
        let fd: BorrowedFd<'_> = std::os::fd::AsFd::as_fd(data.fd());
        Ok((format!("map.{name}"), fd.try_clone_to_owned().with_context(|| format!("cannot keep map {name}"))?))
    };
    MAPS.into_iter().map(copy).collect()
}

impl Programs {
    /// Everything that holds the kernel side, with a name for each. The links are all that this process holds.
    ///
    /// # Errors
    ///
    /// If descriptors are exhausted, or /proc/self/fd cannot be read.
    pub fn descriptors(&self) -> anyhow::Result<Vec<(String, OwnedFd)>> {
        let mut all = Vec::new();
        for (name, fd) in &self.maps {
            all.push((name.clone(), fd.try_clone()?));
        }
        let named =
            |kind: &'static str| move |(name, fd): &(String, OwnedFd)| Ok((format!("{kind}.{name}"), fd.try_clone()?));
        all.extend(self.misses.programs().iter().map(named("counting")).collect::<anyhow::Result<Vec<_>>>()?);
        all.extend(self.query_programs.iter().map(named("query")).collect::<anyhow::Result<Vec<_>>>()?);
        all.extend(self.recovery_probes.iter().map(named("recovery")).collect::<anyhow::Result<Vec<_>>>()?);
        let links = links()?.into_iter().enumerate();
        all.extend(links.map(|(index, link)| (format!("link.{index}"), link)));
        Ok(all)
    }

    /// The state of hooks.
    pub fn hook_notes(&self) -> Vec<HookNote> {
        let note = |hook: &HookState| HookNote {
            purpose: hook.purpose.to_owned(),
            kind: hook.kind.clone(),
            attached: hook.attached,
            refused: hook.refused.iter().map(|(backend, reason)| (backend.clone(), reason.to_string())).collect(),
        };
        self.hooks.iter().map(note).collect()
    }
}

impl Kernel {
    /// Differs for kernel sides that cannot be taken over from one another.
    pub fn layout(&self, limits: Limits) -> String {
        // Its keys are fixed: the same in all binaries of one compiler.
        let mut hasher = DefaultHasher::new();
        (OBJECT, limits.rows, limits.drops, self.forced.map(super::hooks::Backend::name)).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }

    /// Takes over everything from another daemon.
    ///
    /// # Errors
    ///
    /// If a map is missing, or not of the kind and size that its name has, or if the name of a descriptor or of a
    /// purpose is unknown. The caller is to load a kernel side of its own.
    pub fn adopt(
        &self,
        limits: Limits,
        descriptors: HashMap<String, OwnedFd>,
        notes: Vec<HookNote>,
    ) -> anyhow::Result<Programs> {
        let mut maps = HashMap::new();
        let [mut counting, mut query_programs, mut recovery_probes] = [const { Vec::new() }; 3];
        let mut links: Vec<Link> = Vec::new();
        for (name, fd) in descriptors {
            match name.split_once('.') {
                Some(("map", map)) => {
                    let data = MapData::from_fd(fd).with_context(|| format!("map {map}"))?;
                    maps.insert(map.to_owned(), Map::from_map_data(data)?);
                }
                Some(("counting", program)) => counting.push((program.to_owned(), fd)),
                Some(("query", program)) => query_programs.push((program.to_owned(), fd)),
                Some(("recovery", program)) => recovery_probes.push((program.to_owned(), fd)),
                Some(("link", _)) => links.push(Box::new(fd)),
                _ => bail!("unknown descriptor {name}"),
            }
        }
        let hooks = notes.into_iter().map(noted).collect::<anyhow::Result<_>>()?;
        let parts = Parts {
            maps: Vec::new(),
            hooks,
            load: LoadState::default(),
            misses: Misses::from_programs(counting)?,
            recovery_probes,
            query_programs,
            links,
        };
        let mut programs =
            Programs::assemble(limits, parts, |name| maps.remove(name).with_context(|| format!("no map {name}")))?;
        if programs.has_recovery_probes() {
            // Their links were made later, and went with the other daemon.
            programs.attach_recovery();
        }
        // Until somebody reads it again.
        usage::want(&programs.stats, false);
        // The other daemon had the records of these.
        let used = usize::try_from(programs.stats.read(0).map_or(0, |stats| stats.next_owner))?;
        for slot in (owner::FIRST as usize..programs.owners.len()).take(used) {
            if let Some(recorded) = programs.owners.word(slot, offset_of!(Owner, recorded)) {
                recorded.store(owner::UNRECORDED, Ordering::Relaxed);
            }
        }
        Ok(programs)
    }
}

fn noted(note: HookNote) -> anyhow::Result<HookState> {
    let purpose = BEFORE_SEEDING.iter().chain(AFTER_SEEDING).find(|purpose| purpose.name == note.purpose);
    let purpose = purpose.with_context(|| format!("no hook has the purpose {}", note.purpose))?;
    Ok(HookState {
        purpose: purpose.name,
        effect_if_missing: purpose.effect_if_missing,
        kind: note.kind,
        backend: None,
        attached: note.attached,
        refused: note.refused.into_iter().map(|(backend, reason)| (backend, Reason::Missing(reason))).collect(),
    })
}

/// Descriptors of all links of this process: aya does not publish its own.
fn links() -> anyhow::Result<Vec<OwnedFd>> {
    let mut links = Vec::new();
    // All of them first: a copy may get a number that the listing has yet to reach.
    let entries: Vec<_> = fs::read_dir("/proc/self/fd").context("cannot read /proc/self/fd")?.collect();
    for entry in entries {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<RawFd>().ok());
        let (Some(number), Ok(target)) = (number, fs::read_link(&path)) else { continue };
        if target.as_os_str().as_encoded_bytes() == b"anon_inode:bpf_link" {
            // SAFETY: no other thread runs yet that could close it.
            let fd = unsafe { BorrowedFd::borrow_raw(number) };
            links.push(fd.try_clone_to_owned()?);
        }
    }
    Ok(links)
}
