//! Finds out by observation what a device's counters count: the one way of counting that explains the traffic, window after
//! window. It may stay undecided; it must not be wrong.

use std::time::Duration;

use nettop_common::Direction;
use nettop_kernel::ledger::DeviceReading;

use super::sides::Predicted;
use crate::identity::devices::{Basis, Counters, Counts, Device, Measured, Padding, Setup};

/// This many windows in a row have to agree.
const AGREEING_WINDOWS: u8 = 3;
/// Fewer packets decide nothing.
const MIN_PACKETS: i64 = 500;
/// A window without a result is given up after so many readings in which something moved.
const MAX_READINGS: u32 = 60;
/// Rows are read before devices, and a device may count a packet a little later than rows do: what passes within this is on
/// its way at either end of a window.
const UNDER_WAY_TIME: Duration = Duration::from_millis(5);
/// A packet or two more, however slow traffic is.
const MIN_UNDER_WAY_PACKETS: i64 = 3;
/// Packets in no row (ARP and the like) may be one in so many: with more, nothing is concluded.
const PACKETS_PER_UNKNOWN: i64 = 50;
/// The most bytes of such a packet, and the most to consider before a way of counting is ruled out: forwarded
/// super-packets.
const MAX_UNKNOWN_PACKET_BYTES: i64 = 1600;
const MAX_SUPER_PACKET_BYTES: i64 = 65_550;
/// More than a super-packet of TCP has, with 536 B in each.
const MAX_SUPER_PACKET_SEGMENTS: i64 = 128;
/// The same for a close check: so few that none of them, however large, is mistaken for link headers of 4 B with each
/// packet. And their bytes: ARP, neighbours' advertisements.
const PACKETS_PER_SHORT: i64 = MAX_UNKNOWN_PACKET_BYTES / 4;
const SHORT_PACKET_BYTES: (i64, i64) = (28, 100);
/// A way of counting is ruled out if it misses by so many times what is allowed.
const RULED_OUT_FACTOR: i64 = 3;

/// Link headers that counters have, with each packet: none, the frame check sequence alone, Ethernet's, and both.
const LINK_HEADER_BYTES: [u32; 4] = [0, 4, 14, 18];

/// What is known of one device.
#[derive(Debug)]
pub struct Calibration {
    /// With which it was observed.
    setup: Setup,
    directions: [OneDirection; 2],
}

impl Calibration {
    pub fn new(setup: Setup) -> Self {
        Self { setup, directions: [Direction::Tx, Direction::Rx].map(OneDirection::new) }
    }

    /// Adds an interval of this length, from the device as it was before it to the device as it is now.
    pub fn add(&mut self, before: &Device, now: &Device, rows: &DeviceReading, length: Duration) {
        // It may count otherwise now, and for part of this interval.
        if self.setup != now.setup {
            *self = Self::new(now.setup.clone());
            return;
        }
        let Counters { tx_bytes, tx_packets, rx_bytes, rx_packets } = now.counters.since(&before.counters);
        let moved = [(tx_packets, tx_bytes), (rx_packets, rx_bytes)].map(|(a, b)| (a.cast_signed(), b.cast_signed()));
        for (one, moved) in self.directions.iter_mut().zip(moved) {
            // How many packets it received these in, or with which header, is not known.
            let is_cut = one.direction == Direction::Rx && rows.forwarded_cut > 0;
            if is_cut || rows.forwarded_tagged[one.direction as usize] > 0 {
                one.begin_window();
                continue;
            }
            one.add(moved, now, rows, length);
        }
    }

    /// The device's counters or rows began again: a partial observation is worth nothing.
    pub fn end_windows(&mut self) {
        self.directions.iter_mut().for_each(OneDirection::begin_window);
    }

    /// By direction.
    pub fn measured(&self) -> [Option<Measured>; 2] {
        self.directions.each_ref().map(OneDirection::measured)
    }
}

/// One direction.
#[derive(Debug)]
struct OneDirection {
    direction: Direction,
    candidates: Vec<Candidate>,
    /// What the device counted in the window: packets, bytes.
    device: (i64, i64),
    /// What may have been under way at an end of it.
    under_way: (i64, i64),
    readings: u32,
    /// Windows in a row that confirm the candidates left, and windows in a row that contradict them.
    windows: u8,
    against: u8,
    is_decided: bool,
}

/// A way of counting.
#[derive(Debug)]
struct Candidate {
    basis: Basis,
    predicted: Predicted,
    /// Every window that [`OneDirection::windows`] counts confirms it.
    is_left: bool,
    /// Whether the windows fit short frames without padding, and with it.
    may_pad: [bool; 2],
}

