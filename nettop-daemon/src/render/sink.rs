//! Reports on their way to standard output: a slow reader costs reports, never a reading.

use std::{
    io::{IsTerminal as _, stderr as error_output, stdout as output_stream},
    time::Instant,
};

use nettop_model::{Known, Snapshot};

use crate::{
    query::format::{Format, Output},
    render::{csv::csv, drops, table::table},
    sys::{
        stderr,
        stdout::{Chunk, Writer},
    },
};

/// Reports that may wait for the reader.
const MAX_QUEUED_REPORTS: usize = 16;
/// And their bytes, but for one that may be of any size.
const MAX_QUEUED_BYTES: usize = 64 << 20;

/// Encodes snapshots and queues them.
pub struct Sink {
    output: Output,
    writer: Writer,
    first: bool,
    /// Whether somebody who sees the first table is told of the full-screen view.
    names_top: bool,
    /// What the reader knows from the reports before.
    known: Known,
    /// Reports that were queued.
    queued: u64,
    /// Reports that found the queue full.
    pub skipped: u64,
}

impl Sink {
    /// Starts the writer.
    pub fn new(output: Output) -> Self {
        Self {
            output,
            writer: Writer::start(MAX_QUEUED_REPORTS),
            first: true,
            names_top: output.is_table() && output_stream().is_terminal() && error_output().is_terminal(),
            known: Known::default(),
            queued: 0,
            skipped: 0,
        }
    }

    /// Queues a report, or counts it as skipped.
    ///
    /// # Errors
    ///
    /// If the snapshot cannot be encoded.
    pub fn put(&mut self, snapshot: &Snapshot) -> anyhow::Result<()> {
        // Only the writer changes it meanwhile, and only to less.
        let waiting = self.writer.waiting_bytes();
        if waiting >= MAX_QUEUED_BYTES {
            self.skipped += 1;
            return Ok(());
        }
        let report = self.encode(snapshot)?;
        if std::mem::take(&mut self.names_top) {
            stderr::print("'nettopd top' shows this on the whole screen");
        }
        let has_room = waiting == 0 || waiting + report.len() <= MAX_QUEUED_BYTES;
        if has_room && self.writer.try_put(Chunk { bytes: report, events: 1 }) {
            self.first = false;
            if self.output.leaves_out_known() {
                self.known = Known::after(snapshot);
            }
            self.queued += 1;
        } else {
            self.skipped += 1;
        }
        Ok(())
    }

    /// Leaves nothing out of the next report: who reads only the last has all in it.
    pub fn repeat_all(&mut self) {
        self.known = Known::default();
    }

    /// Completes when the reader is gone, or output failed.
    pub async fn ended(&self) {
        self.writer.ended().await;
    }

    /// Waits until everything queued is written; once nettopd was asked to end, not for a stuck reader.
    ///
    /// # Errors
    ///
    /// If writing failed for any reason but a reader that went away.
    pub fn finish(self, asked_at: Option<Instant>) -> anyhow::Result<()> {
        let done = self.writer.finish(asked_at)?;
        if done.is_stuck {
            let unwritten = self.queued - done.events;
            stderr::print(&format!("{unwritten} reports are not written: nobody reads standard output"));
        }
        Ok(())
    }

    fn encode(&self, snapshot: &Snapshot) -> anyhow::Result<Vec<u8>> {
        let encoded = match self.output {
            Output::Report { format, columns, whole } => match format {
                Format::Table => table(snapshot, columns).into_bytes(),
                Format::Json => [serde_json::to_vec_pretty(snapshot)?, vec![b'\n']].concat(),
                Format::Ndjson if whole => [serde_json::to_vec(snapshot)?, vec![b'\n']].concat(),
                Format::Ndjson => [serde_json::to_vec(&self.known.changes(snapshot.clone()))?, vec![b'\n']].concat(),
                Format::Csv => csv(snapshot, self.first)?,
            },
            Output::Drops(wanted) => drops::encode(snapshot, wanted, self.first)?,
        };
        Ok(encoded)
    }
}

#[cfg(test)]
mod tests {
    use nettop_model::snapshot::HookReport;

    use super::*;
    use crate::query::format::Columns;

    /// A report of that many bytes, about.
    fn snapshot(bytes: usize) -> Snapshot {
        Snapshot { host: "x".repeat(bytes), ..crate::example::snapshot(0) }
    }

    #[test]
    fn the_report_behind_repeat_all_leaves_nothing_out() {
        let (writer, _reader) = Writer::by_hand(MAX_QUEUED_REPORTS);
        let output = Output::Report { format: Format::Ndjson, columns: Columns::default(), whole: false };
        let mut sink = Sink { writer, ..Sink::new(output) };
        let hook = HookReport { purpose: "app tx".into(), attached: true, kind: "k".into(), reason: None };
        let snapshot = Snapshot { hooks: vec![hook], ..snapshot(1) };
        let hooks = |sink: &Sink| {
            let report: Snapshot = serde_json::from_slice(&sink.encode(&snapshot).unwrap()).unwrap();
            report.hooks.len()
        };
        assert_eq!(hooks(&sink), 1);
        sink.put(&snapshot).unwrap();
        assert_eq!(hooks(&sink), 0, "known from the report before");
        sink.repeat_all();
        assert_eq!(hooks(&sink), 1);
    }

    #[test]
    fn reports_wait_by_number_and_bytes_and_one_may_be_large() {
        let (writer, mut reader) = Writer::by_hand(MAX_QUEUED_REPORTS);
        let output = Output::Report { format: Format::Json, columns: Columns::default(), whole: false };
        let mut sink = Sink { writer, ..Sink::new(output) };
        let mut take = || assert!(reader.take());
        sink.put(&snapshot(MAX_QUEUED_BYTES + 1)).unwrap();
        sink.put(&snapshot(1)).unwrap();
        assert_eq!(sink.skipped, 1, "it is alone");
        take();
        for _ in 0..4 {
            sink.put(&snapshot(MAX_QUEUED_BYTES / 3)).unwrap();
        }
        assert_eq!(sink.skipped, 3, "two fit, and what else is in them");
        take();
        take();
        for _ in 0..=MAX_QUEUED_REPORTS {
            sink.put(&snapshot(1)).unwrap();
        }
        assert_eq!(sink.skipped, 4);
        (0..MAX_QUEUED_REPORTS).for_each(|_| take());
        assert_eq!((reader.take(), sink.writer.waiting_bytes()), (false, 0));
    }
}
