//! A number of readings of one direction: what the device counted, what each way of counting predicts of it, and which of
//! them explain it.

use std::time::Duration;

use crate::measure::balance::sides::Predicted;

/// Rows are read before devices, and a device may count a packet a little later than rows do: what passes within this is on
/// its way at either end of a window.
const UNDER_WAY_TIME: Duration = Duration::from_millis(5);
/// A packet or two more, however slow traffic is.
const MIN_UNDER_WAY_PACKETS: i64 = 3;
/// More than are under way: a device that has counted none of so many posts its counters later.
const MIN_LATE_PACKETS: i64 = 50;
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

#[derive(Debug)]
pub struct Window {
    /// What the device counted: packets, bytes.
    device: (i64, i64),
    /// What may have been under way at an end of it.
    under_way: (i64, i64),
    /// In which something moved.
    pub readings: u32,
    /// The device posts its counters some time after it has counted: only what leaves nothing is believed.
    is_late: bool,
    /// By way of counting.
    pub predicted: Vec<Predicted>,
}

/// What a way of counting may leave unexplained.
#[derive(Clone, Copy)]
pub struct Allowed {
    /// Packets and bytes, more or less.
    under_way: (i64, i64),
    unknown_packets: i64,
    /// Of one such packet, from and to.
    unknown_bytes: (i64, i64),
}

/// What a window shows.
pub enum Outcome {
    /// It is only explained by the ways of counting that predict this.
    Only(Predicted, Allowed),
    /// More readings may show more.
    TooFewPackets,
    /// More readings would show something by chance.
    None,
}

impl Window {
    /// Of so many ways of counting.
    pub fn new(ways: usize) -> Self {
        let predicted = vec![Predicted::default(); ways];
        Self { device: (0, 0), under_way: (MIN_UNDER_WAY_PACKETS, 0), readings: 0, is_late: false, predicted }
    }

    /// Adds a reading in which something moved.
    pub fn add(&mut self, moved: (i64, i64), predicted: &[Predicted], length: Duration) {
        self.predicted.iter_mut().zip(predicted).for_each(|(sum, more)| sum.add(more));
        self.device = (self.device.0 + moved.0, self.device.1 + moved.1);
        self.readings += 1;
        self.is_late |= moved == (0, 0) && predicted.iter().any(|predicted| predicted.packets >= MIN_LATE_PACKETS);
        let part = |amount: i64| {
            let length_ms = i64::try_from(length.as_millis()).unwrap_or(i64::MAX).max(1);
            amount.saturating_mul(i64::try_from(UNDER_WAY_TIME.as_millis()).unwrap_or(0)) / length_ms
        };
        let largest = moved.1.checked_div(moved.0).unwrap_or(0);
        let packets = MIN_UNDER_WAY_PACKETS + part(moved.0);
        self.under_way.0 = self.under_way.0.max(packets);
        self.under_way.1 = self.under_way.1.max(packets.saturating_mul(largest));
    }

    /// By the way of counting that has most.
    pub fn most_packets(&self) -> i64 {
        self.predicted.iter().map(|predicted| predicted.packets).max().unwrap_or_default()
    }

    /// One way of counting explains it, and no other does, though more is allowed.
    pub fn outcome(&self) -> Outcome {
        let exactly = self.exactly();
        if let Some(best) = self.only(&exactly, &exactly)
            && (self.leaves_nothing(&best) || !self.is_late && self.is_apart(&best, &exactly))
        {
            return Outcome::Only(best, exactly);
        }
        // Until less is under way than link headers of 4 B, nothing else can be concluded.
        if self.is_late || 4 * self.fewest_packets() < (RULED_OUT_FACTOR + 1) * self.under_way.1 {
            return Outcome::TooFewPackets;
        }
        let loosely = self.loosely(1, MAX_UNKNOWN_PACKET_BYTES);
        match self.only(&loosely, &self.loosely(RULED_OUT_FACTOR, MAX_SUPER_PACKET_BYTES)) {
            Some(best) => Outcome::Only(best, loosely),
            None => Outcome::None,
        }
    }

    /// The same if nothing at all is left.
    pub fn exact_outcome(&self) -> Option<(Predicted, Allowed)> {
        let exactly = self.exactly();
        let best = self.only(&exactly, &exactly).filter(|best| self.leaves_nothing(best))?;
        Some((best, exactly))
    }

    /// Whether all ways of counting that predict `best` in another window predict the same in this one.
    pub fn agrees_where(&self, other: &Self, best: &Predicted) -> bool {
        let mut here = other.predicted.iter().zip(&self.predicted).filter(|(there, _)| *there == best);
        let first = here.next();
        here.all(|(_, predicted)| first.is_some_and(|(_, first)| first == predicted))
    }

    /// Whether the device counted less than this. It may count more: what it forwards.
    pub fn is_less_than(&self, predicted: &Predicted) -> bool {
        let (packets, bytes) = self.loosely(RULED_OUT_FACTOR, 0).under_way;
        self.device.0 - predicted.packets < -packets || self.device.1 - predicted.bytes[0] < -bytes
    }

    /// With short frames as they are, or `padded`.
    pub fn is_explained_by(&self, predicted: &Predicted, padded: usize, allowed: &Allowed) -> bool {
        let rest = (self.device.0 - predicted.packets, self.device.1 - predicted.bytes[padded]);
        let (packets, bytes) = allowed.under_way;
        let (least, most) = allowed.unknown_bytes;
        let unknown = rest.0.max(0);
        (-packets..=packets + allowed.unknown_packets).contains(&rest.0)
            && (unknown * least - bytes..=unknown * most + bytes).contains(&rest.1)
    }

    fn fewest_packets(&self) -> i64 {
        self.predicted.iter().map(|predicted| predicted.packets).min().unwrap_or_default()
    }

    /// Nothing is under way, and what is unknown is like ARP.
    fn exactly(&self) -> Allowed {
        Allowed {
            under_way: (0, 0),
            unknown_packets: self.fewest_packets() / PACKETS_PER_SHORT,
            unknown_bytes: SHORT_PACKET_BYTES,
        }
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
        self.explaining(&nearly).all(|other| other.packets == best.packets)
    }

    /// The prediction of the only way that explains the window, though others are allowed more.
    fn only(&self, allowed: &Allowed, to_others: &Allowed) -> Option<Predicted> {
        let best = self.explaining(allowed).next()?;
        self.explaining(to_others).all(|other| other == best).then_some(*best)
    }

    fn explaining(&self, allowed: &Allowed) -> impl Iterator<Item = &Predicted> {
        let is_explained =
            |predicted: &&Predicted| [0, 1].iter().any(|padded| self.is_explained_by(predicted, *padded, allowed));
        self.predicted.iter().filter(is_explained)
    }
}
