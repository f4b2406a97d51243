//! Loads the eBPF object, has its programs attached, and tags the sockets that were there before.

use std::{
    fs::File,
    io::Read as _,
    mem::offset_of,
    os::fd::OwnedFd,
    path::Path,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail};
use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuHashMap, Queue, RingBuf},
    programs::{Iter, Program},
};
use nettop_common::{DropKey, EventFilter, Listener, Owner, Row, RowKey, Stats, offsets, owner, row};

use super::{
    adopt,
    btf::{self, Btf, BtfError},
    calls,
    choose::{Choice, Reason},
    hooks::{AFTER_SEEDING, BEFORE_SEEDING, Backend, Hook, Place},
    mapping::Mapping,
    misses::{self, Misses},
    preflight::{self, Refusal},
    questions,
    telling::{self, AssociationMap, Associations, Telling, What},
    tracing,
};

pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("NETTOP_EBPF"));

/// Bound ports, and listeners, that are known at a time.
const PORTS: u32 = 65_536;

/// Calls under way that kprobes can remember.
const CALLS: u32 = 65_536;

/// What became of a purpose.
#[derive(Clone, Debug)]
pub struct HookState {
    pub purpose: &'static str,
    /// What is missing if it is not attached.
    pub lacks: &'static str,
    /// Program types and targets, as `tp_btf/kfree_skb`.
    pub kind: String,
    pub backend: Option<Backend>,
    pub attached: bool,
    /// Each way that was not taken, and why.
    pub refused: Vec<(String, Reason)>,
}

/// How large tables are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rows of processes.
    pub rows: u32,
    /// Kinds of drops that are told apart.
    pub drops: u32,
}

impl Limits {
    const fn row_entries(self) -> u32 {
        self.rows + row::FIRST + row::RESERVED
    }

    /// Owners stay a little longer than their rows, and sockets that are never used have one, too.
    const fn owner_entries(self) -> u32 {
        self.rows + self.rows / 4 + owner::FIRST
    }
}

/// What loading cost.
#[derive(Clone, Debug, Default)]
pub struct LoadState {
    pub took: Duration,
    /// Instructions the verifier went through, by program; absent before 5.16.
    pub verified: Vec<(String, u32)>,
}

/// A program's attachment; dropping it detaches.
pub(super) type Link = Box<dyn Send>;

/// The running kernel side. Dropping it detaches everything.
pub struct Programs {
    pub rows: Mapping<Row>,
    pub owners: Mapping<Owner>,
    pub stats: Mapping<Stats>,
    pub row_index: HashMap<MapData, [u32; size_of::<RowKey>() / 4], u32>,
    pub owner_index: HashMap<MapData, [u64; 2], u32>,
    pub free_rows: Queue<MapData, u32>,
    pub free_owners: Queue<MapData, u32>,
    pub drops: PerCpuHashMap<MapData, [u64; size_of::<DropKey>() / 8], [u64; 2]>,
    pub other_drops: PerCpuArray<MapData, [u64; 2]>,
    pub listeners: HashMap<MapData, u64, [u64; size_of::<Listener>() / 8]>,
    pub drops_limit: u32,
    pub(super) addresses: Array<MapData, u64>,
    /// Both are taken by who reads them.
    events: Option<RingBuf<MapData>>,
    associations: Option<AssociationMap>,
    tells_packets: bool,
    pub hooks: Vec<HookState>,
    pub load: LoadState,
    pub misses: Misses,
    links: Vec<Link>,
    /// Loaded, and attached when they are needed.
    pub(super) second_looks: Vec<(String, OwnedFd)>,
    /// Loaded, and run when they are asked.
    pub(super) answering: Vec<(String, OwnedFd)>,
    /// Of the maps, for who keeps them; empty where they are kept already.
    pub(super) maps: Vec<(String, OwnedFd)>,
}

/// What [`Programs`] are made of beside the maps.
pub(super) struct Parts {
    pub maps: Vec<(String, OwnedFd)>,
    pub hooks: Vec<HookState>,
    pub load: LoadState,
    pub misses: Misses,
    pub second_looks: Vec<(String, OwnedFd)>,
    pub answering: Vec<(String, OwnedFd)>,
    pub links: Vec<Link>,
}

