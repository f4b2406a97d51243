//! One direction of a device in one interval: its own counters, what rows count, and the difference.

use nettop_common::{Direction, Flow, Forwarded};
use nettop_kernel::ledger::{DeviceReading, Flows};
use nettop_model::snapshot::{DeviceBalance, DirectionBalance};

use self::uncounted::uncounted;
use crate::identity::devices::{Basis, Counts, Device, Padding, Whole};

mod uncounted;

/// A balance, and the limits of its parts.
#[derive(Clone, Copy, Default, Debug)]
pub struct BoundedBalance {
    pub balance: DeviceBalance,
    /// By [`Direction`].
    limits: [Limits; 2],
}

impl BoundedBalance {
    /// Of an interval, from the device as it was before it to the device as it is now.
    pub fn new(before: &Device, now: &Device, rows: &DeviceReading) -> Self {
        let moved = now.counters.since(&before.counters);
        let mut bounded = Self::default();
        for (direction, bytes, packets) in
            [(Direction::Tx, moved.tx_bytes, moved.tx_packets), (Direction::Rx, moved.rx_bytes, moved.rx_packets)]
        {
            let limits = Limits::new(before, rows, direction).or(Limits::new(now, rows, direction));
            let side = bounded.side(direction);
            *side = DirectionBalance { bytes, packets, ..of_rows(rows, direction) };
            if !now.basis[direction as usize].is_decided() {
                (side.undecided_bytes, side.undecided_packets) = (side.rest_bytes(), side.rest_packets());
            } else {
                bounded.limits[direction as usize] = limits;
            }
        }
        bounded.choose();
        bounded
    }

    /// The same without the device's own counters: only its rows are known, and there is no rest.
    pub fn known(device: &Device, rows: &DeviceReading) -> Self {
        let mut bounded = Self::default();
        for direction in [Direction::Tx, Direction::Rx] {
            let limits = Limits::new(device, rows, direction).least();
            bounded.limits[direction as usize] = limits;
            let side = bounded.side(direction);
            *side = of_rows(rows, direction);
            // The rest of nothing is what the device has not counted.
            limits.apply(side);
            (side.bytes, side.packets) = (side.pending_bytes, side.pending_packets);
        }
        bounded.choose();
        bounded
    }

    /// Adds an interval, and chooses again the parts that are not known exactly: the whole shows more than its parts. The
    /// interval takes exact parts from the whole: rows are read one after the other, and a packet may be seen in only one
    /// of its rows.
    pub fn add(&mut self, interval: &mut Self) {
        let before = self.balance;
        for (limits, more) in self.limits.iter_mut().zip(&interval.limits) {
            limits.add(more);
        }
        add(&mut self.balance, &interval.balance);
        self.choose();
        for direction in [Direction::Tx, Direction::Rx] {
            let (limits, before) = (self.limits[direction as usize], side_of(&before, direction));
            let (whole, part) = (self.side(direction), interval.side(direction));
            limits.keep(whole, &before);
            limits.divide(part, whole, &before);
        }
    }

    pub fn side(&mut self, direction: Direction) -> &mut DirectionBalance {
        match direction {
            Direction::Tx => &mut self.balance.tx,
            Direction::Rx => &mut self.balance.rx,
        }
    }

    fn choose(&mut self) {
        for direction in [Direction::Tx, Direction::Rx] {
            let limits = self.limits[direction as usize];
            limits.apply(self.side(direction));
        }
    }
}

pub const fn side_of(balance: &DeviceBalance, direction: Direction) -> DirectionBalance {
    match direction {
        Direction::Tx => balance.tx,
        Direction::Rx => balance.rx,
    }
}

pub fn add(total: &mut DeviceBalance, more: &DeviceBalance) {
    for (total, more) in [(&mut total.tx, &more.tx), (&mut total.rx, &more.rx)] {
        total.bytes += more.bytes;
        total.packets += more.packets;
        total.attributed_bytes += more.attributed_bytes;
        total.attributed_packets += more.attributed_packets;
        total.kernel_bytes += more.kernel_bytes;
        total.kernel_packets += more.kernel_packets;
        total.forwarded_bytes += more.forwarded_bytes;
        total.forwarded_packets += more.forwarded_packets;
        total.upper_bytes += more.upper_bytes;
        total.upper_packets += more.upper_packets;
        total.copied_bytes += more.copied_bytes;
        total.copied_packets += more.copied_packets;
        total.offload_bytes += more.offload_bytes;
        total.offload_packets += more.offload_packets;
        total.link_header_bytes += more.link_header_bytes;
        total.padding_bytes += more.padding_bytes;
        total.undecided_bytes += more.undecided_bytes;
        total.undecided_packets += more.undecided_packets;
        total.settle();
    }
}

