//! What streams have in common on the command line: whose events, which ends, how written.

use std::net::IpAddr;

use clap::Args;
use nettop_common::{EventFilter, OwnerKey, filter::MAX_DEVICES, ports};
use nettop_model::Names;

use super::{format::StreamFormat, names::NamesArgs, user::uids};
use crate::identity::{address::Address, details::Details, hosts::resolve};

/// Which events are shown, and how.
#[derive(Args, Debug, Clone)]
pub struct StreamArgs {
    /// Only events of this process; may be repeated
    #[arg(short, long, value_name = "PID")]
    pub pid: Vec<u32>,
    /// Only events of this user, by name or number; may be repeated
    #[arg(short, long, value_name = "USER")]
    pub user: Vec<String>,
    /// Only events of processes whose name begins with this; may be repeated
    #[arg(short, long, value_name = "NAME")]
    pub command: Vec<String>,
    #[command(flatten)]
    pub of: NamesArgs,
    /// Also show who started each process, what it runs, its unit or container, and its arguments
    #[arg(short = 'e', long)]
    pub ancestry: bool,
    /// Only where this host is at one end; may be repeated
    #[arg(long, value_name = "HOST")]
    pub host: Vec<String>,
    /// Only where one end has this port; may be repeated
    #[arg(long, value_name = "PORT")]
    pub port: Vec<u16>,
    /// End after this many lines
    #[arg(long, value_name = "LINES", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Times of day in UTC; those of ndjson and csv always are
    #[arg(long)]
    pub utc: bool,
    #[arg(long, value_enum, default_value_t)]
    pub format: StreamFormat,
}

/// [`StreamArgs`] with names resolved.
#[derive(Debug)]
pub struct Filter {
    pids: Vec<u32>,
    uids: Vec<u32>,
    commands: Vec<String>,
    /// Without those.
    names: Names,
    hosts: Vec<IpAddr>,
    ports: Vec<u16>,
}

impl Filter {
    /// # Errors
    ///
    /// [`crate::error::Usage`] for an unknown user or host.
    pub fn new(args: &StreamArgs) -> anyhow::Result<Self> {
        let mut hosts = Vec::new();
        for host in &args.host {
            hosts.extend(resolve(host).map_err(crate::error::Usage::new)?);
        }
        Ok(Self {
            pids: args.pid.clone(),
            uids: uids(&args.user)?,
            commands: args.command.clone(),
            names: args.of.with(&[]),
            hosts,
            ports: args.port.clone(),
        })
    }

    /// What the kernel can filter by.
    pub fn in_kernel(&self) -> EventFilter {
        let only = |values: &[u32]| if let [value] = values { Some(*value) } else { None };
        let uid = only(&self.uids);
        EventFilter {
            host: if let [host] = self.hosts[..] { Address(host).into() } else { [0; 4] },
            tgid: only(&self.pids).unwrap_or(0),
            port: if let [port] = self.ports[..] { port } else { 0 },
            has_uid: uid.is_some().into(),
            uid: uid.unwrap_or(0),
            ifindexes: [0; MAX_DEVICES],
        }
    }

    /// Whether a process is asked for.
    pub fn selects_process(&self, owner: &OwnerKey, comm: &[u8; 16]) -> bool {
        let comm = comm.split(|byte| *byte == 0).next().unwrap_or_default();
        (self.pids.is_empty() || self.pids.contains(&owner.tgid))
            && (self.uids.is_empty() || owner.tgid != 0 && self.uids.contains(&owner.uid))
            && (self.commands.is_empty() || self.commands.iter().any(|name| comm.starts_with(name.as_bytes())))
    }

    /// Whether one with this unit and container is. `details` are looked up only if it matters.
    pub fn selects_names(&self, details: impl FnOnce() -> Details) -> bool {
        self.names.is_empty() || self.names.admits(&details().named())
    }

    /// Whether one of two ends is asked for.
    pub fn selects_ends(&self, ends: [(ports::Address, u16); 2]) -> bool {
        self.hosts.is_empty() && self.ports.is_empty()
            || ends.into_iter().any(|(address, port)| {
                (self.hosts.is_empty() || self.hosts.contains(&Address::from(address).0))
                    && (self.ports.is_empty() || self.ports.contains(&port))
            })
    }
}
