//! Every socket of the machine, with all processes that hold it.

mod disguise;
mod list;
mod portmap;
mod select;

use std::{collections::HashMap, fs, io::Write as _, net::IpAddr, path::Path, time::Duration};

use anyhow::Context as _;
use nettop_common::{Netns, Wire};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cli::{Cli, SocketsArgs, SocketsFormat},
    identity::{
        devices::Devices,
        escape::escape,
        hosts::{self, Hosts},
        namespaces,
        processes::Processes,
        users::Users,
    },
    kernel::{listing::Walks, programs::Kernel},
    report::sockets::{self as report, Document, Layout, Namer},
    run,
};

pub use disguise::Disguise;
pub use list::{Holder, LISTEN, Listing, Socket, is_tcp};
pub use select::{Address, Selector, names_a_host, resolve};

/// `nettopd sockets`.
///
/// # Errors
///
/// [`crate::Usage`] for an unknown user, [`crate::kernel::preflight::Refusal`] for what the kernel lacks or forbids.
pub fn run(cli: &Cli, args: &SocketsArgs) -> anyhow::Result<()> {
    let uids = uids(args)?;
    let kernel = Kernel::examine(cli.backend)?;
    let walks = kernel.walks()?;
    let listing = match args.interval {
        Some(seconds) => watch(&kernel, &walks, Duration::from_secs_f64(seconds))?,
        None => list::list(&walks)?,
    };
    print(args, &survey(args, &uids, listing)?, namespaces::current()?.inode)
}

/// All sockets as they are now, by walks that were loaded before.
///
/// # Errors
///
/// [`crate::Usage`] for an unknown user, else what the kernel said.
pub fn now(args: &SocketsArgs, walks: &Walks) -> anyhow::Result<Document> {
    let uids = uids(args)?;
    survey(args, &uids, list::list(walks)?)
}

fn uids(args: &SocketsArgs) -> anyhow::Result<Vec<u32>> {
    args.user.iter().map(|user| run::uid(user)).collect()
}

/// Of a listing, what was asked for, with names.
fn survey(args: &SocketsArgs, uids: &[u32], mut listing: Listing) -> anyhow::Result<Document> {
    let programs = portmap::programs(&listing.sockets);
    listing.sockets.retain(|socket| args.selects(socket, uids));
    sort(&mut listing);
    let devices = Devices::new()?;
    let mut namer = Namer {
        host: devices.host(),
        devices: &devices,
        users: (!args.numeric).then(Users::default),
        services: if args.numeric { HashMap::new() } else { services() },
        hosts: names(args, &listing, devices.host()),
        proc: Path::new("/proc"),
        processes: Processes::new("/proc"),
        programs,
        warnings: HashMap::new(),
    };
    Ok(report::document(&listing, &mut namer))
}

/// Writes a listing to standard output, wherever it comes from. Only other network namespaces than `netns` are named.
///
/// # Errors
///
/// If it cannot be encoded or written.
pub fn print(args: &SocketsArgs, document: &Document, netns: u32) -> anyhow::Result<()> {
    let layout = Layout { width: width(args.format), netns, extended: args.extended };
    let encoded = report::encode(document, args.format, layout)?;
    match std::io::stdout().lock().write_all(&encoded) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

/// Counts each socket's packets for a while, or until somebody has seen enough, and then lists.
fn watch(kernel: &Kernel, walks: &Walks, time: Duration) -> anyhow::Result<Listing> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let (meter, watched) = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
        let meter = walks.meter(kernel)?;
        let begun = std::time::Instant::now();
        tracing::info!("counting the packets of each socket");
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        anyhow::Ok((meter, begun.elapsed()))
    })?;
    // Before the walks: all sockets are read as they were at one time.
    drop(meter);
    let listing = list::list(walks)?;
    Ok(Listing {
        watched_ms: Some(u64::try_from(watched.as_millis())?),
        packets_uncounted: Some(walks.uncounted()?),
        ..listing
    })
}

/// What moved most comes first; where nothing was counted, sockets of a kind stand together.
fn sort(listing: &mut Listing) {
    let bytes = |wires: &[Wire; 2]| wires.iter().map(|wire| wire.bytes).sum::<u64>();
    listing.sockets.sort_by_key(|socket| {
        let record = &socket.record;
        (
            std::cmp::Reverse(bytes(&record.moved)),
            (record.netns, record.family, record.protocol, record.state != LISTEN),
            (record.local_port, record.remote_port),
        )
    });
}

/// Names of addresses, as far as they are wanted.
fn names(args: &SocketsArgs, listing: &Listing, host: Netns) -> Hosts {
    if args.numeric {
        return Hosts::default();
    }
    let mut hosts = Hosts::from_file(&fs::read("/etc/hosts").unwrap_or_default());
    if args.resolve {
        let own = listing.sockets.iter().map(|socket| &socket.record).filter(|record| record.netns == host);
        let addresses = own.flat_map(|record| [record.local, record.remote]).map(|address| Address::from(address).0);
        hosts.resolve(addresses.filter(is_host), hosts::WAIT, hosts::ask);
    }
    hosts
}

/// Whether an address is one host's.
const fn is_host(address: &IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast()
}

/// Columns of the terminal, if the table goes to one.
fn width(format: SocketsFormat) -> Option<usize> {
    let size = terminal_size::terminal_size_of(std::io::stdout()).filter(|_| format == SocketsFormat::Table);
    size.map(|(width, _)| usize::from(width.0)).filter(|width| *width > 0)
}

/// Names of ports, by IP protocol.
fn services() -> HashMap<(u16, u16), String> {
    let text = fs::read_to_string("/etc/services").unwrap_or_default();
    let entries = select::services::entries(&text);
    entries.map(|(port, name, protocol)| ((protocol, port), escape(name.as_bytes()))).collect()
}
