//! A command of nettopd that tells events as they happen: started, read in the background, ended.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Stdio},
    sync::{Arc, Mutex, mpsc},
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
    lines: Arc<Mutex<Vec<Value>>>,
    reader: Option<JoinHandle<()>>,
    head: Value,
}

/// What a stream had told when it ended.
#[derive(Debug)]
pub struct Told {
    /// Documents but the first, which [`Stream::head`] gives, and those of losses.
    pub events: Vec<Value>,
    /// Of the documents of losses.
    pub events_lost: u64,
    /// Of the summary.
    pub seen: u64,
    pub shown: u64,
    pub lost: u64,
    pub code: Option<i32>,
}

impl Stream {
    /// Starts `nettopd COMMAND --format ndjson` and waits until it listens.
    pub fn start(args: &[&str]) -> Self {
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
        let lines = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&lines);
        let (begun, begins) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            begun.send(()).unwrap();
            for line in output {
                let document = serde_json::from_str(&line.unwrap()).expect("a line is a document");
                shared.lock().unwrap().push(document);
            }
        });
        begins.recv().unwrap();
        Self { child, lines, reader: Some(reader), head: serde_json::from_str(&head).unwrap() }
    }

    /// The first document.
    pub const fn head(&self) -> &Value {
        &self.head
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Events that were read until now.
    pub fn read_so_far(&self) -> usize {
        self.lines.lock().unwrap().len()
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
        self.reader.take().unwrap().join().unwrap();
        let numbers: Vec<u64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [seen, shown, lost] = numbers[..] else { panic!("no summary: {said}") };
        let lines = std::mem::take(&mut *self.lines.lock().unwrap());
        let (losses, events): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line["event"] == "lost");
        let events_lost = losses.iter().map(|line| line["events_lost"].as_u64().unwrap()).sum();
        Told { events, events_lost, seen, shown, lost, code }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Told {
    /// Events of this kind and process.
    pub fn of<'a>(&'a self, event: &'a str, pid: u32) -> impl Iterator<Item = &'a Value> {
        self.events.iter().filter(move |told| told["event"] == event && told["pid"] == pid)
    }
}