/// What rows hold, and pairs of devices, as segments.
fn of_rows(rows: &DeviceReading, direction: Direction) -> DirectionBalance {
    let sum = |flows: &Flows| {
        let flow = &flows[direction as usize];
        (flow.skb_bytes + flow.gso_bytes, flow.skbs + flow.gso_packets)
    };
    let (attributed_bytes, attributed_packets) = sum(&rows.processes);
    let (kernel_bytes, kernel_packets) = sum(&rows.kernel);
    let (copied_bytes, copied_packets) = sum(&rows.copies);
    let forwarded = forwarded(rows, direction);
    DirectionBalance {
        attributed_bytes,
        attributed_packets,
        kernel_bytes,
        kernel_packets,
        forwarded_bytes: forwarded.skb_bytes + forwarded.gso_bytes,
        forwarded_packets: forwarded.skbs + forwarded.gso_packets,
        copied_bytes,
        copied_packets,
        ..DirectionBalance::default()
    }
}

/// Of both IP versions.
fn forwarded(rows: &DeviceReading, direction: Direction) -> Forwarded {
    let mut sum = Forwarded::default();
    rows.forwarded.iter().for_each(|of_family| sum.add(&of_family[direction as usize]));
    sum
}

/// The limits of an amount. A sum of differences: for one interval it may be negative.
#[derive(Clone, Copy, Default, Debug)]
struct Range {
    least: i64,
    most: i64,
}

impl Range {
    const fn just(amount: i64) -> Self {
        Self::from(amount, 0)
    }

    /// Or up to so much more.
    const fn from(least: i64, more: i64) -> Self {
        Self { least, most: least + more }
    }

    fn or(self, other: Self) -> Self {
        Self { least: self.least.min(other.least), most: self.most.max(other.most) }
    }

    /// The amount that is nearest to what is missing.
    fn nearest(self, missing: i64) -> u64 {
        missing.clamp(self.least, self.most).max(0).unsigned_abs()
    }

    const fn is_exact(self) -> bool {
        self.least == self.most
    }
}

/// Headers that the stack repeats in each segment: IPv6 and TCP with all options.
const MAX_REPEATED_BYTES: i64 = 100;

/// How much the device's count may differ from that of rows.
#[derive(Clone, Copy, Default, Debug)]
struct Limits {
    packets: Range,
    bytes: Range,
    link_header_bytes: Range,
    padding_bytes: Range,
}

impl Limits {
    /// On the device's basis, if it was the same all the time.
    fn new(device: &Device, rows: &DeviceReading, direction: Direction) -> Self {
        Self::on(&device.basis[direction as usize], &device.whole, rows, direction)
    }

    /// On some basis.
    fn on(basis: &Basis, whole: &Whole, rows: &DeviceReading, direction: Direction) -> Self {
        let uncounted = uncounted(basis, whole, rows, direction);
        let forwarded = forwarded(rows, direction);
        // Each may have come in a super-packet with another, which the device counted once.
        let cut_packets = match (direction, basis.packets) {
            (Direction::Tx, _) | (_, Counts::Segments) => 0,
            (Direction::Rx, Counts::Once | Counts::Buffers | Counts::Either) => rows.forwarded_cut.cast_signed(),
        };
        let sum = |of: fn(&Flow) -> u64| {
            let [processes, kernel, copies] =
                [&rows.processes, &rows.kernel, &rows.copies].map(|flows| of(&flows[direction as usize]).cast_signed());
            processes + kernel - copies
        };
        let padding_bytes = sum(|flow| flow.padding_bytes) + forwarded.padding_bytes.cast_signed();
        let if_once = |counts: Counts, amount: i64| if counts == Counts::Segments { 0 } else { amount };
        let frames = sum(|flow| flow.skbs + flow.gso_packets) + (forwarded.skbs + forwarded.gso_packets).cast_signed()
            - if_once(basis.bytes, uncounted.packets);
        let cut_frames = if_once(basis.bytes, cut_packets);
        let link_header_bytes = i64::from(basis.link_header_bytes);
        let limits = Self {
            packets: Range::from(if_once(basis.packets, uncounted.packets), cut_packets),
            bytes: Range::from(if_once(basis.bytes, uncounted.bytes), cut_frames * MAX_REPEATED_BYTES),
            link_header_bytes: Range::from((frames - cut_frames) * link_header_bytes, cut_frames * link_header_bytes),
            padding_bytes: match basis.padding {
                Padding::Never => Range::just(0),
                Padding::Always if cut_frames == 0 => Range::just(padding_bytes),
                Padding::Always | Padding::Maybe => Range { least: 0, most: padding_bytes.max(0) },
                Padding::ToBlocks => Range { least: 0, most: frames.max(0) * i64::from(Padding::BLOCK_BYTES - 1) },
            },
        };
        if basis.packets == Counts::Either {
            // Or all were merged afterwards.
            let segments = Basis { packets: Counts::Segments, bytes: Counts::Segments, ..*basis };
            return limits.or(Self::on(&segments, whole, rows, direction));
        }
        limits
    }

