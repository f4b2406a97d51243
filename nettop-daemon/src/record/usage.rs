//! What processes used in each interval. A thread of its own reads, so that no number of processes delays the sampler: what
//! is not read in time goes to the next interval.

mod host;
mod names;
mod tally;

use std::{
    collections::HashMap,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel},
    thread,
    time::{Duration, Instant},
};

use nettop_history::{HostUsage, LEADERS_PER_RANK, Slot, Usage, Who, keep_leaders};
use nettop_kernel::{
    boot,
    usage::{ProcessReading, Reading, Untold, UsageReader},
};
use nettop_model::ContainerNames;

use self::{
    host::Host,
    names::Names,
    tally::{Entry, Tally},
};

/// Between two looks at processes that ended: the ring has room for some thousand.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long an end waits for the last reading.
const LAST_TIMEOUT: Duration = Duration::from_secs(1);
/// Cause of loss for processes that were too many, or ended too late.
const UNREAD: &str = "usage_unread";
/// Cause of loss for intervals that an end did not wait for.
const UNFINISHED: &str = "usage_unfinished";

/// Questions that wait; one more is that question.
const MAX_WAITING: usize = 1;

/// The end that measures.
pub struct UsageThread {
    ask: SyncSender<()>,
    /// One for each question; none if the pass failed.
    answers: Receiver<Option<Interval>>,
    unanswered: usize,
}

struct Interval {
    host: HostUsage,
    rows: Vec<(Who, Usage)>,
    containers: HashMap<String, ContainerNames>,
    unread: u64,
}

impl UsageThread {
    /// Starts the thread, which reads what is there already.
    pub fn start(reader: UsageReader) -> Option<Self> {
        let ((ask, asked), (tell, answers)) = (sync_channel(MAX_WAITING), channel());
        // If it cannot be started, the reader goes with it, and the kernel side sends no more.
        let started = thread::Builder::new().name("nettopd-usage".into()).spawn(move || run(reader, &asked, &tell));
        match started {
            Ok(_) => Some(Self { ask, answers, unanswered: 0 }),
            Err(error) => {
                tracing::warn!("what processes use is not recorded: no thread can be started ({error})");
                None
            }
        }
    }

    /// Has an interval end now. It takes its time; meanwhile nobody waits.
    pub fn ask(&mut self) {
        // If the last question still waits, that will do.
        self.unanswered += usize::from(self.ask.try_send(()).is_ok());
    }

    /// Adds what was read by now.
    pub fn add_to(&mut self, slot: &mut Slot) {
        while let Ok(interval) = self.answers.try_recv() {
            self.take(interval, slot);
        }
    }

    /// Adds the last intervals, for which an end waits a little: those that do not come are a loss.
    pub fn finish(mut self, slot: &mut Slot) {
        let begun = Instant::now();
        while self.unanswered > 0
            && let Ok(interval) = self.answers.recv_timeout(LAST_TIMEOUT.saturating_sub(begun.elapsed()))
        {
            self.take(interval, slot);
        }
        if self.unanswered > 0 {
            *slot.losses.entry(UNFINISHED).or_default() += self.unanswered as u64;
        }
    }

    fn take(&mut self, interval: Option<Interval>, slot: &mut Slot) {
        self.unanswered = self.unanswered.saturating_sub(1);
        if let Some(interval) = interval {
            interval.add_to(slot);
        }
    }
}

impl Interval {
    fn add_to(self, slot: &mut Slot) {
        slot.host.get_or_insert_default().add(&self.host);
        for (who, usage) in self.rows {
            slot.usage.entry(who).or_default().add(&usage);
        }
        slot.containers.extend(self.containers);
        if self.unread > 0 {
            *slot.losses.entry(UNREAD).or_default() += self.unread;
        }
    }
}

/// Ends when nobody can ask any more.
fn run(reader: UsageReader, asked: &Receiver<()>, tell: &Sender<Option<Interval>>) {
    let mut measured = Measured::new(reader);
    loop {
        let answer = match asked.recv_timeout(LOOK_INTERVAL) {
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                measured.take_ended();
                continue;
            }
            Ok(()) => measured.interval(),
        };
        if tell.send(answer).is_err() {
            return;
        }
    }
}

/// What the thread has.
struct Measured {
    reader: UsageReader,
    host: Host,
    names: Names,
    /// None until a pass succeeds.
    tally: Option<Tally>,
    /// The begin of the last pass that did.
    last: Instant,
    is_failing: bool,
}

impl Measured {
    /// Reads what is there already.
    fn new(reader: UsageReader) -> Self {
        let (host, names, last) = (Host::new("/proc"), Names::new(), Instant::now());
        let mut measured = Self { reader, host, names, tally: None, last, is_failing: false };
        measured.interval();
        measured
    }

