//! What processes used in each interval. A thread of its own reads, so that no number of processes delays the sampler: what
//! is not read in time goes to the next interval.

mod disks;
mod host;
mod names;
pub mod resources;
mod tally;

use std::{
    collections::{HashMap, hash_map},
    path::Path,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel},
    thread,
    time::{Duration, Instant},
};

use foldhash::fast::RandomState;
use nettop_history::{
    CROWDS_PER_RANK, Disk, DiskUsage, HostUsage, LEADERS_PER_RANK, Usage, Who, add_disk, keep_busiest, keep_leaders,
};
use nettop_kernel::{
    boot,
    usage::{ProcessReading, Reading, Untold, UsageReader},
};
use nettop_model::ContainerNames;

use self::{
    disks::Disks,
    host::Host,
    names::{Names, Program},
    tally::{Entry, Tally},
};
use crate::sys::proc_file::ProcFile;

/// Between two looks at processes that ended: the ring has room for some thousand.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long an end waits for the last reading, and so does a report after which no other comes.
pub const LAST_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a report waits for its reading, which began before the devices' counters were read: a pass over some thousand
/// processes. What takes longer is in the next report.
pub const REPORT_TIMEOUT: Duration = Duration::from_millis(20);

/// Questions that wait; one more is that question.
const MAX_WAITING: usize = 1;

/// The end that measures.
pub struct UsageThread {
    ask: SyncSender<()>,
    /// One for each question; none if the pass failed.
    answers: Receiver<Option<Interval>>,
    unanswered: usize,
}

/// By pid and start.
pub type UsageByProcess = HashMap<(u32, u64), Usage, RandomState>;

/// What was used between two readings, or between more of them.
#[derive(Default)]
pub struct Interval {
    /// The host's, of which `usage_ms` is the time.
    pub host: HostUsage,
    pub disks: Vec<(Disk, DiskUsage)>,
    /// The leaders, and the sum of all others.
    pub rows: Vec<(Who, Usage)>,
    /// Everybody's, by pid and start.
    pub all: UsageByProcess,
    /// Of the leaders, by id.
    pub containers: HashMap<String, ContainerNames>,
    /// Processes that were too many, or ended too late.
    pub unread: u64,
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
                tracing::warn!("what processes use is not measured: no thread can be started ({error})");
                None
            }
        }
    }

    /// Has an interval end now. It takes its time; meanwhile nobody waits.
    pub fn ask(&mut self) {
        // If the last question still waits, that will do.
        self.unanswered += usize::from(self.ask.try_send(()).is_ok());
    }

    /// What was read by now, or is within this time; none if it takes longer.
    pub fn take(&mut self, timeout: Duration) -> Option<Interval> {
        let begun = Instant::now();
        let mut taken: Option<Interval> = None;
        while self.unanswered > 0
            && let Ok(interval) = self.answers.recv_timeout(timeout.saturating_sub(begun.elapsed()))
        {
            self.unanswered -= 1;
            match (&mut taken, interval) {
                (Some(taken), Some(more)) => taken.add(more),
                (none, more) => *none = none.take().or(more),
            }
        }
        taken
    }

    /// The last intervals, for which an end waits a little, and how many did not come.
    pub fn finish(mut self) -> (Option<Interval>, usize) {
        let last = self.take(LAST_TIMEOUT);
        (last, self.unanswered)
    }
}

impl Interval {
    fn add(&mut self, more: Self) {
        self.host.add(&more.host);
        more.disks.into_iter().for_each(|(disk, usage)| add_disk(&mut self.disks, disk, &usage));
        keep_busiest(&mut self.disks);
        for (who, usage) in more.rows {
            match self.rows.iter_mut().find(|(known, _)| *known == who) {
                Some((_, sum)) => sum.add(&usage),
                None => self.rows.push((who, usage)),
            }
        }
        for (key, usage) in more.all {
            self.all.entry(key).or_default().add(&usage);
        }
        self.containers.extend(more.containers);
        self.unread += more.unread;
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
    disks: Disks,
    /// Whether the kernel counts how long tasks wait for I/O: off by default since 5.14.
    delays: ProcFile,
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
        let proc = Path::new("/proc");
        let (host, disks, delays) =
            (Host::new(proc), Disks::new(proc), ProcFile::new("/proc/sys/kernel/task_delayacct"));
        let (names, last) = (Names::new(), Instant::now());
        let mut measured = Self { reader, host, disks, delays, names, tally: None, last, is_failing: false };
        measured.interval();
        measured
    }

