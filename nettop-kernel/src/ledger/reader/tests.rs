//! No counter of an identity falls, and what was counted is in rows or in `exited`, whatever ends, comes back or crashes.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use nettop_common::{Direction, Flow, Netns, OwnerKey, Ref, RowKey, owner, row};
use proptest::{collection::vec, prelude::*};

use super::{
    Flows, Ledger, Reading, RowReading, accumulate,
    simulated::{Maps, Socket, flow},
};
use crate::ledger::Presence;

const PLACES: [(Netns, u32); 2] = [(Netns { inode: 7, cookie: 7 }, 2), (Netns { inode: 8, cookie: 8 }, 2)];
const PROCESSES: usize = 3;
/// On each device one for each process, one of the kernel, and one whose packets other rows count as well.
const SOCKETS: usize = PLACES.len() * (PROCESSES + 2);

#[derive(Clone, Copy, Debug)]
enum Step {
    Count {
        socket: usize,
        direction: Direction,
        packets: u64,
    },
    /// A program has found the row, and counts there soon: before the next reading but one.
    Late {
        socket: usize,
        direction: Direction,
        packets: u64,
    },
    /// Dropped before the device, of what was sent.
    Unsent {
        socket: usize,
        packets: u64,
    },
    /// A process ends.
    Exit {
        process: usize,
    },
    /// And another gets its pid.
    Start {
        process: usize,
    },
    Move {
        device: usize,
        is_there: bool,
    },
    Read,
    /// A reading after a minute.
    ReadLater,
    /// Another daemon takes the maps over.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let direction = || prop_oneof![Just(Direction::Tx), Just(Direction::Rx)];
    let packets = 1..20_u64;
    prop_oneof![
        6 => (0..SOCKETS, direction(), packets.clone()).prop_map(|(socket, direction, packets)| Step::Count { socket, direction, packets }),
        2 => (0..SOCKETS, direction(), packets.clone()).prop_map(|(socket, direction, packets)| Step::Late { socket, direction, packets }),
        3 => (0..SOCKETS, packets).prop_map(|(socket, packets)| Step::Unsent { socket, packets }),
        2 => (0..PROCESSES).prop_map(|process| Step::Exit { process }),
        1 => (0..PROCESSES).prop_map(|process| Step::Start { process }),
        2 => (0..PLACES.len(), any::<bool>()).prop_map(|(device, is_there)| Step::Move { device, is_there }),
        4 => Just(Step::Read),
        4 => Just(Step::ReadLater),
        2 => Just(Step::Restart),
    ]
}

/// What a row counted since it was made.
#[derive(Clone, Copy)]
struct Counted {
    key: RowKey,
    process: Option<OwnerKey>,
    sent: u64,
    unsent: u64,
    /// The most that a reading had as sent.
    reported: u64,
    received: u64,
}

impl Counted {
    fn flows(&self) -> Flows {
        // Programs handed over what was dropped, too.
        let Flow { app_bytes, padding_bytes, .. } = flow(self.sent);
        [Flow { app_bytes, padding_bytes, ..flow(self.reported) }, flow(self.received)]
    }
}

/// What names a row in documents.
type Identity = (OwnerKey, RowKey);

fn identity(row: &RowReading) -> Identity {
    (row.owner.key, RowKey { owner: row.key.owner.min(owner::FIRST), ..row.key })
}

struct World {
    maps: Maps,
    ledger: Ledger,
    sockets: [Socket; SOCKETS],
    processes: [OwnerKey; PROCESSES],
    is_there: [bool; PLACES.len()],
    /// By slot.
    counted: HashMap<usize, Counted>,
    /// Of rows that were given back.
    exited: Flows,
    late: Vec<(usize, Direction, u64)>,
    /// The same, of the reading before.
    latest: Vec<(usize, Direction, u64)>,
    last: HashMap<Identity, Flows>,
    last_exited: Flows,
    /// The daemon has reported nothing yet.
    is_new: bool,
    /// Devices at the last reading.
    were_there: Vec<(Netns, u32)>,
}

