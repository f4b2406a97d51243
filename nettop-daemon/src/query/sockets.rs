//! `nettopd sockets`: which are wanted, and how they are shown.

use clap::Args;

use super::{
    format::SocketsFormat,
    names::NamesArgs,
    parameters::{Parameters, Query},
    report::seconds,
    selector::Selector,
};

/// `nettopd sockets`.
#[derive(Args, Debug, Clone)]
pub struct SocketsArgs {
    /// Watch for so many seconds first, and show what each socket moved meanwhile, busiest first
    #[arg(value_parser = seconds)]
    pub interval: Option<f64>,
    #[command(flatten)]
    pub query: SocketsQuery,
    /// Also ask the resolver for names of addresses, for 2 s at most; without it only /etc/hosts has them
    #[arg(long, conflicts_with = "numeric")]
    pub resolve: bool,
    /// Below each socket, what TCP knows of it, and files, scripts, units, containers, ancestors and arguments of its processes
    #[arg(short, long)]
    pub extended: bool,
    #[arg(long, value_enum, default_value_t)]
    pub format: SocketsFormat,
}

/// Which sockets are wanted.
#[derive(Args, Debug, Clone, Default)]
pub struct SocketsQuery {
    /// Only listeners, and UDP sockets that are not connected
    #[arg(short, long)]
    pub listening: bool,
    /// What one end has to be, in lsof's words
    #[arg(short, long, value_name = "SPEC")]
    #[arg(help = "Only these: [4|6][PROTOCOL][@HOST][:PORT], as for lsof; may be repeated")]
    pub internet: Vec<Selector>,
    /// Only those that this process holds; may be repeated
    #[arg(short, long, value_name = "PID")]
    pub pid: Vec<u32>,
    /// Only those of this user, by name or number; may be repeated
    #[arg(short, long, value_name = "USER")]
    pub user: Vec<String>,
    /// Only those that a process holds whose name begins with this; may be repeated
    #[arg(short, long, value_name = "NAME")]
    pub command: Vec<String>,
    #[command(flatten)]
    pub names: NamesArgs,
    /// Show users, ports and addresses by number
    #[arg(short, long)]
    pub numeric: bool,
    /// Also give the arguments of processes, as -e does
    #[arg(long)]
    pub arguments: bool,
}

impl Query for SocketsQuery {
    fn parameters(&mut self) -> Parameters<'_> {
        let Self { listening, internet, pid, user, command, names, numeric, arguments } = self;
        let mut parameters: Parameters<'_> = vec![
            ("internet", internet),
            ("pid", pid),
            ("user", user),
            ("command", command),
            ("listening", listening),
            ("numeric", numeric),
            ("arguments", arguments),
        ];
        parameters.extend(names.parameters());
        parameters
    }
}
