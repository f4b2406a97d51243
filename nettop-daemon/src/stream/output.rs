//! Standard output of a stream: a thread that writes, behind a queue of few chunks.

use std::{
    io::{ErrorKind, Write as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Chunks that may wait.
const QUEUED: usize = 4;
/// What is written at once, so that it shows whether the reader is stuck: a pipe takes so much whole or not at all.
const PIECE_BYTES: usize = libc::PIPE_BUF;
/// How long, at the end, a reader is waited for that takes nothing.
const PATIENCE: Duration = Duration::from_secs(1);
/// And one that takes little, for all together.
const ENDING: Duration = Duration::from_secs(10);

struct Chunk {
    text: String,
    events: u64,
}

/// The queue, and what becomes of it.
pub struct Output {
    queue: Sender<Chunk>,
    thread: JoinHandle<anyhow::Result<()>>,
    progress: Arc<Progress>,
    queued: u64,
    most: Option<u64>,
    /// Events that found no place in the queue in time.
    dropped: u64,
    /// At the end the reader took nothing.
    is_stuck: bool,
    /// Since when the end is under way.
    ending: Option<Instant>,
}

#[derive(Default)]
struct Progress {
    events: AtomicU64,
    pieces: AtomicU64,
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
        let progress = Arc::new(Progress::default());
        let made = Arc::clone(&progress);
        let thread = std::thread::spawn(move || write_all(chunks, &made));
        Self { queue, thread, progress, queued: 0, most, dropped: 0, is_stuck: false, ending: None }
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

    /// The same, as long as the reader takes something: what finds no room counts as unwritten.
    pub async fn put_soon(&mut self, text: &mut String, events: &mut u64) -> bool {
        let ending = *self.ending.get_or_insert_with(Instant::now);
        loop {
            if self.is_stuck {
                text.clear();
                self.dropped += std::mem::take(events);
                return false;
            }
            let pieces = self.pieces();
            match tokio::time::timeout(PATIENCE, self.put(text, events)).await {
                Ok(goes_on) => return goes_on,
                Err(_) if self.pieces() != pieces && ending.elapsed() < ENDING => {}
                Err(_) => self.is_stuck = true,
            }
        }
    }

    fn pieces(&self) -> u64 {
        self.progress.pieces.load(Ordering::Relaxed)
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
        let Self { queue, thread, progress, queued, dropped, ending, .. } = self;
        let ending = ending.unwrap_or_else(Instant::now);
        drop(queue);
        let (mut pieces, mut since) = (0, Instant::now());
        while !thread.is_finished() && since.elapsed() < PATIENCE && ending.elapsed() < ENDING {
            std::thread::sleep(Duration::from_millis(1));
            let now = progress.pieces.load(Ordering::Relaxed);
            if now != pieces {
                (pieces, since) = (now, Instant::now());
            }
        }
        if thread.is_finished() {
            thread.join().map_err(|_| anyhow::anyhow!("the output thread panicked"))??;
        }
        let written = progress.events.load(Ordering::Relaxed);
        Ok(Done { written, unwritten: (queued + dropped).saturating_sub(written) })
    }
}

fn write_all(mut chunks: Receiver<Chunk>, progress: &Progress) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    while let Some(chunk) = chunks.blocking_recv() {
        for piece in pieces(chunk.text.as_bytes()) {
            match stdout.write_all(piece).and_then(|()| stdout.flush()) {
                Ok(()) => progress.pieces.fetch_add(1, Ordering::Relaxed),
                // `| head` has seen enough.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                Err(error) => return Err(error).context("cannot write to standard output"),
            };
        }
        progress.events.fetch_add(chunk.events, Ordering::Relaxed);
    }
    Ok(())
}

/// Whole lines, as many as go at once: whoever gives up on a reader leaves no half line.
fn pieces(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let most = rest.get(..PIECE_BYTES).unwrap_or(rest);
        // A line that is longer goes in parts.
        let end = if most.len() == rest.len() {
            rest.len()
        } else {
            most.iter().rposition(|byte| *byte == b'\n').map_or(most.len(), |at| at + 1)
        };
        let (piece, left) = rest.split_at(end);
        rest = left;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_whole_lines() {
        let text = format!("{}\n{}\n{}\nlast", "a".repeat(3000), "b".repeat(1000), "c".repeat(5000));
        let found: Vec<_> = pieces(text.as_bytes()).map(<[u8]>::len).collect();
        assert_eq!(found, [4002, 4096, 5000 - 4096 + 1 + 4]);
        assert_eq!(pieces(b"").count(), 0);
    }
}
