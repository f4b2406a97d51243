//! Which table answers for which part of a period: coarse in its middle, fine at its edges, where fine is still kept.

use crate::slot::SLOT_S;

pub const MINUTE_S: i64 = 60;
pub const HOUR_S: i64 = 3600;

/// How fine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resolution {
    Slot,
    Minute,
    Hour,
}

impl Resolution {
    pub const ALL: [Self; 3] = [Self::Slot, Self::Minute, Self::Hour];

    pub const fn seconds(self) -> i64 {
        match self {
            Self::Slot => SLOT_S,
            Self::Minute => MINUTE_S,
            Self::Hour => HOUR_S,
        }
    }

    /// As in names of tables, and for people.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Slot => "10s",
            Self::Minute => "1m",
            Self::Hour => "1h",
        }
    }

    /// Columns of the most that was moved in 10 s: of a row of 10 s, all of it.
    pub const fn peaks(self) -> [&'static str; 2] {
        match self {
            Self::Slot => ["tx_bytes", "rx_bytes"],
            Self::Minute | Self::Hour => ["tx_peak", "rx_peak"],
        }
    }

    pub const fn coarser(self) -> Option<Self> {
        match self {
            Self::Slot => Some(Self::Minute),
            Self::Minute => Some(Self::Hour),
            Self::Hour => None,
        }
    }

    /// Begin of the bucket.
    pub const fn floor(self, ts: i64) -> i64 {
        ts - ts.rem_euclid(self.seconds())
    }

    /// Begin of the first bucket that does not begin before.
    pub const fn ceil(self, ts: i64) -> i64 {
        self.floor(ts + self.seconds() - 1)
    }
}

/// What a table answers for: from its begin to before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub resolution: Resolution,
    pub from: i64,
    pub to: i64,
}

/// What each resolution has, by [`Resolution`].
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// Whole from here on.
    pub from: [i64; 3],
    /// Rolled up to here.
    pub to: [i64; 3],
}

/// The parts of a period, in order, without gaps or overlaps. It is widened to whole buckets of what is kept. `coarsest` is
/// the coarsest that may be used where finer rows are kept.
pub fn plan(from: i64, to: i64, coarsest: Resolution, kept: &Kept) -> Vec<Part> {
    let mut parts = Vec::new();
    fill(from, to, Resolution::Hour, coarsest, kept, &mut parts);
    parts
}

fn fill(from: i64, to: i64, at: Resolution, coarsest: Resolution, kept: &Kept, parts: &mut Vec<Part>) {
    let index = at as usize;
    let finer = match at {
        Resolution::Slot => None,
        Resolution::Minute => Some(Resolution::Slot),
        Resolution::Hour => Some(Resolution::Minute),
    };
    let Some(finer) = finer else {
        let (from, to) = (at.floor(from), at.ceil(to));
        if from < to {
            parts.push(Part { resolution: at, from, to });
        }
        return;
    };
    // Before this, nothing finer is left: whole buckets, even if they reach further than was asked for.
    let lost = at.ceil(oldest_of(finer, kept)).min(kept.to[index]);
    let start = if from < lost { at.floor(from) } else { at.ceil(from) };
    let end = if at <= coarsest { at.floor(to).max(lost.min(at.ceil(to))) } else { lost.min(at.ceil(to)) };
    let end = end.min(kept.to[index]);
    if start < end && (at <= coarsest || from < lost) {
        if from < start {
            fill(from, start, finer, coarsest, kept, parts);
        }
        parts.push(Part { resolution: at, from: start, to: end });
        if end < to {
            fill(end, to, finer, coarsest, kept, parts);
        }
    } else {
        fill(from, to, finer, coarsest, kept, parts);
    }
}

/// Where this resolution or a finer one begins.
fn oldest_of(resolution: Resolution, kept: &Kept) -> i64 {
    kept.from[..=resolution as usize].iter().copied().min().unwrap_or(i64::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_S: i64 = 86_400;

    /// As it is after a year: 2 days of slots, 14 of minutes, and hours.
    fn kept(now: i64) -> Kept {
        Kept {
            from: [now - 2 * DAY_S, now - 14 * DAY_S, now - 365 * DAY_S],
            to: [now, Resolution::Minute.floor(now), Resolution::Hour.floor(now)],
        }
    }

    fn parts(from: i64, to: i64, coarsest: Resolution, now: i64) -> Vec<(Resolution, i64, i64)> {
        plan(from, to, coarsest, &kept(now)).iter().map(|part| (part.resolution, part.from, part.to)).collect()
    }

    #[test]
    fn a_period_is_covered_once_and_by_what_is_kept() {
        use Resolution::{Hour, Minute, Slot};
        let now = 1_000 * DAY_S;
        // Just now.
        assert_eq!(parts(now - 60, now, Slot, now), [(Slot, now - 60, now)]);
        // Yesterday, in minutes, with slots at the edges.
        let (from, to) = (now - DAY_S - 70, now - 50);
        assert_eq!(
            parts(from, to, Minute, now),
            [(Slot, from, from + 10), (Minute, from + 10, now - 60), (Slot, now - 60, now - 50)]
        );
        // Five days ago there are no slots left, and the minute is shown whole.
        let at = now - 5 * DAY_S + 30;
        assert_eq!(parts(at, at + 10, Slot, now), [(Minute, at - 30, at + 30)]);
        // A month ago it is the hour.
        let at = now - 30 * DAY_S + 90;
        assert_eq!(parts(at, at + 10, Slot, now), [(Hour, at - 90, at - 90 + 3600)]);
        for from in (now - 20 * DAY_S..now).step_by(70_001) {
            for length in [10, 70, 3601, 2 * DAY_S + 11, 19 * DAY_S] {
                for coarsest in Resolution::ALL {
                    let (from, to) = (Slot.floor(from), Slot.floor(from + length).min(now));
                    let parts = plan(from, to, coarsest, &kept(now));
                    assert!(parts[0].from <= from && parts[parts.len() - 1].to >= to, "{from} {length} {parts:?}");
                    assert!(parts.windows(2).all(|pair| pair[0].to == pair[1].from), "{parts:?}");
                    for part in &parts {
                        let (begin, end) =
                            (kept(now).from[part.resolution as usize], kept(now).to[part.resolution as usize]);
                        assert!(part.from >= begin && part.to <= end, "{part:?}");
                    }
                }
            }
        }
    }
}
