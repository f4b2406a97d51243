//! `nettopd packets`: headers of packets as they pass, each with the process it belongs to.

mod own;

use clap::Args;
use nettop_common::{EventFilter, PacketEvent};
use nettop_kernel::{
    Kernel,
    event_ledger::EventLedger,
    events::{EventKind, EventSpec},
    processes::Records,
};
use nettop_model::ProcessNames;

use crate::{
    defaults,
    events::{self, Lines},
    identity::{device_names::DeviceNames, processes::Processes, users},
    query::{
        events::{Filter, StreamArgs},
        format::StreamFormat,
        global::Global,
        unmatched,
    },
    render::{
        csv, head,
        packets::{record, text},
    },
    sys::{clock::Clock, stderr},
};

/// Which packets are shown.
#[derive(Args, Debug, Clone)]
pub struct PacketsArgs {
    /// Only on this network device, also when it is renamed; may be repeated
    #[arg(short, long, value_name = "DEVICE")]
    pub interface: Vec<String>,
    /// Also packets of the connection by which the output travels: each line shown makes more of them
    #[arg(long)]
    pub own: bool,
    #[command(flatten)]
    pub stream: StreamArgs,
}

/// `nettopd packets`.
///
/// # Errors
///
/// [`crate::error::Usage`] for an unknown user or host, [`nettop_kernel::Refusal`] for what the kernel lacks or forbids.
pub fn run(global: &Global, args: &PacketsArgs) -> anyhow::Result<()> {
    let filter = Filter::new(&args.stream)?;
    unmatched::processes(&args.stream.pid);
    let devices = DeviceNames::new(&args.interface)?;
    unmatched::devices(devices.missing());
    let own = if args.own { Vec::new() } else { own::connections() };
    for connection in &own {
        stderr::print(&format!(
            "packets of {connection}, by which what is shown travels, are left out; --own shows them"
        ));
    }
    let in_kernel = EventFilter { ifindexes: devices.indexes(), ..filter.in_kernel() };
    let mut programs = Kernel::examine(global.forced())?
        .start(defaults::LIMITS, Some(EventSpec { what: EventKind::Packets, filter: in_kernel, with_names: false }))?;
    let (ring, records) = (programs.take_events()?, programs.take_processes()?);
    let log = Log {
        format: args.stream.format,
        ancestry: args.stream.ancestry,
        filter,
        own,
        clock: Clock::new(args.stream.utc),
        devices,
        processes: Processes::new("/proc").with_timeout(users::INTERVAL_TIMEOUT),
        records,
        hooks: programs.hook_kinds(&["packets", "drops"]),
    };
    events::run(ring, &mut EventLedger::new(programs), log, args.stream.count)?;
    Ok(())
}

struct Log {
    format: StreamFormat,
    /// Whether lines have what each process is, and documents its arguments.
    ancestry: bool,
    filter: Filter,
    /// Connections that are left out.
    own: Vec<own::Connection>,
    clock: Clock,
    devices: DeviceNames,
    processes: Processes,
    records: Records,
    /// The hooks that see packets.
    hooks: Vec<(&'static str, String)>,
}

impl Lines for Log {
    type Event = PacketEvent;

    fn header(&self, text: &mut String) {
        match self.format {
            StreamFormat::Text => text::header(text),
            StreamFormat::Ndjson => record::header(text, &self.hooks),
            StreamFormat::Csv => csv::push_event_header::<record::Columns<'_>>(text),
        }
    }

    fn event(&mut self, event: &PacketEvent, text: &mut String) -> bool {
        let ends = [(event.source, event.source_port), (event.destination, event.destination_port)];
        if !self.filter.selects_process(&event.owner, &event.comm) || !self.filter.selects_ends(ends) {
            return false;
        }
        if self.own.iter().any(|own| own.has(ends)) {
            return false;
        }
        let Self { filter, processes, records, .. } = self;
        let details = || {
            processes.learn(records.take(), 0);
            processes.details_for_event(&event.owner, event.comm)
        };
        if !filter.selects_names(details) {
            return false;
        }
        let device = self.devices.name(event.netns, event.ifindex, event.owner.tgid);
        if !self.devices.is_wanted((event.netns, event.ifindex)) {
            return false;
        }
        let process = self.process(event);
        match self.format {
            StreamFormat::Text => text::line(text, event, &device, process.as_ref(), &self.clock),
            StreamFormat::Ndjson => record::line(text, event, device, process.unwrap_or_default(), &self.clock),
            StreamFormat::Csv => record::csv_line(text, event, device, process.unwrap_or_default(), &self.clock),
        }
        true
    }

    fn form(&self) -> head::Form {
        (self.format, csv::push_loss::<record::Columns<'_>>)
    }

    fn tick(&mut self, _at_end: bool, _most: Option<u64>, _text: &mut String) -> anyhow::Result<u64> {
        self.devices.refresh();
        self.processes.learn(self.records.take(), 0);
        self.processes.forget_ended();
        Ok(0)
    }
}

impl Log {
    /// What a packet's process is, where that is shown.
    fn process(&mut self, event: &PacketEvent) -> Option<ProcessNames> {
        let is_shown = self.ancestry || self.format != StreamFormat::Text;
        (is_shown && record::is_of_process(event)).then(|| {
            self.processes.learn(self.records.take(), 0);
            self.processes.details_for_event(&event.owner, event.comm).into_names(self.ancestry)
        })
    }
}