/// What a way of counting may leave unexplained.
#[derive(Clone, Copy)]
struct Allowed {
    /// Packets and bytes, more or less.
    under_way: (i64, i64),
    unknown_packets: i64,
    /// Of one such packet, from and to.
    unknown_bytes: (i64, i64),
}

impl Candidate {
    fn explains(&self, device: (i64, i64), allowed: &Allowed) -> bool {
        [0, 1].iter().any(|padded| self.explains_with(*padded, device, allowed))
    }

    fn explains_with(&self, padded: usize, device: (i64, i64), allowed: &Allowed) -> bool {
        let rest = (device.0 - self.predicted.packets, device.1 - self.predicted.bytes[padded]);
        let (packets, bytes) = allowed.under_way;
        let (least, most) = allowed.unknown_bytes;
        let unknown = rest.0.max(0);
        (-packets..=packets + allowed.unknown_packets).contains(&rest.0)
            && (unknown * least - bytes..=unknown * most + bytes).contains(&rest.1)
    }
}

impl OneDirection {
    fn new(direction: Direction) -> Self {
        let counts: &[(Counts, Counts)] = match direction {
            Direction::Tx => &[
                (Counts::Segments, Counts::Segments),
                (Counts::Once, Counts::Once),
                (Counts::Segments, Counts::Once),
                (Counts::Once, Counts::Segments),
            ],
            Direction::Rx => &[
                (Counts::Segments, Counts::Segments),
                (Counts::Once, Counts::Once),
                (Counts::Buffers, Counts::Buffers),
                (Counts::Segments, Counts::Once),
            ],
        };
        let basis = |(packets, bytes), link_header_bytes| Basis { bytes, ..Basis::new(packets, link_header_bytes) };
        let of = |counts: &(Counts, Counts)| LINK_HEADER_BYTES.map(|header| basis(*counts, header));
        let candidate = |basis| Candidate { basis, predicted: Predicted::default(), is_left: true, may_pad: [true; 2] };
        Self {
            direction,
            candidates: counts.iter().flat_map(of).map(candidate).collect(),
            device: (0, 0),
            under_way: (MIN_UNDER_WAY_PACKETS, 0),
            readings: 0,
            windows: 0,
            against: 0,
            is_decided: false,
        }
    }

    fn begin_window(&mut self) {
        (self.device, self.under_way, self.readings) = ((0, 0), (MIN_UNDER_WAY_PACKETS, 0), 0);
        self.candidates.iter_mut().for_each(|candidate| candidate.predicted = Predicted::default());
    }

    fn begin_anew(&mut self) {
        (self.windows, self.against, self.is_decided) = (0, 0, false);
        for candidate in &mut self.candidates {
            (candidate.is_left, candidate.may_pad) = (true, [true; 2]);
        }
    }

    fn add(&mut self, moved: (i64, i64), now: &Device, rows: &DeviceReading, length: Duration) {
        let (mut first_left, mut is_idle) = (None, moved == (0, 0));
        for candidate in &mut self.candidates {
            let more = Predicted::on(&candidate.basis, &now.whole, rows, self.direction);
            is_idle &= more == Predicted::default();
            candidate.predicted.add(&more);
            // What had not made a difference so far does now.
            if candidate.is_left && *first_left.get_or_insert(more) != more {
                (self.is_decided, self.windows) = (false, 0);
            }
        }
        // Such a reading says nothing, and makes nothing doubtful.
        if is_idle {
            return;
        }
        self.device = (self.device.0 + moved.0, self.device.1 + moved.1);
        self.readings += 1;
        let part = |amount: i64| {
            let length_ms = i64::try_from(length.as_millis()).unwrap_or(i64::MAX).max(1);
            amount.saturating_mul(i64::try_from(UNDER_WAY_TIME.as_millis()).unwrap_or(0)) / length_ms
        };
        let largest = moved.1.checked_div(moved.0).unwrap_or(0);
        let packets = MIN_UNDER_WAY_PACKETS + part(moved.0);
        self.under_way.0 = self.under_way.0.max(packets);
        self.under_way.1 = self.under_way.1.max(packets.saturating_mul(largest));
        let on_the_wire = self.candidates.iter().map(|candidate| candidate.predicted.packets).max();
        if on_the_wire.is_some_and(|packets| packets >= MIN_PACKETS) {
            self.conclude();
        }
        if self.readings >= MAX_READINGS {
            self.give_up();
        }
    }

