//! Lines and cells, and what they are made from.

use std::{cmp::Ordering, collections::HashMap, sync::Arc};

use nettop_model::{snapshot::Traffic, sockets::Document};

use crate::{
    books::key_of,
    filter::Filter,
    frame::{Frame, Key, Row, Who},
    keep::Keep,
    units::per_second,
    views::{Kind, View},
};

/// Intervals in a trend.
pub const TREND: usize = 16;

/// What amounts are about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Amounts {
    #[default]
    Rate,
    Sum,
    SinceMark,
}

/// A cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    None,
    Text(String),
    Number(u64),
    /// A number that is a name: the smallest comes first.
    Id(u64),
    /// A number with two digits behind the point.
    Hundredths(u64),
    /// Bytes, or bytes each second.
    Bytes(u64),
    Trend(Vec<u64>),
}

/// A row of the screen.
#[derive(Clone, Debug)]
pub struct Line {
    /// What tells it apart in its view, in each frame.
    pub key: String,
    /// In the order of the view's columns.
    pub values: Vec<Value>,
    /// All of its processes have ended.
    pub has_ended: bool,
    /// Something of it was lost.
    pub is_bad: bool,
    /// How far below others it stands.
    pub depth: usize,
    /// Which rows of the frame it adds up.
    pub rows: Vec<usize>,
    /// Which drop, TCP event, device or socket of its document it is.
    pub item: Option<usize>,
    /// Bytes or packets of the interval, by which lines with equal cells are in order.
    pub weight: u64,
}

/// What a view is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crumb {
    pub kind: Kind,
    pub key: String,
    /// As the breadcrumb shows it.
    pub title: String,
}

/// What lines are made from.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    pub frame: &'a Frame,
    pub keep: &'a Keep,
    pub view: &'a View,
    pub scope: &'a [Crumb],
    pub filter: &'a Filter,
    pub amounts: Amounts,
    /// What rows had moved at the mark.
    pub mark: &'a HashMap<Key, Traffic>,
    pub sockets: Option<&'a Document>,
    /// Whole paths, and what a process runs.
    pub is_long: bool,
    /// Names instead of addresses.
    pub has_names: bool,
}

/// Lines, unsorted but for a tree's; and how many there were before the filter.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    pub lines: Vec<Line>,
    pub of: usize,
}

/// What a process moved in the latest intervals, both ways, of those that `is_asked` for.
pub fn series(input: &Input<'_>, most: usize, is_asked: impl Fn(&Who) -> bool) -> Vec<[u64; 2]> {
    let mut known: HashMap<*const Who, bool> = HashMap::new();
    let frames = input.keep.until(input.frame.at_ms, most);
    let of_frame = |frame: &Arc<Frame>| {
        let mut sum = [0, 0];
        let is_busy = |row: &&Row| row.interval.tx.bytes > 0 || row.interval.rx.bytes > 0;
        for row in frame.rows.iter().filter(is_busy) {
            if *known.entry(Arc::as_ptr(&row.who)).or_insert_with(|| is_asked(&row.who)) {
                for (sum, moved) in sum.iter_mut().zip([row.interval.tx, row.interval.rx]) {
                    *sum = u64::saturating_add(*sum, per_second(moved.bytes, frame.interval_ms));
                }
            }
        }
        sum
    };
    frames.map(of_frame).collect()
}

/// The row's key in a view of processes.
pub fn key(kind: Kind, who: &Who) -> String {
    match kind {
        Kind::Program => who.program().to_owned(),
        Kind::Unit => who.unit().to_owned(),
        Kind::Device => who.ifindex.map_or_else(String::new, |ifindex| key_of(who.netns, who.netns_cookie, ifindex)),
        _ if who.pid == 0 => who.comm.clone(),
        _ => process_key(who.pid, who.start_time_ns),
    }
}

/// A process for all time of this boot.
pub fn process_key(pid: u32, start_time_ns: Option<u64>) -> String {
    format!("{pid}@{}", start_time_ns.unwrap_or(0))
}

/// Whether a row is in all that was entered.
pub fn is_in_scope(scope: &[Crumb], who: &Who) -> bool {
    scope.iter().all(|crumb| key(crumb.kind, who) == crumb.key)
}

impl Input<'_> {
    /// What a row moved, as amounts are shown now.
    pub(super) fn amount(&self, row: &Row) -> [u64; 2] {
        match self.amounts {
            Amounts::Rate => {
                [row.interval.tx.bytes, row.interval.rx.bytes].map(|bytes| per_second(bytes, self.frame.interval_ms))
            }
            Amounts::Sum => [row.total.tx.bytes, row.total.rx.bytes],
            Amounts::SinceMark => {
                let marked = self.mark.get(&row.who.key()).copied().unwrap_or_default();
                [row.total.tx.bytes.saturating_sub(marked.tx.bytes), row.total.rx.bytes.saturating_sub(marked.rx.bytes)]
            }
        }
    }
}

impl Value {
    /// Texts from a to z, numbers from the largest; what has none comes last.
    pub fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(one), Self::Text(other)) => one.cmp(other),
            (Self::Id(one), Self::Id(other)) => one.cmp(other),
            (Self::None, Self::None) => Ordering::Equal,
            (Self::None, _) => Ordering::Greater,
            (_, Self::None) => Ordering::Less,
            _ => other.number().cmp(&self.number()),
        }
    }

    /// What it is sorted by, of numbers.
    pub fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) | Self::Hundredths(number) | Self::Bytes(number) => Some(*number),
            Self::Trend(trend) => Some(trend.iter().copied().fold(0, u64::saturating_add)),
            Self::Text(_) | Self::Id(_) | Self::None => None,
        }
    }
}

/// A text, or none for an empty one.
pub(super) fn text(text: Option<&str>) -> Value {
    text.filter(|text| !text.is_empty()).map_or(Value::None, |text| Value::Text(crate::text::safe(text)))
}

/// Sums of the latest intervals by line, the last at the end.
pub(super) fn trends<'a, F>(input: &Input<'a>, lines: usize, of_frame: F) -> Vec<Vec<u64>>
where
    F: Fn(&'a Frame, &mut dyn FnMut(usize, u64)),
{
    let mut trends = vec![Vec::with_capacity(TREND); lines];
    for frame in input.keep.until(input.frame.at_ms, TREND) {
        trends.iter_mut().for_each(|trend| trend.push(0));
        of_frame(frame, &mut |line, amount| {
            if let Some(last) = trends.get_mut(line).and_then(|trend: &mut Vec<u64>| trend.last_mut()) {
                *last = last.saturating_add(amount);
            }
        });
    }
    trends
}
