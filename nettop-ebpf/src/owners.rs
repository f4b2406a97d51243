//! The owner table: who a socket is billed to, found by index on the slow path only.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use nettop_common::{
    Owner, OwnerKey, Ref,
    owner::{FIRST, LIVE, OVERFLOW},
};

use crate::{
    maps::{FREE_OWNERS, OWNER_INDEX, OWNERS, add, next, stats},
    task::Task,
};

/// Bills to the overflow rows of each device: bytes are kept, their owner is not.
const FULL: Ref = Ref::new(OVERFLOW, 0);
const BPF_NOEXIST: u64 = 1;

/// The owner a tag names, if it was not retired since.
#[inline(always)]
pub fn get(owner: Ref) -> Option<&'static mut Owner> {
    // SAFETY: elements of an array map live as long as the map; the daemon writes one only when it
    // retires it, generation first.
    let entry = OWNERS.get_ptr_mut(owner.slot()).map(|entry| unsafe { &mut *entry })?;
    (entry.generation == owner.generation()).then_some(entry)
}

/// The owner for a task, made if need be.
#[inline(never)]
pub fn of(task: Task) -> Ref {
    let key = task.key();
    match find(&key) {
        Some(owner) => owner,
        None => make(task, &key),
    }
}

/// The owner for a key, if there is one.
#[inline(always)]
pub fn find(key: &OwnerKey) -> Option<Ref> {
    // SAFETY: the value is copied at once; values of this map are never changed in place.
    let slot = unsafe { OWNER_INDEX.get(key) }.copied()?;
    let entry = OWNERS.get(slot)?;
    Some(Ref::new(slot, entry.generation))
}

#[inline(always)]
fn make(task: Task, key: &OwnerKey) -> Ref {
    let Some(stats) = stats() else { return FULL };
    let slot = match FREE_OWNERS.pop() {
        Ok(Some(slot)) => slot,
        _ => next(&raw mut stats.next_owner) as u32 + FIRST,
    };
    let Some(entry) = OWNERS.get_ptr_mut(slot) else {
        add(&raw mut stats.owners_full, 1);
        return FULL;
    };
    // SAFETY: a slot that was just handed out is nobody else's.
    let entry = unsafe { &mut *entry };
    let owner = Ref::new(slot, entry.generation);
    entry.key = *key;
    task.copy_comm(&mut entry.comm);
    // SAFETY: the helper has no preconditions.
    entry.comm_time_ns = unsafe { bpf_ktime_get_ns() };
    entry.is_kernel_thread = u32::from(task.is_kernel_thread());
    entry.state = LIVE;
    match OWNER_INDEX.insert(key, slot, BPF_NOEXIST) {
        Ok(()) => owner,
        Err(_) => {
            // Another CPU made the same owner, or the index is full.
            entry.state = nettop_common::owner::FREE;
            let _ = FREE_OWNERS.push(slot, 0);
            find(key).unwrap_or_else(|| {
                add(&raw mut stats.index_full, 1);
                FULL
            })
        }
    }
}
