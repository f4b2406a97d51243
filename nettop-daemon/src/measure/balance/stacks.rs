//! Devices on devices: what a VLAN, bridge or bond has counted is in the counters of the devices below it as well, and is
//! explained there.
//!
//! What an upper device carried is converted to what the lower one counts of it. That takes of it what it has left. Both
//! are compared over some readings: a packet may be counted above in one and below in the next.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use nettop_common::{Direction, Forwarded};
use nettop_kernel::ledger::{DeviceKey, DeviceReading};
use nettop_model::snapshot::{DeviceReport, DirectionBalance};

use super::sides::{BoundedBalance, carried, side_of};
use crate::identity::devices::{Basis, Device, POSTING_TIME, Whole};

/// Readings, besides [`POSTING_TIME`], in which a device may count what another has counted.
const MIN_WINDOW_READINGS: usize = 4;
const MAX_WINDOW_READINGS: usize = 64;
/// More devices on one another than the kernel permits (`MAX_NEST_DEV`).
const MAX_DEPTH: usize = 16;
const TAG_BYTES: u32 = 4;
const DIRECTIONS: [Direction; 2] = [Direction::Tx, Direction::Rx];
/// Indexes of [`Amounts`].
const BYTES_INDEX: usize = 0;
const PACKETS_INDEX: usize = 1;

/// By direction: bytes and packets.
type Amounts = [[i64; 2]; 2];

/// What passed between two devices in one interval.
#[derive(Clone, Copy, Default, Debug)]
struct Passed {
    /// All that the upper one carried, as the lower one would count it.
    carried: Amounts,
    /// What the lower one had of it; negative where it turned out to be its own.
    taken: Amounts,
}

/// Some last readings of one thing.
type Window<T> = VecDeque<(Duration, T)>;

/// A device, and its balance.
pub(super) struct Account<'a> {
    pub(super) device: &'a Device,
    pub(super) total: &'a mut BoundedBalance,
}

/// Knows stacks from reading to reading.
#[derive(Default)]
pub(super) struct Stacks {
    /// By upper device, then lower.
    passed: BTreeMap<DeviceKey, BTreeMap<DeviceKey, Window<Passed>>>,
    /// What lower devices had left.
    left: BTreeMap<DeviceKey, Window<Amounts>>,
}

/// Packets of a device's rows, and what they get on their way down.
#[derive(Clone, Copy)]
struct KnownPackets {
    rows: DeviceReading,
    whole: Whole,
    tags: u32,
}

/// What a device passes on: packets that are known in detail, and sums in its own counting.
#[derive(Clone, Default)]
struct Traffic {
    known: Vec<KnownPackets>,
    sums: Amounts,
}

impl Stacks {
    /// Explains what lower devices counted in an interval, in which devices moved these rows.
    pub(super) fn explain(
        &mut self,
        length: Duration,
        moved: &BTreeMap<DeviceKey, DeviceReading>,
        accounts: &mut BTreeMap<DeviceKey, Account<'_>>,
        reports: &mut BTreeMap<DeviceKey, DeviceReport>,
    ) {
        let uppers = uppers(accounts, reports);
        let mut lowers = BTreeMap::<DeviceKey, Vec<DeviceKey>>::new();
        for (lower, of_lower) in &uppers {
            of_lower.iter().for_each(|upper| lowers.entry(*upper).or_default().push(*lower));
        }
        self.forget(&uppers, &lowers);
        for lower in uppers.keys() {
            if let Some(report) = reports.get(lower) {
                let before = each(|direction| rest(&side_of(&report.total, direction)))
                    .map_with(each(|direction| rest(&side_of(&report.interval, direction))), |total, interval| {
                        total - interval
                    });
                self.left.entry(*lower).or_insert_with(|| [(length, before)].into());
            }
        }
        let mut order: Vec<DeviceKey> = lowers.keys().copied().collect();
        order.sort_by_cached_key(|upper| depth(*upper, &uppers, MAX_DEPTH));
        let mut arrived = BTreeMap::<DeviceKey, Traffic>::new();
        for upper in order {
            let Some(device) = accounts.get(&upper).map(|account| account.device) else { continue };
            let mut traffic = arrived.remove(&upper).unwrap_or_default();
            traffic.add_own(device, moved.get(&upper), reports.get(&upper));
            let below = &lowers[&upper];
            for lower in below {
                if let Some(account) = accounts.get(lower) {
                    let passed = Passed { carried: traffic.on(device, account.device), ..Passed::default() };
                    push(self.passed.entry(upper).or_default().entry(*lower).or_default(), length, passed);
                }
            }
            self.take(upper, accounts, reports);
            for lower in below {
                let traffic = match below.as_slice() {
                    [_] => traffic.below(device, accounts.get(lower).map(|account| account.device)),
                    // Which of the packets these were is not known.
                    _ => Traffic { known: Vec::new(), sums: self.taken_now(upper, *lower) },
                };
                arrived.entry(*lower).or_default().join(traffic);
            }
        }
        for (lower, left) in &mut self.left {
            if let Some(report) = reports.get(lower) {
                push(left, length, each(|direction| rest(&side_of(&report.total, direction))));
            }
        }
    }

