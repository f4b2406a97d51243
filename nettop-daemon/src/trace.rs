//! `nettopd trace`: socket calls of a process and its children as they enter and leave.

mod command;
mod decode;
#[cfg(test)]
mod golden;
mod record;
mod text;

use std::{cell::RefCell, ffi::OsString, process::ExitCode, rc::Rc};

use clap::Args;
use nettop_common::trace::{CallStep, FIRST_FUNCTION, FUNCTIONS, NAMES, Step, call};

use crate::{
    cli::Cli,
    clock::Clock,
    kernel::{
        programs::Kernel,
        tracing::{self, Chosen, Tracer},
    },
    stream::{self, Lines, filter::StreamFormat},
};
use command::Command;

/// Whose calls are told, and how.
#[derive(Args, Debug, Clone)]
pub struct TraceArgs {
    /// This process, its threads, and the children it makes from now on; may be repeated
    #[arg(short, long, value_name = "PID")]
    pub pid: Vec<u32>,
    /// Processes whose name begins so, now or later, and their children; may be repeated
    #[arg(short, long, value_name = "NAME")]
    pub command: Vec<String>,
    /// All processes but nettopd
    #[arg(long)]
    pub all: bool,
    /// Also tell arguments and results, as strace does
    #[arg(short, long)]
    pub decode: bool,
    /// End after this many lines
    #[arg(long, value_name = "LINES", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    #[arg(long, default_value = "text")]
    pub format: StreamFormat,
    /// A program to start and trace, with its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub program: Vec<OsString>,
}

/// `nettopd trace`. Returns the exit code of the command that was started, else success.
///
/// # Errors
///
/// [`crate::Usage`] for processes that are not there, [`crate::kernel::preflight::Refusal`] for what the kernel lacks or
/// forbids.
pub fn run(cli: &Cli, args: &TraceArgs) -> anyhow::Result<ExitCode> {
    let names_nobody = args.pid.is_empty() && args.command.is_empty() && args.program.is_empty();
    if names_nobody && !args.all {
        return Err(crate::Usage::new("whose calls? choose by -p PID, -c NAME, -- COMMAND, or --all").into());
    }
    for pid in &args.pid {
        if !tracing::is_there(*pid) {
            return Err(no_process(*pid));
        }
    }
    if args.command.len() > NAMES as usize {
        return Err(crate::Usage::new(format!("-c can be given {NAMES} times at most")).into());
    }
    let (mut tracer, ring) = Kernel::examine(cli.backend)?.trace(args.decode)?;
    let chosen = tracer.chosen();
    let mut command = match choose(args, &mut chosen.borrow_mut())? {
        Some(Err(cannot)) => {
            eprintln!("nettopd: {cannot}");
            return Ok(command::CANNOT_RUN.into());
        }
        started => started.and_then(Result::ok),
    };
    let is_endless = args.all || !args.command.is_empty();
    let log = Log {
        format: args.format,
        clock: Clock::new(true),
        hooks: tracer.hook_kinds(),
        chosen: (!is_endless).then_some(chosen),
    };
    let end = if args.decode {
        stream::run(ring, &mut tracer, Decoded(log), args.count)?
    } else {
        stream::run(ring, &mut tracer, log, args.count)?
    };
    tell_untold(&tracer);
    Ok(command.as_mut().map_or(ExitCode::SUCCESS, |command| command.finish(end)))
}

/// Chooses whose calls are told, and starts the command, if there is one and it can be run.
fn choose(args: &TraceArgs, chosen: &mut Chosen) -> anyhow::Result<Option<Result<Command, String>>> {
    if args.all {
        chosen.all()?;
    }
    for pid in &args.pid {
        if !chosen.process(*pid)? {
            return Err(no_process(*pid));
        }
    }
    chosen.names(&args.command)?;
    let command = args.program.split_first();
    command.map(|(program, arguments)| Command::start(program, arguments, chosen)).transpose()
}

fn no_process(pid: u32) -> anyhow::Error {
    crate::Usage::new(format!("there is no process {pid}")).into()
}

/// What was not told, and no line can tell.
fn tell_untold(tracer: &Tracer) {
    let untold = tracer.untold();
    if untold.calls_32bit > 0 {
        eprintln!("nettopd: {} calls of 32-bit programs are not shown", untold.calls_32bit);
    }
    if untold.processes > 0 {
        eprintln!("nettopd: {} processes may have been missed", untold.processes);
    }
}

/// What a system call or function is called.
fn name(what: u32) -> &'static str {
    let names: &[&str] = if what >= FIRST_FUNCTION { FUNCTIONS } else { &call::NAMES };
    let index = if what >= FIRST_FUNCTION { what - FIRST_FUNCTION } else { what.wrapping_sub(1) };
    names.get(index as usize).copied().unwrap_or("?")
}

/// Steps by their names.
struct Log {
    format: StreamFormat,
    clock: Clock,
    /// By which hooks calls are seen.
    hooks: Vec<(&'static str, String)>,
    /// Whose end is awaited.
    chosen: Option<Rc<RefCell<Chosen>>>,
}

impl Log {
    fn write(&self, step: &Step, call: Option<&CallStep>, text: &mut String) {
        match self.format {
            StreamFormat::Text => text::step(text, step, call),
            StreamFormat::Ndjson => record::line(text, step, call, &self.clock),
            StreamFormat::Csv => record::csv_line(text, step, call, &self.clock),
        }
    }
}

impl Lines for Log {
    type Event = Step;

    fn header(&self, text: &mut String) {
        match self.format {
            StreamFormat::Text => {}
            StreamFormat::Ndjson => record::header(text, &self.hooks),
            StreamFormat::Csv => record::csv_header(text),
        }
    }

    fn event(&mut self, step: &Step, text: &mut String) -> bool {
        self.write(step, None, text);
        true
    }

    fn form(&self) -> (StreamFormat, &'static [&'static str]) {
        (self.format, &record::COLUMNS)
    }

    fn is_done(&self) -> bool {
        self.chosen.as_ref().is_some_and(|chosen| chosen.borrow().are_gone())
    }
}

/// The same with what was handed over.
struct Decoded(Log);

impl Lines for Decoded {
    type Event = CallStep;

    fn header(&self, text: &mut String) {
        self.0.header(text);
    }

    fn event(&mut self, call: &CallStep, text: &mut String) -> bool {
        self.0.write(&call.step, Some(call), text);
        true
    }

    fn form(&self) -> (StreamFormat, &'static [&'static str]) {
        self.0.form()
    }

    fn is_done(&self) -> bool {
        self.0.is_done()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_its_name() {
        assert_eq!((name(call::SOCKET), name(call::GETSOCKOPT)), ("socket", "getsockopt"));
        assert_eq!(
            (name(call::ACCEPT4), name(call::RECVMMSG), name(call::SHUTDOWN)),
            ("accept4", "recvmmsg", "shutdown")
        );
        assert_eq!((name(FIRST_FUNCTION), name(0), name(u32::MAX)), ("__sys_socket", "?", "?"));
    }
}