    /// A basis may have changed within the interval.
    fn or(self, other: Self) -> Self {
        Self {
            packets: self.packets.or(other.packets),
            bytes: self.bytes.or(other.bytes),
            link_header_bytes: self.link_header_bytes.or(other.link_header_bytes),
            padding_bytes: self.padding_bytes.or(other.padding_bytes),
        }
    }

    const fn least(self) -> Self {
        Self {
            packets: Range::just(self.packets.least),
            bytes: Range::just(self.bytes.least),
            link_header_bytes: Range::just(self.link_header_bytes.least),
            padding_bytes: Range::just(self.padding_bytes.least),
        }
    }

    const fn add(&mut self, more: &Self) {
        self.packets.least += more.packets.least;
        self.packets.most += more.packets.most;
        self.bytes.least += more.bytes.least;
        self.bytes.most += more.bytes.most;
        self.link_header_bytes.least += more.link_header_bytes.least;
        self.link_header_bytes.most += more.link_header_bytes.most;
        self.padding_bytes.least += more.padding_bytes.least;
        self.padding_bytes.most += more.padding_bytes.most;
    }

    /// Chooses the amounts that bring the rest nearest to zero.
    fn apply(&self, side: &mut DirectionBalance) {
        (side.offload_packets, side.offload_bytes) = (0, 0);
        side.link_header_bytes = self.link_header_bytes.least.max(0).unsigned_abs();
        side.padding_bytes = self.padding_bytes.least.max(0).unsigned_abs();
        side.offload_packets = self.packets.nearest(side.rest_packets().saturating_neg());
        side.offload_bytes = self.bytes.nearest(side.rest_bytes().saturating_neg());
        side.link_header_bytes = 0;
        side.link_header_bytes = self.link_header_bytes.nearest(side.rest_bytes());
        side.padding_bytes = 0;
        side.padding_bytes = self.padding_bytes.nearest(side.rest_bytes());
        side.settle();
    }

    /// Lets no exactly known part of the whole fall.
    fn keep(&self, whole: &mut DirectionBalance, before: &DirectionBalance) {
        for (range, part) in self.parts() {
            if range.is_exact() {
                *part(whole) = (*part(whole)).max(*part(&mut before.clone()));
            }
        }
        whole.settle();
    }

    /// Gives an interval the growth of the whole's exact parts.
    fn divide(&self, interval: &mut DirectionBalance, whole: &DirectionBalance, before: &DirectionBalance) {
        for (range, part) in self.parts() {
            if range.is_exact() {
                *part(interval) = (*part(&mut whole.clone())).saturating_sub(*part(&mut before.clone()));
            }
        }
        interval.settle();
    }

    fn parts(&self) -> [(Range, Part); 4] {
        [
            (self.packets, |side| &mut side.offload_packets),
            (self.bytes, |side| &mut side.offload_bytes),
            (self.link_header_bytes, |side| &mut side.link_header_bytes),
            (self.padding_bytes, |side| &mut side.padding_bytes),
        ]
    }
}

/// What a device on some basis counts of the rows.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Predicted {
    pub packets: i64,
    /// Without padding, and with it.
    pub bytes: [i64; 2],
}

impl Predicted {
    /// Of an interval.
    pub fn on(basis: &Basis, whole: &Whole, rows: &DeviceReading, direction: Direction) -> Self {
        let limits = Limits::on(&basis.padded(Padding::Maybe), whole, rows, direction);
        let side = of_rows(rows, direction);
        let sum =
            |attributed: u64, kernel: u64, copied: u64| (attributed + kernel).cast_signed() - copied.cast_signed();
        let bytes = sum(side.attributed_bytes, side.kernel_bytes, side.copied_bytes) - limits.bytes.least
            + limits.link_header_bytes.least;
        Self {
            packets: sum(side.attributed_packets, side.kernel_packets, side.copied_packets) - limits.packets.least,
            bytes: [limits.padding_bytes.least, limits.padding_bytes.most].map(|padding| bytes + padding),
        }
    }

    pub const fn add(&mut self, more: &Self) {
        self.packets += more.packets;
        self.bytes[0] += more.bytes[0];
        self.bytes[1] += more.bytes[1];
    }
}

/// What a device on some basis counts at most of the rows of a device above it: bytes and packets.
pub fn carried(basis: &Basis, whole: &Whole, rows: &DeviceReading, direction: Direction) -> [i64; 2] {
    let limits = Limits::on(basis, whole, rows, direction);
    let side = of_rows(rows, direction);
    let bytes = side.rest_bytes().saturating_neg() - limits.bytes.least
        + limits.link_header_bytes.most
        + limits.padding_bytes.most;
    [bytes, side.rest_packets().saturating_neg() - limits.packets.least]
}

/// A part of a balance that [`Limits`] bound.
type Part = fn(&mut DirectionBalance) -> &mut u64;

#[cfg(test)]
mod tests;
