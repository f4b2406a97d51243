//! `nettopd packets`: headers of packets as they pass, each with the process it belongs to.

#[cfg(test)]
mod golden;
mod record;
mod text;

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use clap::Args;
use nettop_common::{Netns, PacketEvent};

use crate::{
    cli::Cli,
    clock::Clock,
    identity::devices::{DeviceKey, Devices},
    kernel::{
        programs::Kernel,
        telling::{Telling, What},
    },
    stream::{
        self, Books, Lines,
        filter::{Filter, StreamArgs, StreamFormat},
    },
};

/// Which packets are told.
#[derive(Args, Debug, Clone)]
pub struct PacketsArgs {
    /// Only on this network device; may be repeated
    #[arg(short, long, value_name = "DEVICE")]
    pub interface: Vec<String>,
    #[command(flatten)]
    pub stream: StreamArgs,
}

/// `nettopd packets`.
///
/// # Errors
///
/// [`crate::Usage`] for an unknown user or host, [`crate::kernel::preflight::Refusal`] for what the kernel lacks or forbids.
pub fn run(cli: &Cli, args: &PacketsArgs) -> anyhow::Result<()> {
    let filter = Filter::new(&args.stream)?;
    let kernel = Kernel::examine(cli.backend)?;
    let mut programs = kernel.start(cli.limits(), Some(Telling { what: What::Packets, filter: filter.in_kernel() }))?;
    let ring = programs.take_events()?;
    let log = Log {
        format: args.stream.format,
        wanted_devices: args.interface.clone(),
        filter,
        clock: Clock::new(args.stream.utc),
        devices: DeviceNames::new()?,
        hooks: programs.hook_kinds(&["packets", "drops"]),
    };
    stream::run(ring, &mut Books::new(programs), log, args.stream.count)?;
    Ok(())
}

/// Names of devices, asked again when an unknown one shows up.
struct DeviceNames {
    devices: Devices,
    asked: Instant,
    /// Not found when they were asked for.
    unknown: HashSet<DeviceKey>,
}

impl DeviceNames {
    const PATIENCE: Duration = Duration::from_secs(1);

    fn new() -> anyhow::Result<Self> {
        Ok(Self { devices: Devices::new()?, asked: Instant::now(), unknown: HashSet::new() })
    }

    /// The name of a device; `if7` where none can be found.
    fn name(&mut self, netns: Netns, ifindex: u32, tgid: u32) -> String {
        let key = (netns, ifindex);
        if self.devices.get(key).is_none() && (self.unknown.insert(key) || self.asked.elapsed() > Self::PATIENCE) {
            if self.asked.elapsed() > Self::PATIENCE {
                self.unknown.clear();
            }
            let pids = if tgid == 0 { Vec::new() } else { vec![tgid] };
            if let Err(error) = self.devices.update(&BTreeMap::from([(netns, pids)])) {
                tracing::warn!("cannot ask for devices: {error:#}");
            }
            self.asked = Instant::now();
        }
        self.devices.get(key).map_or_else(|| format!("if{ifindex}"), |device| device.name.clone())
    }
}

struct Log {
    format: StreamFormat,
    wanted_devices: Vec<String>,
    filter: Filter,
    clock: Clock,
    devices: DeviceNames,
    /// By which hooks packets are seen.
    hooks: Vec<(&'static str, String)>,
}

impl Lines for Log {
    type Event = PacketEvent;

    fn header(&self, text: &mut String) {
        match self.format {
            StreamFormat::Text => text::header(text),
            StreamFormat::Ndjson => record::header(text, &self.hooks),
            StreamFormat::Csv => record::csv_header(text),
        }
    }

    fn event(&mut self, event: &PacketEvent, text: &mut String) -> bool {
        let ends = [(event.source, event.source_port), (event.destination, event.destination_port)];
        if !self.filter.selects_process(&event.owner, &event.comm) || !self.filter.selects_ends(ends) {
            return false;
        }
        let device = self.devices.name(event.netns, event.ifindex, event.owner.tgid);
        if !self.wanted_devices.is_empty() && !self.wanted_devices.contains(&device) {
            return false;
        }
        match self.format {
            StreamFormat::Text => text::line(text, event, &device, &self.clock),
            StreamFormat::Ndjson => record::line(text, event, device, &self.clock),
            StreamFormat::Csv => record::csv_line(text, event, device, &self.clock),
        }
        true
    }

    fn form(&self) -> (StreamFormat, &'static [&'static str]) {
        (self.format, &record::COLUMNS)
    }
}
