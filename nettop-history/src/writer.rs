//! The thread that writes. Handing over a slot never waits: what the file does not take is kept for a while, then given up
//! and counted.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel},
    },
    time::{Duration, Instant},
};

use crate::{
    limits::Limits,
    moment::unix_now_s,
    slot::Slot,
    store::{Origin, Store},
    trouble::Trouble,
};

/// Slots that wait for a writer that is busy, and those that it keeps while the file cannot take them: five minutes.
const MAX_WAITING_SLOTS: usize = 8;
const MAX_KEPT_SLOTS: usize = 30;
/// Cause of loss for what the file did not take.
const SHED: &str = "history_shed";
/// How long an end waits for a disk.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// The end that measures.
pub struct Writer {
    queue: SyncSender<Slot>,
    shed: Arc<AtomicU64>,
    state: Arc<Mutex<State>>,
    pending: Arc<Pending>,
    done: Receiver<()>,
}

/// What was handed over, and is neither written nor shed.
#[derive(Default)]
struct Pending {
    slots: AtomicU64,
    rows: AtomicU64,
}

impl Pending {
    fn add(&self, slot: &Slot) {
        self.slots.fetch_add(1, Ordering::Relaxed);
        self.rows.fetch_add(slot.rows(), Ordering::Relaxed);
    }

    fn remove(&self, slot: &Slot) {
        self.slots.fetch_sub(1, Ordering::Relaxed);
        self.rows.fetch_sub(slot.rows(), Ordering::Relaxed);
    }

    fn slots_and_rows(&self) -> (u64, u64) {
        (self.slots.load(Ordering::Relaxed), self.rows.load(Ordering::Relaxed))
    }
}

/// Shared by both ends. Locked for moments only, and never while waiting for the file.
struct State {
    /// What the file is to keep from now on.
    limits: Limits,
    is_in_trouble: bool,
    /// When the last flush succeeded.
    sound_at: Instant,
}

struct Thread {
    path: PathBuf,
    limits: Limits,
    state: Arc<Mutex<State>>,
    origin: Origin,
    /// When this run began; opening the file again keeps it.
    started: i64,
    store: Option<Store>,
    waiting: VecDeque<Slot>,
    /// The mark of the last slot.
    flush: i64,
    /// A write that may or may not have arrived.
    attempt: Option<Attempt>,
    shed: Arc<AtomicU64>,
    pending: Arc<Pending>,
    /// How many shed readings the file has recorded.
    recorded: u64,
    /// The last message, so that it is logged once.
    trouble: Option<String>,
}

/// A write, by its last slot.
struct Attempt {
    ts: i64,
    flush: i64,
    /// Readings of its slots that were given up since.
    shed: u64,
    /// How many shed readings it records.
    recorded: u64,
}

impl Writer {
    /// Starts the thread, which opens the file.
    pub fn start(path: PathBuf, limits: Limits, origin: Origin) -> Self {
        let (queue, slots) = sync_channel(MAX_WAITING_SLOTS);
        let (ended, done) = channel();
        let shed = Arc::new(AtomicU64::new(0));
        let state = Arc::new(Mutex::new(State { limits, is_in_trouble: false, sound_at: Instant::now() }));
        let pending = Arc::new(Pending::default());
        let mut thread = Thread {
            path,
            limits,
            state: Arc::clone(&state),
            origin,
            started: unix_now_s(),
            store: None,
            waiting: VecDeque::new(),
            // No number that another writer used.
            flush: unix_now_s() << 20,
            attempt: None,
            shed: Arc::clone(&shed),
            pending: Arc::clone(&pending),
            recorded: 0,
            trouble: None,
        };
        let started = std::thread::Builder::new().name("history".into()).spawn(move || {
            thread.run(&slots);
            // Nobody waits any more if the end took too long.
            let _ = ended.send(());
        });
        if let Err(error) = started {
            // With nobody to take them, all slots are shed.
            tracing::warn!("history: no thread can be started ({error}); counting goes on, and nothing is recorded");
        }
        Self { queue, shed, state, pending, done }
    }

    /// Keeps so much from the next write on.
    pub fn set_limits(&self, limits: Limits) {
        lock(&self.state).limits = limits;
    }

    /// Whether the last write failed.
    pub fn is_in_trouble(&self) -> bool {
        lock(&self.state).is_in_trouble
    }

    /// Seconds since the file took something.
    pub fn silent_s(&self) -> u64 {
        lock(&self.state).sound_at.elapsed().as_secs()
    }

    /// Hands over a slot, or counts its readings as shed.
    pub fn put(&self, slot: Slot) {
        self.pending.add(&slot);
        if let Err(TrySendError::Full(slot) | TrySendError::Disconnected(slot)) = self.queue.try_send(slot) {
            self.pending.remove(&slot);
            self.shed.fetch_add(slot.tick.readings, Ordering::Relaxed);
        }
    }

