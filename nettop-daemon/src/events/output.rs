//! Standard output of a stream: which events were written, and which found no reader in time.

use std::time::Instant;

use crate::sys::stdout::{Chunk, DRAIN_TIMEOUT, STALL_TIMEOUT, Writer};

/// Chunks that may wait.
const MAX_QUEUED_CHUNKS: usize = 4;

/// The queue, and what becomes of it.
pub struct Output {
    writer: Writer,
    queued: u64,
    most: Option<u64>,
    /// Events that found no place in the queue in time.
    dropped: u64,
    /// At the end the reader took nothing.
    is_stuck: bool,
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
        Self { writer: Writer::start(MAX_QUEUED_CHUNKS), queued: 0, most, dropped: 0, is_stuck: false }
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
        let Some(room) = self.writer.room().await else { return false };
        let (text, events) = (std::mem::take(text), std::mem::take(events));
        room.send(Chunk { bytes: text.into_bytes(), events });
        self.queued += events;
        self.left() != Some(0)
    }

    /// The same after a signal, as long as the reader takes something: what finds no room counts as unwritten.
    pub async fn put_soon(&mut self, text: &mut String, events: &mut u64, asked_at: Instant) -> bool {
        loop {
            if self.is_stuck {
                text.clear();
                self.dropped += std::mem::take(events);
                return false;
            }
            let pieces = self.writer.pieces();
            match tokio::time::timeout(STALL_TIMEOUT, self.put(text, events)).await {
                Ok(goes_on) => return goes_on,
                Err(_) if self.writer.pieces() != pieces && asked_at.elapsed() < DRAIN_TIMEOUT => {}
                Err(_) => self.is_stuck = true,
            }
        }
    }

    /// Completes when the reader is gone, or writing failed.
    pub async fn ended(&self) {
        self.writer.ended().await;
    }

    pub fn has_ended(&self) -> bool {
        self.writer.has_ended()
    }

    /// Waits until all is written; after a signal, not for a reader that is stuck.
    ///
    /// # Errors
    ///
    /// If writing failed for any reason but a reader that went away.
    pub fn finish(self, asked_at: Option<Instant>) -> anyhow::Result<Done> {
        let Self { writer, queued, dropped, .. } = self;
        let written = writer.finish(asked_at)?.events;
        Ok(Done { written, unwritten: (queued + dropped).saturating_sub(written) })
    }
}
