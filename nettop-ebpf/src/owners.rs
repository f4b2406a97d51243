//! The owner table: who a socket is billed to, found by index on the slow path only.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use nettop_common::{
    Netns, Owner, OwnerKey, Ref,
    abi::BPF_NOEXIST,
    log::{Hook, What},
    owner::{FIRST, LIVE, OVERFLOW, UNRECORDED},
    row::SPARE_SLOTS,
    share::{self, has_room},
};

use crate::{
    atomic::{add, add_word, never_used},
    log,
    maps::{FREE_OWNERS, OWNER_INDEX, OWNER_LIMIT, OWNERS, stats},
    shares, task,
};

/// Bills to the overflow rows of each device: bytes are kept, their owner is not.
const FULL: Ref = Ref::new(OVERFLOW, 0);

/// The owner that a tag names, unless retired since; for [`Ref::NONE`], the first slot, which is the kernel's.
#[inline(always)]
pub fn get(owner: Ref) -> Option<&'static mut Owner> {
    // SAFETY: elements of an array map live as long as the map; the daemon writes one only when it
    // retires it, generation first.
    let entry = OWNERS.get_ptr_mut(owner.slot()).map(|entry| unsafe { &mut *entry })?;
    (entry.generation == owner.generation()).then_some(entry)
}

/// Whose limit counts for what an owner has in a namespace, a `struct net`. Processes that found no room share one
/// limit; what is the kernel's counts against its namespace's.
#[inline(always)]
pub fn share_of(owner: Ref, netns: Netns, net: u64) -> u32 {
    match get(owner) {
        Some(entry) if owner.slot() >= FIRST => entry.share,
        _ if owner.slot() == OVERFLOW => share::of_user(u32::MAX),
        _ => shares::of_namespace(netns, net),
    }
}

/// The owner for a process, made if needed. `task` is the address of one of its tasks, `sk` that of the socket, for the log.
#[inline(always)]
pub fn find_or_make(key: &OwnerKey, task: u64, sk: u64, hook: Hook) -> Ref {
    Ref(find_or_make_owner(key, task, sk, hook as u32))
}

/// Global, so that the verifier checks it once, and not on each path that leads here.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_or_make_owner(key: *const OwnerKey, task: u64, sk: u64, hook: u32) -> u64 {
    if key.is_null() {
        return FULL.0;
    }
    // To the stack: before 6.2 maps take keys only from there.
    // SAFETY: the verifier admits null, or a whole key.
    let key = &unsafe { key.read_volatile() };
    find(key).unwrap_or_else(|| make(key, task, sk, hook)).0
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
fn make(key: &OwnerKey, task: u64, sk: u64, hook: u32) -> Ref {
    let Some(stats) = stats() else { return FULL };
    let share_index = shares::of_process(key.uid, task);
    let Some(share) = shares::get(share_index) else { return FULL };
    let limit = OWNER_LIMIT.load();
    if !has_room(share_index, share.owners, stats.owners_in_use, limit) {
        add(&raw mut stats.owners_full, 1);
        log::write(What::OwnersFull, hook, sk, key.tgid.into(), 0);
        return FULL;
    }
    let slot = match FREE_OWNERS.pop() {
        Ok(Some(slot)) => slot,
        _ => never_used(&raw mut stats.next_owner, limit + u64::from(SPARE_SLOTS)) + FIRST,
    };
    let Some(entry) = OWNERS.get_ptr_mut(slot) else {
        add(&raw mut stats.owners_full, 1);
        log::write(What::OwnersFull, hook, sk, key.tgid.into(), 0);
        return FULL;
    };
    // SAFETY: a slot that was just handed out is nobody else's.
    let entry = unsafe { &mut *entry };
    let owner = Ref::new(slot, entry.generation);
    entry.key = *key;
    entry.comm = task::comm(task);
    // SAFETY: the helper has no preconditions.
    entry.comm_time_ns = unsafe { bpf_ktime_get_ns() };
    entry.is_kernel_thread = u32::from(task::is_kernel_thread(task));
    entry.share = share_index;
    entry.recorded = UNRECORDED;
    entry.state = LIVE;
    match OWNER_INDEX.insert(key, slot, BPF_NOEXIST) {
        Ok(()) => {
            add(&raw mut stats.owners_in_use, 1);
            add_word(&raw mut share.owners, 1);
            log::write(What::OwnerMade, hook, sk, key.tgid.into(), slot.into());
            owner
        }
        Err(error) => {
            // Another CPU made the same owner, or the index is full.
            entry.state = nettop_common::owner::FREE;
            let _ = FREE_OWNERS.push(slot, 0);
            find(key).unwrap_or_else(|| {
                add(&raw mut stats.index_full, 1);
                log::write(What::OwnerIndexRefused, hook, sk, key.tgid.into(), error.unsigned_abs().into());
                FULL
            })
        }
    }
}
