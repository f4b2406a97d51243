//! Standard output: the one place that writes to it. It distinguishes a gone reader from a full disk. A stuck reader
//! delays neither the producer nor the end.

use std::{
    io,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::write,
};
use tokio::sync::mpsc::{self, Permit, Receiver, Sender, error::TrySendError};

use crate::sys::signals::let_signals_end;

/// What is written at once, so that it shows whether the reader is stuck: a pipe takes so much whole or not at all.
const PIECE_BYTES: usize = libc::PIPE_BUF;
/// How long to wait at the end for a reader that takes nothing.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(1);
/// And for one that takes little, in all.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Writes the whole output of a command that is over with it. A signal ends the process while the reader is stuck.
///
/// # Errors
///
/// If writing failed for any reason but a reader that went away.
pub fn print(bytes: &[u8]) -> anyhow::Result<()> {
    let_signals_end()?;
    write_all(bytes, || {}).map(|_| ())
}

/// Text, and how many events it has.
pub struct Chunk {
    pub bytes: Vec<u8>,
    pub events: u64,
}

/// A thread that writes, behind a queue of few chunks.
pub struct Writer {
    queue: Sender<Chunk>,
    thread: JoinHandle<anyhow::Result<()>>,
    progress: Arc<Progress>,
}

#[derive(Default)]
struct Progress {
    events: AtomicU64,
    pieces: AtomicU64,
    /// Bytes that are queued, or being written.
    waiting_bytes: AtomicUsize,
}

/// What became of it all.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// Events that were written.
    pub events: u64,
    /// Whether the reader was given up.
    pub is_stuck: bool,
}

impl Writer {
    /// Starts the thread. So many chunks may wait.
    pub fn start(queued: usize) -> Self {
        let (queue, chunks) = mpsc::channel(queued);
        let progress = Arc::new(Progress::default());
        let made = Arc::clone(&progress);
        let thread = std::thread::spawn(move || write_chunks(chunks, &made));
        Self { queue, thread, progress }
    }

    /// Takes a chunk into the queue. Returns whether there was room, or nobody wants it any more.
    pub fn try_put(&self, chunk: Chunk) -> bool {
        let bytes = chunk.bytes.len();
        self.progress.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let is_full = matches!(self.queue.try_send(chunk), Err(TrySendError::Full(_)));
        if is_full {
            self.progress.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        !is_full
    }

    /// Bytes from [`Self::try_put`] that are not written yet.
    pub fn waiting_bytes(&self) -> usize {
        self.progress.waiting_bytes.load(Ordering::Relaxed)
    }

    /// Waits for room. None: nobody wants any more.
    pub async fn room(&self) -> Option<Permit<'_, Chunk>> {
        self.queue.reserve().await.ok()
    }

    /// Completes when the reader is gone, or writing failed.
    pub async fn ended(&self) {
        self.queue.closed().await;
    }

    pub fn has_ended(&self) -> bool {
        self.queue.is_closed()
    }

    /// Grows with each piece that the reader takes.
    pub fn pieces(&self) -> u64 {
        self.progress.pieces.load(Ordering::Relaxed)
    }

    /// Waits until all is written. If nettopd was asked to end, at `asked_at`, it gives up a stuck reader; else a signal
    /// ends the process.
    ///
    /// # Errors
    ///
    /// If writing failed for any reason but a reader that went away.
    pub fn finish(self, asked_at: Option<Instant>) -> anyhow::Result<Done> {
        let Self { queue, thread, progress } = self;
        let_signals_end()?;
        drop(queue);
        let (mut pieces, mut since) = (0, Instant::now());
        while let Some(asked_at) = asked_at
            && !thread.is_finished()
            && since.elapsed() < STALL_TIMEOUT
            && asked_at.elapsed() < DRAIN_TIMEOUT
        {
            std::thread::sleep(Duration::from_millis(1));
            let now = progress.pieces.load(Ordering::Relaxed);
            if now != pieces {
                (pieces, since) = (now, Instant::now());
            }
        }
        let is_stuck = asked_at.is_some() && !thread.is_finished();
        if !is_stuck {
            thread.join().map_err(|_| anyhow::anyhow!("the output thread panicked"))??;
        }
        Ok(Done { events: progress.events.load(Ordering::Relaxed), is_stuck })
    }
}

fn write_chunks(mut chunks: Receiver<Chunk>, progress: &Progress) -> anyhow::Result<()> {
    while let Some(chunk) = chunks.blocking_recv() {
        let wrote = || {
            progress.pieces.fetch_add(1, Ordering::Relaxed);
        };
        if !write_all(&chunk.bytes, wrote)? {
            return Ok(());
        }
        progress.events.fetch_add(chunk.events, Ordering::Relaxed);
        let _ = progress.waiting_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
            Some(waiting.saturating_sub(chunk.bytes.len()))
        });
    }
    Ok(())
}

/// Takes chunks when a test says so.
#[cfg(test)]
pub struct ByHand {
    chunks: Receiver<Chunk>,
    progress: Arc<Progress>,
}

#[cfg(test)]
impl ByHand {
    /// Takes a chunk, if there is one.
    pub fn take(&mut self) -> bool {
        let taken = self.chunks.try_recv();
        taken.is_ok_and(|chunk| self.progress.waiting_bytes.fetch_sub(chunk.bytes.len(), Ordering::Relaxed) > 0)
    }
}

#[cfg(test)]
impl Writer {
    pub fn by_hand(queued: usize) -> (Self, ByHand) {
        let (queue, chunks) = mpsc::channel(queued);
        let progress = Arc::new(Progress::default());
        let taken = ByHand { chunks, progress: Arc::clone(&progress) };
        (Self { queue, thread: std::thread::spawn(|| Ok(())), progress }, taken)
    }
}

/// Returns whether there is still a reader: `| head` has seen enough.
fn write_all(mut bytes: &[u8], wrote: impl Fn()) -> anyhow::Result<bool> {
    let stdout = io::stdout();
    while !bytes.is_empty() {
        match write(&stdout, piece(bytes)) {
            Ok(written) => {
                bytes = bytes.get(written..).unwrap_or_default();
                wrote();
            }
            Err(Errno::EINTR) => {}
            // Another user of the pipe or terminal may have made it so.
            Err(Errno::EAGAIN) => wait(&stdout)?,
            Err(Errno::EPIPE | Errno::ECONNRESET) => return Ok(false),
            Err(error) => return Err(io::Error::from(error)).context("cannot write to standard output"),
        }
    }
    Ok(true)
}

fn wait(output: &impl AsFd) -> anyhow::Result<()> {
    match poll(&mut [PollFd::new(output.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(io::Error::from(error)).context("cannot wait for standard output"),
    }
}

/// Whole lines, as many as go at once: giving up on a reader leaves no half line. A longer line goes in parts.
fn piece(text: &[u8]) -> &[u8] {
    let Some(most) = text.get(..PIECE_BYTES).filter(|most| most.len() < text.len()) else { return text };
    most.iter().rposition(|byte| *byte == b'\n').map_or(most, |end| &most[..=end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_whole_lines() {
        let text = format!("{}\n{}\n{}\nlast", "a".repeat(3000), "b".repeat(1000), "c".repeat(5000));
        let mut rest = text.as_bytes();
        let mut found = Vec::new();
        while !rest.is_empty() {
            found.push(piece(rest).len());
            rest = &rest[piece(rest).len()..];
        }
        assert_eq!(found, [4002, 4096, 5000 - 4096 + 1 + 4]);
        assert_eq!(piece(b""), b"");
    }
}
