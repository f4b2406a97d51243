//! Every socket of the machine, with all processes that hold it.

mod disguise;
mod list;
mod portmap;
mod select;

use std::{collections::HashMap, fs, io::Write as _};

use anyhow::Context as _;
use nettop_common::Netns;

use crate::{
    cli::{Cli, SocketsArgs},
    identity::{devices::Devices, processes::Processes, users::Users},
    kernel::programs::Kernel,
    report::sockets::{self as report, Namer},
    run,
};

pub use disguise::Disguise;
pub use list::{Holder, LISTEN, Socket, is_tcp};
pub use select::{Address, Selector, resolve};

/// `nettopd sockets`.
///
/// # Errors
///
/// [`crate::Usage`] for an unknown user, [`crate::kernel::preflight::Refusal`] for what the kernel lacks or forbids.
pub fn run(cli: &Cli, args: &SocketsArgs) -> anyhow::Result<()> {
    let uids = args.user.iter().map(|user| run::uid(user)).collect::<anyhow::Result<Vec<_>>>()?;
    let walks = Kernel::examine(cli.backend)?.walks()?;
    let (mut sockets, unread) = list::list(&walks)?;
    let programs = portmap::programs(&sockets);
    sockets.retain(|socket| args.selects(socket, &uids));
    sockets.sort_by_key(|socket| {
        let record = &socket.record;
        (record.netns, record.family, record.protocol, record.state != LISTEN, record.local_port, record.remote_port)
    });
    let devices = Devices::new()?;
    let mut namer = Namer {
        host: devices.host(),
        devices: &devices,
        users: (!args.numeric).then(Users::default),
        services: if args.numeric { HashMap::new() } else { services() },
        processes: Processes::new("/proc"),
        programs,
        warnings: HashMap::new(),
    };
    let document = report::document(&sockets, unread, &mut namer);
    let host: Netns = namer.host;
    let encoded = report::encode(&document, args.format, host)?;
    match std::io::stdout().lock().write_all(&encoded) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

/// Names of ports, by IP protocol.
fn services() -> HashMap<(u16, u16), String> {
    let text = fs::read_to_string("/etc/services").unwrap_or_default();
    let entries = select::services::entries(&text);
    entries.map(|(port, name, protocol)| ((protocol, port), name.to_owned())).collect()
}
