//! Finds rows by their key, or makes them.

use nettop_common::{
    Ref, Row, RowKey, Stats,
    abi::{BPF_NOEXIST, EEXIST},
    log::{Hook, What},
    owner::{self, OVERFLOW},
    row,
    share::{UNLIMITED, has_room},
    tag::attribution,
};

use crate::{
    atomic::{add, add_word, never_used},
    log,
    maps::{FREE_ROWS, OWNERS, ROW_INDEX, ROW_LIMIT, ROWS, stats},
    shares,
};

/// The row in a tag, unless retired since.
#[inline(always)]
pub fn at(reference: Ref) -> Option<&'static mut Row> {
    if reference == Ref::NONE {
        return None;
    }
    // SAFETY: elements of an array map live as long as the map; its counters are only ever added to.
    let row = ROWS.get_ptr_mut(reference.slot()).map(|row| unsafe { &mut *row })?;
    (row.generation == reference.generation()).then_some(row)
}

/// Logs that a socket's row is no longer there, if it had one.
#[inline(always)]
pub fn log_retired(reference: Ref, sk: u64, hook: Hook) {
    if reference != Ref::NONE {
        log::write(What::RowRetired, hook as u32, sk, reference.slot().into(), 0);
    }
}

/// The row for a key. Without room, the overflow row of the device; else the overflow row of all. `net` is the namespace's
/// `struct net`, `sk` the address of the socket, for the log.
#[inline(always)]
pub fn find_or_make(key: &RowKey, net: u64, sk: u64, attribution: u32, hook: Hook) -> Option<(&'static mut Row, Ref)> {
    let mut slot = find_or_make_row(key, net, sk, hook as u32);
    if slot == row::OVERFLOW && key.owner >= owner::FIRST {
        slot = find_or_make_row(&RowKey { owner: OVERFLOW, ..*key }, net, sk, hook as u32);
    }
    // SAFETY: as in `at`.
    let row = ROWS.get_ptr_mut(slot).map(|row| unsafe { &mut *row })?;
    if row.attribution < attribution {
        row.attribution = attribution;
    }
    let reference = if slot == row::OVERFLOW { Ref::NONE } else { Ref::new(slot, row.generation) };
    Some((row, reference))
}

/// Slot of the row for a key, [`row::OVERFLOW`] if there is no room. Global, so that the verifier checks it once, and
/// not on each path that leads here.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_or_make_row(key: *const RowKey, net: u64, sk: u64, hook: u32) -> u32 {
    if key.is_null() {
        return row::OVERFLOW;
    }
    // To the stack: before 6.2 maps take keys only from there.
    // SAFETY: the verifier admits null, or a whole key.
    let key = &unsafe { key.read_volatile() };
    // SAFETY: the value is copied at once; values of this map are never changed in place.
    if let Some(slot) = unsafe { ROW_INDEX.get(key) } {
        return *slot;
    }
    let Some(stats) = stats() else { return row::OVERFLOW };
    let mut share = UNLIMITED;
    if key.owner >= owner::FIRST
        && let Some(owner) = OWNERS.get(key.owner)
    {
        share = owner.share;
    }
    if share == UNLIMITED {
        share = shares::of_namespace(key.netns, net);
    }
    let Some(counts) = shares::get(share) else { return row::OVERFLOW };
    let mut is_reserved = 0;
    if !has_room(share, counts.rows, stats.rows_in_use, ROW_LIMIT.load()) {
        is_reserved = 1;
        if key.owner >= owner::FIRST
            || !has_room(share, counts.reserved_rows, stats.reserved_rows_in_use, u64::from(row::RESERVED_ROWS))
        {
            add(&raw mut stats.rows_full, 1);
            log::write(What::RowsFull, hook, sk, key.owner.into(), ROW_LIMIT.load());
            return row::OVERFLOW;
        }
    }
    let slot = make(key, share, is_reserved, stats, sk, hook);
    if slot != row::OVERFLOW {
        // Only now it is known that no other CPU made the same.
        if is_reserved == 0 {
            add(&raw mut stats.rows_in_use, 1);
            add_word(&raw mut counts.rows, 1);
        } else {
            add(&raw mut stats.reserved_rows_in_use, 1);
            add_word(&raw mut counts.reserved_rows, 1);
        }
        return slot;
    }
    // Another CPU may have been first.
    // SAFETY: as above.
    unsafe { ROW_INDEX.get(key) }.copied().unwrap_or(row::OVERFLOW)
}

#[inline(always)]
fn make(key: &RowKey, share: u32, is_reserved: u32, stats: &mut Stats, sk: u64, hook: u32) -> u32 {
    let slots = ROW_LIMIT.load() + u64::from(row::RESERVED_ROWS + row::SPARE_SLOTS);
    let slot = match FREE_ROWS.pop() {
        Ok(Some(slot)) => slot,
        _ => never_used(&raw mut stats.next_row, slots) + row::FIRST,
    };
    let Some(row) = ROWS.get_ptr_mut(slot) else {
        add(&raw mut stats.rows_full, 1);
        return row::OVERFLOW;
    };
    // SAFETY: a slot that was just handed out is nobody else's; the daemon zeroed its counters.
    let row = unsafe { &mut *row };
    row.key = *key;
    row.attribution = attribution::NONE;
    row.share = share;
    row.is_reserved = is_reserved;
    row.state = row::LIVE;
    if let Err(error) = ROW_INDEX.insert(key, slot, BPF_NOEXIST) {
        row.state = row::FREE;
        let _ = FREE_ROWS.push(slot, 0);
        if error != -EEXIST {
            add(&raw mut stats.index_full, 1);
            log::write(What::RowIndexRefused, hook, sk, key.owner.into(), error.unsigned_abs().into());
        }
        return row::OVERFLOW;
    }
    log::write(What::RowMade, hook, sk, key.owner.into(), slot.into());
    slot
}
