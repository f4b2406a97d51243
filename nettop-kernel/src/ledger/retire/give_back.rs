//! The second step: counters go where they stay, and slots to who asks next.

use std::{mem::offset_of, sync::atomic::Ordering};

use bytemuck::Zeroable as _;
use nettop_common::{Direction, Flow, Owner, Row, Sent, Share, Stats, owner};

use crate::{
    ledger::flows::{Flows, moved},
    programs::Programs,
};

/// Adds the counters of a peer's row to the one that stays.
pub(super) fn fold_into(programs: &Programs, base: usize, row: &Row) {
    let moved = moved(row);
    let Flow { skbs, skb_bytes, gso_packets, gso_bytes, .. } = moved[Direction::Tx as usize];
    let counters: [u64; 2 * size_of::<Flow>() / 8] = bytemuck::cast(moved);
    let reported: [u64; size_of::<Sent>() / 8] = bytemuck::cast(Sent { skbs, skb_bytes, gso_packets, gso_bytes });
    let at = |offset: usize| (0..).map(move |index| offset + index * 8);
    let others = [(offset_of!(Row, connections), row.connections), (offset_of!(Row, retransmits), row.retransmits)];
    // What the base has dropped beyond what it has sent is not taken from what its peers have.
    let reported = at(offset_of!(Row, reported)).zip(reported);
    for (offset, more) in reported.chain(at(offset_of!(Row, flows)).zip(counters)).chain(others) {
        if let Some(sum) = programs.rows.double_word(base, offset) {
            sum.fetch_add(more, Ordering::Relaxed);
        }
    }
}

/// Adds a row's counters to the sums that outlive it.
pub(super) fn fold(programs: &Programs, row: &Row, moved: &Flows) {
    if owner::is_repeated(row.key.owner) {
        return;
    }
    let family = row.key.family as usize & 1;
    add_flows(programs, offset_of!(Stats, exited) + family * size_of::<Flows>(), moved);
    if row.key.owner == owner::OVERFLOW {
        add_flows(programs, offset_of!(Stats, overflow_given_back), moved);
    }
}

fn add_flows(programs: &Programs, offset: usize, flows: &Flows) {
    let counters: [u64; 2 * size_of::<Flow>() / 8] = bytemuck::cast(*flows);
    for (index, counter) in counters.into_iter().enumerate() {
        if let Some(sum) = programs.stats.double_word(0, offset + index * 8) {
            sum.fetch_add(counter, Ordering::Relaxed);
        }
    }
}

/// What remains of a row or an owner in a free slot. A program that found the slot in the index may have read the
/// generation later: it must not match again.
pub(super) fn freed_row(row: &Row) -> Row {
    Row { generation: row.generation.wrapping_add(1), ..Row::zeroed() }
}

pub(super) fn freed_owner(entry: &Owner) -> Owner {
    Owner { generation: entry.generation.wrapping_add(1), ..Owner::zeroed() }
}

pub(super) fn give_back_row(programs: &mut Programs, slot: usize, row: &Row) {
    programs.rows.write(slot, freed_row(row));
    let (in_use, of_share) = match row.is_reserved {
        _ if row.key.peer.is_some() => (offset_of!(Stats, peers_in_use), offset_of!(Share, peers)),
        0 => (offset_of!(Stats, rows_in_use), offset_of!(Share, rows)),
        _ => (offset_of!(Stats, reserved_rows_in_use), offset_of!(Share, reserved_rows)),
    };
    programs.count_down(in_use, row.share, of_share);
    if row.key.peer.is_some()
        && let Some(of_owner) = programs.owners.word(row.key.owner as usize, offset_of!(Owner, peers))
    {
        let _ = of_owner.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1));
    }
    give_back(&mut programs.free_rows, slot);
}

pub(super) fn give_back_owner(programs: &mut Programs, slot: usize, entry: &Owner) {
    programs.owners.write(slot, freed_owner(entry));
    programs.count_down(offset_of!(Stats, owners_in_use), entry.share, offset_of!(Share, owners));
    give_back(&mut programs.free_owners, slot);
}

fn give_back(free: &mut aya::maps::Queue<aya::maps::MapData, u32>, slot: usize) {
    let pushed = u32::try_from(slot).is_ok_and(|slot| free.push(slot, 0).is_ok());
    if !pushed {
        // The queue has room for every slot, so only the queue can be broken.
        tracing::warn!("slot {slot} could not be given back and stays unused");
    }
}
