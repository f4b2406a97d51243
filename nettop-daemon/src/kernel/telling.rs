//! What the kernel side tells event by event, for the commands that ask for it: hooks beside those of the ledger.

use std::collections::HashSet;

use anyhow::Context as _;
use aya::maps::{HashMap, MapData};
use nettop_common::{Association, AssociationKey, EventFilter};
use nix::{
    sys::time::TimeValLike as _,
    time::{ClockId, clock_gettime},
};

use super::{
    hooks::{Backend, Place, Purpose, hook, only, way},
    tracing,
};

/// The least that a ring can have.
pub const PAGE_BYTES: u32 = 4096;
/// Conversations of UDP that are known at a time.
const ASSOCIATIONS: u32 = 65_536;

/// Numbers of system calls on this machine.
#[expect(clippy::cast_possible_truncation, reason = "numbers of system calls are small")]
mod number {
    pub const SYS_ACCEPT: u32 = libc::SYS_accept.cast_unsigned() as u32;
    pub const SYS_ACCEPT4: u32 = libc::SYS_accept4.cast_unsigned() as u32;
}
pub use number::{SYS_ACCEPT, SYS_ACCEPT4};

/// What is told, and of whom.
#[derive(Clone, Copy, Debug)]
pub struct Telling {
    pub what: What,
    pub filter: EventFilter,
}

/// What is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    Connections,
    /// And conversations of UDP.
    ConnectionsAndUdp,
    Packets,
    /// Socket calls of chosen processes, see `tracing.rs`.
    Calls,
    /// And what they hand over.
    CallsAndArguments,
}

/// What could not be told.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Loss {
    pub events: u64,
    /// Runs of hooks that the kernel skipped, of whatever process: none of them, or each, was an event that is missed here.
    pub runs_skipped: u64,
}

impl std::ops::Sub for Loss {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { events: self.events - before.events, runs_skipped: self.runs_skipped - before.runs_skipped }
    }
}

const GRAFT: &[&str] = &["void (sock *, socket *)"];

const STATES: Purpose = Purpose {
    name: "connections",
    needed: true,
    lacks: "connections opened, closed and failed",
    ways: &[only(&[hook("connection_state", Place::Tracepoint, "inet_sock_set_state", &["void (sock *, int, int)"])])],
};

const ACCEPTS: Purpose = Purpose {
    name: "accept",
    needed: true,
    lacks: "connections accepted",
    ways: &[
        way(Backend::Fentry, &[hook("accept_graft", Place::Fentry, "security_sock_graft", GRAFT)]),
        way(Backend::Kprobe, &[hook("accept_graft_probe", Place::Kprobe, "security_sock_graft", GRAFT)]),
        way(
            Backend::Tracepoint,
            &[hook(
                "syscall_exit",
                Place::Tracepoint,
                "sys_exit",
                &["void (pt_regs *, long int)", "void (pt_regs *, long)"],
            )],
        ),
    ],
};

const DATAGRAMS: Purpose = Purpose {
    name: "udp",
    needed: true,
    lacks: "conversations of UDP",
    ways: &[only(&[
        hook("association_tx", Place::PacketsTx, "egress", &[]),
        hook("association_rx", Place::PacketsRx, "ingress", &[]),
    ])],
};

/// All purposes that anything here needs.
pub const ALL: [&[Purpose]; 3] = [CONNECTIONS_AND_UDP, PACKETS, tracing::CALLS];

const CONNECTIONS: &[Purpose] = &[STATES, ACCEPTS];
const CONNECTIONS_AND_UDP: &[Purpose] = &[STATES, ACCEPTS, DATAGRAMS];

const PACKETS: &[Purpose] = &[Purpose {
    name: "packets",
    needed: true,
    lacks: "packets",
    ways: &[only(&[
        hook("packet_received", Place::PacketsRx, "ingress", &[]),
        hook("packet_sent", Place::Tracepoint, "net_dev_start_xmit", &["void (sk_buff *, net_device *)"]),
    ])],
}];

/// Conversations of UDP.
pub struct Associations {
    table: AssociationMap,
    /// Ticks until silence is looked for.
    ticks: u64,
}

/// Its map, in words.
pub type AssociationMap = HashMap<MapData, [u64; size_of::<AssociationKey>() / 8], [u64; size_of::<Association>() / 8]>;

impl Associations {
    pub const fn new(table: AssociationMap) -> Self {
        Self { table, ticks: 0 }
    }

    /// Takes out those in which nothing was said for 30 s, or all, and says whether it was so long. Looks once in 5 calls.
    ///
    /// # Errors
    ///
    /// If the table cannot be read.
    pub fn ended(&mut self, all: bool) -> anyhow::Result<Vec<(Association, bool)>> {
        const SILENCE_NS: u64 = 30_000_000_000;
        const TICKS: u64 = 5;
        self.ticks += 1;
        if !all && !self.ticks.is_multiple_of(TICKS) {
            return Ok(Vec::new());
        }
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME).context("cannot read the clock")?;
        let now_ns = u64::try_from(now.num_nanoseconds()).unwrap_or(0);
        let mut ended = Vec::new();
        // Whoever takes an entry out while others are put in may meet another twice.
        let keys: HashSet<_> = self.table.keys().filter_map(Result::ok).collect();
        for key in keys {
            // What comes in between is not counted: after this silence, hardly ever anything.
            let Ok(association) = self.table.get(&key, 0).map(bytemuck::cast::<_, Association>) else { continue };
            let is_silent = now_ns.saturating_sub(association.last_ns) > SILENCE_NS;
            if (all || is_silent) && self.table.remove(&key).is_ok() {
                ended.push((association, is_silent));
            }
        }
        Ok(ended)
    }
}

impl Telling {
    /// The hooks it needs.
    pub const fn purposes(self) -> &'static [Purpose] {
        match self.what {
            What::Connections => CONNECTIONS,
            What::ConnectionsAndUdp => CONNECTIONS_AND_UDP,
            What::Packets => PACKETS,
            What::Calls => tracing::CALLS,
            What::CallsAndArguments => tracing::CALLS_AND_ARGUMENTS,
        }
    }

    /// Room for events that wait to be read.
    pub const fn ring_bytes(self) -> u32 {
        match self.what {
            What::Connections | What::ConnectionsAndUdp => 4 << 20,
            What::Packets => 16 << 20,
            What::Calls | What::CallsAndArguments => 8 << 20,
        }
    }

    /// Room for conversations.
    pub const fn associations(self) -> u32 {
        match self.what {
            What::ConnectionsAndUdp => ASSOCIATIONS,
            _ => 1,
        }
    }

    /// Room for processes that are chosen.
    pub const fn processes(self) -> u32 {
        match self.what {
            What::Calls | What::CallsAndArguments => tracing::PROCESSES,
            _ => 1,
        }
    }
}
