//! `nettopd connections`: who connected, and how it ended, one line each.

#[cfg(test)]
mod golden;
mod record;
mod text;

use clap::Args;
use nettop_common::{Association, ConnectionEvent, Netns, connection::kind};

use crate::{
    cli::Cli,
    clock::Clock,
    identity::{namespaces, processes::Processes, users::Users},
    kernel::{
        programs::Kernel,
        telling::{Associations, Telling, What},
    },
    stream::{
        self, Books, Lines,
        filter::{Filter, StreamArgs, StreamFormat},
    },
};

/// What is told of connections.
#[derive(Args, Debug, Clone)]
pub struct ConnectionsArgs {
    /// Connections that a process took from its listener
    #[arg(long)]
    pub accepted: bool,
    /// Connections that a process asked for and got
    #[arg(long)]
    pub opened: bool,
    /// Ends of connections, with what they moved
    #[arg(long)]
    pub closed: bool,
    /// Connections that a process asked for in vain
    #[arg(long)]
    pub failed: bool,
    /// Also conversations of UDP: the first datagram each way, and what was said when there was silence for 30 s
    #[arg(long)]
    pub udp: bool,
    /// Do not look up user names
    #[arg(short, long)]
    pub numeric: bool,
    #[command(flatten)]
    pub stream: StreamArgs,
}

impl ConnectionsArgs {
    /// Without a choice all are told.
    const fn selects(&self, event: &ConnectionEvent) -> bool {
        let chosen = match event.kind {
            kind::ACCEPTED | kind::RECEIVED => self.accepted,
            kind::OPENED | kind::SENT => self.opened,
            kind::CLOSED => self.closed,
            _ => self.failed,
        };
        chosen || !(self.accepted || self.opened || self.closed || self.failed)
    }

    /// Whether lines are those of tcp_connections.stp.
    const fn only_accepted(&self) -> bool {
        self.accepted && !(self.opened || self.closed || self.failed || self.udp)
    }
}

/// `nettopd connections`.
///
/// # Errors
///
/// [`crate::Usage`] for an unknown user or host, [`crate::kernel::preflight::Refusal`] for what the kernel lacks or forbids.
pub fn run(cli: &Cli, args: &ConnectionsArgs) -> anyhow::Result<()> {
    let filter = Filter::new(&args.stream)?;
    let kernel = Kernel::examine(cli.backend)?;
    let what = if args.udp { What::ConnectionsAndUdp } else { What::Connections };
    let mut programs = kernel.start(cli.limits(), Some(Telling { what, filter: filter.in_kernel() }))?;
    let host = namespaces::current()?;
    let associations = args.udp.then(|| programs.take_associations()).transpose()?;
    let ring = programs.take_events()?;
    let log = Log {
        args: args.clone(),
        filter,
        clock: Clock::new(args.stream.utc),
        names: Names { users: (!args.numeric).then(Users::default), processes: Processes::new("/proc"), host },
        hooks: programs.hook_kinds(&["connections", "accept", "udp"]),
        associations,
    };
    stream::run(ring, &mut Books::new(programs), log, args.stream.count)?;
    Ok(())
}

/// What numbers are called.
struct Names {
    /// Without it numbers stay numbers.
    users: Option<Users>,
    processes: Processes,
    host: Netns,
}

struct Log {
    args: ConnectionsArgs,
    filter: Filter,
    clock: Clock,
    names: Names,
    /// By which hooks connections are seen.
    hooks: Vec<(&'static str, String)>,
    associations: Option<Associations>,
}

impl Lines for Log {
    type Event = ConnectionEvent;

    fn header(&self, text: &mut String) {
        match self.args.stream.format {
            StreamFormat::Text => text::header(text, self.args.only_accepted()),
            StreamFormat::Ndjson => record::header(text, &self.hooks),
            StreamFormat::Csv => record::csv_header(text),
        }
    }

    fn event(&mut self, event: &ConnectionEvent, text: &mut String) -> bool {
        let is_wanted = self.selects(event);
        if is_wanted {
            self.write(event, [0; 2], text);
        }
        is_wanted
    }

    fn form(&self) -> (StreamFormat, &'static [&'static str]) {
        (self.args.stream.format, &record::COLUMNS)
    }

