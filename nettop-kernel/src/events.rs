//! Events from the kernel side, for the commands that need them: extra hooks next to the ledger's.

use std::{
    collections::HashSet,
    os::fd::{AsFd, BorrowedFd},
};

use super::{
    boot,
    hooks::{
        Purpose,
        events::{CONNECTIONS, CONNECTIONS_AND_UDP, PACKETS},
        trace,
    },
};
use aya::maps::{HashMap, Map, MapData, RingBuf};
use bytemuck::Pod;
use nettop_common::{Association, AssociationKey, EventFilter};

/// Processes traced at a time.
pub const MAX_TRACED_PROCESSES: u32 = 65_536;
/// UDP conversations known at a time.
const MAX_ASSOCIATIONS: u32 = 65_536;

/// Numbers of system calls on this machine.
#[expect(clippy::cast_possible_truncation, reason = "numbers of system calls are small")]
mod number {
    pub const SYS_ACCEPT: u32 = libc::SYS_accept.cast_unsigned() as u32;
    pub const SYS_ACCEPT4: u32 = libc::SYS_accept4.cast_unsigned() as u32;
}
pub use number::{SYS_ACCEPT, SYS_ACCEPT4};

/// Which events, and of whom.
#[derive(Clone, Copy, Debug)]
pub struct EventSpec {
    pub what: EventKind,
    pub filter: EventFilter,
    /// Whether new processes and programs are recorded for calls; other events have a ledger, which records them.
    pub with_names: bool,
}

/// Event kinds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventKind {
    Connections,
    /// And UDP conversations.
    ConnectionsAndUdp,
    Packets,
    /// Socket calls of chosen processes, see `tracer.rs`.
    Calls,
    /// And their arguments.
    CallsAndArguments,
}

/// The ring in which programs put events.
pub struct Events(RingBuf<MapData>);

impl Events {
    pub(super) fn from_map(map: Map) -> anyhow::Result<Self> {
        Ok(Self(RingBuf::try_from(map)?))
    }

    /// Takes the next event, if there is one now.
    pub fn pop<T: Pod>(&mut self) -> Option<T> {
        let item = self.0.next()?;
        let mut event = T::zeroed();
        // The kernel pads items to whole words.
        let len = item.len().min(size_of::<T>());
        bytemuck::bytes_of_mut(&mut event)[..len].copy_from_slice(&item[..len]);
        Some(event)
    }
}

/// Readable when an event comes.
impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Where events come from.
pub trait Source {
    /// Events lost so far.
    fn lost(&mut self) -> Loss;
    /// Ends them. Events in the ring stay there.
    fn detach(&mut self);
}

/// Lost events.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Loss {
    pub events: u64,
    /// Runs of hooks that the kernel skipped, of any process: none, some or all of them are missed events.
    pub runs_skipped: u64,
}

impl std::ops::Sub for Loss {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        // `recovered_calls` is read after the skipped calls, so a later reading may have fewer skipped.
        Self {
            events: self.events.saturating_sub(before.events),
            runs_skipped: self.runs_skipped.saturating_sub(before.runs_skipped),
        }
    }
}

/// UDP conversations.
pub struct Associations {
    table: AssociationMap,
    /// Calls of [`Self::ended`] so far.
    calls: u64,
}

/// Its map, in words.
pub type AssociationMap = HashMap<MapData, [u64; size_of::<AssociationKey>() / 8], [u64; size_of::<Association>() / 8]>;

impl Associations {
    pub const fn new(table: AssociationMap) -> Self {
        Self { table, calls: 0 }
    }

    /// Removes those silent for 30 s, or all, and returns whether they were silent so long. Checks once in 5 calls.
    ///
    /// # Errors
    ///
    /// If the table cannot be read.
    pub fn ended(&mut self, all: bool) -> anyhow::Result<Vec<(Association, bool)>> {
        const SILENCE_NS: u64 = 30_000_000_000;
        const CALLS_PER_CHECK: u64 = 5;
        self.calls += 1;
        if !all && !self.calls.is_multiple_of(CALLS_PER_CHECK) {
            return Ok(Vec::new());
        }
        let now_ns = u64::try_from(boot::elapsed().as_nanos())?;
        let mut ended = Vec::new();
        // Removing while others insert may repeat an entry.
        let keys: HashSet<_> = self.table.keys().filter_map(Result::ok).collect();
        for key in keys {
            // Datagrams in between are not counted: after this silence there are hardly any.
            let Ok(association) = self.table.get(&key, 0).map(bytemuck::cast::<_, Association>) else { continue };
            let is_silent = now_ns.saturating_sub(association.last_ns) > SILENCE_NS;
            if (all || is_silent) && self.table.remove(&key).is_ok() {
                ended.push((association, is_silent));
            }
        }
        Ok(ended)
    }
}

impl EventSpec {
    /// The hooks it needs.
    pub const fn purposes(self) -> &'static [Purpose] {
        match self.what {
            EventKind::Connections => CONNECTIONS,
            EventKind::ConnectionsAndUdp => CONNECTIONS_AND_UDP,
            EventKind::Packets => PACKETS,
            EventKind::Calls => trace::CALLS,
            EventKind::CallsAndArguments => trace::CALLS_AND_ARGUMENTS,
        }
    }

    /// Room for unread events.
    pub const fn ring_bytes(self) -> u32 {
        match self.what {
            EventKind::Connections | EventKind::ConnectionsAndUdp => 4 << 20,
            EventKind::Packets => 16 << 20,
            EventKind::Calls | EventKind::CallsAndArguments => 8 << 20,
        }
    }

    /// Room for conversations.
    pub const fn associations(self) -> u32 {
        match self.what {
            EventKind::ConnectionsAndUdp => MAX_ASSOCIATIONS,
            _ => 1,
        }
    }

    /// Room for chosen processes.
    pub const fn processes(self) -> u32 {
        match self.what {
            EventKind::Calls | EventKind::CallsAndArguments => MAX_TRACED_PROCESSES,
            _ => 1,
        }
    }
}
