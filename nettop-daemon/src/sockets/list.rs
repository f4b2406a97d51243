//! Joins what the walks tell: one socket, however many hold it.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    time::Duration,
};

use nettop_common::SocketRecord;
use nix::time::{ClockId, clock_gettime};

use crate::{identity::namespaces, kernel::listing::Walks};

/// State of a listener.
pub const LISTEN: u16 = 10;

pub const fn is_tcp(record: &SocketRecord) -> bool {
    const IPPROTO_TCP: u16 = 6;
    record.protocol == IPPROTO_TCP
}

/// A process that holds a socket, by one descriptor.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Holder {
    pub tgid: u32,
    pub start_time_ns: u64,
    pub fd: u32,
    pub comm: [u8; 16],
}

/// One socket.
#[derive(Clone, Debug)]
pub struct Socket {
    pub record: SocketRecord,
    pub holders: Vec<Holder>,
}

/// All sockets at one time.
#[derive(Debug)]
pub struct Listing {
    pub sockets: Vec<Socket>,
    /// Namespaces that could not be entered, where only held sockets are seen.
    pub namespaces_unread: u64,
    /// Since boot.
    pub time_ns: u64,
    /// How long packets were counted, if they were.
    pub watched_ms: Option<u64>,
    pub packets_uncounted: Option<u64>,
}

/// Lists all sockets.
///
/// # Errors
///
/// What the kernel said.
pub fn list(walks: &Walks) -> anyhow::Result<Listing> {
    let time_ns = since_boot()?.as_nanos();
    let mut sockets: BTreeMap<u64, Socket> = BTreeMap::new();
    for record in walks.held()? {
        let holder =
            Holder { tgid: record.tgid, start_time_ns: record.start_time_ns, fd: record.fd, comm: record.comm };
        sockets.entry(record.socket).or_insert(Socket { record, holders: Vec::new() }).holders.push(holder);
    }
    // Those that cannot even be found without rights over others' processes are known by their sockets.
    let mut unread: BTreeSet<u32> = sockets.values().map(|socket| socket.record.netns.inode).collect();
    let (inodes, paths): (Vec<_>, Vec<_>) = namespaces::all().into_iter().unzip();
    unread.extend(inodes);
    for (path, visited) in paths.iter().zip(namespaces::visit(&paths, || walks.tables())) {
        match visited {
            Ok((netns, records)) => {
                unread.remove(&netns.inode);
                records.into_iter().for_each(|record| add(&mut sockets, record));
            }
            Err(error) => {
                tracing::debug!("cannot list the sockets of {}: {error:#}", path.display());
            }
        }
    }
    let mut sockets: Vec<Socket> = sockets.into_values().collect();
    for socket in &mut sockets {
        socket.holders.sort();
    }
    Ok(Listing {
        sockets,
        namespaces_unread: unread.len() as u64,
        time_ns: u64::try_from(time_ns)?,
        watched_ms: None,
        packets_uncounted: None,
    })
}

/// As the kernel dates births.
fn since_boot() -> anyhow::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_BOOTTIME)?.into())
}

/// What nobody holds is known from the tables only; what somebody holds is there as well.
fn add(sockets: &mut BTreeMap<u64, Socket>, record: SocketRecord) {
    match sockets.entry(record.socket) {
        Entry::Vacant(entry) => {
            entry.insert(Socket { record, holders: Vec::new() });
        }
        // Between the walks another socket may have come to where one was.
        Entry::Occupied(mut entry) if name(&entry.get().record) != name(&record) => {
            entry.insert(Socket { record, holders: Vec::new() });
        }
        Entry::Occupied(_) => {}
    }
}

fn name(record: &SocketRecord) -> (u16, u16, u16) {
    (record.family, record.protocol, record.local_port)
}
