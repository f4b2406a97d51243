//! Finds out by observation what a device's counters count: the one way of counting that explains the traffic, window after
//! window. It may stay undecided; it must not be wrong.

mod window;

use std::time::Duration;

use nettop_common::{Direction, abi::ETHERNET_HEADER_BYTES};
use nettop_kernel::ledger::DeviceReading;

use self::window::{Allowed, Outcome, Window};
use super::sides::Predicted;
use crate::identity::devices::{Basis, Counters, Counts, Device, Measured, POSTING_TIME, Padding, Setup};

/// This many windows in a row have to agree.
const AGREEING_WINDOWS: u8 = 3;
/// Fewer packets decide nothing.
const MIN_PACKETS: i64 = 500;
/// A window without a result is given up after so many readings in which something moved.
const MAX_READINGS: u32 = 60;
/// The same for the short one.
const MAX_SHORT_READINGS: u32 = 8;

/// Link headers that counters have, with each packet: none, the frame check sequence alone, Ethernet's, and both.
const LINK_HEADER_BYTES: [u32; 4] = [0, 4, ETHERNET_HEADER_BYTES, ETHERNET_HEADER_BYTES + 4];

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
                one.begin_windows();
                continue;
            }
            one.add(moved, now, rows, length);
        }
    }

    /// The device's counters or rows began again: a partial observation is worth nothing.
    pub fn end_windows(&mut self) {
        self.directions.iter_mut().for_each(OneDirection::begin_windows);
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
    window: Window,
    /// A shorter one within it, without a packet that a card lost before. Believed only if it leaves nothing.
    short: Window,
    /// How long nothing has moved.
    idle: Duration,
    /// Windows in a row that confirm the candidates left, and windows in a row that contradict them.
    windows: u8,
    against: u8,
    is_decided: bool,
}

/// A way of counting.
#[derive(Debug)]
struct Candidate {
    basis: Basis,
    /// Every window that [`OneDirection::windows`] counts confirms it.
    is_left: bool,
    /// Whether the windows fit short frames without padding, and with it.
    may_pad: [bool; 2],
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
        let candidate = |basis| Candidate { basis, is_left: true, may_pad: [true; 2] };
        let candidates: Vec<Candidate> = counts.iter().flat_map(of).map(candidate).collect();
        let [window, short] = [(); 2].map(|()| Window::new(candidates.len()));
        let idle = Duration::ZERO;
        Self { direction, candidates, window, short, idle, windows: 0, against: 0, is_decided: false }
    }

    fn begin_windows(&mut self) {
        self.begin_window();
        self.begin_short();
    }

    fn begin_window(&mut self) {
        self.window = Window::new(self.candidates.len());
    }

    fn begin_short(&mut self) {
        self.short = Window::new(self.candidates.len());
    }

    fn begin_anew(&mut self) {
        (self.windows, self.against, self.is_decided) = (0, 0, false);
        for candidate in &mut self.candidates {
            (candidate.is_left, candidate.may_pad) = (true, [true; 2]);
        }
    }

    fn add(&mut self, moved: (i64, i64), now: &Device, rows: &DeviceReading, length: Duration) {
        let predict = |candidate: &Candidate| Predicted::on(&candidate.basis, &now.whole, rows, self.direction);
        let predicted: Vec<Predicted> = self.candidates.iter().map(predict).collect();
        let mut left = self.candidates.iter().zip(&predicted).filter(|(candidate, _)| candidate.is_left);
        // What had not made a difference so far does now.
        if let Some((_, first)) = left.next()
            && left.any(|(_, other)| other != first)
        {
            (self.is_decided, self.windows) = (false, 0);
        }
        // Such a reading decides nothing, and makes nothing doubtful.
        if moved == (0, 0) && predicted.iter().all(|predicted| *predicted == Predicted::default()) {
            self.idle += length;
            // What comes next is posted by itself.
            if self.idle >= POSTING_TIME {
                self.begin_short();
            }
            return;
        }
        self.idle = Duration::ZERO;
        self.window.add(moved, &predicted, length);
        self.short.add(moved, &predicted, length);
        if self.window.most_packets() >= MIN_PACKETS {
            self.conclude();
        }
        if self.short.most_packets() >= MIN_PACKETS {
            self.conclude_short();
        }
        if self.window.readings >= MAX_READINGS {
            self.give_up();
        }
    }

    /// Ends the window if it has a result, or has none.
    fn conclude(&mut self) {
        match self.window.outcome() {
            Outcome::Only(best, allowed) => self.count_window(best, &allowed),
            Outcome::TooFewPackets => {}
            Outcome::None => self.give_up(),
        }
    }

    fn conclude_short(&mut self) {
        match self.short.exact_outcome() {
            // Else the longer one knows more: what fits the short one differs in it.
            Some((best, allowed)) if self.window.agrees_where(&self.short, &best) => {
                std::mem::swap(&mut self.window, &mut self.short);
                self.count_window(best, &allowed);
            }
            Some(_) => self.begin_short(),
            None if self.short.readings >= MAX_SHORT_READINGS => self.begin_short(),
            None => {}
        }
    }

    /// Ends a window without a result, or where the device counted less than decided.
    fn give_up(&mut self) {
        let mut left = self.candidates.iter().zip(&self.window.predicted).filter(|(candidate, _)| candidate.is_left);
        if !self.is_decided {
            self.windows = 0;
        } else if left.all(|(_, predicted)| self.window.is_less_than(predicted)) {
            self.against += 1;
        }
        if self.against >= AGREEING_WINDOWS {
            self.begin_anew();
        }
        // The short one may have a result yet: it may have begun before a card that posts late has posted anything.
        self.begin_window();
    }

    /// The window confirms these predictions.
    fn count_window(&mut self, best: Predicted, allowed: &Allowed) {
        let fits: Vec<bool> = self.window.predicted.iter().map(|predicted| *predicted == best).collect();
        let mut left = self.candidates.iter().zip(&fits).filter(|(candidate, _)| candidate.is_left);
        if !left.clone().any(|(_, fits)| *fits) {
            self.against += 1;
            // One window may be wrong.
            if self.is_decided && self.against < AGREEING_WINDOWS {
                return self.begin_windows();
            }
            self.begin_anew();
        } else if left.any(|(_, fits)| !fits) {
            self.windows = 0;
        }
        self.against = 0;
        let predicted = self.window.predicted.iter().zip(fits);
        for (candidate, (predicted, fits)) in self.candidates.iter_mut().zip(predicted) {
            candidate.is_left &= fits;
            for padded in [0, 1] {
                candidate.may_pad[padded] &= self.window.is_explained_by(predicted, padded, allowed);
            }
        }
        self.windows = self.windows.saturating_add(1);
        self.is_decided |= self.windows >= AGREEING_WINDOWS;
        self.begin_windows();
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
