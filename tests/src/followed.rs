//! The stream of a daemon, and of those that take over from it, checked against the `Invariants`.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use jiff::Timestamp;
use nettop_model::Snapshot;

use crate::invariants::Invariants;

/// What was read of all daemons.
struct State {
    latest: Snapshot,
    invariants: Invariants,
}

/// Follows one daemon after the other.
pub(crate) struct Followed {
    state: Arc<(Mutex<State>, Condvar)>,
    reader: Option<JoinHandle<()>>,
}

impl Default for Followed {
    fn default() -> Self {
        let state = State { latest: Snapshot::default(), invariants: Invariants::of_daemons() };
        Self { state: Arc::new((Mutex::new(state), Condvar::new())), reader: None }
    }
}

impl Followed {
    /// Follows a daemon that answers.
    pub(crate) fn follow(&mut self, socket: &Path) {
        self.finish();
        let mut stream = UnixStream::connect(socket).unwrap();
        // HTTP/1.0 has no chunks: what comes are lines.
        stream.write_all(b"GET /v1/stream?whole=1 HTTP/1.0\r\n\r\n").unwrap();
        let mut lines = BufReader::new(stream).lines();
        assert!(lines.next().unwrap().unwrap().ends_with("200 OK"));
        // Nothing is missed from the end of the head on.
        assert!(lines.by_ref().any(|line| line.unwrap().is_empty()));
        // Who reads too slowly is cut off: checking a document may take longer than an interval on a busy machine.
        let (read, received) = std::sync::mpsc::sync_channel(100);
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| read.send(line)));
        let shared = Arc::clone(&self.state);
        self.reader = Some(std::thread::spawn(move || {
            for line in received {
                // The last may lack its end.
                let Ok(document) = serde_json::from_str(&line) else { continue };
                let mut state = shared.0.lock().unwrap();
                state.invariants.check(&document);
                state.latest = document;
                shared.1.notify_all();
            }
        }));
    }

    /// Reads the rest of a daemon that has ended.
    pub(crate) fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }

    /// The first document whose reading was begun later than now: the one after the first that was made later.
    pub(crate) fn document(&self) -> Snapshot {
        let made_after = |time: Timestamp| self.wait(|document| document.time.parse::<Timestamp>().unwrap() > time);
        let first = made_after(Timestamp::now());
        made_after(first.time.parse().unwrap())
    }

    fn wait(&self, is_it: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let (state, changed) = &*self.state;
        let is_awaited = |state: &mut State| state.latest.time.is_empty() || !is_it(&state.latest);
        let wait = changed.wait_timeout_while(state.lock().unwrap(), Duration::from_secs(60), is_awaited);
        let (state, timeout) = wait.unwrap();
        assert!(!timeout.timed_out(), "the daemon stopped reporting");
        state.latest.clone()
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.finish();
        let state = self.state.0.lock().unwrap_or_else(PoisonError::into_inner);
        let violations = state.invariants.violations(0, &[]).join("\n");
        if std::thread::panicking() {
            return eprintln!("{violations}");
        }
        assert!(violations.is_empty(), "documents broke what always holds:\n{violations}");
    }
}
