//! Standard output, written by a thread of its own: a slow reader costs reports, never a reading.

use std::{
    io::{ErrorKind, Write as _},
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread::JoinHandle,
};

use anyhow::Context as _;
use tokio::sync::oneshot;

use super::{csv::csv, dropwatch, model::Snapshot, table::table};
use crate::cli::{DropsFormat, Format};

/// Reports that may wait for the reader.
const QUEUED: usize = 16;

/// What is written of each snapshot.
#[derive(Clone, Copy, Debug)]
pub enum Output {
    Report {
        format: Format,
        /// Also columns of drops in the table.
        drops: bool,
    },
    Drops {
        format: DropsFormat,
        /// Also frees that lost nothing.
        all: bool,
    },
}

impl Output {
    /// Whether anything of drops is written.
    pub const fn shows_drops(self) -> bool {
        !matches!(self, Self::Report { format: Format::Table, drops: false })
    }
}

/// Encodes snapshots and queues them.
pub struct Sink {
    output: Output,
    queue: SyncSender<Vec<u8>>,
    first: bool,
    /// Reports that found the queue full.
    pub skipped: u64,
}

/// The writing end.
pub struct Writer {
    thread: JoinHandle<anyhow::Result<()>>,
    /// Completes when the writer ends by itself: the reader is gone, or output failed.
    pub ended: oneshot::Receiver<()>,
}

impl Sink {
    /// Starts the writer.
    pub fn new(output: Output) -> (Self, Writer) {
        let (queue, reports) = sync_channel(QUEUED);
        let (end, ended) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let written = write_all(&reports);
            drop(reports);
            // The receiver is gone if the daemon is ending anyway.
            let _ = end.send(());
            written
        });
        (Self { output, queue, first: true, skipped: 0 }, Writer { thread, ended })
    }

    /// Queues a report, or counts it as skipped.
    ///
    /// # Errors
    ///
    /// If the snapshot cannot be encoded.
    pub fn put(&mut self, snapshot: &Snapshot) -> anyhow::Result<()> {
        match self.queue.try_send(self.encode(snapshot)?) {
            Ok(()) => self.first = false,
            Err(TrySendError::Full(_)) => self.skipped += 1,
            Err(TrySendError::Disconnected(_)) => {}
        }
        Ok(())
    }

    fn encode(&self, snapshot: &Snapshot) -> anyhow::Result<Vec<u8>> {
        let encoded = match self.output {
            Output::Report { format, drops } => match format {
                Format::Table => table(snapshot, drops).into_bytes(),
                Format::Json => [serde_json::to_vec_pretty(snapshot)?, vec![b'\n']].concat(),
                Format::Ndjson => [serde_json::to_vec(snapshot)?, vec![b'\n']].concat(),
                Format::Csv => csv(snapshot, self.first)?,
            },
            Output::Drops { format, all } => dropwatch::encode(snapshot, format, all, self.first)?,
        };
        Ok(encoded)
    }
}

impl Writer {
    /// Waits until everything queued is written.
    ///
    /// # Errors
    ///
    /// If writing failed for any reason but a reader that went away.
    pub fn finish(self, sink: Sink) -> anyhow::Result<()> {
        drop(sink);
        self.thread.join().map_err(|_| anyhow::anyhow!("the output thread panicked"))?
    }
}

fn write_all(reports: &Receiver<Vec<u8>>) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    for report in reports {
        match stdout.write_all(&report).and_then(|()| stdout.flush()) {
            Ok(()) => {}
            // `nettopd | head` has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(error).context("cannot write to standard output"),
        }
    }
    Ok(())
}
