//! Loads the eBPF object, attaches each hook, and tags the sockets that were there before.
//!
//! A hook that accounting cannot do without fails the start; any other leaves its reason in the report.

use std::{io::Read as _, path::Path};

use anyhow::{Context as _, anyhow, bail};
use aya::{
    Ebpf, EbpfLoader,
    maps::{HashMap, Map, MapData, Queue},
    programs::{BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock, Iter, ProgramError},
};
use nettop_common::{Owner, Row, Stats, offsets, owner, row};

use super::{
    btf::{self, Btf},
    mapping::Mapping,
    preflight::{self, Refusal},
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("NETTOP_EBPF"));

/// How a program is attached.
#[derive(Clone, Copy)]
enum Attach {
    Packets(CgroupSkbAttachType),
    SocketCreate,
    Tracepoint,
}

/// One line of the hook table.
struct Hook {
    purpose: &'static str,
    program: &'static str,
    target: &'static str,
    attach: Attach,
}

/// Attached before the walk over the open sockets, so that no socket falls between.
const BEFORE_SEEDING: &[Hook] = &[
    hook("socket birth", "socket_create", "sock_create", Attach::SocketCreate),
    hook("process rename", "process_rename", "task_rename", Attach::Tracepoint),
    hook("process exit", "process_exit", "sched_process_exit", Attach::Tracepoint),
];

/// Attached after it, so that every packet finds its owner; app bytes last, so that they find their device.
const AFTER_SEEDING: &[Hook] = &[
    hook("wire tx", "packet_tx", "egress", Attach::Packets(CgroupSkbAttachType::Egress)),
    hook("wire rx", "packet_rx", "ingress", Attach::Packets(CgroupSkbAttachType::Ingress)),
    hook("socketless rx", "socketless", "kfree_skb", Attach::Tracepoint),
    hook("app tx", "socket_send", "sock_send_length", Attach::Tracepoint),
    hook("app rx", "socket_receive", "sock_recv_length", Attach::Tracepoint),
    hook("app rx tcp", "tcp_receive", "tcp_rcv_space_adjust", Attach::Tracepoint),
];

const fn hook(purpose: &'static str, program: &'static str, target: &'static str, attach: Attach) -> Hook {
    Hook { purpose, program, target, attach }
}

/// What became of a hook.
#[derive(Clone, Debug)]
pub struct HookState {
    pub purpose: &'static str,
    /// Program type and target, as `tp_btf/kfree_skb`.
    pub kind: String,
    /// Why it is not attached.
    pub refused: Option<String>,
}

/// The running kernel side. Dropping it detaches everything.
pub struct Programs {
    pub rows: Mapping<Row>,
    pub owners: Mapping<Owner>,
    pub stats: Mapping<Stats>,
    pub row_index: HashMap<MapData, [u32; 4], u32>,
    pub owner_index: HashMap<MapData, [u64; 2], u32>,
    pub free_rows: Queue<MapData, u32>,
    pub free_owners: Queue<MapData, u32>,
    pub hooks: Vec<HookState>,
    /// Holds programs and links.
    _ebpf: Ebpf,
}

/// Loads and attaches everything, for at most `row_limit` process rows.
///
/// # Errors
///
/// [`Refusal`] where the kernel lacks or forbids something, else what the kernel said.
pub fn start(row_limit: u32) -> anyhow::Result<Programs> {
    preflight::check()?;
    let cgroup = preflight::cgroup2()?;
    let types = Btf::read(Path::new(btf::VMLINUX))?;
    let row_entries = row_limit + row::FIRST + row::RESERVED;
    // Owners stay a little longer than their rows, and sockets that are never used have one, too.
    let owner_entries = row_limit + row_limit / 4 + owner::FIRST;
    let mut ebpf = load(&types, row_limit, row_entries, owner_entries)?;
    let kernel_btf = aya::Btf::from_sys_fs().context("cannot parse the kernel's BTF")?;
    let mut hooks = attach_all(&mut ebpf, BEFORE_SEEDING, &cgroup, &kernel_btf)?;
    seed(&mut ebpf, &kernel_btf).context("cannot walk the open sockets")?;
    hooks.extend(attach_all(&mut ebpf, AFTER_SEEDING, &cgroup, &kernel_btf)?);
    Ok(Programs {
        rows: map(&mut ebpf, "ROWS", row_entries)?,
        owners: map(&mut ebpf, "OWNERS", owner_entries)?,
        stats: map(&mut ebpf, "STATS", 1)?,
        row_index: HashMap::try_from(take(&mut ebpf, "ROW_INDEX")?)?,
        owner_index: HashMap::try_from(take(&mut ebpf, "OWNER_INDEX")?)?,
        free_rows: Queue::try_from(take(&mut ebpf, "FREE_ROWS")?)?,
        free_owners: Queue::try_from(take(&mut ebpf, "FREE_OWNERS")?)?,
        hooks,
        _ebpf: ebpf,
    })
}