impl Programs {
    pub(super) fn assemble(
        limits: Limits,
        parts: Parts,
        mut take: impl FnMut(&str) -> anyhow::Result<Map>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            rows: mapped(take("ROWS")?, "ROWS", limits.row_entries())?,
            owners: mapped(take("OWNERS")?, "OWNERS", limits.owner_entries())?,
            stats: mapped(take("STATS")?, "STATS", 1)?,
            row_index: HashMap::try_from(take("ROW_INDEX")?)?,
            owner_index: HashMap::try_from(take("OWNER_INDEX")?)?,
            free_rows: Queue::try_from(take("FREE_ROWS")?)?,
            free_owners: Queue::try_from(take("FREE_OWNERS")?)?,
            drops: PerCpuHashMap::try_from(take("DROPS")?)?,
            other_drops: PerCpuArray::try_from(take("OTHER_DROPS")?)?,
            listeners: HashMap::try_from(take("LISTENERS")?)?,
            drops_limit: limits.drops,
            tells_packets: false,
            addresses: Array::try_from(take("ADDRESSES")?)?,
            events: None,
            associations: None,
            hooks: parts.hooks,
            load: parts.load,
            misses: parts.misses,
            second_looks: parts.second_looks,
            answering: parts.answering,
            maps: parts.maps,
            links: parts.links,
        })
    }

    /// Whether second looks were ever needed.
    pub(super) fn looked_twice(&self) -> bool {
        self.stats.read(0).is_some_and(|stats| stats.second_look != 0)
    }

    /// Runs that the kernel skipped and nothing made good. The first makes second looks attached.
    pub fn runs_skipped(&mut self) -> u64 {
        let skipped = self.misses.calls();
        let Some(stats) = self.stats.read(0) else { return skipped };
        if skipped > 0 && stats.second_look == 0 {
            self.look_twice();
        }
        skipped.saturating_sub(stats.healed)
    }

    /// The ring in which events are told.
    ///
    /// # Errors
    ///
    /// If it was taken before.
    pub fn take_events(&mut self) -> anyhow::Result<RingBuf<MapData>> {
        self.events.take().context("the ring was taken before")
    }

    /// The conversations of UDP.
    ///
    /// # Errors
    ///
    /// If they were taken before.
    pub fn take_associations(&mut self) -> anyhow::Result<Associations> {
        Ok(Associations::new(self.associations.take().context("the table was taken before")?))
    }

    /// By which hooks these purposes are served.
    pub fn hook_kinds(&self, purposes: &[&str]) -> Vec<(&'static str, String)> {
        let wanted = self.hooks.iter().filter(|hook| hook.attached && purposes.contains(&hook.purpose));
        wanted.map(|hook| (hook.purpose, hook.kind.clone())).collect()
    }

    /// Events that could not be told so far.
    pub fn events_lost(&self) -> u64 {
        let stats = self.stats.read(0).unwrap_or_default();
        let packets_missed = if self.tells_packets { self.misses.of(&[misses::DROPS]) } else { 0 };
        stats.events_lost + stats.associations_full + self.misses.of(&misses::TELLING) + packets_missed
    }

    /// Ends accounting; what was counted can still be read.
    pub fn detach(&mut self) {
        self.links.clear();
    }

    /// Whether maps can be read with the capabilities that are left.
    pub fn answer(&self) -> bool {
        let is_forbidden = |error: &MapError| matches!(error, MapError::SyscallError(error) if error.io_error.raw_os_error() == Some(libc::EPERM));
        !self.row_index.get(&Default::default(), 0).is_err_and(|error| is_forbidden(&error))
    }

    /// Attaches a second program behind each tracepoint program that counts calls.
    pub fn look_twice(&mut self) {
        if let Some(second_look) = self.stats.double_word(0, offset_of!(Stats, second_look)) {
            second_look.store(1, Ordering::Relaxed);
        }
        for (name, again) in std::mem::take(&mut self.second_looks) {
            match calls::attach_tracepoint(&again) {
                Ok(link) => self.links.push(Box::new(link)),
                Err(error) => ::tracing::warn!("{name} cannot be attached: {error}"),
            }
        }
    }
}

