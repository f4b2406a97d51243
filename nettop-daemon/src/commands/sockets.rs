//! `nettopd sockets`.

use std::time::{Duration, Instant};

use nettop_kernel::{Kernel, netns, socket_iterators::SocketIterators, tracer::is_there};
use nettop_model::sockets::Document;
use nix::unistd::geteuid;

use crate::{
    client,
    measure::sockets::{
        self,
        list::{self, Listing, Selection},
    },
    query::{
        format::SocketsFormat,
        global::Global,
        sockets::{SocketsArgs, SocketsQuery},
        unmatched,
        user::uids,
    },
    render::sockets::{Layout, encode},
    sys::{runtime, signals::Signals, stderr, stdout},
};

/// Lists sockets: those that the daemon sees, or those that are seen here.
///
/// # Errors
///
/// [`crate::error::Usage`] for an unknown user, [`nettop_kernel::Refusal`] for what the kernel lacks or forbids.
pub fn run(global: &Global, args: &SocketsArgs) -> anyhow::Result<()> {
    let is_the_daemons = args.interval.is_none() && !args.resolve && !global.has_own_hooks();
    // Root finds out more by itself: a daemon without capabilities sees neither paths nor all tables.
    let socket = client::socket(global).filter(|_| is_the_daemons && !geteuid().is_root());
    let target = client::target::sockets(&query(args));
    client::ask_or_else(
        socket.as_deref(),
        &target,
        |answer| print(args, &client::read(answer)?),
        || print(args, &here(global, args)?),
    )
}

fn here(global: &Global, args: &SocketsArgs) -> anyhow::Result<Document> {
    let uids = uids(&args.query.user)?;
    let kernel = Kernel::examine(global.forced())?;
    let iterators = kernel.iterators()?;
    let listing = match args.interval {
        Some(seconds) => watch(&kernel, &iterators, Duration::from_secs_f64(seconds))?,
        None => list::list(&iterators, &Selection::ALL)?,
    };
    sockets::answer(&query(args), args.resolve, &uids, listing)
}

/// Arguments are a detail.
fn query(args: &SocketsArgs) -> SocketsQuery {
    SocketsQuery { arguments: args.extended || args.query.arguments, ..args.query.clone() }
}

/// Writes a listing to standard output, wherever it comes from. Only other network namespaces than this one are named.
fn print(args: &SocketsArgs, document: &Document) -> anyhow::Result<()> {
    let layout = Layout { width: width(args.format), netns: netns::current()?.inode, extended: args.extended };
    let encoded = encode(document, args.format, layout)?;
    unmatched::processes(&args.query.pid);
    if document.is_empty() && args.query.pid.iter().all(|pid| is_there(*pid)) {
        stderr::print("nothing matches now: there is no such socket");
    }
    stdout::print(&encoded)
}

/// Counts each socket's packets for a while, or until a signal, and then lists.
fn watch(kernel: &Kernel, iterators: &SocketIterators, time: Duration) -> anyhow::Result<Listing> {
    let (meter, watched) = runtime::start()?.block_on(async {
        let mut signals = Signals::watch()?;
        let meter = iterators.meter(kernel)?;
        let begun = Instant::now();
        tracing::info!("counting the packets of each socket");
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            _ = signals.next() => {}
        }
        // A second signal ends it without the list.
        signals.let_through().await?;
        anyhow::Ok((meter, begun.elapsed()))
    })?;
    // Before the iterators: all sockets are read as they were at one time.
    drop(meter);
    let listing = list::list(iterators, &Selection::ALL)?;
    Ok(Listing {
        watched_ms: Some(u64::try_from(watched.as_millis())?),
        packets_uncounted: Some(iterators.uncounted()?),
        ..listing
    })
}

/// Columns of the terminal, if the table goes to one.
fn width(format: SocketsFormat) -> Option<usize> {
    let size = terminal_size::terminal_size_of(std::io::stdout()).filter(|_| format == SocketsFormat::Table);
    size.map(|(width, _)| usize::from(width.0)).filter(|width| *width > 0)
}