fn load(types: &Btf, row_limit: u32, row_entries: u32, owner_entries: u32) -> anyhow::Result<Ebpf> {
    let offsets = offsets::ALL
        .iter()
        .map(|(global, of, path)| Ok((*global, types.offset(of, path)?)))
        .collect::<Result<Vec<_>, btf::BtfError>>()
        .map_err(|error| Refusal::Kernel(error.to_string()))?;
    let row_limit = u64::from(row_limit);
    let no_socket = types.enumerator("skb_drop_reason", "SKB_DROP_REASON_NO_SOCKET").unwrap_or(u32::MAX);
    let has_rx_sk = u32::from(types.tracepoint_args("kfree_skb").is_ok_and(|n| n > 3));
    let mut loader = EbpfLoader::new();
    for (global, offset) in &offsets {
        loader.override_global(global, offset, true);
    }
    loader
        .override_global("ROW_LIMIT", &row_limit, true)
        .override_global("REASON_NO_SOCKET", &no_socket, true)
        .override_global("HAS_RX_SK", &has_rx_sk, true)
        .map_max_entries("ROWS", row_entries)
        .map_max_entries("ROW_INDEX", row_entries)
        .map_max_entries("FREE_ROWS", row_entries)
        .map_max_entries("OWNERS", owner_entries)
        .map_max_entries("OWNER_INDEX", owner_entries)
        .map_max_entries("FREE_OWNERS", owner_entries);
    loader.load(OBJECT).context("cannot load the eBPF object")
}

fn attach_all(
    ebpf: &mut Ebpf,
    hooks: &[Hook],
    cgroup: &std::fs::File,
    btf: &aya::Btf,
) -> anyhow::Result<Vec<HookState>> {
    let mut states = Vec::new();
    for hook in hooks {
        let refused = match attach(ebpf, hook, cgroup, btf) {
            Ok(()) => None,
            Err(error) if matches!(hook.attach, Attach::Tracepoint) => {
                tracing::debug!("{}: {error:#}", hook.purpose);
                Some(summary(&error))
            }
            Err(error) => {
                let (kind, summary) = (kind(hook), summary(&error));
                let what =
                    format!("cannot attach {kind}: {summary}; the kernel must be built with CONFIG_CGROUP_BPF=y");
                return Err(Refusal::Kernel(what).into());
            }
        };
        states.push(HookState { purpose: hook.purpose, kind: kind(hook), refused });
    }
    Ok(states)
}

fn attach(ebpf: &mut Ebpf, hook: &Hook, cgroup: &std::fs::File, btf: &aya::Btf) -> anyhow::Result<()> {
    let program =
        ebpf.program_mut(hook.program).with_context(|| format!("the object has no program {}", hook.program))?;
    match hook.attach {
        Attach::Packets(way) => {
            let program: &mut CgroupSkb = program.try_into()?;
            program.load()?;
            // As a link, `Single` stacks with other programs; the kernel refuses the flag that says so.
            program.attach(cgroup, way, CgroupAttachMode::Single)?;
        }
        Attach::SocketCreate => {
            let program: &mut CgroupSock = program.try_into()?;
            program.load()?;
            program.attach(cgroup, CgroupAttachMode::Single)?;
        }
        Attach::Tracepoint => {
            let program: &mut BtfTracePoint = program.try_into()?;
            program.load(hook.target, btf)?;
            program.attach()?;
        }
    }
    Ok(())
}

/// Runs the iterator over open files once.
fn seed(ebpf: &mut Ebpf, btf: &aya::Btf) -> anyhow::Result<()> {
    let program: &mut Iter = ebpf.program_mut("seed").context("the object has no program seed")?.try_into()?;
    program.load("task_file", btf)?;
    let link = program.attach()?;
    let mut walk = program.take_link(link)?.into_file()?;
    let mut output = Vec::new();
    walk.read_to_end(&mut output)?;
    Ok(())
}

fn kind(hook: &Hook) -> String {
    let program_type = match hook.attach {
        Attach::Packets(_) => "cgroup_skb",
        Attach::SocketCreate => "cgroup",
        Attach::Tracepoint => "tp_btf",
    };
    format!("{program_type}/{}", hook.target)
}

/// The kernel's answer without the verifier's log, which is for `RUST_LOG=debug`.
fn summary(error: &anyhow::Error) -> String {
    match error.downcast_ref::<ProgramError>() {
        Some(ProgramError::LoadError { io_error, .. }) => format!("the verifier refused the program: {io_error}"),
        _ => format!("{error:#}"),
    }
}

fn take(ebpf: &mut Ebpf, name: &str) -> anyhow::Result<Map> {
    ebpf.take_map(name).ok_or_else(|| anyhow!("the object has no map {name}"))
}

/// Maps an array, after comparing the value sizes of both sides.
fn map<T: bytemuck::Pod>(ebpf: &mut Ebpf, name: &str, entries: u32) -> anyhow::Result<Mapping<T>> {
    let Map::Array(data) = take(ebpf, name)? else { bail!("map {name} is no array") };
    let value_size = data.info().with_context(|| format!("cannot query map {name}"))?.value_size() as usize;
    if value_size != size_of::<T>() {
        bail!("map {name} has values of {value_size} bytes, {} expected", size_of::<T>());
    }
    Mapping::new(data.fd(), entries)
}