/// What iterators walk over.
const WALKED: [&str; 4] = ["bpf_map", "task_file", "tcp", "udp"];

/// Names in BTF of all that programs may be attached to, as aya looks for them.
fn targets() -> impl Iterator<Item = String> {
    let purposes = BEFORE_SEEDING.iter().chain(AFTER_SEEDING).chain(telling::ALL.into_iter().flatten());
    let hooks = purposes.flat_map(|purpose| purpose.ways).flat_map(|way| way.hooks);
    let hooks = hooks.flat_map(|hook| [hook.target.to_owned(), format!("btf_trace_{}", hook.target)]);
    hooks.chain(WALKED.map(|walked| format!("bpf_iter_{walked}")))
}

/// A kernel that has all that nettopd needs, and what programs are loaded with.
pub struct Kernel {
    pub(super) cgroup: File,
    pub(super) types: Btf,
    /// Of the kernel's types those that programs are attached to, see [`targets`].
    pub(super) kernel_btf: aya::Btf,
    pub(super) forced: Option<Backend>,
}

impl Kernel {
    /// Looks at the running kernel.
    ///
    /// # Errors
    ///
    /// [`Refusal`] where it lacks or forbids something.
    pub fn examine(forced: Option<Backend>) -> anyhow::Result<Self> {
        preflight::check()?;
        let cgroup = preflight::cgroup2()?;
        let types = Btf::read(Path::new(btf::VMLINUX))?;
        preflight::helpers(&types)?;
        // aya takes apart and searches every type that it gets.
        let kernel_btf = aya::Btf::parse(&types.only(targets()), aya::Endianness::default())
            .context("cannot parse the kernel's BTF")?;
        Ok(Self { cgroup, types, kernel_btf, forced })
    }

    /// The kernel's types, for as long as this is kept.
    pub const fn types(&self) -> &Btf {
        &self.types
    }

    /// Loads and attaches everything through the forced back end or the best.
    ///
    /// # Errors
    ///
    /// [`Refusal`] where the kernel forbids something that is needed, else what it said.
    pub fn start(&self, limits: Limits, telling: Option<Telling>) -> anyhow::Result<Programs> {
        let is_kprobe = |backend: Option<Backend>| backend == Some(Backend::Kprobe);
        let programs = self.start_with(limits, telling, is_kprobe(self.forced))?;
        let counts_by_kprobe = |hook: &HookState| {
            is_kprobe(hook.backend) && AFTER_SEEDING.iter().any(|purpose| purpose.name == hook.purpose)
        };
        if programs.hooks.iter().any(counts_by_kprobe) && !is_kprobe(self.forced) {
            // Packet hooks have to keep shadows for kprobes, which is decided when they are loaded.
            drop(programs);
            return self.start_with(limits, telling, true);
        }
        Ok(programs)
    }

    fn start_with(&self, limits: Limits, telling: Option<Telling>, with_shadows: bool) -> anyhow::Result<Programs> {
        let begun = Instant::now();
        let mut ebpf = self.load(limits, telling, with_shadows)?;
        let mut choices = self.attach_all(&mut ebpf, BEFORE_SEEDING)?;
        self.seed(&mut ebpf).context("cannot walk the open sockets")?;
        choices.extend(self.attach_all(&mut ebpf, AFTER_SEEDING)?);
        if let Some(telling) = telling {
            choices.extend(self.attach_all(&mut ebpf, telling.purposes())?);
        }
        let misses = Misses::watch(&ebpf)?;
        let second_looks = self.load_second_looks(&mut ebpf)?;
        let answering = questions::load(&mut ebpf, &self.kernel_btf)?;
        let load = LoadState { took: begun.elapsed(), verified: verified(&ebpf) };
        let hooks = choices.iter().map(state).collect();
        let links = choices.into_iter().flat_map(|choice| choice.links).map(|(_, link)| link).collect();
        let maps = adopt::maps(&ebpf)?;
        let parts = Parts { maps, hooks, load, misses, second_looks, answering, links };
        let mut programs = Programs::assemble(limits, parts, |name| take(&mut ebpf, name))?;
        programs.tells_packets = telling.is_some_and(|telling| telling.what == What::Packets);
        programs.events = Some(RingBuf::try_from(take(&mut ebpf, "EVENTS")?)?);
        programs.associations = Some(HashMap::try_from(take(&mut ebpf, "ASSOCIATIONS")?)?);
        Ok(programs)
    }

