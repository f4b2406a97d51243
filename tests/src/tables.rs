//! What a running nettopd keeps: entries of its tables in the kernel, open files, memory of its own.

use std::{fs, mem::offset_of};

use aya::{
    maps::{HashMap, Map, MapData},
    programs::loaded_programs,
};
use nettop_common::{OwnerKey, PortHolder, PortKey, RowKey};

/// What a process that loaded programs keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kept {
    pub descriptors: usize,
    /// Without mapped tables, of which pages are touched once.
    pub anonymous_kib: u64,
    /// Entries of the index of owners.
    pub owners: usize,
    /// Entries of the index of rows, the kernel's included.
    pub rows: usize,
    /// Entries of the table of bound ports.
    pub ports: usize,
}

impl Kept {
    /// Of the process with this number, which has tables.
    pub fn by(pid: u32) -> Self {
        Self {
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
            anonymous_kib: anonymous_kib(pid),
            owners: keys::<{ size_of::<OwnerKey>() }, 4>(pid, "OWNER_INDEX").len(),
            rows: keys::<{ size_of::<RowKey>() }, 4>(pid, "ROW_INDEX").len(),
            ports: ports(pid).len(),
        }
    }
}

fn anonymous_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// IP protocols of the ports that a process that loaded programs knows, one for each.
pub fn ports(pid: u32) -> Vec<u8> {
    let keys = keys::<{ size_of::<PortKey>() }, { size_of::<PortHolder>() }>(pid, "PORTS");
    keys.iter().map(|key| key[offset_of!(PortKey, transport)]).collect()
}

/// The keys of a hash, by the size of a key and of a value. The kernel cuts names to 15 bytes.
fn keys<const KEY_BYTES: usize, const VALUE_BYTES: usize>(pid: u32, name: &str) -> Vec<[u8; KEY_BYTES]> {
    let programs = of_descriptors(pid, "prog_id:");
    let infos = loaded_programs().filter_map(Result::ok).filter(|program| programs.contains(&program.id()));
    // Those that only programs use have no descriptor.
    let of_programs = infos.filter_map(|program| program.map_ids().ok().flatten()).flatten();
    let map = of_descriptors(pid, "map_id:")
        .into_iter()
        .chain(of_programs)
        .filter_map(|id| MapData::from_id(id).ok())
        .filter(|map| map.info().unwrap().name_as_str() == Some(name))
        // What lists sockets has a small one that stays empty.
        .max_by_key(|map| map.info().unwrap().max_entries())
        .unwrap_or_else(|| panic!("process {pid} has no table {name}"));
    let map = HashMap::<_, [u8; KEY_BYTES], [u8; VALUE_BYTES]>::try_from(Map::HashMap(map)).unwrap();
    map.keys().filter_map(Result::ok).collect()
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
