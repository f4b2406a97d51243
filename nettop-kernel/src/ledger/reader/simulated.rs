//! What the eBPF programs do with the ledger's maps, on maps of the running kernel, for tests.

use std::{
    collections::HashMap,
    mem::offset_of,
    os::fd::OwnedFd,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::maps::{Map, MapData};
use bytemuck::Zeroable as _;
use nettop_common::{
    Direction, DropEntry, DropKey, Flow, Listener, Owner, OwnerKey, Pair, PairKey, ProcessDrops, ProcessDropsKey, Ref,
    Row, RowKey, Sent, Share, Stats, abi::BPF_NOEXIST, owner, row, share,
};

use super::Ledger;
use crate::{
    bpf_syscall::create_map,
    limits::{Limits, MIN_RING_BYTES},
    programs::{Parts, Programs},
    recursion_misses::Misses,
    state::LoadState,
};

/// So few that they fill.
const LIMITS: Limits = Limits { rows: 6, drops: 1 };

/// Counters of so many packets one way: each has its own factor.
pub(super) const fn flow(packets: u64) -> Flow {
    Flow {
        skbs: packets,
        skb_bytes: 100 * packets,
        gso_packets: 3 * packets,
        gso_bytes: 120 * packets,
        app_bytes: 50 * packets,
        padding_bytes: 7 * packets,
    }
}

/// The maps, which outlive who reads them.
pub(super) struct Maps(HashMap<&'static str, OwnedFd>);

impl Maps {
    pub(super) fn new() -> Self {
        let bytes = |size: usize| u32::try_from(size).unwrap();
        // linux/bpf.h, `enum bpf_map_type` and `BPF_F_MMAPABLE`.
        let [hash, array, per_cpu_hash, per_cpu_array, queue, ring, mapped] = [1, 2, 5, 6, 22, 27, 1 << 10];
        let (rows, owners) = (LIMITS.row_entries(), LIMITS.owner_entries());
        let maps = [
            ("ROWS", array, 4, size_of::<Row>(), rows, mapped),
            ("OWNERS", array, 4, size_of::<Owner>(), owners, mapped),
            ("STATS", array, 4, size_of::<Stats>(), 1, mapped),
            ("SHARES", array, 4, size_of::<Share>(), share::SHARE_COUNT, mapped),
            ("ROW_INDEX", hash, size_of::<RowKey>(), 4, rows, 0),
            ("OWNER_INDEX", hash, size_of::<OwnerKey>(), 4, owners, 0),
            ("FREE_ROWS", queue, 0, 4, rows, 0),
            ("FREE_OWNERS", queue, 0, 4, owners, 0),
            ("FORWARDED", hash, size_of::<PairKey>(), size_of::<Pair>(), 1, 0),
            ("DROPS", per_cpu_hash, size_of::<DropKey>(), size_of::<DropEntry>(), 1, 0),
            ("OTHER_DROPS", per_cpu_array, 4, 16, 2, 0),
            ("PROCESS_DROPS", hash, size_of::<ProcessDropsKey>(), size_of::<ProcessDrops>(), 1, 0),
            ("LISTENERS", hash, 8, size_of::<Listener>(), 1, 0),
            ("ADDRESSES", array, 4, 8, 1, 0),
            ("PROCESSES", ring, 0, 0, MIN_RING_BYTES, 0),
            ("ENDED_USAGE", ring, 0, 0, MIN_RING_BYTES, 0),
            ("EXECUTED", ring, 0, 0, MIN_RING_BYTES, 0),
        ];
        let made = maps.map(|(name, kind, key, value, entries, flags)| {
            let map = create_map(kind, bytes(key), bytes(value), entries, flags);
            (name, map.unwrap_or_else(|error| panic!("{name}: {error}")))
        });
        Self(made.into())
    }

    /// A daemon's ledger, as of maps that are taken over.
    pub(super) fn adopt(&self) -> Ledger {
        let parts = Parts {
            maps: Vec::new(),
            hooks: Vec::new(),
            load: LoadState::default(),
            misses: Misses::from_programs(Vec::new()).unwrap(),
            recovery_probes: Vec::new(),
            query_programs: Vec::new(),
            links: Vec::new(),
        };
        let map = |name: &str| Ok(Map::from_map_data(MapData::from_fd(self.0[name].try_clone()?)?)?);
        Ledger::new(Programs::assemble(LIMITS, parts, map).unwrap())
    }
}

/// A socket of a process, or of the kernel, whose packets have one device.
#[derive(Clone, Copy)]
pub(super) struct Socket {
    /// None: the kernel's.
    pub(super) process: Option<OwnerKey>,
    /// Without a process, its owner is that of the row.
    pub(super) place: RowKey,
    pub(super) owner: Ref,
    pub(super) row: Ref,
}

/// As owners.rs, tags.rs and rows.rs of the eBPF side.
impl Programs {
    fn stat(&self, offset: usize) -> &AtomicU64 {
        self.stats.double_word(0, offset).unwrap()
    }

    /// The slot of the row that counts a socket's next packet.
    pub(super) fn row_of(&mut self, socket: &mut Socket) -> usize {
        let is_live = |programs: &Self, owner: Ref| {
            programs.owners.read(owner.slot() as usize).unwrap().generation == owner.generation()
        };
        if let Some(process) = socket.process {
            if socket.owner == Ref::NONE {
                socket.owner = self.owner_of(process);
            } else if !is_live(self, socket.owner) {
                socket.process = None;
                socket.owner = Ref::NONE;
            }
        }
        let billed = socket.process.map_or(socket.place.owner, |_| socket.owner.slot());
        let known = socket.row.slot() as usize;
        let row = self.rows.read(known).unwrap();
        if socket.row != Ref::NONE && row.generation == socket.row.generation() && row.key.owner == billed {
            return known;
        }
        let of = |owner| RowKey { owner, ..socket.place };
        let mut key = of(billed);
        let mut slot = self.find_or_make_row(key);
        if slot == row::OVERFLOW && key.owner >= owner::FIRST {
            key = of(owner::OVERFLOW);
            slot = self.find_or_make_row(key);
        }
        assert_ne!(slot, row::OVERFLOW, "no room for {key:?}");
        socket.row = Ref::new(slot, self.rows.read(slot as usize).unwrap().generation);
        slot as usize
    }

    fn owner_of(&mut self, key: OwnerKey) -> Ref {
        let index = bytemuck::cast(key);
        let slot = self.owner_index.get(&index, 0).unwrap_or_else(|_| {
            let never_used = || self.stats.double_word(0, offset_of!(Stats, next_owner)).unwrap();
            let slot = self.free_owners.pop(0).unwrap_or_else(|_| {
                u32::try_from(never_used().fetch_add(1, Ordering::Relaxed)).unwrap() + owner::FIRST
            });
            let free = self.owners.read(slot as usize).unwrap();
            assert_eq!(free, Owner { generation: free.generation, ..Owner::zeroed() });
            let share = share::of_user(key.uid);
            self.owners.write(slot as usize, Owner { key, state: owner::LIVE, share, ..free });
            self.owner_index.insert(index, slot, BPF_NOEXIST).unwrap();
            self.stat(offset_of!(Stats, owners_in_use)).fetch_add(1, Ordering::Relaxed);
            self.shares.word(share as usize, offset_of!(Share, owners)).unwrap().fetch_add(1, Ordering::Relaxed);
            slot
        });
        Ref::new(slot, self.owners.read(slot as usize).unwrap().generation)
    }

    fn find_or_make_row(&mut self, key: RowKey) -> u32 {
        let index = bytemuck::cast(key);
        if let Ok(slot) = self.row_index.get(&index, 0) {
            return slot;
        }
        let share = if key.owner >= owner::FIRST {
            self.owners.read(key.owner as usize).unwrap().share
        } else {
            share::UNLIMITED
        };
        let (of_share, stats) = (self.shares.read(share as usize).unwrap(), self.stats.read(0).unwrap());
        let is_full = !share::has_room(share, of_share.rows, stats.rows_in_use, LIMITS.rows.into());
        if is_full && key.owner >= owner::FIRST {
            return row::OVERFLOW;
        }
        let slot = self.free_rows.pop(0).unwrap_or_else(|_| {
            let never_used = self.stat(offset_of!(Stats, next_row));
            u32::try_from(never_used.fetch_add(1, Ordering::Relaxed)).unwrap() + row::FIRST
        });
        let free = self.rows.read(slot as usize).unwrap();
        assert_eq!(free, Row { generation: free.generation, ..Row::zeroed() });
        let is_reserved = u32::from(is_full);
        self.rows.write(slot as usize, Row { key, share, is_reserved, state: row::LIVE, ..free });
        self.row_index.insert(index, slot, BPF_NOEXIST).unwrap();
        let (in_use, of_share) = match is_reserved {
            0 => (offset_of!(Stats, rows_in_use), offset_of!(Share, rows)),
            _ => (offset_of!(Stats, reserved_rows_in_use), offset_of!(Share, reserved_rows)),
        };
        self.stat(in_use).fetch_add(1, Ordering::Relaxed);
        self.shares.word(share as usize, of_share).unwrap().fetch_add(1, Ordering::Relaxed);
        slot
    }

    /// Counts in a slot that was found, now or a moment ago.
    pub(super) fn count(&self, slot: usize, direction: Direction, packets: u64) {
        let counters: [u64; size_of::<Flow>() / 8] = bytemuck::cast(flow(packets));
        self.add(slot, offset_of!(Row, flows) + direction as usize * size_of::<Flow>(), &counters);
    }

    /// Takes back what was sent by a socket's row, if it is there.
    pub(super) fn take_back(&self, slot: usize, packets: u64) {
        let Flow { skbs, skb_bytes, gso_packets, gso_bytes, .. } = flow(packets);
        let unsent = Sent { skbs, skb_bytes, gso_packets, gso_bytes };
        let counters: [u64; size_of::<Sent>() / 8] = bytemuck::cast(unsent);
        self.add(slot, offset_of!(Row, unsent), &counters);
    }

    fn add(&self, slot: usize, offset: usize, counters: &[u64]) {
        for (index, more) in counters.iter().enumerate() {
            self.rows.double_word(slot, offset + index * 8).unwrap().fetch_add(*more, Ordering::Relaxed);
        }
    }

    /// As `process_exit`.
    pub(super) fn exit(&self, process: OwnerKey) {
        if let Ok(slot) = self.owner_index.get(&bytemuck::cast(process), 0) {
            let state = self.owners.word(slot as usize, offset_of!(Owner, state)).unwrap();
            state.store(owner::EXITED, Ordering::Relaxed);
        }
    }
}
