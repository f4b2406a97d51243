//! What is known of the other end of a socket besides its address.

use std::{net::IpAddr, sync::Arc};

use nettop_common::ports;
use nettop_model::Asn;

use crate::identity::{
    address::Address,
    asn::Networks,
    peer_names::{Name, PeerNames, Process, Source},
};

/// Where it is found.
#[derive(Clone, Debug, Default)]
pub struct Remotes {
    /// Without them there are no names.
    pub names: Option<Arc<PeerNames>>,
    pub networks: Option<&'static Networks>,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Remote {
    pub name: Option<Name>,
    pub asn: Option<Arc<Asn>>,
}

impl Remotes {
    /// Those of the running command; with or without names.
    pub fn of_machine(with_names: bool) -> Self {
        Self { names: with_names.then(PeerNames::of_machine), networks: Networks::of_machine() }
    }

    /// Of an address that any of these processes talks to: who asked for it itself, comes first.
    pub fn of(&self, processes: impl Iterator<Item = Process>, address: ports::Address) -> Remote {
        let address: IpAddr = Address::from(address).0;
        if address.is_unspecified() {
            return Remote::default();
        }
        let found = self.names.as_ref().map(|names| {
            // What nobody holds may have a name that somebody asked for.
            let nobody = std::iter::once(Process { pid: 0, start_time_ns: 0 });
            processes.chain(nobody).filter_map(|process| names.name(process, address)).collect::<Vec<_>>()
        });
        let found = found.unwrap_or_default();
        let own = found.iter().find(|name| name.source == Source::Dns);
        Remote { name: own.or(found.first()).cloned(), asn: self.networks.and_then(|networks| networks.get(address)) }
    }
}
