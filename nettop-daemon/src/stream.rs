//! Commands that tell events one by one as they happen: from the kernel's ring to lines on standard output, until they are
//! interrupted. A slow reader costs events, which are counted; never memory.

mod books;
pub mod filter;
pub mod head;
mod output;

use std::{io::Write as _, os::fd::AsFd as _, time::Duration};

use anyhow::Context as _;
use aya::maps::{MapData, RingBuf};
use bytemuck::Pod;
use nix::sys::signal::{self, SigHandler, Signal};
use tokio::{
    io::unix::AsyncFd,
    signal::unix::{SignalKind, signal as signals},
    time::{Instant, MissedTickBehavior, interval_at},
};

pub use books::Books;
use filter::StreamFormat;
use output::Output;

use crate::kernel::telling::Loss;

/// Text that is gathered before it is written.
const CHUNK_BYTES: usize = 64 * 1024;
/// Events that are taken before signals are looked for.
const ROUND: usize = 4096;
/// Programs that run while their hook is removed may still tell something.
const LAST_WORDS: Duration = Duration::from_millis(20);

/// Why a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By this signal.
    Asked(Signal),
    /// There is nothing more to wait for.
    Done,
    /// The reader has gone, or all lines that were wanted are written.
    Enough,
}

/// Where events come from.
pub trait Source {
    /// What the kernel could not tell so far.
    fn lost(&mut self) -> Loss;
    /// Ends telling. What is in the ring stays there.
    fn detach(&mut self);
}

/// What a command makes of its events.
pub trait Lines {
    type Event: Pod;

    /// What precedes the lines: nettopd is listening from then on.
    fn header(&self, text: &mut String);

    /// Appends an event, if it was asked for, and says whether.
    fn event(&mut self, event: &Self::Event, text: &mut String) -> bool;

    /// How it writes, and what its columns are in CSV.
    fn form(&self) -> (StreamFormat, &'static [&'static str]);

    /// Called each second, and at the end. Returns how many events it made and appended: `most` at most.
    fn tick(&mut self, _at_end: bool, _most: Option<u64>, _text: &mut String) -> anyhow::Result<u64> {
        Ok(0)
    }

    /// Whether there is nothing more to wait for.
    fn is_done(&self) -> bool {
        false
    }
}

/// Events on their way.
struct Flow<L> {
    ring: RingBuf<MapData>,
    lines: L,
    /// What is to be written, and how many events it tells.
    text: String,
    pending: u64,
    seen: u64,
    lost: Loss,
}

/// Writes lines until nettopd is told to end, the reader has gone, or `most` lines are written; then a summary. Returns
/// which of these it was.
///
/// # Errors
///
/// If reading or writing fails.
pub fn run<L: Lines>(
    ring: RingBuf<MapData>,
    source: &mut dyn Source,
    lines: L,
    most: Option<u64>,
) -> anyhow::Result<End> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let mut flow = Flow { ring, lines, text: String::new(), pending: 0, seen: 0, lost: Loss::default() };
    let mut output = Output::start(most);
    let (is_wanted, end) = runtime.block_on(async {
        let end = flow.watch(source, &mut output).await?;
        for again in [Signal::SIGINT, Signal::SIGTERM] {
            // Whoever asks twice does not want to wait for a slow reader.
            // SAFETY: the default action is no code of ours.
            unsafe { signal::signal(again, SigHandler::SigDfl) }.context("cannot let signals through")?;
        }
        let is_wanted = !output.has_ended();
        source.detach();
        tokio::time::sleep(LAST_WORDS).await;
        if is_wanted {
            flow.empty(source, &mut output).await?;
        }
        anyhow::Ok((is_wanted, end))
    })?;
    let done = output.finish()?;
    if is_wanted {
        let Loss { events, runs_skipped } = flow.lost;
        let (seen, lost) = (flow.seen + events, events + done.unwritten);
        // Standard error may be closed.
        let mut errors = std::io::stderr();
        let _ = writeln!(errors, "nettopd: {seen} seen, {} shown, {lost} lost", done.written);
        if runs_skipped > 0 {
            let _ = writeln!(
                errors,
                "nettopd: the kernel skipped {runs_skipped} runs of hooks; some events may be missing"
            );
        }
    }
    Ok(end)
}

