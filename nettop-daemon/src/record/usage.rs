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

use nettop_history::{HostUsage, Slot, Usage, Who, keep_leaders, untold};
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

/// Processes that are named, of each measure.
const LEADERS_PER_RANK: usize = 16;
/// Between two looks at processes that ended: the ring has room for some thousand.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long an end waits for the last reading.
const LAST_TIMEOUT: Duration = Duration::from_secs(1);
/// Cause of loss for processes that were too many.
const UNREAD: &str = "usage_unread";

/// The end that measures.
pub struct UsageThread {
    ask: SyncSender<()>,
    answers: Receiver<Interval>,
    asked: bool,
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
        let ((ask, asked), (tell, answers)) = (sync_channel(1), channel());
        let started = thread::Builder::new().name("nettopd-usage".into()).spawn(move || {
            if let Err(error) = run(reader, &asked, &tell) {
                tracing::warn!("what processes use is not recorded: {error:#}");
            }
        });
        match started {
            Ok(_) => Some(Self { ask, answers, asked: false }),
            Err(error) => {
                tracing::warn!("what processes use is not recorded: no thread can be started ({error})");
                None
            }
        }
    }

    /// Has an interval end now. It takes its time; meanwhile nobody waits.
    pub fn ask(&mut self) {
        // If the last question still waits, that will do.
        self.asked |= self.ask.try_send(()).is_ok();
    }

    /// Adds what was read by now.
    pub fn add_to(&mut self, slot: &mut Slot) {
        while let Ok(interval) = self.answers.try_recv() {
            self.asked = false;
            interval.add_to(slot);
        }
    }

    /// Adds the last interval, for which an end waits a little.
    pub fn finish(mut self, slot: &mut Slot) {
        self.add_to(slot);
        if self.asked
            && let Ok(interval) = self.answers.recv_timeout(LAST_TIMEOUT)
        {
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

fn run(mut reader: UsageReader, asked: &Receiver<()>, tell: &Sender<Interval>) -> anyhow::Result<()> {
    let untold = bits(reader.untold());
    let (mut host, mut names) = (Host::new("/proc"), Names::new());
    let mut last = Instant::now();
    let begun_ns = u64::try_from(boot::elapsed().as_nanos()).unwrap_or(u64::MAX);
    let mut tally = Tally::new(&reader.read()?.processes, begun_ns);
    loop {
        match asked.recv_timeout(LOOK_INTERVAL) {
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => reader.take_ended(|process| tally.add_ended(&process)),
            Ok(()) => {
                let now = Instant::now();
                let Reading { processes, unread } = reader.read()?;
                // After the pass: of what it missed the end is known.
                reader.take_ended(|process| tally.add_ended(&process));
                let usage_ms = u64::try_from(now.duration_since(last).as_millis()).unwrap_or(u64::MAX);
                last = now;
                tally.add(&processes, usage_ms);
                let host = HostUsage { usage_ms, untold, ..host.read() };
                let mut interval = interval(&mut tally, &mut names, &processes, host);
                interval.unread += unread;
                if tell.send(interval).is_err() {
                    return Ok(());
                }
            }
        }
    }
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

/// As the history has it.
fn bits(of: Untold) -> u64 {
    let bits = [
        (of.wait, untold::WAIT),
        (of.blocked_time || !accounts_delays(), untold::BLOCK_IO),
        (of.disk, untold::DISK),
        (of.memory, untold::MEMORY),
        (of.ended, untold::ENDED),
    ];
    bits.into_iter().filter(|(is_untold, _)| *is_untold).map(|(_, bit)| bit).sum()
}

/// Whether the kernel counts how long tasks wait for I/O: off by default since 5.14.
fn accounts_delays() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/task_delayacct").is_ok_and(|text| text.trim() == "1")
}
