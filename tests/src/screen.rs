//! `nettopd top` in a terminal of its own: what it shows, and how it leaves the terminal.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    process::{Child, Command, ExitStatus},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use nix::{
    pty::{OpenptyResult, Winsize, openpty},
    sys::{
        signal::{Signal, kill},
        termios::{FlowArg, SetArg, Termios, tcflow, tcgetattr, tcsetattr},
    },
    unistd::{Pid, setsid},
};

use crate::hang_timeout;

/// Around what a terminal shows at once: mode 2026.
const BEGIN: &[u8] = b"\x1b[?2026h";
const END: &[u8] = b"\x1b[?2026l";

nix::ioctl_write_int_bad!(take_terminal, libc::TIOCSCTTY);
nix::ioctl_write_ptr_bad!(set_size, libc::TIOCSWINSZ, Winsize);

/// A program, and the terminal that it is in.
pub struct Screen {
    child: Child,
    master: File,
    /// Kept open: the terminal outlives the program.
    slave: File,
    before: Termios,
    shown: Arc<Shown>,
}

struct Shown {
    parser: Mutex<vt100::Parser>,
    changed: Condvar,
}

impl Screen {
    /// Starts a program in a terminal of this size, as a terminal emulator of the usual kind.
    pub fn start(mut command: Command, columns: u16, lines: u16) -> Self {
        let size = Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(Some(&size), None).unwrap();
        let (master, slave) = (File::from(master), File::from(slave));
        let before = tcgetattr(&slave).unwrap();
        let end = || slave.try_clone().unwrap();
        command.stdin(end()).stdout(end()).stderr(end());
        for (name, value) in [("TERM", "xterm-256color"), ("LC_ALL", "C.UTF-8")] {
            if command.get_envs().all(|(known, _)| known != name) {
                command.env(name, value);
            }
        }
        command.env_remove("NO_COLOR").env_remove("COLORTERM");
        let into_session = || {
            setsid()?;
            // SAFETY: a system call on descriptor 0, which is the terminal.
            unsafe { take_terminal(0, 0) }?;
            Ok(())
        };
        // SAFETY: between fork and exec it makes system calls only.
        unsafe { command.pre_exec(into_session) };
        let child = command.spawn().expect("nettopd does not start");
        let parser = Mutex::new(vt100::Parser::new(lines, columns, 0));
        let shown = Arc::new(Shown { parser, changed: Condvar::new() });
        let (mut output, into) = (master.try_clone().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let (mut bytes, mut held) = ([0; 4096], Vec::new());
            while let Ok(length @ 1..) = output.read(&mut bytes) {
                held.extend_from_slice(&bytes[..length]);
                let whole = whole(&held);
                into.parser.lock().unwrap().process(&held[..whole]);
                held.drain(..whole);
                into.changed.notify_all();
            }
        });
        Self { child, master, slave, before, shown }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Types.
    pub fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().cast_signed()), signal).unwrap();
    }

    /// Gives the terminal another size.
    pub fn resize(&self, columns: u16, lines: u16) {
        self.shown.parser.lock().unwrap().screen_mut().set_size(lines, columns);
        let size = Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the kernel reads a live value.
        unsafe { set_size(std::os::fd::AsRawFd::as_raw_fd(&self.master.as_fd()), &raw const size) }.unwrap();
    }

    /// From here on the terminal takes nothing, as after ctrl-s.
    pub fn stop_output(&self) {
        tcflow(&self.slave, FlowArg::TCOOFF).unwrap();
    }

    /// Sets the terminal as it was before the program, as a shell does with what it takes back.
    pub fn reset_settings(&self) {
        tcsetattr(&self.slave, SetArg::TCSANOW, &self.before).unwrap();
    }

    /// Whether the terminal's settings are those before the program.
    #[track_caller]
    pub fn assert_settings(&self) {
        assert_eq!(tcgetattr(&self.slave).unwrap(), self.before, "the terminal's settings");
    }

    /// The lines that are shown now.
    pub fn lines(&self) -> Vec<String> {
        self.shown.parser.lock().unwrap().screen().contents().lines().map(ToOwned::to_owned).collect()
    }

    /// Waits until the screen is as wanted, and returns what that found.
    #[track_caller]
    pub fn wait_for<T>(&self, what: &str, find: impl Fn(&[String]) -> Option<T>) -> T {
        let mut found = None;
        let is_awaited = |parser: &mut vt100::Parser| {
            let lines: Vec<String> = parser.screen().contents().lines().map(ToOwned::to_owned).collect();
            found = find(&lines);
            found.is_none()
        };
        let parser = self.shown.parser.lock().unwrap();
        let (parser, _) = self.shown.changed.wait_timeout_while(parser, hang_timeout(), is_awaited).unwrap();
        let shown = parser.screen().contents();
        drop(parser);
        found.unwrap_or_else(|| panic!("no {what} on the screen:\n{shown}"))
    }

    /// Waits for a line with this text.
    #[track_caller]
    pub fn wait_for_text(&self, text: &str) -> String {
        self.wait_for(text, |lines| lines.iter().find(|line| line.contains(text)).cloned())
    }

    /// Waits until the program has taken the terminal, or given it back.
    #[track_caller]
    pub fn wait_until_full(&self, is_full: bool) {
        let is_awaited = |parser: &mut vt100::Parser| parser.screen().alternate_screen() != is_full;
        let parser = self.shown.parser.lock().unwrap();
        let (parser, timeout) = self.shown.changed.wait_timeout_while(parser, hang_timeout(), is_awaited).unwrap();
        assert!(!timeout.timed_out(), "the screen stays as it is:\n{}", parser.screen().contents());
    }

    /// Whether the terminal is as it was before the program.
    #[track_caller]
    pub fn assert_restored(&self) {
        self.wait_until_full(false);
        let parser = self.shown.parser.lock().unwrap();
        let screen = parser.screen();
        assert!(!screen.hide_cursor(), "the cursor is hidden");
        assert_eq!(screen.mouse_protocol_mode(), vt100::MouseProtocolMode::None);
        self.assert_settings();
    }

    /// Waits for the program's end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + hang_timeout();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.lines().join("\n"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// How many of these bytes belong to no frame, or to one that is complete: a key that answers half of a frame comes too
/// early.
fn whole(bytes: &[u8]) -> usize {
    let last = |mark: &[u8]| bytes.windows(mark.len()).rposition(|found| found == mark);
    let begin = last(BEGIN).filter(|begin| last(END).is_none_or(|end| end < *begin));
    let cut = || (1..BEGIN.len()).rev().find(|length| bytes.ends_with(&BEGIN[..*length])).unwrap_or(0);
    begin.unwrap_or_else(|| bytes.len() - cut())
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
