//! Joins the iterators' records: one socket, however many hold it.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    ops::ControlFlow,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use nettop_common::{
    SocketRecord,
    abi::{IPPROTO_TCP, TCP_LISTEN},
};
use nettop_kernel::{boot, socket_iterators::SocketIterators};

use crate::{identity::namespaces, sys::lock::lock};

/// State of a listener.
pub const LISTEN: u16 = TCP_LISTEN as u16;

pub const fn is_tcp(record: &SocketRecord) -> bool {
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
    /// Whether there are more than were wanted.
    pub truncated: bool,
    /// Namespaces that could not be entered, where only held sockets are seen.
    pub namespaces_unread: u64,
    /// Since boot.
    pub time_ns: u64,
    /// How long packets were counted, if they were.
    pub watched_ms: Option<u64>,
    pub packets_uncounted: Option<u64>,
}

/// Which sockets are listed, and how many.
pub struct Selection<'a> {
    /// Sockets; a further descriptor of one counts as another.
    pub max_sockets: usize,
    /// After that it is an error.
    pub deadline: Option<Instant>,
    /// Whether a socket is wanted, by its own fields.
    pub socket: &'a (dyn Fn(&SocketRecord) -> bool + Sync),
    /// Whether a wanted socket's holder is wanted too; None: any holder.
    pub holder: Option<&'a (dyn Fn(&SocketRecord) -> bool + Sync)>,
}

impl Selection<'_> {
    /// Everything.
    pub const ALL: Self = Self { max_sockets: usize::MAX, deadline: None, socket: &|_| true, holder: None };
}

/// A listing under way.
struct Found<'a> {
    selection: &'a Selection<'a>,
    /// Sockets that a wanted process holds.
    held: Option<HashSet<u64>>,
    sockets: BTreeMap<u64, Socket>,
    number: usize,
    truncated: bool,
    is_late: bool,
}

impl Found<'_> {
    /// Notes whose sockets are wanted.
    fn mark(&mut self, record: &SocketRecord) -> ControlFlow<()> {
        let Some((held, holder)) = self.held.as_mut().zip(self.selection.holder) else { return ControlFlow::Break(()) };
        if (self.selection.socket)(record) && holder(record) {
            let has_room = held.len() < self.selection.max_sockets || held.contains(&record.socket);
            self.truncated |= !has_room;
            if has_room {
                held.insert(record.socket);
            }
        }
        self.goes_on()
    }

    fn wants(&self, record: &SocketRecord) -> bool {
        (self.selection.socket)(record) && self.held.as_ref().is_none_or(|held| held.contains(&record.socket))
    }

    /// Adds one of a descriptor.
    fn add_held(&mut self, record: SocketRecord) -> ControlFlow<()> {
        if self.wants(&record) && self.has_room() {
            let holder =
                Holder { tgid: record.tgid, start_time_ns: record.start_time_ns, fd: record.fd, comm: record.comm };
            self.number += 1;
            let socket = self.sockets.entry(record.socket).or_insert(Socket { record, holders: Vec::new() });
            socket.holders.push(holder);
        }
        self.goes_on()
    }

    /// Adds one of a table: only tables have sockets that nobody holds; they have the held ones as well.
    fn add(&mut self, record: SocketRecord) -> ControlFlow<()> {
        // Meanwhile another socket may have come to where one was.
        let is_known = self.sockets.get(&record.socket).is_some_and(|known| name(&known.record) == name(&record));
        if !is_known && self.wants(&record) && self.has_room() {
            self.number += 1;
            self.sockets.insert(record.socket, Socket { record, holders: Vec::new() });
        }
        self.goes_on()
    }

    const fn has_room(&mut self) -> bool {
        self.truncated |= self.number >= self.selection.max_sockets;
        !self.truncated
    }

    fn goes_on(&mut self) -> ControlFlow<()> {
        self.is_late |= self.selection.deadline.is_some_and(|deadline| Instant::now() > deadline);
        if self.truncated || self.is_late { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// It took longer than it may.
#[derive(Debug, thiserror::Error)]
#[error("listing the sockets takes too long")]
pub struct TooLong;

/// Lists sockets.
///
/// # Errors
///
/// [`TooLong`] at the deadline, else if an iterator cannot be started or read.
pub fn list(iterators: &SocketIterators, selection: &Selection<'_>) -> anyhow::Result<Listing> {
    let time_ns = boot::elapsed().as_nanos();
    let held = selection.holder.map(|_| HashSet::new());
    let sockets = BTreeMap::new();
    let mut found = Found { selection, held, sockets, number: 0, truncated: false, is_late: false };
    if selection.holder.is_some() {
        iterators.held(&mut |record| found.mark(&record))?;
    }
    // Those that cannot even be found without rights over others' processes are known by their sockets.
    let mut unread: BTreeSet<u32> = BTreeSet::new();
    let are_more = std::mem::take(&mut found.truncated);
    iterators.held(&mut |record| {
        unread.insert(record.netns.inode);
        found.add_held(record)
    })?;
    let (inodes, paths): (Vec<_>, Vec<_>) = namespaces::all(&mut namespaces::mountinfo(), None).into_iter().unzip();
    unread.extend(inodes);
    let found = Mutex::new(found);
    let add = |record| lock(&found).add(record);
    for (path, visited) in paths.iter().zip(namespaces::visit(&paths, || iterators.tables(&mut |record| add(record)))) {
        match visited {
            Ok((netns, ())) => {
                unread.remove(&netns.inode);
            }
            Err(error) => {
                tracing::debug!("cannot list the sockets of {}: {error:#}", path.display());
            }
        }
    }
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    if found.is_late {
        return Err(TooLong.into());
    }
    let mut sockets: Vec<Socket> = found.sockets.into_values().collect();
    for socket in &mut sockets {
        socket.holders.sort();
    }
    Ok(Listing {
        sockets,
        truncated: found.truncated || are_more,
        namespaces_unread: unread.len() as u64,
        time_ns: u64::try_from(time_ns)?,
        watched_ms: None,
        packets_uncounted: None,
    })
}

fn name(record: &SocketRecord) -> (u16, u16, u16) {
    (record.family, record.protocol, record.local_port)
}
