//! A command of nettopd that tells events as they happen: started, read in the background, ended.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Stdio},
    thread::JoinHandle,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::nettopd_command;

/// A running stream.
pub struct Stream {
    child: Child,
    reader: Option<JoinHandle<Read>>,
    head: Value,
}

/// What came after the first document.
#[derive(Default)]
struct Read {
    events: Vec<Value>,
    count: u64,
    events_lost: u64,
    runs_skipped: u64,
}

/// What a stream had told when it ended.
#[derive(Debug)]
pub struct Told {
    /// Documents but the first, which [`Stream::head`] gives, and those of losses; none of a flood.
    pub events: Vec<Value>,
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

impl Stream {
    /// Starts `nettopd COMMAND --format ndjson` and waits until it listens.
    pub fn start(args: &[&str]) -> Self {
        Self::start_reading(args, true)
    }

    /// The same for events that are too many to keep.
    pub fn start_counting(args: &[&str]) -> Self {
        Self::start_reading(args, false)
    }

    fn start_reading(args: &[&str], keeps: bool) -> Self {
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
            panic!("nettopd {args:?} tells nothing: {said}");
        };
        let reader = std::thread::spawn(move || {
            let mut read = Read::default();
            for line in output {
                let line = line.unwrap();
                // Slower than nettopd, whoever reads a flood loses some of it.
                if !keeps && !line.starts_with(r#"{"event":"lost""#) {
                    read.count += 1;
                    continue;
                }
                let document: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                if document["event"] == "lost" {
                    read.events_lost += document["events_lost"].as_u64().unwrap();
                    read.runs_skipped += document["runs_skipped"].as_u64().unwrap();
                    continue;
                }
                read.count += 1;
                read.events.push(document);
            }
            read
        });
        Self { child, reader: Some(reader), head: serde_json::from_str(&head).unwrap() }
    }

    /// The first document.
    pub const fn head(&self) -> &Value {
        &self.head
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Resident memory.
    pub fn rss_kib(&self) -> u64 {
        crate::nettopd::rss_kib(self.child.id())
    }

    /// Has it end as Ctrl-C does, and waits.
    pub fn stop(mut self) -> Told {
        self.signal(Signal::SIGINT);
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let code = self.child.wait().unwrap().code();
        let Read { events, count, events_lost, runs_skipped } = self.reader.take().unwrap().join().unwrap();
        let summary = said.lines().find(|line| line.ends_with(" lost")).unwrap_or_default();
        let numbers: Vec<u64> = summary.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [seen, shown, lost] = numbers[..] else { panic!("no summary: {said}") };
        Told { events, count, events_lost, runs_skipped, seen, shown, lost, code }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Told {
    /// Whether fewer than all events that were made were seen. Only from 7.0 on, where tracepoints are preemptible, the
    /// kernel skips runs of hooks, and not more than it says.
    pub fn misses(&self, made: u64) -> bool {
        let most = if crate::kernel() < (7, 0) { 0 } else { self.runs_skipped };
        let missed = made.checked_sub(self.seen).unwrap_or_else(|| panic!("{} of {made} events are seen", self.seen));
        assert!(missed <= most, "{missed} of {made} events are missed, with {most} runs skipped");
        missed > 0
    }

    /// Events of this kind and process.
    pub fn of<'a>(&'a self, event: &'a str, pid: u32) -> impl Iterator<Item = &'a Value> {
        self.events.iter().filter(move |told| told["event"] == event && told["pid"] == pid)
    }
}
