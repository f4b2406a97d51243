//! nettopd: accounts every packet to the process, user and network device it belongs to.
//!
//! Data goes one way: `kernel` loads the hooks, `ledger` and `drops` read their books, `identity` names what they count,
//! `report` balances and writes, `history` records, `api` answers. `client` asks.

mod api;
mod check;
mod cli;
mod client;
mod clock;
mod config;
mod connections;
mod drops;
#[cfg(test)]
mod golden;
mod history;
mod identity;
mod kernel;
mod ledger;
mod manual;
mod packets;
mod report;
mod run;
mod sampler;
mod service;
mod sockets;
mod stream;
mod trace;
mod version;

use std::process::ExitCode;

use thiserror::Error;

use crate::{
    cli::{Cli, Command},
    config::Fault,
    identity::escape::escape,
    kernel::preflight::Refusal,
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
    let cli = Cli::read();
    // It has a log of its own.
    if let Some(Command::Daemon(args)) = &cli.command {
        return service::run(&cli, args).map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS);
    }
    let level = match cli.verbose {
        0 => tracing::Level::WARN,
        1 => tracing::Level::INFO,
        _ => tracing::Level::DEBUG,
    };
    tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).init();
    if let Some(Command::Trace(args)) = &cli.command {
        return trace::run(&cli, args).unwrap_or_else(|error| fail(&error));
    }
    let done = client::or_else(&cli, || match cli.command {
        Some(Command::Config(ref args)) => config::check(args),
        Some(Command::Check { format }) => check::run(&cli, format),
        Some(Command::Connections(ref args)) => connections::run(&cli, args),
        Some(Command::Packets(ref args)) => packets::run(&cli, args),
        Some(Command::Sockets(ref args)) => sockets::run(&cli, args),
        Some(Command::History(ref args)) => history::run(args),
        Some(Command::Completions { shell }) => manual::completions(shell),
        Some(Command::Man { ref folder }) => manual::write_pages(folder),
        Some(Command::Status { format }) => client::status(&cli, format),
        Some(Command::Drops { .. } | Command::Trace(_) | Command::Daemon(_)) | None => run::run(&cli, cli.output()),
    });
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
    const CONFIG: u8 = 78;
    if error.is::<Usage>() {
        return USAGE.into();
    }
    if error.is::<Fault>() {
        return CONFIG.into();
    }
    if error.is::<NotPermitted>() {
        return NOPERM.into();
    }
    match error.downcast_ref() {
        Some(Refusal::Kernel(_) | Refusal::NoDaemon(_)) => UNAVAILABLE.into(),
        Some(Refusal::Permission(_) | Refusal::Daemon(_)) => NOPERM.into(),
        None => ExitCode::FAILURE,
    }
}