    fn forget(&mut self, uppers: &Below, lowers: &Below) {
        self.left.retain(|lower, _| uppers.contains_key(lower));
        self.passed.retain(|upper, of_upper| {
            let now = lowers.get(upper);
            of_upper.retain(|lower, _| now.is_some_and(|now| now.contains(lower)));
            !of_upper.is_empty()
        });
    }

    /// The lower devices take what they have left: first the one with the most. If one carries all, it gets all.
    fn take(
        &mut self,
        upper: DeviceKey,
        accounts: &mut BTreeMap<DeviceKey, Account<'_>>,
        reports: &mut BTreeMap<DeviceKey, DeviceReport>,
    ) {
        let Some(passed) = self.passed.get_mut(&upper) else { return };
        for (direction, what) in [(0, BYTES_INDEX), (0, PACKETS_INDEX), (1, BYTES_INDEX), (1, PACKETS_INDEX)] {
            let mut asked: Vec<(DeviceKey, i64)> = Vec::with_capacity(passed.len());
            for (lower, window) in passed.iter() {
                let Some(account) = accounts.get(lower) else { continue };
                if !account.device.basis[direction].is_decided() {
                    continue;
                }
                let side = side_of(&account.total.balance, DIRECTIONS[direction]);
                let rest = rest(&side)[what];
                // What was left before all of these readings is nobody's above.
                let old =
                    self.left.get(lower).and_then(|left| left.iter().map(|(_, left)| left[direction][what]).min());
                let ask = if rest < 0 {
                    -[side.upper_bytes, side.upper_packets][what].cast_signed().min(-rest)
                } else {
                    let most = sum(window, |passed| passed.carried[direction][what]).max(0);
                    (rest - old.unwrap_or(0).max(0)).clamp(0, most)
                };
                if ask != 0 {
                    asked.push((*lower, ask));
                }
            }
            asked.sort_by_key(|(_, ask)| Reverse(*ask));
            // What turned out to be a device's own is there for the others.
            asked.sort_by_key(|(_, ask)| *ask > 0);
            for (lower, ask) in asked {
                let taken = ask.min(available(passed, lower, direction, what).max(0));
                let last = passed.get_mut(&lower).and_then(VecDeque::back_mut);
                let (Some(account), Some(report), Some((_, last))) =
                    (accounts.get_mut(&lower), reports.get_mut(&lower), last)
                else {
                    continue;
                };
                last.taken[direction][what] = taken;
                let total = account.total.side(DIRECTIONS[direction]);
                give(total, what, taken);
                let [of_total, of_interval] = [&mut report.total, &mut report.interval]
                    .map(|balance| if direction == 0 { &mut balance.tx } else { &mut balance.rx });
                *of_total = *total;
                give(of_interval, what, taken.max(0));
            }
        }
    }

    /// What a lower device took in the last interval.
    fn taken_now(&self, upper: DeviceKey, lower: DeviceKey) -> Amounts {
        let last = self.passed.get(&upper).and_then(|of_upper| of_upper.get(&lower)?.back());
        last.map(|(_, passed)| passed.taken).unwrap_or_default()
    }
}

/// Devices by one that they stand on, or that stands on them.
type Below = BTreeMap<DeviceKey, Vec<DeviceKey>>;

/// The upper devices of each.
fn uppers(accounts: &BTreeMap<DeviceKey, Account<'_>>, reports: &BTreeMap<DeviceKey, DeviceReport>) -> Below {
    let mut uppers = Below::new();
    for (key, Account { device, .. }) in accounts {
        let lower = device.lower().map(|lower| (*key, (key.0, lower)));
        let master = device.setup.master.map(|master| ((key.0, master), *key));
        for (upper, lower) in lower.into_iter().chain(master) {
            if upper != lower && reports.contains_key(&upper) && reports.contains_key(&lower) {
                uppers.entry(lower).or_default().push(upper);
            }
        }
    }
    uppers
}

/// How many devices stand on one another above this one.
fn depth(key: DeviceKey, uppers: &Below, left: usize) -> usize {
    let above = uppers.get(&key).filter(|_| left > 0).into_iter().flatten();
    above.map(|upper| 1 + depth(*upper, uppers, left - 1)).max().unwrap_or(0)
}

