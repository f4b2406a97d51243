//! nettopd: accounts every packet to the process, user and network device it belongs to.
//!
//! Modules are layers: each uses those below it only (see ARCHITECTURE.md).

#![deny(unsafe_code)]

mod bounds;
mod cli;
mod client;
mod commands;
mod config;
mod defaults;
mod error;
mod events;
#[cfg(test)]
mod example;
#[cfg(test)]
mod golden;
mod identity;
mod measure;
mod query;
mod record;
mod render;
mod serve;
#[expect(unsafe_code, reason = "system calls that no crate has")]
mod sys;

use std::{io::IsTerminal as _, process::ExitCode};

use clap::CommandFactory as _;

use crate::{
    cli::{Cli, Command},
    commands::{
        check, config as configuration, connections, daemon, history, manual, packets, report, sockets, status, top,
        trace,
    },
    error::exit_code,
    query::report::Reports,
    sys::{allocator, limits, stderr},
};

fn main() -> ExitCode {
    let Cli { command, report, global } = match Cli::read() {
        Ok(Some(cli)) => cli,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => return fail(&error),
    };
    limits::raise();
    allocator::keep_large_blocks_apart();
    match &command {
        // It has a log of its own.
        Some(Command::Daemon(_)) => {}
        // What it has to say is on its screen.
        Some(Command::Top(_)) if std::io::stderr().is_terminal() => {}
        // `check -v` also shows the programs' messages.
        Some(Command::Check(_)) if global.verbose > 0 => stderr::start(2),
        _ => stderr::start(global.verbose),
    }
    let done = match &command {
        None => report::run(&global, &Reports::from(&report)),
        Some(Command::Drops(args)) => report::run(&global, &Reports::from(args)),
        Some(Command::Connections(args)) => connections::run(&global, args),
        Some(Command::Packets(args)) => packets::run(&global, args),
        Some(Command::Trace(args)) => return trace::run(&global, args).unwrap_or_else(|error| fail(&error)),
        Some(Command::Sockets(args)) => sockets::run(&global, args),
        Some(Command::History(args)) => history::run(&global, args),
        Some(Command::Top(args)) => top::run(&global, args),
        Some(Command::Status(args)) => status::run(&global, args),
        Some(Command::Check(args)) => check::run(&global, args),
        Some(Command::Daemon(args)) => daemon::run(&global, args),
        Some(Command::Config(args)) => configuration::run(args),
        Some(Command::Completions { shell }) => manual::completions(Cli::command(), *shell),
        Some(Command::Man { folder }) => manual::write_pages(Cli::command(), folder),
    };
    done.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}

/// Prints an error and its remedy in one line.
fn fail(error: &anyhow::Error) -> ExitCode {
    let remedy = limits::remedy(error).map(|remedy| format!("; {remedy}")).unwrap_or_default();
    stderr::print(&format!("{error:#}{remedy}"));
    exit_code(error)
}
