//! What goes to the terminal, written by a thread of its own: a terminal that takes nothing stops neither keys nor signals.

use std::{
    io::{self, Write as _},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

/// How long a terminal that takes nothing is waited for at the end.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Shared with the thread.
#[derive(Default)]
pub struct Output {
    state: Mutex<Pending>,
    changed: Condvar,
    happened: Notify,
}

#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    is_writing: bool,
    /// Nothing more is taken.
    is_closed: bool,
    /// Why the program has to end.
    fault: Option<String>,
}

impl Output {
    /// Starts the thread, which ends with nettopd.
    pub fn start() -> Arc<Self> {
        let output = Arc::new(Self::default());
        let writer = Arc::clone(&output);
        std::thread::spawn(move || writer.write());
        output
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) {
        loop {
            let mut pending = self.lock();
            while pending.bytes.is_empty() {
                pending = self.changed.wait(pending).unwrap_or_else(PoisonError::into_inner);
            }
            let bytes = std::mem::take(&mut pending.bytes);
            pending.is_writing = true;
            drop(pending);
            let mut stdout = io::stdout().lock();
            let written = stdout.write_all(&bytes).and_then(|()| stdout.flush());
            drop(stdout);
            let mut pending = self.lock();
            pending.is_writing = false;
            if let Err(error) = written {
                pending.fault.get_or_insert(format!("cannot write to the terminal: {error}"));
            }
            drop(pending);
            self.changed.notify_all();
            self.happened.notify_one();
        }
    }

    /// Has it written. Whoever draws asks first whether the terminal has taken what was drawn before.
    pub fn put(&self, bytes: &[u8]) {
        let mut pending = self.lock();
        if !pending.is_closed {
            pending.bytes.extend_from_slice(bytes);
        }
        drop(pending);
        self.changed.notify_all();
    }

    /// Whether the terminal has taken all.
    pub fn is_idle(&self) -> bool {
        self.lock().is_idle()
    }

    /// Waits until it has, though not for long.
    pub fn wait(&self) {
        let pending = self.lock();
        let waited = self.changed.wait_timeout_while(pending, LAST_WAIT, |pending| !pending.is_idle());
        drop(waited);
    }

    /// Writes this, and nothing after it.
    pub fn close(&self, last: &[u8]) {
        self.put(last);
        self.lock().is_closed = true;
        self.wait();
    }

    /// Ends the program, for this reason.
    pub fn fail(&self, why: &str) {
        self.lock().fault.get_or_insert(why.to_owned());
        self.happened.notify_one();
    }

    /// Waits until the terminal has taken something.
    ///
    /// # Errors
    ///
    /// If it is gone, or a thread has panicked: nettopd is to end.
    pub async fn happened(&self) -> anyhow::Result<()> {
        self.happened.notified().await;
        self.lock().fault.clone().map_or(Ok(()), |why| Err(anyhow::anyhow!(why)))
    }
}

impl Pending {
    const fn is_idle(&self) -> bool {
        self.bytes.is_empty() && !self.is_writing
    }
}