impl World {
    fn new() -> Self {
        let process = |number: u32| OwnerKey { start_time_ns: 1, tgid: 1_000_000_000 + number, uid: number % 2 };
        let processes = [0, 1, 2].map(process);
        let socket = |number: usize| {
            let (netns, ifindex) = PLACES[number % PLACES.len()];
            let of = number / PLACES.len();
            let owner = if of > PROCESSES { owner::COPIES } else { owner::KERNEL };
            let place = RowKey { owner, netns, ifindex, family: 0 };
            Socket { process: processes.get(of).copied(), place, owner: Ref::NONE, row: Ref::NONE }
        };
        let maps = Maps::new();
        Self {
            ledger: maps.adopt(),
            maps,
            sockets: std::array::from_fn(socket),
            processes,
            is_there: [true; PLACES.len()],
            counted: HashMap::new(),
            exited: Flows::default(),
            late: Vec::new(),
            latest: Vec::new(),
            last: HashMap::new(),
            last_exited: Flows::default(),
            is_new: true,
            were_there: PLACES.into(),
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Count { socket, direction, packets } => {
                let slot = self.find(socket);
                self.count((slot, direction, packets));
            }
            Step::Late { socket, direction, packets } => {
                let slot = self.find(socket);
                self.late.push((slot, direction, packets));
            }
            Step::Unsent { socket, packets } => self.take_back(socket, packets),
            Step::Exit { process } => self.exit(process),
            Step::Start { process } => {
                self.exit(process);
                self.processes[process].start_time_ns += 1;
                for socket in self.sockets.iter_mut().skip(process * PLACES.len()).take(PLACES.len()) {
                    let process = Some(self.processes[process]);
                    *socket = Socket { process, owner: Ref::NONE, row: Ref::NONE, ..*socket };
                }
            }
            Step::Move { device, is_there } => self.is_there[device] = is_there,
            Step::Read | Step::ReadLater => {
                if matches!(step, Step::ReadLater) {
                    self.ledger.retirement.age(Duration::from_secs(61));
                }
                self.read();
            }
            Step::Restart => {
                (self.ledger, self.is_new) = (self.maps.adopt(), true);
                self.finish_late();
                self.ledger.read(|_| false, |_| Presence::Present);
                self.note_reading();
            }
        }
    }

    fn find(&mut self, socket: usize) -> usize {
        let socket = &mut self.sockets[socket];
        let slot = self.ledger.programs.row_of(socket);
        let key = self.ledger.programs.rows.read(slot).unwrap().key;
        let process = socket.process.filter(|_| key.owner >= owner::FIRST);
        let made = || Counted { key, process, sent: 0, unsent: 0, reported: 0, received: 0 };
        let counted = self.counted.entry(slot).or_insert_with(made);
        assert_eq!((counted.key, counted.process), (key, process));
        slot
    }

    fn count(&mut self, (slot, direction, packets): (usize, Direction, u64)) {
        self.ledger.programs.count(slot, direction, packets);
        let counted = self.counted.get_mut(&slot).unwrap();
        *if direction == Direction::Tx { &mut counted.sent } else { &mut counted.received } += packets;
    }

    fn take_back(&mut self, socket: usize, packets: u64) {
        let Socket { row, .. } = self.sockets[socket];
        let slot = row.slot() as usize;
        let entry = self.ledger.programs.rows.read(slot).unwrap();
        let Some(counted) = self.counted.get_mut(&slot).filter(|_| row != Ref::NONE) else { return };
        if entry.generation == row.generation() {
            let packets = packets.min(counted.sent - counted.unsent);
            counted.unsent += packets;
            self.ledger.programs.take_back(slot, packets);
        }
    }

    /// Its sockets may have packets yet.
    fn exit(&mut self, process: usize) {
        let process = self.processes[process];
        self.ledger.programs.exit(process);
        let of_process = |socket: &&mut Socket| socket.process == Some(process) && socket.owner == Ref::NONE;
        self.sockets.iter_mut().filter(of_process).for_each(|socket| socket.process = None);
    }

    fn finish_late(&mut self) {
        for late in std::mem::take(&mut self.latest) {
            self.count(late);
        }
        self.latest = std::mem::take(&mut self.late);
    }