    /// Empties the ring, which has room for some thousand.
    fn take_ended(&mut self) {
        let Self { reader, tally, .. } = self;
        reader.take_ended(|process| {
            if let Some(tally) = tally {
                tally.add_ended(&process);
            }
        });
    }

    /// The interval that ends now; none after the first pass, and after one that failed: the next has what was meanwhile.
    fn interval(&mut self) -> Option<Interval> {
        self.take_ended();
        let (begin, begin_ns) = (Instant::now(), boot_ns());
        let read = self.reader.read();
        if let Err(error) = &read
            && !self.is_failing
        {
            tracing::warn!("what processes use cannot be read, and is tried again: {error:#}");
        }
        self.is_failing = read.is_err();
        let Some(Reading { processes, unread }) = read.ok() else {
            self.take_ended();
            return None;
        };
        let usage_ms = u64::try_from(begin.duration_since(self.last).as_millis()).unwrap_or(u64::MAX);
        self.last = begin;
        let Some(tally) = &mut self.tally else {
            self.tally = Some(Tally::new(&processes, begin_ns));
            self.take_ended();
            // What the host did before nobody was asked about.
            self.host.read();
            return None;
        };
        // Before those that ended meanwhile: what was read of them is older than their end.
        tally.add(&processes, begin_ns, usage_ms);
        self.take_ended();
        let host = HostUsage { usage_ms, ..told(self.reader.untold(), self.host.read()) };
        let mut interval = interval(self.tally.as_mut()?, &mut self.names, &processes, host);
        interval.unread += unread;
        Some(interval)
    }
}

fn boot_ns() -> u64 {
    u64::try_from(boot::elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// The leaders with their names, and the sum of all others.
fn interval(tally: &mut Tally, names: &mut Names, readings: &[ProcessReading], host: HostUsage) -> Interval {
    let taken = tally.take();
    let used: Vec<(Entry, Usage)> = taken.entries.into_iter().map(|entry| (entry, entry.usage)).collect();
    let mut others = Usage::default();
    let leaders = keep_leaders(used, LEADERS_PER_RANK, |_, usage| others.add(&usage));
    let processes: Vec<_> = leaders.iter().map(|(entry, _)| entry.process).collect();
    let whose = names.of(&processes, readings);
    let mut rows: Vec<(Who, Usage)> = whose.into_iter().zip(leaders.into_iter().map(|(_, usage)| usage)).collect();
    if others != Usage::default() {
        rows.push((Who::other(), others));
    }
    Interval { host, rows, containers: std::mem::take(&mut names.containers), unread: taken.unread }
}

/// With what the kernel does not tell of processes.
fn told(of: Untold, host: HostUsage) -> HostUsage {
    HostUsage {
        untold_wait: of.wait.into(),
        untold_block_io: (of.blocked_time || !accounts_delays()).into(),
        untold_disk: of.disk.into(),
        untold_memory: of.memory.into(),
        untold_ended: of.ended.into(),
        ..host
    }
}

/// Whether the kernel counts how long tasks wait for I/O: off by default since 5.14.
fn accounts_delays() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/task_delayacct").is_ok_and(|text| text.trim() == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread that answers what it is given, and what it was asked.
    fn thread() -> (UsageThread, Receiver<()>, Sender<Option<Interval>>) {
        let ((ask, asked), (tell, answers)) = (sync_channel(MAX_WAITING), channel());
        (UsageThread { ask, answers, unanswered: 0 }, asked, tell)
    }

    fn interval(unread: u64) -> Interval {
        Interval {
            host: HostUsage { usage_ms: 1000, ..HostUsage::default() },
            rows: Vec::new(),
            containers: HashMap::new(),
            unread,
        }
    }

    #[test]
    fn an_end_waits_for_every_question() {
        let (mut usage, asked, tell) = thread();
        usage.ask();
        asked.recv().unwrap();
        // The second is asked while the first is answered.
        usage.ask();
        let mut slot = Slot::default();
        tell.send(Some(interval(0))).unwrap();
        usage.add_to(&mut slot);
        tell.send(Some(interval(3))).unwrap();
        usage.finish(&mut slot);
        assert_eq!((slot.host.unwrap().usage_ms, slot.losses[UNREAD]), (2000, 3));
        assert!(!slot.losses.contains_key(UNFINISHED));
    }

    #[test]
    fn what_does_not_come_is_a_loss_and_what_failed_is_not_waited_for() {
        let (mut usage, asked, tell) = thread();
        usage.ask();
        asked.recv().unwrap();
        usage.ask();
        tell.send(None).unwrap();
        drop(tell);
        let mut slot = Slot::default();
        usage.finish(&mut slot);
        assert_eq!((slot.host, slot.losses.get(UNFINISHED)), (None, Some(&1)));
    }
}
