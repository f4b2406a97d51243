//! The stream of a daemon, and of those that take over from it, checked against the `Invariants`.

use std::{
    io::{self, BufRead as _, BufReader, Lines, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        mpsc::{SendError, sync_channel},
    },
    thread::JoinHandle,
};

use jiff::Timestamp;
use nettop_model::Snapshot;

use crate::{hang_timeout, invariants::Invariants};

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

/// The documents that a daemon streams from now on.
fn lines(socket: &Path) -> io::Result<Lines<BufReader<UnixStream>>> {
    let mut stream = UnixStream::connect(socket)?;
    // HTTP/1.0 has no chunks: what comes are lines.
    stream.write_all(b"GET /v1/stream?whole=1 HTTP/1.0\r\n\r\n")?;
    let mut lines = BufReader::new(stream).lines();
    let is_followed = lines.next().transpose()?.is_some_and(|line| line.ends_with("200 OK"));
    // Nothing is missed from the end of the head on.
    let has_head = lines.by_ref().map_while(Result::ok).any(|line| line.is_empty());
    if is_followed && has_head { Ok(lines) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
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
        // Checking a document may take longer than an interval on a busy machine.
        let (read, received) = sync_channel(100);
        let mut stream = Some(lines(socket).unwrap());
        let socket = socket.to_owned();
        std::thread::spawn(move || {
            while let Some(documents) = stream.take() {
                for line in documents.map_while(Result::ok) {
                    read.send(Some(line))?;
                }
                // Who is late is cut off, as docs/api.md says. Else the daemon has ended.
                stream = lines(&socket).ok();
                read.send(None)?;
            }
            Ok::<_, SendError<_>>(())
        });
        let shared = Arc::clone(&self.state);
        self.reader = Some(std::thread::spawn(move || {
            for line in received {
                let mut state = shared.0.lock().unwrap();
                let Some(line) = line else {
                    state.invariants.note_gap();
                    continue;
                };
                // The last may lack its end.
                let Ok(document) = serde_json::from_str(&line) else { continue };
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
        let wait = changed.wait_timeout_while(state.lock().unwrap(), hang_timeout(), is_awaited);
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