impl Traffic {
    /// What a device adds: its rows, and the rest of its counters. What it forwards, devices below it forward as well, but
    /// it was received only by the topmost.
    fn add_own(&mut self, device: &Device, rows: Option<&DeviceReading>, report: Option<&DeviceReport>) {
        if let Some(rows) = rows.filter(|rows| !rows.is_empty()) {
            let mut rows = *rows;
            rows.forwarded.iter_mut().for_each(|of_family| of_family[Direction::Tx as usize] = Forwarded::default());
            self.known.push(KnownPackets { rows, whole: device.whole, tags: 0 });
        }
        if let Some(report) = report {
            let rests = each(|direction| rest(&side_of(&report.interval, direction)));
            self.sums = self.sums.map_with(rests, |sum, rest| sum + rest);
        }
    }

    /// What a device below counts of it.
    fn on(&self, upper: &Device, lower: &Device) -> Amounts {
        let tags = u32::from(upper.identity.kind == "vlan");
        each(|direction| {
            let at = direction as usize;
            let (basis, counts_tags) = (&lower.basis[at], lower.counts_tags[at]);
            let tag_bytes = |tags: u32| if counts_tags { tags * TAG_BYTES } else { 0 };
            let [sum_bytes, sum_packets] = self.sums[at];
            let link_header_bytes = i64::from(basis.link_header_bytes + tag_bytes(tags));
            let more_bytes = link_header_bytes - i64::from(upper.basis[at].link_header_bytes);
            let mut amounts = [sum_bytes + sum_packets * more_bytes, sum_packets];
            for known in &self.known {
                let link_header_bytes = basis.link_header_bytes + tag_bytes(known.tags + tags);
                let whole = known.whole.and(&lower.whole);
                let carried = carried(&Basis { link_header_bytes, ..*basis }, &whole, &known.rows, direction);
                amounts = [amounts[0] + carried[0], amounts[1] + carried[1]];
            }
            amounts
        })
    }

    /// As it leaves a device for the only one below. Sums are that one's own: they are in its counters.
    fn below(&self, upper: &Device, lower: Option<&Device>) -> Self {
        let tags = u32::from(upper.identity.kind == "vlan");
        let known = self.known.iter().map(|known| KnownPackets {
            whole: lower.map_or(known.whole, |lower| known.whole.and(&lower.whole)),
            tags: known.tags + tags,
            ..*known
        });
        let sums = lower.map(|lower| Self { known: Vec::new(), ..self.clone() }.on(upper, lower)).unwrap_or_default();
        Self { known: known.collect(), sums }
    }

    fn join(&mut self, other: Self) {
        self.known.extend(other.known);
        self.sums = self.sums.map_with(other.sums, |sum, more| sum + more);
    }
}

/// What is left for a lower device of what the upper carried, in the counting of the lower one.
fn available(passed: &BTreeMap<DeviceKey, Window<Passed>>, lower: DeviceKey, direction: usize, what: usize) -> i64 {
    let carried = |window: &Window<Passed>| sum(window, |passed| passed.carried[direction][what]);
    let Some(whole) = passed.get(&lower).map(carried) else { return 0 };
    let taken = passed.values().map(|window| {
        let taken = sum(window, |passed| passed.taken[direction][what]);
        let of = carried(window);
        if of == whole || of <= 0 || whole <= 0 {
            return taken;
        }
        let share = (i128::from(taken) * i128::from(whole)).div_euclid(i128::from(of));
        i64::try_from(share + 1).unwrap_or(i64::MAX)
    });
    taken.fold(whole, i64::saturating_sub)
}

fn sum<T>(window: &Window<T>, of: impl Fn(&T) -> i64) -> i64 {
    window.iter().map(|(_, entry)| of(entry)).sum()
}

fn push<T>(window: &mut Window<T>, length: Duration, entry: T) {
    window.push_back((length, entry));
    let mut covered: Duration = window.iter().map(|(length, _)| *length).sum();
    while window.len() > MIN_WINDOW_READINGS && (covered > POSTING_TIME || window.len() > MAX_WINDOW_READINGS) {
        covered -= window.pop_front().map(|(length, _)| length).unwrap_or_default();
    }
}

fn give(side: &mut DirectionBalance, what: usize, amount: i64) {
    let part = if what == BYTES_INDEX { &mut side.upper_bytes } else { &mut side.upper_packets };
    *part = part.saturating_add_signed(amount);
    side.settle();
}

/// Bytes and packets; negative where rows have more than the device.
const fn rest(side: &DirectionBalance) -> [i64; 2] {
    [side.rest_bytes(), side.rest_packets()]
}

fn each(of: impl Fn(Direction) -> [i64; 2]) -> Amounts {
    DIRECTIONS.map(of)
}

trait MapWith {
    fn map_with(self, other: Self, of: impl Fn(i64, i64) -> i64) -> Self;
}

impl MapWith for Amounts {
    fn map_with(mut self, other: Self, of: impl Fn(i64, i64) -> i64) -> Self {
        for (amount, other) in self.iter_mut().flatten().zip(other.iter().flatten()) {
            *amount = of(*amount, *other);
        }
        self
    }
}

#[cfg(test)]
mod tests;
