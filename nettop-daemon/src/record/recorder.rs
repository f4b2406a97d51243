//! Adds each interval to the slot it ended in, and hands the slot over when it is over.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use nettop_history::{Keep, Limits, Origin, SLOT_S, Slot, Writer};
use nettop_kernel::boot;
use nettop_model::Snapshot;

use super::{pressure::Pressure, slot};
use crate::{
    config::{Config, HistoryConfig},
    identity::host,
    measure::usage::{Interval, UsageThread},
};

/// Rows of processes, and of drops, in a slot; others are added up.
const MAX_ROWS_PER_SLOT: usize = 512;
/// How much clocks may differ without being set.
const CLOCK_DRIFT_MS: i64 = 100;
/// A clock step of this much leaves times without measurement; less is a correction.
const CLOCK_LEAP_MS: i64 = 1000;

/// Between the sampler and the writer.
pub struct Recorder {
    writer: Option<Writer>,
    with_resources: bool,
    path: PathBuf,
    limits: Limits,
    /// Whether arguments of processes are recorded: they may hold secrets.
    with_arguments: bool,
    period_ms: u64,
    pressure: Pressure,
    slot: Slot,
    last: Moment,
    /// Whether an interval ended at `last`.
    has_begun: bool,
    /// Losses of the last snapshot, which has them since the start.
    losses: BTreeMap<&'static str, u64>,
}

/// A time on two clocks: one that is set, and one that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Since 1970.
    pub wall_ms: i64,
    pub boot_ms: u64,
}

