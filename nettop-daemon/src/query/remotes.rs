//! What commands are told of remote addresses.

use std::path::PathBuf;

use clap::Args;

use crate::defaults;

/// Where names and networks are from.
#[derive(Args, Debug, Clone, Default)]
pub struct RemoteArgs {
    /// Do not read what name servers answer
    #[arg(long)]
    pub no_dns: bool,
    #[arg(help = defaults::asn_help())]
    #[arg(long = "asn", value_name = "FILE")]
    pub asn: Vec<PathBuf>,
}

impl RemoteArgs {
    /// The files that were named, or the usual ones.
    pub fn asn_files(&self) -> Vec<PathBuf> {
        if self.asn.is_empty() { defaults::asn_files() } else { self.asn.clone() }
    }
}