    pub(super) fn load(&self, limits: Limits, telling: Option<Telling>, with_shadows: bool) -> anyhow::Result<Ebpf> {
        let types = &self.types;
        let (row_entries, owner_entries) = (limits.row_entries(), limits.owner_entries());
        let offsets = offsets::ALL
            .iter()
            .map(|(global, of, path)| match types.offset(of, path) {
                Err(_) if offsets::OPTIONAL.contains(global) => Ok((*global, offsets::ABSENT)),
                offset => Ok((*global, offset?)),
            })
            .collect::<Result<Vec<_>, BtfError>>()
            .map_err(|error| Refusal::Kernel(error.to_string()))?;
        let bits = offsets::BITS
            .iter()
            .map(|(global, of, path)| Ok((*global, types.bit(of, path)?)))
            .collect::<Result<Vec<_>, BtfError>>()
            .map_err(|error| Refusal::Kernel(error.to_string()))?;
        let row_limit = u64::from(limits.rows);
        let reasons = ["NO_SOCKET", "TCP_FLAGS", "TCP_CSUM", "TCP_LISTEN_OVERFLOW"].map(|reason| {
            let value = types.enumerator("skb_drop_reason", &format!("SKB_DROP_REASON_{reason}"));
            (format!("REASON_{reason}"), value.unwrap_or(u32::MAX))
        });
        let has = |tracepoint: &str, what: &str| {
            u32::from(types.tracepoint(tracepoint).is_ok_and(|prototype| prototype.contains(what)))
        };
        let (has_reason, has_rx_sk) = (has("kfree_skb", "reason"), has("kfree_skb", "sock *"));
        let has_retransmit_error = has("tcp_retransmit_skb", ", int)");
        let shadow = u32::from(with_shadows);
        let event_filter: [u32; size_of::<EventFilter>() / 4] =
            bytemuck::cast(telling.map(|telling| telling.filter).unwrap_or_default());
        let tell_packets = u32::from(telling.is_some_and(|telling| telling.what == What::Packets));
        let decode = u32::from(telling.is_some_and(|telling| telling.what == What::CallsAndArguments));
        let mut loader = EbpfLoader::new();
        for (global, offset) in offsets.iter().chain(&bits) {
            loader.override_global(global, offset, true);
        }
        for (global, reason) in &reasons {
            loader.override_global(global, reason, true);
        }
        loader
            // In place of all of the kernel's types: the object has no relocations by type.
            .btf(Some(&self.kernel_btf))
            .override_global("ROW_LIMIT", &row_limit, true)
            .override_global("HAS_REASON", &has_reason, true)
            .override_global("HAS_RX_SK", &has_rx_sk, true)
            .override_global("HAS_RETRANSMIT_ERROR", &has_retransmit_error, true)
            .override_global("SHADOW", &shadow, true)
            .override_global("EVENT_FILTER", &event_filter, true)
            .override_global("TELL_PACKETS", &tell_packets, true)
            .override_global("DECODE", &decode, true)
            .override_global("SYS_ACCEPT", &telling::SYS_ACCEPT, true)
            .override_global("SYS_ACCEPT4", &telling::SYS_ACCEPT4, true)
            // Task storage has no type in aya and needs none: only programs use it.
            .allow_unsupported_maps()
            .map_max_entries("SHADOWS", if with_shadows { limits.rows } else { 1 })
            .map_max_entries("CALLS", if with_shadows { CALLS } else { 1 })
            .map_max_entries("DROPS", limits.drops)
            .map_max_entries("PORTS", PORTS)
            .map_max_entries("LISTENERS", PORTS)
            .map_max_entries("EVENTS", telling.map_or(telling::PAGE_BYTES, Telling::ring_bytes))
            .map_max_entries("ASSOCIATIONS", telling.map_or(1, Telling::associations))
            .map_max_entries("TRACED", telling.map_or(1, Telling::processes))
            .map_max_entries("CALLS_BY_NUMBER", tracing::NUMBERS)
            .map_max_entries("ROWS", row_entries)
            .map_max_entries("ROW_INDEX", row_entries)
            .map_max_entries("FREE_ROWS", row_entries)
            .map_max_entries("OWNERS", owner_entries)
            .map_max_entries("OWNER_INDEX", owner_entries)
            .map_max_entries("FREE_OWNERS", owner_entries);
        loader.load(OBJECT).map_err(refused)
    }

