//! A command of nettopd that shows events as they happen: started, read in the background, ended.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, channel},
    },
    thread::{JoinHandle, sleep},
    time::{Duration, Instant},
};

use nettop_model::{
    connections, packets,
    stream::{Head, Lost},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::de::DeserializeOwned;

use crate::{hang_timeout, nettopd_command};

/// A running stream.
pub struct Stream<R> {
    child: Child,
    reader: Option<JoinHandle<Read<R>>>,
    /// The same events as they come.
    events: Receiver<R>,
    /// How many came so far, were lost or may have been skipped.
    made: Arc<AtomicU64>,
}

/// What came after the first document.
struct Read<R> {
    events: Vec<R>,
    count: u64,
    events_lost: u64,
    runs_skipped: u64,
}

/// All output of a stream that ended.
#[derive(Debug)]
pub struct StreamResult<R> {
    /// Documents but the first and those of losses; none of a flood.
    pub events: Vec<R>,
    /// How many those were.
    pub count: u64,
    /// Of the documents of losses.
    pub events_lost: u64,
    /// Of the same: each may have been an event.
    pub runs_skipped: u64,
    /// Of the summary.
    pub seen: u64,
    pub shown: u64,
    pub lost: u64,
    pub code: Option<i32>,
}

impl Stream<packets::Record> {
    /// Starts `nettopd packets` and waits until it listens.
    pub fn packets(args: &[&str]) -> Self {
        Self::start(&[&["packets"], args].concat(), true)
    }
}

impl Stream<connections::Record> {
    /// Starts `nettopd connections` and waits until it listens.
    pub fn connections(args: &[&str]) -> Self {
        Self::start(&[&["connections"], args].concat(), true)
    }
}

impl Stream<()> {
    /// The same, of either command, for events that are too many to keep.
    pub fn counting(args: &[&str]) -> Self {
        Self::start(args, false)
    }
}

impl<R: DeserializeOwned + Clone + Send + 'static> Stream<R> {
    fn start(args: &[&str], keeps: bool) -> Self {
        let mut child = nettopd_command()
            .args(args)
            .args(["--format", "ndjson"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nettopd does not start");
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let Some(Ok(head)) = output.next() else {
            let mut said = String::new();
            child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            panic!("nettopd {args:?} prints nothing: {said}");
        };
        parse::<Head>(&head);
        let (send, events) = channel();
        let made = Arc::new(AtomicU64::new(0));
        let count_made = Arc::clone(&made);
        let reader = std::thread::spawn(move || {
            let mut read = Read { events: Vec::new(), count: 0, events_lost: 0, runs_skipped: 0 };
            for line in output {
                let line = line.unwrap();
                if line.starts_with(r#"{"event":"lost""#) {
                    let lost: Lost = parse(&line);
                    read.events_lost += lost.events_lost;
                    read.runs_skipped += lost.runs_skipped;
                    count_made.fetch_add(lost.events_lost + lost.runs_skipped, Ordering::Relaxed);
                    continue;
                }
                read.count += 1;
                count_made.fetch_add(1, Ordering::Relaxed);
                // A reader slower than nettopd loses some of a flood.
                if keeps {
                    let event: R = parse(&line);
                    // Nobody may be waiting.
                    let _ = send.send(event.clone());
                    read.events.push(event);
                }
            }
            read
        });
        Self { child, reader: Some(reader), events, made }
    }

    /// Waits for an event that was not waited for before.
    pub fn wait_for(&self, is_it: impl Fn(&R) -> bool) {
        let deadline = Instant::now() + hang_timeout();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = self.events.recv_timeout(left).expect("no such event is shown");
            if is_it(&event) {
                return;
            }
        }
    }

    /// Waits until so many events were shown, reported as lost, or may have been skipped.
    pub fn wait_for_count(&self, made: u64) {
        let deadline = Instant::now() + hang_timeout();
        while self.made.load(Ordering::Relaxed) < made {
            assert!(Instant::now() < deadline, "{} of {made} events", self.made.load(Ordering::Relaxed));
            sleep(Duration::from_millis(20));
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Resident memory.
    pub fn rss_kib(&self) -> u64 {
        crate::nettopd::rss_kib(self.child.id())
    }

    /// Has it end as Ctrl-C does, and waits.
    pub fn stop(mut self) -> StreamResult<R> {
        self.signal(Signal::SIGINT);
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let code = self.child.wait().unwrap().code();
        let Read { events, count, events_lost, runs_skipped } = self.reader.take().unwrap().join().unwrap();
        let summary = said.lines().find(|line| line.ends_with(" lost")).unwrap_or_default();
        let numbers: Vec<u64> = summary.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [seen, shown, lost] = numbers[..] else { panic!("no summary: {said}") };
        StreamResult { events, count, events_lost, runs_skipped, seen, shown, lost, code }
    }
}

impl<R> Drop for Stream<R> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl<R> StreamResult<R> {
    /// Whether fewer events were seen than were made. Only from 7.0 on, where tracepoints are preemptible, the kernel skips
    /// runs of hooks, and not more than it reports.
    pub fn misses(&self, made: u64) -> bool {
        let most = if crate::kernel() < (7, 0) { 0 } else { self.runs_skipped };
        let missed = made.checked_sub(self.seen).unwrap_or_else(|| panic!("{} of {made} events are seen", self.seen));
        assert!(missed <= most, "{missed} of {made} events are missed, with {most} runs skipped");
        missed > 0
    }
}

impl StreamResult<connections::Record> {
    /// Events of this kind and process.
    pub fn of<'a, 'b>(
        &'a self,
        event: &'b str,
        pid: u32,
    ) -> impl Iterator<Item = &'a connections::Record> + use<'a, 'b> {
        self.events.iter().filter(move |record| record.event == event && record.pid == Some(pid))
    }
}

fn parse<T: DeserializeOwned>(line: &str) -> T {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}
