//! The terminal: taken for a full screen, and given back as it was, however that ends.

use std::{io, panic, sync::Arc};

use anyhow::Context as _;
use crossterm::{
    cursor::{Hide, Show},
    event::{DisableMouseCapture, EnableMouseCapture},
    queue,
    terminal::{
        BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
        disable_raw_mode, enable_raw_mode, size,
    },
};
use nettop_top::{State, draw};
use nix::sys::signal::{Signal, raise};
use ratatui::{
    backend::{Backend as _, CrosstermBackend},
    buffer::Buffer,
    layout::Rect,
};

use super::output::Output;

/// Of a terminal that does not know its own, as on a serial line.
const USUAL_SIZE: (u16, u16) = (80, 24);

/// While it lives the terminal is its own.
pub struct Screen {
    output: Arc<Output>,
    /// What is on it.
    shown: Buffer,
    has_mouse: bool,
}

impl Screen {
    /// Takes the terminal. A panic gives it back before it is reported, and ends what runs.
    ///
    /// # Errors
    ///
    /// If the terminal refuses, as one that is gone.
    pub fn open(has_mouse: bool) -> anyhow::Result<Self> {
        let output = Output::start();
        let (report, of_panic) = (panic::take_hook(), Arc::clone(&output));
        panic::set_hook(Box::new(move |what| {
            give_back(&of_panic, true);
            report(what);
            of_panic.fail("a part of nettopd has panicked");
        }));
        let mut screen = Self { output, shown: Buffer::default(), has_mouse };
        screen.take()?;
        Ok(screen)
    }

    /// What is written is here.
    pub const fn output(&self) -> &Arc<Output> {
        &self.output
    }

    /// Columns and lines.
    ///
    /// # Errors
    ///
    /// If the terminal is gone.
    pub fn size() -> anyhow::Result<(u16, u16)> {
        let (columns, lines) = size().context("cannot find out how large the terminal is")?;
        Ok(known_size(columns, lines))
    }

    /// Only what differs from what is on it. A terminal that can (mode 2026) shows all of it at once; others ignore that.
    ///
    /// # Errors
    ///
    /// If it cannot be encoded.
    pub fn draw(&mut self, state: &State) -> anyhow::Result<()> {
        let area = Rect::new(0, 0, state.size.0, state.size.1);
        let mut bytes = Vec::new();
        queue!(bytes, BeginSynchronizedUpdate).context("cannot draw")?;
        if self.shown.area != area {
            queue!(bytes, Clear(ClearType::All)).context("cannot clear the terminal")?;
            self.shown = Buffer::empty(area);
        }
        let mut next = Buffer::empty(area);
        draw(state, &mut next);
        CrosstermBackend::new(&mut bytes).draw(self.shown.diff(&next).into_iter()).context("cannot draw")?;
        queue!(bytes, EndSynchronizedUpdate).context("cannot draw")?;
        self.shown = next;
        self.output.put(&bytes);
        Ok(())
    }

    /// Has all of it drawn again.
    pub fn clear(&mut self) {
        self.shown = Buffer::default();
    }

    pub fn use_mouse(&mut self, is_used: bool) {
        self.has_mouse = is_used;
        let mut bytes = Vec::new();
        let done = if is_used { queue!(bytes, EnableMouseCapture) } else { queue!(bytes, DisableMouseCapture) };
        if done.is_ok() {
            self.output.put(&bytes);
        }
    }

    /// Gives the terminal back, stops until SIGCONT, and takes it again.
    ///
    /// # Errors
    ///
    /// If the terminal is gone.
    pub fn suspend(&mut self) -> anyhow::Result<()> {
        give_back(&self.output, false);
        // Unlike SIGTSTP, which is handled here, it cannot be missed.
        raise(Signal::SIGSTOP).context("cannot stop")?;
        self.take()
    }

    /// Takes the terminal again after somebody else has had it.
    ///
    /// # Errors
    ///
    /// If the terminal is gone.
    pub fn resume(&mut self) -> anyhow::Result<()> {
        // Whoever had it has changed its mode, and crossterm believes that it is raw.
        let _ = disable_raw_mode();
        self.take()
    }

    fn take(&mut self) -> anyhow::Result<()> {
        enable_raw_mode().context("cannot use the terminal")?;
        let mut bytes = Vec::new();
        queue!(bytes, EnterAlternateScreen, Hide).context("cannot use the terminal")?;
        if self.has_mouse {
            queue!(bytes, EnableMouseCapture).context("cannot use the terminal")?;
        }
        self.output.put(&bytes);
        self.clear();
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back(&self.output, true);
    }
}

/// The usual size for one that is none.
pub const fn known_size(columns: u16, lines: u16) -> (u16, u16) {
    if columns == 0 || lines == 0 { USUAL_SIZE } else { (columns, lines) }
}

/// Nothing here can be done about a terminal that is gone.
fn give_back(output: &Output, is_end: bool) {
    let mut bytes = Vec::new();
    let _: io::Result<()> = queue!(bytes, DisableMouseCapture, LeaveAlternateScreen, Show);
    if is_end {
        output.close(&bytes);
    } else {
        output.put(&bytes);
        output.wait();
    }
    let _ = disable_raw_mode();
}