    /// Runs the iterator over open files once.
    fn seed(&self, ebpf: &mut Ebpf) -> anyhow::Result<()> {
        let program: &mut Iter = ebpf.program_mut("seed").context("the object has no program seed")?.try_into()?;
        program.load("task_file", &self.kernel_btf)?;
        let link = program.attach()?;
        let mut walk = program.take_link(link)?.into_file()?;
        let mut output = Vec::new();
        walk.read_to_end(&mut output)?;
        Ok(())
    }
}

/// Root of a user namespace has the capabilities that were looked for, and may not use them.
fn refused(error: EbpfError) -> anyhow::Error {
    let error = anyhow::Error::from(error);
    let is_forbidden = error.chain().any(|cause| {
        cause.downcast_ref().is_some_and(|error: &std::io::Error| error.raw_os_error() == Some(libc::EPERM))
    });
    if is_forbidden {
        return Refusal::Permission("CAP_BPF outside of this user namespace".into()).into();
    }
    error.context("cannot load the eBPF object")
}

pub(super) fn state(choice: &Choice<Link>) -> HookState {
    let shown = |place: Place, targets: Vec<&str>| format!("{}/{}", place.name(), targets.join("+"));
    let kind = |hooks: Vec<&Hook>| {
        let mut places: Vec<Place> = hooks.iter().map(|hook| hook.place).collect();
        places.dedup();
        let of = |place| hooks.iter().filter(|hook| hook.place == place).map(|hook| hook.target).collect();
        places.into_iter().map(|place| shown(place, of(place))).collect::<Vec<_>>().join(" ")
    };
    let all = |way: &'static super::hooks::Way| kind(way.hooks.iter().filter(|hook| !hook.optional).collect());
    HookState {
        purpose: choice.purpose.name,
        lacks: choice.purpose.lacks,
        kind: match choice.way {
            Some(_) => kind(choice.links.iter().map(|(hook, _)| *hook).collect()),
            None => choice.purpose.ways.first().map(all).unwrap_or_default(),
        },
        backend: choice.way.and_then(|way| way.backend),
        attached: choice.way.is_some(),
        refused: choice
            .refused
            .iter()
            .map(|(way, reason)| (way.backend.map_or("only way", Backend::name).to_owned(), reason.clone()))
            .collect(),
    }
}

fn verified(ebpf: &Ebpf) -> Vec<(String, u32)> {
    let count = |program: &Program| program.info().ok()?.verified_instruction_count();
    let mut verified: Vec<_> =
        ebpf.programs().filter_map(|(name, program)| Some((name.to_owned(), count(program)?))).collect();
    verified.sort();
    verified
}

pub(super) fn take(ebpf: &mut Ebpf, name: &str) -> anyhow::Result<Map> {
    ebpf.take_map(name).ok_or_else(|| anyhow!("the object has no map {name}"))
}

/// Maps an array, after comparing the value sizes of both sides.
pub(super) fn map<T: bytemuck::Pod>(ebpf: &mut Ebpf, name: &str, entries: u32) -> anyhow::Result<Mapping<T>> {
    mapped(take(ebpf, name)?, name, entries)
}

fn mapped<T: bytemuck::Pod>(map: Map, name: &str, entries: u32) -> anyhow::Result<Mapping<T>> {
    let Map::Array(data) = map else { bail!("map {name} is no array") };
    let value_size = data.info().with_context(|| format!("cannot query map {name}"))?.value_size() as usize;
    if value_size != size_of::<T>() {
        bail!("map {name} has values of {value_size} bytes, {} expected", size_of::<T>());
    }
    Mapping::new(data.fd(), entries)
}
