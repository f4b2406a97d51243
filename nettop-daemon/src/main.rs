//! nettopd: accounts every packet to the process, user and network device it belongs to.
//!
//! Data goes one way: `kernel` loads the hooks, `ledger` and `drops` read their books, `identity` names what they count,
//! `report` balances and writes, `history` records.

mod check;
mod cli;
mod clock;
mod connections;
mod drops;
#[cfg(test)]
mod golden;
mod history;
mod identity;
mod kernel;
mod ledger;
mod packets;
mod report;
mod run;
mod sockets;
mod stream;
mod trace;

use std::process::ExitCode;

use clap::Parser as _;
use thiserror::Error;

use crate::{
    cli::{Cli, Command, Sort},
    identity::escape::escape,
    kernel::preflight::Refusal,
    report::Output,
};

/// A mistake of the command line that clap cannot see.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Usage(String);

impl Usage {
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

/// What this user may not do: exit code 77.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct NotPermitted(String);

impl NotPermitted {
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = match cli.verbose {
        0 => tracing::Level::WARN,
        1 => tracing::Level::INFO,
        _ => tracing::Level::DEBUG,
    };
    tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).init();
    let done = match cli.command {
        Some(Command::Trace(ref args)) => return trace::run(&cli, args).unwrap_or_else(|error| fail(&error)),
        Some(Command::Check { format }) => check::run(&cli, format),
        Some(Command::Connections(ref args)) => connections::run(&cli, args),
        Some(Command::Packets(ref args)) => packets::run(&cli, args),
        Some(Command::Sockets(ref args)) => sockets::run(&cli, args),
        Some(Command::History(ref args)) => history::run(args),
        Some(Command::Drops { format, all, .. }) => run::run(&cli, Output::Drops { format, all }),
        None => {
            let drops = cli.drops || matches!(cli.sort, Sort::Drops | Sort::Retrans);
            run::run(&cli, Output::Report { format: cli.format(), drops })
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// One line, whatever the kernel had to say.
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("nettopd: {}", escape(format!("{error:#}").as_bytes()));
    exit_code(error)
}

/// After sysexits.h, as systemd's `RestartPreventExitStatus=` wants to know them.
fn exit_code(error: &anyhow::Error) -> ExitCode {
    const USAGE: u8 = 2;
    const UNAVAILABLE: u8 = 69;
    const NOPERM: u8 = 77;
    if error.is::<Usage>() {
        return USAGE.into();
    }
    if error.is::<NotPermitted>() {
        return NOPERM.into();
    }
    match error.downcast_ref() {
        Some(Refusal::Kernel(_)) => UNAVAILABLE.into(),
        Some(Refusal::Permission(_)) => NOPERM.into(),
        None => ExitCode::FAILURE,
    }
}
