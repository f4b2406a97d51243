//! Standard error, where people read: one line each, `nettopd: what`, without colours, modules or times. The service has a
//! log of its own.

use std::{
    fmt::{self, Write as _},
    io::{self, Write as _},
    os::fd::AsFd as _,
};

use nix::poll::{PollFd, PollFlags, poll};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use crate::sys::escape::escape;

/// How long a line waits for a reader that takes nothing. Then it is left out: nettopd does its work, and can be ended,
/// whether or not anybody reads its output.
const STALL_TIMEOUT_MS: u8 = 200;

/// Prints one line. Standard error may be closed, or full: that is nobody's error.
pub fn print(what: &str) {
    let _ = Stderr.write_all(format!("nettopd: {}\n", escape(what.as_bytes())).as_bytes());
}

/// Writes there, unless its reader is stuck.
struct Stderr;

impl io::Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let stderr = io::stderr();
        let is_ready = poll(&mut [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)], STALL_TIMEOUT_MS)?;
        if is_ready == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // A pipe that is ready takes so much without waiting.
        stderr.lock().write(&line[..line.len().min(libc::PIPE_BUF)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Prints the program's log there: warnings, and with `-v` more.
pub fn start(verbose: u8) {
    let level = match verbose {
        0 => Level::WARN,
        1 => Level::INFO,
        _ => Level::DEBUG,
    };
    let lines = tracing_subscriber::fmt::layer().event_format(Line).with_writer(|| Stderr);
    // An error of writing there cannot be reported there: `eprintln!` would panic.
    let lines = lines.log_internal_errors(false);
    tracing_subscriber::registry().with(lines).with(LevelFilter::from_level(level)).init();
}

struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut text = Text::default();
        event.record(&mut text);
        let level = match *event.metadata().level() {
            Level::ERROR | Level::WARN => "",
            Level::INFO => "info: ",
            _ => "debug: ",
        };
        writeln!(writer, "nettopd: {level}{}", escape(format!("{}{}", text.message, text.fields).as_bytes()))
    }
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String does not fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }
}
