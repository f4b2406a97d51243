//! `nettopd trace`: socket calls of a process and its children as they enter and leave.

mod child;
#[cfg(test)]
mod golden;

use std::{cell::RefCell, ffi::OsString, process::ExitCode, rc::Rc};

use clap::Args;
use nettop_common::trace::{CallStep, MAX_TRACED_NAMES, Step};
use nettop_kernel::{
    Kernel,
    processes::Records,
    tracer::{self, TraceTargets, Tracer},
};
use nettop_model::{Names, ProcessNames};

use self::child::Command;
use crate::{
    error::Usage,
    events::{self, Lines},
    identity::{details::Details, processes::Processes, users},
    query::{format::StreamFormat, global::Global, names::NamesArgs},
    render::{
        csv, head,
        trace::{record, text},
    },
    sys::{clock::Clock, stderr},
};

/// Whose calls are shown, and how.
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
    #[command(flatten)]
    pub of: NamesArgs,
    /// Also show arguments and results, as strace does
    #[arg(short, long)]
    pub decode: bool,
    /// Also show who started each process; in ndjson and csv, its arguments as well
    #[arg(short = 'e', long)]
    pub ancestry: bool,
    /// End after this many lines
    #[arg(long, value_name = "LINES", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    #[arg(long, value_enum, default_value_t)]
    pub format: StreamFormat,
    /// A program to start and trace, with its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub program: Vec<OsString>,
}

/// `nettopd trace`. Returns the exit code of the command that was started, else success.
///
/// # Errors
///
/// [`Usage`] for processes that are not there, [`nettop_kernel::Refusal`] for what the kernel lacks or
/// forbids.
pub fn run(global: &Global, args: &TraceArgs) -> anyhow::Result<ExitCode> {
    let names_nobody = args.pid.is_empty() && args.command.is_empty() && args.program.is_empty();
    let names = args.of.with(&[]);
    // Of a unit, a container or a pod alone: whoever began in it.
    let all = args.all || names_nobody && !names.is_empty();
    if names_nobody && !all {
        return Err(Usage::new(
            "whose calls? choose by -p PID, -c NAME, --unit, --container, --pod, -- COMMAND, or --all",
        )
        .into());
    }
    for pid in &args.pid {
        if !tracer::is_there(*pid) {
            return Err(no_process(*pid));
        }
    }
    if args.command.len() > MAX_TRACED_NAMES as usize {
        return Err(Usage::new(format!("-c can be given {MAX_TRACED_NAMES} times at most")).into());
    }
    let with_names = args.ancestry || args.format != StreamFormat::Text || !names.is_empty();
    let (mut tracer, ring) = Kernel::examine(global.forced())?.trace(args.decode, with_names)?;
    let targets = tracer.targets();
    let records = tracer.take_processes();
    let mut command = match choose(args, all, &mut targets.borrow_mut())? {
        Some(Err(cannot)) => {
            stderr::print(&cannot);
            return Ok(child::CANNOT_RUN.into());
        }
        started => started.and_then(Result::ok),
    };
    let is_endless = all || !args.command.is_empty();
    let log = Log {
        format: args.format,
        ancestry: args.ancestry,
        names,
        processes: Processes::with_parents("/proc").with_timeout(users::INTERVAL_TIMEOUT),
        records,
        clock: Clock::new(true),
        hooks: tracer.hook_kinds(),
        targets: (!is_endless).then_some(targets),
    };
    let end = if args.decode {
        events::run(ring, &mut tracer, Decoded(log), args.count)?
    } else {
        events::run(ring, &mut tracer, log, args.count)?
    };
    report_losses(&tracer);
    Ok(command.as_mut().map_or(ExitCode::SUCCESS, |command| command.finish(end)))
}

/// Chooses whose calls are shown, and starts the command, if there is one and it can be run.
fn choose(args: &TraceArgs, all: bool, targets: &mut TraceTargets) -> anyhow::Result<Option<Result<Command, String>>> {
    if all {
        targets.all()?;
    }
    for pid in &args.pid {
        if !targets.process(*pid)? {
            return Err(no_process(*pid));
        }
    }
    targets.names(&args.command)?;
    let command = args.program.split_first();
    command.map(|(program, arguments)| Command::start(program, arguments, targets)).transpose()
}