    /// What a reading has done to what was counted.
    fn note_reading(&mut self) {
        for counted in self.counted.values_mut() {
            counted.reported = counted.reported.max(counted.sent - counted.unsent);
        }
        let programs = &self.ledger.programs;
        let exited = &mut self.exited;
        self.counted.retain(|slot, counted| {
            let is_free = programs.rows.read(*slot).unwrap().state == row::FREE;
            if is_free && !owner::is_repeated(counted.key.owner) {
                accumulate(exited, &counted.flows());
            }
            !is_free
        });
    }

    fn read(&mut self) -> Reading {
        self.finish_late();
        let is_there = self.is_there;
        let place = |place| match PLACES.iter().position(|known| *known == place) {
            Some(known) if is_there[known] => Presence::Present,
            _ => Presence::Gone,
        };
        let reading = self.ledger.read(|_| true, place);
        self.note_reading();
        self.check(&reading);
        self.were_there = PLACES.into_iter().filter(|known| place(*known) == Presence::Present).collect();
        self.last.retain(|(_, key), _| self.were_there.contains(&key.place()));
        reading
    }

    fn check(&mut self, reading: &Reading) {
        let mut sum = exited(reading);
        assert!(is_no_less(&sum, &self.last_exited), "exited: {:?}, then {sum:?}", self.last_exited);
        self.last_exited = sum;
        let mut seen = HashSet::new();
        for row in &reading.rows {
            let identity = identity(row);
            assert!(seen.insert(identity), "{identity:?} twice");
            let before = self.last.insert(identity, row.total);
            // What was on a device that was gone may have begun again.
            let zero = self.were_there.contains(&row.key.place()).then(Flows::default);
            if let Some(mut before) = before.or(zero) {
                assert!(is_no_less(&row.total, &before), "{identity:?}: {before:?}, then {:?}", row.total);
                accumulate(&mut before, &row.interval);
                assert!(self.is_new || row.total == before, "{identity:?}: {before:?}, then {:?}", row.total);
            }
            accumulate(&mut sum, &row.total);
        }
        let mut counted = self.exited;
        let own = self.counted.values().filter(|counted| !owner::is_repeated(counted.key.owner));
        own.for_each(|row| accumulate(&mut counted, &row.flows()));
        assert_eq!(sum, counted, "rows and exited together");
        self.is_new = false;
    }
}

fn exited(reading: &Reading) -> Flows {
    let [mut sum, v6] = reading.exited;
    accumulate(&mut sum, &v6);
    sum
}

fn is_no_less(now: &Flows, before: &Flows) -> bool {
    let [now, before]: [[u64; size_of::<Flows>() / 8]; 2] = [bytemuck::cast(*now), bytemuck::cast(*before)];
    now.iter().zip(before).all(|(now, before)| *now >= before)
}

#[test]
fn both_ip_versions_of_a_row_leave_together() {
    let mut world = World::new();
    let busy = Socket { place: RowKey { family: 1, ..world.sockets[0].place }, ..world.sockets[0] };
    world.sockets[2] = busy;
    let read_later = |world: &mut World| {
        world.ledger.retirement.age(Duration::from_secs(61));
        world.read().rows.len()
    };
    let count = |world: &mut World, socket| world.apply(Step::Count { socket, direction: Direction::Rx, packets: 1 });
    count(&mut world, 0);
    world.is_there[0] = false;
    for _ in 0..5 {
        count(&mut world, 2);
        assert_eq!(read_later(&mut world), 2);
    }
    let left = [0; 5].map(|_| read_later(&mut world));
    assert!(left.iter().all(|rows| [0, 2].contains(rows)) && left.ends_with(&[0]), "{left:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_counter_falls_and_nothing_is_lost(steps in vec(step(), 1..80)) {
        let mut world = World::new();
        for step in steps {
            world.apply(step);
        }
        // All end, and everything is given back.
        (0..PROCESSES).for_each(|process| world.exit(process));
        world.is_there = [false; PLACES.len()];
        for _ in 0..6 {
            world.apply(Step::ReadLater);
        }
        let reading = world.read();
        prop_assert!(reading.rows.is_empty(), "{:?}", reading.rows);
        let stats = reading.stats;
        prop_assert_eq!((stats.rows_in_use, stats.reserved_rows_in_use, stats.owners_in_use), (0, 0, 0));
    }
}