impl<L: Lines> Flow<L> {
    /// Writes what comes, until somebody wants no more of it.
    async fn watch(&mut self, source: &mut dyn Source, output: &mut Output) -> anyhow::Result<End> {
        let mut interrupt = signals(SignalKind::interrupt()).context("cannot handle SIGINT")?;
        let mut terminate = signals(SignalKind::terminate()).context("cannot handle SIGTERM")?;
        let descriptor = self.ring.as_fd().try_clone_to_owned().context("cannot watch the ring")?;
        // SAFETY: the descriptor is given away and stays open until it is no longer watched.
        let ready = unsafe { AsyncFd::register(descriptor) }.context("cannot watch the ring")?;
        let mut ticks = interval_at(Instant::now() + Duration::from_secs(1), Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        self.lines.header(&mut self.text);
        loop {
            let is_empty = self.read(output.left());
            if !self.text.is_empty() {
                tokio::select! {
                    biased;
                    _ = interrupt.recv() => return Ok(End::Asked(Signal::SIGINT)),
                    _ = terminate.recv() => return Ok(End::Asked(Signal::SIGTERM)),
                    goes_on = output.put(&mut self.text, &mut self.pending) => if !goes_on { return Ok(End::Enough) },
                }
            }
            if self.lines.is_done() {
                return Ok(End::Done);
            }
            tokio::select! {
                _ = interrupt.recv() => return Ok(End::Asked(Signal::SIGINT)),
                _ = terminate.recv() => return Ok(End::Asked(Signal::SIGTERM)),
                () = output.ended() => return Ok(End::Enough),
                _ = ticks.tick() => self.tick(source, false, output.left())?,
                found = ready.readable(), if is_empty => found.context("cannot watch the ring")?.clear_ready(),
                () = std::future::ready(()), if !is_empty => {}
            }
        }
    }

    /// Writes what waits in the ring, unless nobody reads it, and what there is to say at the end.
    async fn empty(&mut self, source: &mut dyn Source, output: &mut Output) -> anyhow::Result<()> {
        let mut is_empty = false;
        while !is_empty && output.left() != Some(0) {
            is_empty = self.read(output.left());
            // For a reader that is stuck this only counts.
            output.put_soon(&mut self.text, &mut self.pending).await;
        }
        self.tick(source, true, output.left())?;
        output.put_soon(&mut self.text, &mut self.pending).await;
        Ok(())
    }

    /// Takes events until there are none, or enough for now. Returns whether there are none.
    fn read(&mut self, most: Option<u64>) -> bool {
        for _ in 0..ROUND {
            if self.text.len() >= CHUNK_BYTES || most.is_some_and(|most| self.pending >= most) {
                return false;
            }
            let Some(item) = self.ring.next() else { return true };
            self.seen += 1;
            // The kernel pads what is not as long as a word.
            if let Some(event) = item.get(..size_of::<L::Event>()) {
                self.pending += u64::from(self.lines.event(&bytemuck::pod_read_unaligned(event), &mut self.text));
            }
        }
        false
    }

    fn tick(&mut self, source: &mut dyn Source, at_end: bool, left: Option<u64>) -> anyhow::Result<()> {
        let lost = source.lost();
        if lost != self.lost {
            head::push_loss(&mut self.text, self.lines.form(), lost - self.lost);
            self.lost = lost;
        }
        let most = left.map(|left| left.saturating_sub(self.pending));
        let made = self.lines.tick(at_end, most, &mut self.text)?;
        self.seen += made;
        self.pending += made;
        Ok(())
    }
}