fn no_process(pid: u32) -> anyhow::Error {
    Usage::new(format!("there is no process {pid}")).into()
}

/// Reports what is in no line.
fn report_losses(tracer: &Tracer) {
    let losses = tracer.losses();
    if losses.calls_32bit > 0 {
        stderr::print(&format!("{} calls of 32-bit programs are not shown", losses.calls_32bit));
    }
    if losses.calls_by_io_uring > 0 {
        stderr::print(&format!("{} socket calls by io_uring are not shown", losses.calls_by_io_uring));
    }
    if losses.unrecorded > 0 {
        stderr::print(&format!(
            "{} new processes and programs were not recorded: they may be shown as what they were before",
            losses.unrecorded
        ));
    }
    if losses.processes > 0 {
        stderr::print(&format!("{} processes may have been missed", losses.processes));
    }
}

/// Steps by their names.
struct Log {
    format: StreamFormat,
    /// Whether lines have who started the process, and documents its arguments.
    ancestry: bool,
    /// Whose steps are shown of those that are traced.
    names: Names,
    processes: Processes,
    /// Of new processes and programs: each comes before its first step.
    records: Option<Records>,
    clock: Clock,
    /// The hooks that see calls.
    hooks: Vec<(&'static str, String)>,
    /// Whose end is awaited.
    targets: Option<Rc<RefCell<TraceTargets>>>,
}

impl Log {
    /// Returns whether the step is wanted.
    fn write(&mut self, step: &Step, call: Option<&CallStep>, text: &mut String) -> bool {
        let is_named = self.ancestry || self.format != StreamFormat::Text;
        let is_asked = is_named || !self.names.is_empty();
        let details = if is_asked { self.details(step) } else { Details::default() };
        if !self.names.admits(&details.named()) {
            return false;
        }
        let process = if is_named { details.into_names(self.ancestry) } else { ProcessNames::default() };
        match self.format {
            StreamFormat::Text => text::step(text, step, call, &process.parents),
            StreamFormat::Ndjson => record::line(text, step, call, process, &self.clock),
            StreamFormat::Csv => record::csv_line(text, step, call, process, &self.clock),
        }
        true
    }

    /// What the process of a step is.
    fn details(&mut self, step: &Step) -> Details {
        self.learn();
        // A step has the name of a thread, which says nothing about the program.
        self.processes.details_for_event(&step.owner, [0; 16])
    }

    fn learn(&mut self) {
        if let Some(records) = &mut self.records {
            self.processes.learn(records.take(), 0);
        }
    }
}

impl Lines for Log {
    type Event = Step;

    fn header(&self, text: &mut String) {
        match self.format {
            StreamFormat::Text => {}
            StreamFormat::Ndjson => record::header(text, &self.hooks),
            StreamFormat::Csv => csv::push_event_header::<record::Columns<'_>>(text),
        }
    }

    fn event(&mut self, step: &Step, text: &mut String) -> bool {
        self.write(step, None, text)
    }

    fn form(&self) -> head::Form {
        (self.format, csv::push_loss::<record::Columns<'_>>)
    }

    fn tick(&mut self, _at_end: bool, _most: Option<u64>, _text: &mut String) -> anyhow::Result<u64> {
        self.learn();
        self.processes.forget_ended();
        Ok(0)
    }

    fn is_done(&self) -> bool {
        self.targets.as_ref().is_some_and(|targets| targets.borrow().are_gone())
    }
}

/// The same with arguments.
struct Decoded(Log);

impl Lines for Decoded {
    type Event = CallStep;

    fn header(&self, text: &mut String) {
        self.0.header(text);
    }

    fn event(&mut self, call: &CallStep, text: &mut String) -> bool {
        self.0.write(&call.step, Some(call), text)
    }

    fn form(&self) -> head::Form {
        self.0.form()
    }

    fn tick(&mut self, at_end: bool, most: Option<u64>, text: &mut String) -> anyhow::Result<u64> {
        self.0.tick(at_end, most, text)
    }

    fn is_done(&self) -> bool {
        self.0.is_done()
    }
}