    /// Readings that are not in the file and never will be.
    pub fn shed(&self) -> u64 {
        self.shed.load(Ordering::Relaxed)
    }

    /// Waits until everything is written, but not long. Returns how many slots, and rows in them, are not.
    pub fn finish(self) -> (u64, u64) {
        let Self { queue, pending, done, .. } = self;
        drop(queue);
        let timeout = matches!(done.recv_timeout(SHUTDOWN_TIMEOUT), Err(RecvTimeoutError::Timeout));
        let (slots, rows) = pending.slots_and_rows();
        let why = if timeout { ": its disk does not answer" } else { "" };
        if slots > 0 {
            tracing::warn!("history: {slots} slots with {rows} rows were not written{why}");
        }
        (slots, rows)
    }
}

impl Thread {
    fn run(&mut self, slots: &Receiver<Slot>) {
        // At once, so that an error is logged now, and the session begins now.
        self.flush(true);
        while let Ok(slot) = slots.recv() {
            self.take(slot);
            while let Ok(slot) = slots.try_recv() {
                self.take(slot);
            }
            self.flush(true);
        }
        if let Some(store) = self.store.take()
            && let Err(trouble) = store.finish(unix_now_s())
        {
            tracing::warn!("history: {trouble}");
        }
    }

    fn take(&mut self, mut slot: Slot) {
        if self.waiting.len() == MAX_KEPT_SLOTS
            && let Some(oldest) = self.waiting.pop_front()
        {
            self.pending.remove(&oldest);
            self.shed.fetch_add(oldest.tick.readings, Ordering::Relaxed);
            if let Some(attempt) = self.attempt.as_mut().filter(|attempt| oldest.flush <= attempt.flush) {
                attempt.shed += oldest.tick.readings;
            }
        }
        self.flush += 1;
        slot.flush = self.flush;
        self.waiting.push_back(slot);
    }

    fn flush(&mut self, may_set_aside: bool) {
        let limits = lock(&self.state).limits;
        if limits != self.limits {
            // It is opened again with them.
            self.limits = limits;
            self.store = None;
        }
        let flushed = self.try_flush();
        let mut state = lock(&self.state);
        state.is_in_trouble = flushed.is_err();
        if flushed.is_ok() {
            state.sound_at = Instant::now();
        }
        drop(state);
        match flushed {
            Ok(()) => {
                if self.trouble.take().is_some() {
                    tracing::warn!("history: {} is written again", self.path.display());
                }
            }
            Err(trouble) => self.fail(&trouble, may_set_aside),
        }
    }

    fn try_flush(&mut self) -> Result<(), Trouble> {
        let store = match &mut self.store {
            Some(store) => store,
            none => none.insert(Store::open(&self.path, self.limits, &self.origin, self.started)?),
        };
        if let Some(attempt) = &self.attempt {
            if store.has(attempt.ts, attempt.flush)? {
                self.waiting
                    .iter()
                    .filter(|slot| slot.flush <= attempt.flush)
                    .for_each(|slot| self.pending.remove(slot));
                self.waiting.retain(|slot| slot.flush > attempt.flush);
                self.shed.fetch_sub(attempt.shed, Ordering::Relaxed);
                self.recorded = attempt.recorded;
            }
            self.attempt = None;
        }
        let shed = self.shed.load(Ordering::Relaxed);
        let more = shed.saturating_sub(self.recorded);
        let slots = self.waiting.make_contiguous();
        let Some(last) = slots.last_mut() else { return Ok(()) };
        // Only for this attempt: the slot may be shed before one succeeds, and this count with it.
        if more > 0 {
            last.losses.insert(SHED, more);
        }
        self.attempt = Some(Attempt { ts: last.ts, flush: last.flush, shed: 0, recorded: shed });
        let result = store.write(slots);
        if let Some(last) = slots.last_mut() {
            last.losses.remove(SHED);
        }
        result?;
        self.recorded = shed;
        self.attempt = None;
        self.waiting.drain(..).for_each(|slot| self.pending.remove(&slot));
        Ok(())
    }

    /// For any error, the next slot is another chance.
    fn fail(&mut self, trouble: &Trouble, may_set_aside: bool) {
        let text = trouble.to_string();
        if self.trouble.as_ref() != Some(&text) {
            tracing::warn!("history: {text}; counting goes on, and at most {MAX_KEPT_SLOTS} slots wait");
            self.trouble = Some(text);
        }
        if !matches!(trouble, Trouble::Full | Trouble::Quota(_) | Trouble::Disk | Trouble::Pinned(_)) {
            self.store = None;
        }
        if let Trouble::Corrupt(_) = trouble
            && may_set_aside
        {
            match Store::set_aside(&self.path) {
                Ok(aside) => {
                    tracing::warn!("history: set aside as {}", aside.display());
                    self.flush(false);
                }
                Err(trouble) => tracing::warn!("history: cannot set it aside: {trouble}"),
            }
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