    /// Empties the rings, which have room for some thousand.
    fn take_ended(&mut self) {
        let Self { reader, tally, names, .. } = self;
        reader.take_ended(|process| {
            if let Some(tally) = tally {
                tally.add_ended(&process);
            }
        });
        // Last: who has ended has executed its program before.
        reader.take_executed(|described| names.learn(&described));
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
            self.disks.read(0);
            return None;
        };
        // Before those that ended meanwhile: what was read of them is older than their end.
        tally.add(&processes, begin_ns, usage_ms);
        self.take_ended();
        let has_delays = self.delays.read().is_ok_and(|text| text.trim_ascii() == b"1");
        let host = HostUsage { usage_ms, ..told(self.reader.untold(), has_delays, self.host.read()) };
        let mut interval = interval(self.tally.as_mut()?, &mut self.names, &processes, host);
        interval.unread += unread;
        interval.disks = self.disks.read(usage_ms);
        Some(interval)
    }
}

/// Name, user, cgroup and program.
type Crowd<'a> = ([u8; 16], u32, u64, Program<'a>);
type Crowds<'a> = HashMap<Crowd<'a>, Entry, RandomState>;

/// Adds up what none of many did by itself, as the commands of a build. Those are no process any more.
fn add_to_crowd<'a>(crowds: &mut Crowds<'a>, program: Program<'a>, entry: Entry) {
    let of = &entry.process;
    match crowds.entry((of.comm, of.key.uid, of.cgroup_id, program)) {
        hash_map::Entry::Occupied(mut known) => {
            let first = known.get_mut();
            first.is_crowd = true;
            if first.process.parent_start_time_ns != of.parent_start_time_ns {
                // Each of a build's compilers has a driver of its own.
                (first.process.parent_tgid, first.process.parent_start_time_ns) = (0, 0);
            }
            first.usage.add(&entry.usage);
        }
        hash_map::Entry::Vacant(new) => drop(new.insert(entry)),
    }
}

const fn usage_of(entry: &Entry) -> &Usage {
    &entry.usage
}

fn all_ended(all: &UsageByProcess) -> impl Iterator<Item = (u32, u64)> {
    all.iter().filter(|(_, usage)| usage.exits > 0).map(|(key, _)| *key)
}

