//! The terminal: taken for a full screen, and given back as it was, however that ends.

use std::{
    io::{self, Stdout, Write as _},
    panic,
};

use anyhow::Context as _;
use nettop_top::{State, draw};
use nix::sys::signal::{Signal, raise};
use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::{Hide, Show},
        event::{DisableMouseCapture, EnableMouseCapture},
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size},
    },
};

/// While it lives the terminal is its own.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    has_mouse: bool,
}

impl Screen {
    /// Takes the terminal. A panic gives it back before it is reported.
    ///
    /// # Errors
    ///
    /// If the terminal refuses, as one that is gone.
    pub fn open(has_mouse: bool) -> anyhow::Result<Self> {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |what| {
            give_back();
            report(what);
        }));
        take(has_mouse)?;
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout())).inspect_err(|_| give_back());
        Ok(Self { terminal: terminal.context("cannot use the terminal")?, has_mouse })
    }

    /// Columns and lines.
    ///
    /// # Errors
    ///
    /// If the terminal is gone.
    pub fn size(&self) -> anyhow::Result<(u16, u16)> {
        size().context("cannot find out how large the terminal is")
    }

    /// # Errors
    ///
    /// If the terminal is gone.
    pub fn draw(&mut self, state: &State) -> anyhow::Result<()> {
        self.terminal.draw(|frame| draw(state, frame.buffer_mut())).context("cannot write to the terminal")?;
        Ok(())
    }

    /// Has all of it drawn again.
    ///
    /// # Errors
    ///
    /// If the terminal is gone.
    pub fn clear(&mut self) -> anyhow::Result<()> {
        // `Terminal::clear` asks the terminal where its cursor is, and the answer would be read as keys.
        let size = self.terminal.size().context("cannot find out how large the terminal is")?;
        self.terminal.resize(size.into()).context("cannot write to the terminal")
    }

    /// # Errors
    ///
    /// If the terminal is gone.
    pub fn use_mouse(&mut self, is_used: bool) -> anyhow::Result<()> {
        self.has_mouse = is_used;
        let done = if is_used {
            execute!(io::stdout(), EnableMouseCapture)
        } else {
            execute!(io::stdout(), DisableMouseCapture)
        };
        done.context("cannot write to the terminal")
    }

    /// Gives the terminal back, stops until SIGCONT, and takes it again.
    ///
    /// # Errors
    ///
    /// If the terminal is gone.
    pub fn suspend(&mut self) -> anyhow::Result<()> {
        give_back();
        // Unlike SIGTSTP, which is handled here, it cannot be missed.
        raise(Signal::SIGSTOP).context("cannot stop")?;
        self.resume()
    }

    /// Takes the terminal again after somebody else has had it.
    ///
    /// # Errors
    ///
    /// If the terminal is gone.
    pub fn resume(&mut self) -> anyhow::Result<()> {
        take(self.has_mouse)?;
        self.clear()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn take(has_mouse: bool) -> anyhow::Result<()> {
    let taken = enable_raw_mode().and_then(|()| execute!(io::stdout(), EnterAlternateScreen, Hide));
    let taken = if has_mouse { taken.and_then(|()| execute!(io::stdout(), EnableMouseCapture)) } else { taken };
    taken.inspect_err(|_| give_back()).context("cannot use the terminal")
}

/// Nothing here can be done about a terminal that is gone.
fn give_back() {
    let _ = execute!(io::stdout(), DisableMouseCapture, LeaveAlternateScreen, Show);
    let _ = io::stdout().flush();
    let _ = disable_raw_mode();
}
