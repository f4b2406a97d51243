//! Commands that print events one by one as they happen: from the kernel's ring to lines on standard output, until they are
//! interrupted. A slow reader costs events, which are counted; never memory.

mod output;

use std::time::Duration;

use anyhow::Context as _;
use bytemuck::Pod;
use nix::sys::signal::Signal;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use nettop_kernel::events::{Events, Loss, Source};

use self::output::Output;
use crate::{
    render::head,
    sys::{descriptors, runtime, signals::Signals, stderr},
};

/// Text that is gathered before it is written.
const CHUNK_BYTES: usize = 64 * 1024;
/// Events that are taken before signals are looked for.
const MAX_EVENTS_PER_ROUND: usize = 4096;
/// Programs that run while their hook is removed may still report something.
const DETACH_GRACE: Duration = Duration::from_millis(20);

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

/// What a command makes of its events.
pub trait Lines {
    type Event: Pod;

    /// What precedes the lines: nettopd is listening from then on.
    fn header(&self, text: &mut String);

    /// Appends an event if it was asked for. Returns whether.
    fn event(&mut self, event: &Self::Event, text: &mut String) -> bool;

    fn form(&self) -> head::Form;

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
    ring: Events,
    lines: L,
    /// What is to be written, and how many events it has.
    text: String,
    pending: u64,
    seen: u64,
    lost: Loss,
}

/// Writes lines until a signal, until the reader has gone, or until `most` lines are written; then a summary. Returns which
/// of these it was.
///
/// # Errors
///
/// If the ring cannot be read, or for any fault of standard output but a reader that went away.
pub fn run<L: Lines>(ring: Events, source: &mut dyn Source, lines: L, most: Option<u64>) -> anyhow::Result<End> {
    let mut flow = Flow { ring, lines, text: String::new(), pending: 0, seen: 0, lost: Loss::default() };
    let mut output = Output::start(most);
    let (is_wanted, end, asked_at) = runtime::start()?.block_on(async {
        let mut signals = Signals::watch()?;
        let mut end = flow.watch(source, &mut output, &mut signals).await?;
        // A second signal ends it without waiting for a slow reader.
        if let Some(asked) = signals.let_through().await? {
            end = End::Asked(asked);
        }
        let asked_at = matches!(end, End::Asked(_)).then(Instant::now);
        let is_wanted = !output.has_ended();
        source.detach();
        tokio::time::sleep(DETACH_GRACE).await;
        if is_wanted {
            flow.empty(source, &mut output, asked_at).await?;
        }
        anyhow::Ok((is_wanted, end, asked_at))
    })?;
    let done = output.finish(asked_at.map(Instant::into_std))?;
    if is_wanted {
        let Loss { events, runs_skipped } = flow.lost;
        let (seen, lost) = (flow.seen + events, events + done.unwritten);
        stderr::print(&format!("{seen} seen, {} shown, {lost} lost", done.written));
        if runs_skipped > 0 {
            stderr::print(&format!("the kernel skipped {runs_skipped} runs of hooks; some events may be missing"));
        }
    }
    Ok(end)
}

impl<L: Lines> Flow<L> {
    /// Writes what comes, until there is a reason to end.
    async fn watch(
        &mut self,
        source: &mut dyn Source,
        output: &mut Output,
        signals: &mut Signals,
    ) -> anyhow::Result<End> {
        let ready = descriptors::watch(&self.ring).context("cannot watch the ring")?;
        let mut ticks = interval_at(Instant::now() + Duration::from_secs(1), Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        self.lines.header(&mut self.text);
        loop {
            let is_empty = self.read(output.left());
            if !self.text.is_empty() {
                tokio::select! {
                    biased;
                    asked = signals.next() => return Ok(End::Asked(asked)),
                    goes_on = output.put(&mut self.text, &mut self.pending) => if !goes_on { return Ok(End::Enough) },
                }
            }
            if self.lines.is_done() {
                return Ok(End::Done);
            }
            tokio::select! {
                asked = signals.next() => return Ok(End::Asked(asked)),
                () = output.ended() => return Ok(End::Enough),
                _ = ticks.tick() => self.tick(source, false, output.left())?,
                found = ready.readable(), if is_empty => found.context("cannot watch the ring")?.clear_ready(),
                () = std::future::ready(()), if !is_empty => {}
            }
        }
    }

    /// Writes what waits in the ring, unless nobody reads it, and the last lines.
    async fn empty(
        &mut self,
        source: &mut dyn Source,
        output: &mut Output,
        asked_at: Option<Instant>,
    ) -> anyhow::Result<()> {
        let mut is_empty = false;
        while !is_empty && output.left() != Some(0) {
            is_empty = self.read(output.left());
            self.put(output, asked_at).await;
        }
        self.tick(source, true, output.left())?;
        self.put(output, asked_at).await;
        Ok(())
    }

    /// After a signal, events for a stuck reader are only counted.
    async fn put(&mut self, output: &mut Output, asked_at: Option<Instant>) {
        match asked_at {
            Some(asked_at) => output.put_soon(&mut self.text, &mut self.pending, asked_at.into_std()).await,
            None => output.put(&mut self.text, &mut self.pending).await,
        };
    }

    /// Takes events until there are none, or enough for now. Returns whether there are none.
    fn read(&mut self, most: Option<u64>) -> bool {
        for _ in 0..MAX_EVENTS_PER_ROUND {
            if self.text.len() >= CHUNK_BYTES || most.is_some_and(|most| self.pending >= most) {
                return false;
            }
            let Some(event) = self.ring.pop() else { return true };
            self.seen += 1;
            self.pending += u64::from(self.lines.event(&event, &mut self.text));
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
