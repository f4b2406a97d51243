//! The ring: reserves room for an event, or counts a lost one.

use aya_ebpf::{Global, maps::ring_buf::RingBufEntry};
use bytemuck::Zeroable;
use nettop_common::{EventFilter, OwnerKey, Ref, filter::MAX_DEVICES, ports::Address};

use crate::{
    maps::{EVENTS, count},
    owners,
    task::Task,
};

#[unsafe(no_mangle)]
static EVENT_FILTER: Global<EventFilter> =
    Global::new(EventFilter { host: [0; 4], tgid: 0, port: 0, has_uid: 0, uid: 0, ifindexes: [0; MAX_DEVICES] });

/// Whether events of this process between these ends are wanted.
#[inline(always)]
pub fn is_wanted(owner: Option<&OwnerKey>, addresses: [&Address; 2], ports: [u16; 2]) -> bool {
    let wanted = EVENT_FILTER.load();
    (wanted.tgid == 0 || owner.is_some_and(|owner| owner.tgid == wanted.tgid))
        && (wanted.has_uid == 0 || owner.is_some_and(|owner| owner.uid == wanted.uid))
        && (wanted.port == 0 || ports.contains(&wanted.port))
        && (wanted.host == [0; 4] || addresses.contains(&&wanted.host))
}

/// Whether packets on this device are wanted.
#[inline(always)]
pub fn is_wanted_device(ifindex: u32) -> bool {
    let wanted = EVENT_FILTER.load().ifindexes;
    wanted[0] == 0 || wanted.contains(&ifindex)
}

/// Fills in an event in the ring buffer, zeroed before.
#[inline(always)]
pub fn emit<T: Zeroable + 'static>(fill: impl FnOnce(&mut T)) {
    let Some(mut entry) = EVENTS.reserve::<T>(0) else {
        return count(|stats| &raw mut stats.events_lost);
    };
    fill(entry.write(T::zeroed()));
    RingBufEntry::submit(entry, 0);
}

/// A process as events name it.
#[derive(Clone, Copy)]
pub struct Named {
    pub owner: OwnerKey,
    pub comm: [u8; 16],
}

impl Named {
    /// The running process.
    #[inline(always)]
    pub fn current() -> Self {
        let task = Task::current();
        Self { owner: task.key(), comm: task.comm() }
    }

    /// A socket's owner, if it is still known.
    #[inline(always)]
    pub fn from_owner(owner: Ref) -> Option<Self> {
        // The kernel has no pid.
        let owner = owners::get(owner).filter(|owner| owner.key.tgid != 0)?;
        Some(Self { owner: owner.key, comm: owner.comm })
    }
}
