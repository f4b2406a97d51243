//! Standard output of a stream: a thread that writes, behind a queue of few chunks.

use std::{
    io::{ErrorKind, Write as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::Context as _;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Chunks that may wait.
const QUEUED: usize = 4;
/// How long a reader that is stuck is waited for at the end.
const PATIENCE: Duration = Duration::from_secs(1);

struct Chunk {
    text: String,
    events: u64,
}

/// The queue, and what becomes of it.
pub struct Output {
    queue: Sender<Chunk>,
    thread: JoinHandle<anyhow::Result<()>>,
    written: Arc<AtomicU64>,
    queued: u64,
    most: Option<u64>,
    /// Events that found no place in the queue in time.
    dropped: u64,
}

/// Events that were written, and that were not.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    pub written: u64,
    pub unwritten: u64,
}

impl Output {
    /// Starts the thread. `most` limits the events that are written.
    pub fn start(most: Option<u64>) -> Self {
        let (queue, chunks) = channel(QUEUED);
        let written = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&written);
        let thread = std::thread::spawn(move || write_all(chunks, &count));
        Self { queue, thread, written, queued: 0, most, dropped: 0 }
    }

    /// Events that may still be written.
    pub fn left(&self) -> Option<u64> {
        self.most.map(|most| most.saturating_sub(self.queued))
    }

    /// Waits for room, and takes text and events into the queue. Returns whether more is wanted.
    pub async fn put(&mut self, text: &mut String, events: &mut u64) -> bool {
        if text.is_empty() {
            return !self.has_ended();
        }
        // Nothing is taken before there is room: a signal may end the waiting.
        let Ok(room) = self.queue.reserve().await else { return false };
        let (text, events) = (std::mem::take(text), std::mem::take(events));
        room.send(Chunk { text, events });
        self.queued += events;
        self.left() != Some(0)
    }

    /// The same, not waiting long: what finds no room counts as unwritten.
    pub async fn put_soon(&mut self, text: &mut String, events: &mut u64) -> bool {
        let queued = tokio::time::timeout(PATIENCE, self.put(text, events)).await;
        if queued.is_err() {
            text.clear();
            self.dropped += std::mem::take(events);
        }
        queued.unwrap_or(false)
    }

    /// Completes when the reader is gone, or writing failed.
    pub async fn ended(&self) {
        self.queue.closed().await;
    }

    pub fn has_ended(&self) -> bool {
        self.queue.is_closed()
    }

    /// Waits until all is written, though not for a reader that is stuck.
    ///
    /// # Errors
    ///
    /// If writing failed for any reason but a reader that went away.
    pub fn finish(self) -> anyhow::Result<Done> {
        drop(self.queue);
        let since = std::time::Instant::now();
        while !self.thread.is_finished() && since.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
        if self.thread.is_finished() {
            self.thread.join().map_err(|_| anyhow::anyhow!("the output thread panicked"))??;
        }
        let written = self.written.load(Ordering::Relaxed);
        Ok(Done { written, unwritten: (self.queued + self.dropped).saturating_sub(written) })
    }
}

fn write_all(mut chunks: Receiver<Chunk>, written: &AtomicU64) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    while let Some(chunk) = chunks.blocking_recv() {
        match stdout.write_all(chunk.text.as_bytes()).and_then(|()| stdout.flush()) {
            Ok(()) => written.fetch_add(chunk.events, Ordering::Relaxed),
            // `| head` has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(error).context("cannot write to standard output"),
        };
    }
    Ok(())
}
