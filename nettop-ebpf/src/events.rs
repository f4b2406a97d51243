//! The ring: room for an event, or a count of those that found none.

use aya_ebpf::maps::ring_buf::RingBufEntry;
use bytemuck::Zeroable;
use nettop_common::{OwnerKey, Ref};

use crate::{
    maps::{EVENTS, count},
    owners,
    task::Task,
};

/// Fills in an event where the daemon will read it, made of zeroes before.
#[inline(always)]
pub fn tell<T: Zeroable + 'static>(fill: impl FnOnce(&mut T)) {
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
    /// The process that runs.
    #[inline(always)]
    pub fn current() -> Self {
        let task = Task::current();
        let mut comm = [0; 16];
        task.copy_comm(&mut comm);
        Self { owner: task.key(), comm }
    }

    /// A socket's owner, if it is still known.
    #[inline(always)]
    pub fn of(owner: Ref) -> Option<Self> {
        owners::get(owner).map(|owner| Self { owner: owner.key, comm: owner.comm })
    }
}
