//! Every socket of the machine, with all processes that hold it.

pub mod document;
pub mod list;
mod portmap;
mod select;
mod warnings;

use std::{collections::HashMap, fs, net::IpAddr, path::Path, time::Instant};

use nettop_common::{Netns, SocketRecord, Wire};
use nettop_kernel::socket_iterators::SocketIterators;
use nettop_model::{
    Named,
    sockets::{Document, HolderReport},
};

use self::{
    document::Namer,
    list::{LISTEN, Listing},
};
use crate::{
    identity::{
        address::Address,
        devices::Devices,
        hosts::{self, Hosts},
        processes::Processes,
        services,
        users::{self, Users},
    },
    query::sockets::SocketsQuery,
    sys::escape::escape,
};

/// Sockets as they are now, `max_sockets` of them, by iterators that were loaded before.
///
/// # Errors
///
/// [`list::TooLong`] at the deadline, else if iterators or devices cannot be read.
pub fn now(
    query: &SocketsQuery,
    uids: &[u32],
    iterators: &SocketIterators,
    max_sockets: usize,
    deadline: Instant,
) -> anyhow::Result<Document> {
    let socket = |record: &SocketRecord| query.selects_socket(record, uids) || portmap::is_portmapper(record);
    let of_holder =
        |record: &SocketRecord| query.selects_holder(record.tgid, &record.comm) || portmap::is_portmapper(record);
    let has_holders = !query.pid.is_empty() || !query.command.is_empty();
    let selection = list::Selection {
        max_sockets,
        deadline: Some(deadline),
        socket: &socket,
        holder: if has_holders { Some(&of_holder) } else { None },
    };
    answer(query, false, uids, list::list(iterators, &selection)?)
}

/// What was asked for of a listing, with names. Names of addresses are looked up if wanted.
///
/// # Errors
///
/// If devices cannot be read.
pub fn answer(query: &SocketsQuery, resolve: bool, uids: &[u32], mut listing: Listing) -> anyhow::Result<Document> {
    let programs = portmap::programs(&listing.sockets);
    listing.sockets.retain(|socket| query.selects(socket, uids));
    sort(&mut listing);
    let devices = Devices::new(|| None)?;
    let mut namer = Namer {
        host: devices.host(),
        devices: &devices,
        users: (!query.numeric).then_some(Users::with_timeout(users::DOCUMENT_TIMEOUT)),
        services: if query.numeric { HashMap::new() } else { services() },
        hosts: names(query, resolve, &listing, devices.host()),
        proc: Path::new("/proc"),
        processes: Processes::with_parents("/proc").with_timeout(users::DOCUMENT_TIMEOUT),
        programs,
        warnings: HashMap::new(),
    };
    let mut document = document::document(&listing, &mut namer);
    if !query.arguments {
        let holders = document.sockets.iter_mut().flat_map(|socket| &mut socket.holders);
        holders.for_each(|holder| holder.process.arguments = None);
    }
    let names = query.names.with(&[]);
    if !names.is_empty() {
        let named = |holder: &HolderReport| {
            names.admits(&Named {
                comm: &holder.comm,
                unit: holder.process.unit.as_deref(),
                container: holder.process.container.as_deref(),
                container_name: holder.process.names.container_name.as_deref(),
                pod: holder.process.names.pod.as_deref(),
            })
        };
        document.sockets.retain(|socket| socket.holders.iter().any(named));
    }
    Ok(document)
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
fn names(query: &SocketsQuery, resolve: bool, listing: &Listing, host: Netns) -> Hosts {
    if query.numeric {
        return Hosts::default();
    }
    let mut hosts = Hosts::from_file(&fs::read("/etc/hosts").unwrap_or_default());
    if resolve {
        let own = listing.sockets.iter().map(|socket| &socket.record).filter(|record| record.netns == host);
        let addresses = own.flat_map(|record| [record.local, record.remote]).map(|address| Address::from(address).0);
        hosts.resolve(addresses.filter(is_host), hosts::RESOLVE_TIMEOUT, hosts::ask);
    }
    hosts
}

/// Whether an address is one host's.
const fn is_host(address: &IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast()
}

/// Names of ports, by IP protocol.
fn services() -> HashMap<(u16, u16), String> {
    let text = fs::read_to_string("/etc/services").unwrap_or_default();
    let entries = services::entries(&text);
    entries.map(|(port, name, protocol)| ((protocol, port), escape(name.as_bytes()))).collect()
}