    /// Ends the window if it has a result: one way of counting explains it, and no other does, though more is allowed.
    fn conclude(&mut self) {
        let fewest = self.candidates.iter().map(|candidate| candidate.predicted.packets).min().unwrap_or_default();
        // Nothing is under way, and what is unknown is like ARP.
        let exactly = Allowed {
            under_way: (0, 0),
            unknown_packets: fewest / PACKETS_PER_SHORT,
            unknown_bytes: SHORT_PACKET_BYTES,
        };
        if let Some(best) = self.only(&exactly, &exactly)
            && (self.leaves_nothing(&best) || self.is_apart(&best, &exactly))
        {
            return self.count_window(best, &exactly);
        }
        // Until less is under way than link headers of 4 B, nothing else can be concluded.
        if 4 * fewest < (RULED_OUT_FACTOR + 1) * self.under_way.1 {
            return;
        }
        let loosely = self.loosely(1, MAX_UNKNOWN_PACKET_BYTES);
        match self.only(&loosely, &self.loosely(RULED_OUT_FACTOR, MAX_SUPER_PACKET_BYTES)) {
            Some(best) => self.count_window(best, &loosely),
            // Else the window would grow until it has a result by chance.
            None => self.give_up(),
        }
    }

    /// Ends a window without a result, or where the device counted less than decided. It may count more: what it forwards.
    fn give_up(&mut self) {
        let (packets, bytes) = self.loosely(RULED_OUT_FACTOR, 0).under_way;
        let is_less = |candidate: &Candidate| {
            let Predicted { packets: of_packets, bytes: [of_bytes, _] } = candidate.predicted;
            self.device.0 - of_packets < -packets || self.device.1 - of_bytes < -bytes
        };
        if !self.is_decided {
            self.windows = 0;
        } else if self.candidates.iter().filter(|candidate| candidate.is_left).all(is_less) {
            self.against += 1;
        }
        if self.against >= AGREEING_WINDOWS {
            self.begin_anew();
        }
        self.begin_window();
    }

    fn loosely(&self, times: i64, unknown_bytes: i64) -> Allowed {
        let (packets, bytes) = self.under_way;
        Allowed {
            under_way: (times * packets, times * bytes),
            unknown_packets: times * self.device.0 / PACKETS_PER_UNKNOWN,
            unknown_bytes: (0, unknown_bytes),
        }
    }

    fn leaves_nothing(&self, best: &Predicted) -> bool {
        best.packets == self.device.0 && best.bytes.contains(&self.device.1)
    }

    /// Whether no other number of packets explains the window, even if some were late: segments that one way of counting
    /// has look like unknown packets to another, and a late super-packet hides that it has them.
    fn is_apart(&self, best: &Predicted, exactly: &Allowed) -> bool {
        let (packets, bytes) = self.under_way;
        let nearly =
            Allowed { under_way: (packets + MAX_SUPER_PACKET_SEGMENTS, bytes + MAX_SUPER_PACKET_BYTES), ..*exactly };
        let explaining = self.candidates.iter().filter(|other| other.explains(self.device, &nearly));
        explaining.map(|other| other.predicted.packets).all(|packets| packets == best.packets)
    }

    /// The prediction of the only way that explains the window, though others are allowed more.
    fn only(&self, allowed: &Allowed, to_others: &Allowed) -> Option<Predicted> {
        let explaining = |allowed| self.candidates.iter().filter(move |other| other.explains(self.device, allowed));
        let best = explaining(allowed).next()?.predicted;
        explaining(to_others).all(|other| other.predicted == best).then_some(best)
    }

    /// The window confirms these predictions.
    fn count_window(&mut self, best: Predicted, allowed: &Allowed) {
        let is_it = |candidate: &Candidate| candidate.predicted == best;
        if !self.candidates.iter().any(|candidate| candidate.is_left && is_it(candidate)) {
            self.against += 1;
            // One window may be wrong.
            if self.is_decided && self.against < AGREEING_WINDOWS {
                return self.begin_window();
            }
            self.begin_anew();
        }
        let device = self.device;
        if self.candidates.iter().any(|candidate| candidate.is_left && !is_it(candidate)) {
            self.windows = 0;
        }
        self.against = 0;
        for candidate in &mut self.candidates {
            candidate.is_left &= candidate.predicted == best;
            let is_so = [0, 1].map(|padded| candidate.explains_with(padded, device, allowed));
            candidate.may_pad = [0, 1].map(|padded| candidate.may_pad[padded] && is_so[padded]);
        }
        self.windows = self.windows.saturating_add(1);
        self.is_decided |= self.windows >= AGREEING_WINDOWS;
        self.begin_window();
    }

    fn measured(&self) -> Option<Measured> {
        let left = self.candidates.iter().filter(|candidate| self.is_decided && candidate.is_left);
        let basis = |candidate: &Candidate| {
            candidate.basis.padded(match candidate.may_pad {
                [true, false] => Padding::Never,
                [false, true] => Padding::Always,
                _ => Padding::Maybe,
            })
        };
        Measured::new(left.map(basis).collect())
    }
}

#[cfg(test)]
mod tests;
