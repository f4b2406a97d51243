//! What a running nettopd keeps: entries of its tables in the kernel, open files, memory of its own.

use std::fs;

use aya::{
    maps::{Array, HashMap, Map, MapData, PerCpuHashMap},
    programs::loaded_programs,
};
use nettop_common::{DropEntry, DropKey, Listener, OwnerKey, Pair, PairKey, PortHolder, PortKey, RowKey, Stats};

/// What a process that loaded programs keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kept {
    pub descriptors: usize,
    /// Without mapped tables, of which pages are touched once.
    pub anonymous_kib: u64,
    pub tables: Tables,
    /// What the kernel side has counted of them.
    pub counted: Tables,
}

/// Entries of the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tables {
    pub owners: usize,
    /// The kernel's included.
    pub rows: usize,
    /// Bound ports.
    pub ports: usize,
    /// Listeners that got a packet.
    pub listeners: usize,
    /// Pairs of devices between which something was forwarded.
    pub pairs: usize,
    /// Kinds of drops.
    pub drops: usize,
}

impl Tables {
    fn of(pid: u32) -> Self {
        Self {
            owners: keys::<{ size_of::<OwnerKey>() }, 4>(pid, "OWNER_INDEX").len(),
            rows: keys::<{ size_of::<RowKey>() }, 4>(pid, "ROW_INDEX").len(),
            ports: ports(pid).len(),
            listeners: keys::<8, { size_of::<Listener>() }>(pid, "LISTENERS").len(),
            pairs: keys::<{ size_of::<PairKey>() }, { size_of::<Pair>() }>(pid, "FORWARDED").len(),
            drops: kinds_of_drops(pid),
        }
    }

    fn counted(pid: u32) -> Self {
        let table = Array::<_, [u64; size_of::<Stats>() / 8]>::try_from(Map::Array(map(pid, "STATS"))).unwrap();
        let stats: Stats = bytemuck::cast(table.get(&0, 0).unwrap());
        let entries = |in_use: u64| usize::try_from(in_use).unwrap();
        Self {
            owners: entries(stats.owners_in_use),
            rows: entries(stats.rows_in_use + stats.reserved_rows_in_use),
            ports: entries(stats.ports_in_use),
            listeners: entries(stats.listeners_in_use),
            pairs: entries(stats.pairs_in_use),
            drops: entries(stats.drops_in_use),
        }
    }

    /// By name.
    pub const fn entries(&self) -> [(&'static str, usize); 6] {
        let Self { owners, rows, ports, listeners, pairs, drops } = *self;
        [
            ("owners", owners),
            ("rows", rows),
            ("ports", ports),
            ("listeners", listeners),
            ("pairs", pairs),
            ("kinds of drops", drops),
        ]
    }
}

impl Kept {
    /// Of the process with this number, which has tables.
    pub fn by(pid: u32) -> Self {
        Self {
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
            anonymous_kib: anonymous_kib(pid),
            tables: Tables::of(pid),
            counted: Tables::counted(pid),
        }
    }
}

fn anonymous_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The ports that a process that loaded programs knows.
pub fn ports(pid: u32) -> Vec<PortKey> {
    let keys = keys::<{ size_of::<PortKey>() }, { size_of::<PortHolder>() }>(pid, "PORTS");
    keys.iter().map(|key| bytemuck::pod_read_unaligned(key)).collect()
}

fn kinds_of_drops(pid: u32) -> usize {
    const KEY_BYTES: usize = size_of::<DropKey>();
    const VALUE_BYTES: usize = size_of::<DropEntry>();
    let map = Map::PerCpuHashMap(map(pid, "DROPS"));
    let map = PerCpuHashMap::<_, [u8; KEY_BYTES], [u8; VALUE_BYTES]>::try_from(map).unwrap();
    map.keys().filter_map(Result::ok).count()
}

/// The keys of a hash, by the size of a key and of a value.
fn keys<const KEY_BYTES: usize, const VALUE_BYTES: usize>(pid: u32, name: &str) -> Vec<[u8; KEY_BYTES]> {
    let map = HashMap::<_, [u8; KEY_BYTES], [u8; VALUE_BYTES]>::try_from(Map::HashMap(map(pid, name))).unwrap();
    map.keys().filter_map(Result::ok).collect()
}

/// A table of the programs that a process loaded. The kernel cuts names to 15 bytes.
fn map(pid: u32, name: &str) -> MapData {
    let programs = of_descriptors(pid, "prog_id:");
    let infos = loaded_programs().filter_map(Result::ok).filter(|program| programs.contains(&program.id()));
    // Those that only programs use have no descriptor.
    let of_programs = infos.filter_map(|program| program.map_ids().ok().flatten()).flatten();
    of_descriptors(pid, "map_id:")
        .into_iter()
        .chain(of_programs)
        .filter_map(|id| MapData::from_id(id).ok())
        .filter(|map| map.info().unwrap().name_as_str() == Some(name))
        // What lists sockets has a small one that stays empty.
        .max_by_key(|map| map.info().unwrap().max_entries())
        .unwrap_or_else(|| panic!("process {pid} has no table {name}"))
}

/// Numbers of BPF objects that a process has descriptors of.
fn of_descriptors(pid: u32, field: &str) -> Vec<u32> {
    let infos = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    let number = |info: std::io::Result<fs::DirEntry>| {
        let text = fs::read_to_string(info.unwrap().path()).ok()?;
        text.lines().find_map(|line| line.strip_prefix(field)?.trim().parse().ok())
    };
    infos.filter_map(number).collect()
}