fn boot_ns() -> u64 {
    u64::try_from(boot::elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// The leaders with their names, crowds of others that lead together, and the sum of the rest.
fn interval(tally: &mut Tally, names: &mut Names, readings: &[ProcessReading], host: HostUsage) -> Interval {
    let taken = tally.take();
    let used = |Entry { process, usage, .. }: &Entry| ((process.key.tgid, process.key.start_time_ns), *usage);
    let all: UsageByProcess = taken.entries.iter().map(used).collect();
    let (mut crowds, mut others) = (Crowds::default(), Usage::default());
    let mut leaders = keep_leaders(taken.entries, usage_of, LEADERS_PER_RANK, |entry| {
        add_to_crowd(&mut crowds, names.program(&entry.process), entry);
    });
    let crowds: Vec<_> = crowds.into_iter().map(|((.., (_, script)), entry)| (entry, script)).collect();
    let crowds =
        keep_leaders(crowds, |(entry, _)| &entry.usage, CROWDS_PER_RANK, |(entry, _)| others.add(&entry.usage));
    let scripts: Vec<Option<String>> = crowds.iter().map(|(_, script)| script.map(ToOwned::to_owned)).collect();
    let first_crowd = leaders.len();
    leaders.extend(crowds.into_iter().map(|(entry, _)| entry));
    let processes: Vec<_> = leaders.iter().map(|entry| entry.process).collect();
    let mut whose = names.of(&processes, readings);
    names.forget(all_ended(&all));
    for ((who, entry), script) in whose.iter_mut().zip(&leaders).skip(first_crowd).zip(scripts) {
        if entry.is_crowd {
            // Another of them may have run another.
            (who.pid, who.start_time_ns, who.script) = (0, None, script);
        }
    }
    let named = whose.into_iter().zip(leaders).map(|(who, entry)| (who, entry.usage));
    let mut rows: Vec<(Who, Usage)> = named.collect();
    if others != Usage::default() {
        rows.push((Who::other(), others));
    }
    Interval {
        host,
        disks: Vec::new(),
        rows,
        all,
        containers: std::mem::take(&mut names.containers),
        unread: taken.unread,
    }
}

/// With what the kernel does not tell of processes.
fn told(of: Untold, has_delays: bool, host: HostUsage) -> HostUsage {
    HostUsage {
        untold_wait: of.wait.into(),
        untold_block_io: (of.blocked_time || !has_delays).into(),
        untold_disk: of.disk.into(),
        untold_memory: of.memory.into(),
        untold_ended: of.ended.into(),
        ..host
    }
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
        let host = HostUsage { usage_ms: 1000, ..HostUsage::default() };
        let usage = Usage { user_us: 5, ..Usage::default() };
        let (rows, all) = (vec![(Who::other(), usage)], [((7, 8), usage)].into_iter().collect());
        Interval { host, rows, all, unread, ..Interval::default() }
    }

    #[test]
    fn an_end_waits_for_every_question() {
        let (mut usage, asked, tell) = thread();
        usage.ask();
        asked.recv().unwrap();
        // The second is asked while the first is answered.
        usage.ask();
        tell.send(Some(interval(1))).unwrap();
        tell.send(Some(interval(3))).unwrap();
        let (last, missing) = usage.finish();
        let last = last.unwrap();
        assert_eq!((last.host.usage_ms, last.unread, missing), (2000, 4, 0));
        assert_eq!(last.rows.iter().map(|(_, usage)| usage.user_us).collect::<Vec<_>>(), [10]);
        assert_eq!(last.all[&(7, 8)].user_us, 10);
    }

    #[test]
    fn a_crowd_is_of_one_program_and_has_a_parent_only_if_all_have_it() {
        let entry = |parent_start_time_ns| {
            let process = nettop_common::ProcessUsage { parent_tgid: 5, parent_start_time_ns, ..Default::default() };
            Entry { process, usage: Usage { user_us: 3, ..Usage::default() }, is_crowd: false }
        };
        let mut crowds = Crowds::default();
        for (program, parent) in
            [((Some("a"), Some("x.py")), 1), ((Some("a"), Some("x.py")), 2), ((Some("a"), None), 1)]
        {
            add_to_crowd(&mut crowds, program, entry(parent));
        }
        let mut found: Vec<_> = crowds.into_iter().collect();
        found.sort_by_key(|((.., program), _)| *program);
        let shown: Vec<_> = found
            .iter()
            .map(|((.., (_, script)), entry)| (*script, entry.is_crowd, entry.process.parent_tgid, entry.usage.user_us))
            .collect();
        assert_eq!(shown, [(None, false, 5, 3), (Some("x.py"), true, 0, 6)]);
    }

    #[test]
    fn a_report_does_not_wait_for_long_and_the_next_has_what_was_late() {
        let (mut usage, _asked, tell) = thread();
        usage.ask();
        assert!(usage.take(Duration::ZERO).is_none());
        tell.send(Some(interval(2))).unwrap();
        assert_eq!(usage.take(Duration::ZERO).unwrap().unread, 2);
        assert!(usage.take(Duration::MAX).is_none(), "nothing was asked");
    }

    #[test]
    fn what_does_not_come_is_missing_and_what_failed_is_not_waited_for() {
        let (mut usage, asked, tell) = thread();
        usage.ask();
        asked.recv().unwrap();
        usage.ask();
        tell.send(None).unwrap();
        drop(tell);
        let (last, missing) = usage.finish();
        assert_eq!((last.is_none(), missing), (true, 1));
    }
}