    /// Ends conversations of UDP.
    fn tick(&mut self, at_end: bool, most: Option<u64>, text: &mut String) -> anyhow::Result<u64> {
        self.names.processes.forget_unused();
        let Some(associations) = &mut self.associations else { return Ok(0) };
        let mut made = 0;
        for (ended, is_silent) in associations.ended(at_end)? {
            if most.is_some_and(|most| made >= most) {
                break;
            }
            made += u64::from(self.end(&ended, is_silent, text));
        }
        Ok(made)
    }
}

impl Log {
    fn selects(&self, event: &ConnectionEvent) -> bool {
        let ends = [(event.local, event.local_port), (event.remote, event.remote_port)];
        self.args.selects(event)
            && self.filter.selects_process(&event.owner, &event.comm)
            && self.filter.selects_ends(ends)
    }

    /// The end of a conversation is told as the end of a connection is.
    fn end(&mut self, ended: &Association, is_silent: bool, text: &mut String) -> bool {
        let Association { last_ns, packets, bytes: [sent_bytes, received_bytes], first } = *ended;
        let error = if is_silent { 0 } else { GOES_ON };
        let event =
            ConnectionEvent { time_ns: last_ns, kind: kind::CLOSED, error, sent_bytes, received_bytes, ..first };
        let is_wanted = self.selects(&event);
        if is_wanted {
            self.write(&event, packets, text);
        }
        is_wanted
    }

    fn write(&mut self, event: &ConnectionEvent, packets: [u64; 2], text: &mut String) {
        match self.args.stream.format {
            StreamFormat::Text if self.args.only_accepted() => text::accepted(text, event),
            StreamFormat::Text => text::line(text, event, packets, &self.clock, &mut self.names),
            StreamFormat::Ndjson => record::line(text, event, packets, &self.clock, &mut self.names),
            StreamFormat::Csv => record::csv_line(text, event, packets, &self.clock, &mut self.names),
        }
    }
}

/// Of a conversation that nettopd does not see the end of.
const GOES_ON: u32 = libc::EINPROGRESS.cast_unsigned();

/// How a connection ended, or why there is none.
fn outcome(event: &ConnectionEvent) -> Option<&'static str> {
    const TCP_ESTABLISHED: u8 = 1;
    const TCP_CLOSE_WAIT: u8 = 8;
    const IPPROTO_UDP: u8 = 17;
    let error = i32::try_from(event.error).unwrap_or(0);
    Some(match (event.kind, error) {
        (kind::CLOSED, 0) if event.protocol == IPPROTO_UDP => "silence",
        (kind::CLOSED, _) if event.protocol == IPPROTO_UDP => "going on",
        // `tcp_close` with unread data, SO_LINGER of 0 s, or an end that was not waited for.
        (kind::CLOSED, 0) if matches!(event.old_state, TCP_ESTABLISHED | TCP_CLOSE_WAIT) => "aborted",
        (kind::CLOSED, 0) => "finished",
        // `tcp_reset` says EPIPE where the peer had finished before.
        (kind::CLOSED, libc::ECONNRESET | libc::EPIPE) => "reset",
        (kind::FAILED, libc::ECONNREFUSED) => "refused",
        (kind::CLOSED | kind::FAILED, libc::ETIMEDOUT) => "timed out",
        (kind::FAILED, 0) if event.sent_segments == 0 => "not sent",
        (kind::FAILED, 0) => "given up",
        (kind::CLOSED | kind::FAILED, libc::EHOSTUNREACH) => "host unreachable",
        (kind::CLOSED | kind::FAILED, libc::ENETUNREACH) => "network unreachable",
        (kind::CLOSED | kind::FAILED, libc::ECONNABORTED) => "killed",
        (kind::CLOSED | kind::FAILED, _) => "error",
        _ => return None,
    })
}

/// `EHOSTUNREACH` and so on.
fn errno(error: u32) -> Option<String> {
    let error = i32::try_from(error).ok().filter(|error| *error != 0)?;
    Some(format!("{:?}", nix::errno::Errno::from_raw(error)))
}

const fn name(kind: u32) -> &'static str {
    match kind {
        kind::ACCEPTED => "accepted",
        kind::OPENED => "opened",
        kind::CLOSED => "closed",
        kind::FAILED => "failed",
        kind::SENT => "sent",
        _ => "received",
    }
}
