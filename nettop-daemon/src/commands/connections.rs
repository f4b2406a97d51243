//! `nettopd connections`: who connected, and how it ended, one line each.

use clap::Args;
use nettop_common::{Association, ConnectionEvent, connection::kind};
use nettop_kernel::{
    Kernel,
    event_ledger::EventLedger,
    events::{Associations, EventKind, EventSpec},
    netns,
    processes::Records,
};

use crate::{
    defaults,
    events::{self, Lines},
    identity::{
        device_names::DeviceNames,
        processes::Processes,
        users::{self, Users},
    },
    query::{
        events::{Filter, StreamArgs},
        format::StreamFormat,
        global::Global,
        unmatched,
    },
    render::{
        connections::{GOES_ON, Names, record, text},
        csv, head,
    },
    sys::clock::Clock,
};

/// What is shown of connections.
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
    /// Connections that a process asked for and that failed
    #[arg(long)]
    pub failed: bool,
    /// Also conversations of UDP: the first datagram each way, and after 30 s of silence what was sent and received
    #[arg(long)]
    pub udp: bool,
    /// Do not look up user names
    #[arg(short, long)]
    pub numeric: bool,
    #[command(flatten)]
    pub stream: StreamArgs,
}

impl ConnectionsArgs {
    /// Without a choice all are shown.
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
        self.accepted && !(self.opened || self.closed || self.failed || self.udp || self.stream.ancestry)
    }
}

/// `nettopd connections`.
///
/// # Errors
///
/// [`crate::error::Usage`] for an unknown user or host, [`nettop_kernel::Refusal`] for what the kernel lacks or forbids.
pub fn run(global: &Global, args: &ConnectionsArgs) -> anyhow::Result<()> {
    let filter = Filter::new(&args.stream)?;
    unmatched::processes(&args.stream.pid);
    let what = if args.udp { EventKind::ConnectionsAndUdp } else { EventKind::Connections };
    let mut programs = Kernel::examine(global.forced())?
        .start(defaults::LIMITS, Some(EventSpec { what, filter: filter.in_kernel(), with_names: false }))?;
    let host = netns::current()?;
    let associations = args.udp.then(|| programs.take_associations()).transpose()?;
    let (ring, processes) = (programs.take_events()?, programs.take_processes()?);
    let log = Log {
        args: args.clone(),
        filter,
        clock: Clock::new(args.stream.utc),
        names: Names {
            users: (!args.numeric).then_some(Users::with_timeout(users::INTERVAL_TIMEOUT)),
            processes: Processes::new("/proc").with_timeout(users::INTERVAL_TIMEOUT),
            host,
            devices: Some(DeviceNames::new(&[])?),
            ancestry: args.stream.ancestry,
        },
        hooks: programs.hook_kinds(&["connections", "accept", "udp"]),
        associations,
        processes,
    };
    events::run(ring, &mut EventLedger::new(programs), log, args.stream.count)?;
    Ok(())
}

struct Log {
    args: ConnectionsArgs,
    filter: Filter,
    clock: Clock,
    names: Names,
    /// The hooks that see connections.
    hooks: Vec<(&'static str, String)>,
    associations: Option<Associations>,
    /// Those that make sockets: each comes before its first event.
    processes: Records,
}

impl Lines for Log {
    type Event = ConnectionEvent;

    fn header(&self, text: &mut String) {
        match self.args.stream.format {
            StreamFormat::Text => text::header(text, self.args.only_accepted()),
            StreamFormat::Ndjson => record::header(text, &self.hooks),
            StreamFormat::Csv => csv::push_event_header::<record::Columns<'_>>(text),
        }
    }

    fn event(&mut self, event: &ConnectionEvent, text: &mut String) -> bool {
        let is_wanted = self.selects(event);
        if is_wanted {
            self.write(event, [0; 2], text);
        }
        is_wanted
    }

    fn form(&self) -> head::Form {
        (self.args.stream.format, csv::push_loss::<record::Columns<'_>>)
    }

    /// Ends conversations of UDP.
    fn tick(&mut self, at_end: bool, most: Option<u64>, text: &mut String) -> anyhow::Result<u64> {
        self.names.processes.forget_ended();
        if let Some(users) = &mut self.names.users {
            users.renew();
        }
        if let Some(devices) = &mut self.names.devices {
            devices.refresh();
        }
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
    fn selects(&mut self, event: &ConnectionEvent) -> bool {
        let ends = [(event.local, event.local_port), (event.remote, event.remote_port)];
        let Self { names: Names { processes, .. }, processes: records, .. } = self;
        let details = || {
            processes.learn(records.take(), 0);
            processes.details_for_event(&event.owner, event.comm)
        };
        self.args.selects(event)
            && self.filter.selects_process(&event.owner, &event.comm)
            && self.filter.selects_ends(ends)
            && self.filter.selects_names(details)
    }

    /// Shows the end of a conversation as that of a connection.
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
        self.names.processes.learn(self.processes.take(), 0);
        match self.args.stream.format {
            StreamFormat::Text if self.args.only_accepted() => text::accepted(text, event, &mut self.names),
            StreamFormat::Text => text::line(text, event, packets, &self.clock, &mut self.names),
            StreamFormat::Ndjson => record::line(text, event, packets, &self.clock, &mut self.names),
            StreamFormat::Csv => record::csv_line(text, event, packets, &self.clock, &mut self.names),
        }
    }
}