impl Moment {
    pub fn now() -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            wall_ms: i64::try_from(wall.as_millis()).unwrap_or(i64::MAX),
            boot_ms: u64::try_from(boot::elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl Recorder {
    pub(super) fn new(path: PathBuf, limits: Limits, period: Duration, proc: &str, now: Moment) -> Self {
        Self {
            writer: None,
            with_resources: false,
            path,
            limits,
            with_arguments: false,
            period_ms: u64::try_from(period.as_millis()).unwrap_or(u64::MAX),
            pressure: Pressure::new(Path::new(proc), now.boot_ms),
            slot: Slot { ts: slot_of(now.wall_ms), ..Slot::default() },
            last: now,
            has_begun: false,
            losses: BTreeMap::new(),
        }
    }

    /// Records arguments of processes as well, or not.
    pub(super) fn with_arguments(self, with_arguments: bool) -> Self {
        Self { with_arguments, ..self }
    }

    /// Whether it records them.
    pub const fn records_arguments(&self) -> bool {
        self.with_arguments
    }

    /// Opens the file, on a thread of its own: errors are reported at once. `losses` are from before it began.
    pub fn start(&mut self, hooks_missing: u64, losses: &[(&'static str, u64)]) {
        self.losses = losses.iter().copied().collect();
        let origin = Origin {
            boot_id: boot::id(),
            host: host::host_name(),
            kernel: host::kernel_release(),
            version: env!("CARGO_PKG_VERSION").into(),
            hooks_missing,
        };
        self.writer = Some(Writer::start(self.path.clone(), self.limits, origin));
    }

    /// Records what processes use as well, or not.
    pub(super) fn with_resources(self, with_resources: bool) -> Self {
        Self { with_resources, ..self }
    }

    /// Whether it records that.
    pub const fn records_resources(&self) -> bool {
        self.with_resources
    }

    /// Goes on with another interval, and other limits of the file.
    pub fn adjust(&mut self, config: &Config) {
        self.period_ms = u64::try_from(Duration::from_secs_f64(config.interval).as_millis()).unwrap_or(u64::MAX);
        self.limits = limits(config);
        self.with_arguments = config.history.arguments;
        if let Some(writer) = &self.writer {
            writer.set_limits(self.limits);
        }
    }

    /// The file's state, in a few words.
    pub fn state(&self) -> String {
        /// A slot is handed over when the next begins, so that nothing is written for a slot's time and an interval.
        const MAX_LATE_S: u64 = 60;
        let Some(writer) = &self.writer else { return "not begun".into() };
        let silent_s = writer.silent_s();
        if writer.is_in_trouble() {
            format!("not written for {silent_s} s, see the log")
        } else if silent_s > MAX_LATE_S + self.period_ms / 1000 {
            format!("the disk has not answered for {silent_s} s")
        } else {
            "written".into()
        }
    }

    /// Adds an interval that ended now, with what processes used by then. What could not be recorded so far is noted in the
    /// snapshot.
    pub fn record(&mut self, snapshot: &mut Snapshot, used: Option<&Interval>) {
        let now = Moment::now();
        if let Some(over) = self.add(snapshot, now) {
            self.put(over);
        }
        if let Some(used) = used.filter(|_| self.with_resources) {
            slot::add_used(&mut self.slot, used);
        }
        // The next one will end in another slot.
        if slot_of(now.wall_ms + snapshot.interval_ms.cast_signed()) != self.slot.ts && self.slot.tick.readings > 0 {
            let over = std::mem::take(&mut self.slot);
            self.put(over);
        }
        snapshot.loss.history_shed = self.writer.as_ref().map_or(0, Writer::shed);
    }

    /// Hands over what is left and waits for the file, and for what processes used last, but not long.
    pub fn finish(mut self, usage: Option<UsageThread>) {
        let mut last = std::mem::take(&mut self.slot);
        if last.tick.readings == 0 {
            // What was read last is recorded already, and what is added to that has its time.
            let ts = slot_of(self.last.wall_ms);
            last = Slot { ts, begin_ms: self.last.wall_ms, end_ms: self.last.wall_ms, ..Slot::default() };
        }
        if let Some(usage) = usage.filter(|_| self.has_begun && self.with_resources) {
            slot::add_last_used(&mut last, usage.finish());
        }
        if last.tick.readings > 0 || last.host.is_some() || !last.losses.is_empty() {
            self.put(last);
        }
        if let Some(writer) = self.writer {
            writer.finish();
        }
    }

    fn put(&self, mut slot: Slot) {
        slot.cap(MAX_ROWS_PER_SLOT);
        if let Some(writer) = &self.writer {
            writer.put(slot);
        }
    }

    /// Adds an interval to its slot, and returns the slot before it if that is over.
    fn add(&mut self, snapshot: &Snapshot, now: Moment) -> Option<Slot> {
        let ts = slot_of(now.wall_ms);
        let over = (ts != self.slot.ts).then(|| std::mem::replace(&mut self.slot, Slot { ts, ..Slot::default() }));
        self.tick(snapshot.interval_ms, now);
        self.losses(snapshot);
        slot::add(&mut self.slot, snapshot, self.with_arguments);
        (over).filter(|over| over.tick.readings > 0)
    }

    fn tick(&mut self, interval_ms: u64, now: Moment) {
        let ran_ms = now.boot_ms.saturating_sub(self.last.boot_ms).cast_signed();
        let step_ms = now.wall_ms - self.last.wall_ms - ran_ms;
        // One interval begins where the last one ended.
        let begin_ms = if self.has_begun && step_ms.abs() < CLOCK_LEAP_MS {
            self.last.wall_ms
        } else {
            now.wall_ms.saturating_sub_unsigned(interval_ms)
        };
        let is_first = self.slot.tick.readings == 0;
        self.slot.begin_ms = if is_first { begin_ms } else { begin_ms.min(self.slot.begin_ms) };
        self.slot.end_ms = now.wall_ms;
        (self.last, self.has_begun) = (now, true);
        let before = self.slot.tick;
        let tick = &mut self.slot.tick;
        self.pressure.update(tick, now.boot_ms);
        // The highest of a slot's readings counts.
        tick.cpu_some = highest(tick.cpu_some, before.cpu_some);
        tick.memory_some = highest(tick.memory_some, before.memory_some);
        tick.memory_full = highest(tick.memory_full, before.memory_full);
        tick.io_some = highest(tick.io_some, before.io_some);
        tick.io_full = highest(tick.io_full, before.io_full);
        tick.readings += 1;
        tick.measured_ms += interval_ms;
        tick.late_ms = tick.late_ms.max(interval_ms.saturating_sub(self.period_ms));
        if step_ms.abs() >= CLOCK_DRIFT_MS {
            tick.clock_step_ms += step_ms;
        }
    }

    fn losses(&mut self, snapshot: &Snapshot) {
        // One of these is in the rows; others are no losses of measuring, or show a state and not a loss.
        const ELSEWHERE: [&str; 6] = [
            "overflow_tx_bytes",
            "overflow_rx_bytes",
            "reports_skipped",
            "history_shed",
            "hooks_missing",
            "namespaces_unread",
        ];
        let entries = snapshot.loss.entries().into_iter().filter(|(name, _)| !ELSEWHERE.contains(name));
        for (name, value) in entries.chain([("drops_uncounted", snapshot.uncounted_drops)]) {
            let before = self.losses.insert(name, value).unwrap_or(0);
            let more = value.saturating_sub(before);
            if more > 0 {
                *self.slot.losses.entry(name).or_default() += more;
            }
        }
        let tick = &mut self.slot.tick;
        tick.namespaces_unread = tick.namespaces_unread.max(Some(snapshot.loss.namespaces_unread));
    }
}

fn highest(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    a.into_iter().chain(b).reduce(f64::max)
}

/// An interval that ends where a slot ends is that slot's.
const fn slot_of(wall_ms: i64) -> i64 {
    let seconds = (wall_ms - 1).div_euclid(1000);
    seconds - seconds.rem_euclid(SLOT_S)
}

/// How large the history may become.
pub(super) fn limits(config: &Config) -> Limits {
    let HistoryConfig { size_mb, keep_days, .. } = config.history;
    Limits { keep: Keep { days: keep_days }, size_bytes: u64::from(size_mb) << 20, ..Limits::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_of_the_slot_that_it_ends_in() {
        assert_eq!(slot_of(1_000_000_000_001), 1_000_000_000);
        assert_eq!(slot_of(1_000_000_010_000), 1_000_000_000, "the end of a slot is its own");
        assert_eq!(slot_of(1_000_000_010_001), 1_000_000_010);
        assert_eq!(slot_of(0), -10, "a clock that was never set");
    }

    #[test]
    fn a_clock_that_is_set_is_distinguished_from_one_that_runs() {
        let mut now = Moment { wall_ms: 1_000_000_000_001, boot_ms: 50_000 };
        let period = Duration::from_secs(5);
        let mut recorder = Recorder::new("/nowhere".into(), Limits::default(), period, "/nowhere", now);
        let mut pass = |recorder: &mut Recorder, wall_ms: i64, boot_ms: u64| {
            now = Moment { wall_ms: now.wall_ms + wall_ms, boot_ms: now.boot_ms + boot_ms };
            recorder.tick(boot_ms, now);
        };
        pass(&mut recorder, 5000, 5000);
        pass(&mut recorder, 5060, 5010);
        assert_eq!((recorder.slot.tick.clock_step_ms, recorder.slot.tick.late_ms), (0, 10));
        assert_eq!((recorder.slot.begin_ms, recorder.slot.end_ms), (1_000_000_000_001, 1_000_000_010_061));
        recorder.slot = Slot::default();
        pass(&mut recorder, 5060, 5010);
        assert_eq!((recorder.slot.begin_ms, recorder.slot.end_ms), (1_000_000_010_061, 1_000_000_015_121), "they join");
        // An hour back, and two seconds ahead; meanwhile the machine was busy.
        pass(&mut recorder, 5000 - 3_600_000, 5000);
        assert_eq!(recorder.slot.tick.clock_step_ms, -3_600_000);
        assert_eq!((recorder.slot.tick.readings, recorder.slot.tick.measured_ms), (2, 10_010));
        recorder.slot = Slot::default();
        pass(&mut recorder, 9000, 7000);
        assert_eq!((recorder.slot.tick.clock_step_ms, recorder.slot.tick.late_ms), (2000, 2000));
        assert_eq!(recorder.slot.end_ms - recorder.slot.begin_ms, 7000, "what the clock left out was not measured");
    }

    #[test]
    fn a_loss_is_what_came_since_and_how_many_namespaces_are_unread_is_none() {
        let mut now = Moment { wall_ms: 999_999_995_001, boot_ms: 50_000 };
        let period = Duration::from_secs(5);
        let mut recorder = Recorder::new("/nowhere".into(), Limits::default(), period, "/nowhere", now);
        // Of maps that were taken over.
        recorder.losses = [("rows_full", 100)].into();
        let mut snapshot = crate::example::snapshot(0);
        snapshot.loss.hooks_missing = 2;
        let mut slots = Vec::new();
        for (unread, rows_full) in [(3, 100), (4, 100), (3, 100), (3, 107), (0, 107), (0, 107), (0, 107)] {
            now = Moment { wall_ms: now.wall_ms + 5000, boot_ms: now.boot_ms + 5000 };
            (snapshot.loss.namespaces_unread, snapshot.loss.rows_full) = (unread, rows_full);
            slots.extend(recorder.add(&snapshot, now));
        }
        let shown: Vec<_> = slots
            .iter()
            .map(|slot| (slot.tick.namespaces_unread, slot.losses.clone().into_iter().collect::<Vec<_>>()))
            .collect();
        // `uncounted_drops` of the snapshot are none.
        assert_eq!(shown, [(Some(4), vec![]), (Some(3), vec![("rows_full", 7)]), (Some(0), vec![])]);
    }
}
