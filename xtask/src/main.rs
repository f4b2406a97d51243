//! `cargo xtask`: from a bare machine to a running nettopd, and every check on the way.

#![forbid(unsafe_code)]

mod build;
mod check;
mod command;
mod debian;
mod imports;
mod layers;
mod package;
mod setup;
mod steps;
mod test;
mod tidy;
mod units;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, runs and checks nettopd. Each command installs what it needs and is missing.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing for building: rust-src and bpf-linker
    Setup,
    /// Build target/release/nettopd
    Build,
    /// Build nettopd and run it with ARGS
    Run {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Build the Debian package: target/package/nettopd_VERSION.deb
    Package {
        /// Instead: a program that needs no library, with its files, for /usr/local of any Linux, as a .tar.gz there
        #[arg(long = "static")]
        is_static: bool,
    },
    /// Formatting, lints for both sides, documentation, tidiness
    Check,
    /// Check and test at once: everything that must hold before a change lands; needs root
    All,
    /// All tests here and on other kernels, or the scenarios here whose name contains FILTER; needs root
    Test {
        /// Leave out the other kernels
        #[arg(long)]
        no_vm: bool,
        filter: Vec<String>,
    },
    /// The scenarios on other kernels, in virtual machines; FILTER after `--`
    Vm {
        /// Versions as 6.1; all of the matrix if left out
        kernels: Vec<String>,
        /// Instead: load a machine, reset it hard, and ask its history who it was
        #[arg(long, conflicts_with_all = ["kernels", "filter"])]
        reset: bool,
        /// Instead: keep a machine without memory and disk for ten minutes, and ask its history whether it was in time
        #[arg(long, conflicts_with_all = ["kernels", "filter", "reset"])]
        exhausted: bool,
        #[arg(last = true)]
        filter: Vec<String>,
    },
    /// What nettopd costs, next to empty programs and to its peers; needs root
    Bench {
        /// `cost`, `scale`, `sockets` or `history`; all if left out
        #[arg(trailing_var_arg = true)]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Setup => setup::run(),
        Task::Build => build::nettopd(build::Profile::Release).map(drop),
        Task::Run { args } => return finish_run(build::run_nettopd(&args)),
        Task::Package { is_static } => package::run_one(is_static),
        Task::Check => check::run_all(),
        Task::All => test::all(true, true),
        Task::Test { no_vm, filter } if filter.is_empty() => test::all(false, !no_vm),
        Task::Test { filter, .. } => test::some(&filter),
        Task::Vm { reset: true, .. } => vm::reset_test::build_and_run(),
        Task::Vm { exhausted: true, .. } => vm::reset_test::exhaust(),
        Task::Vm { kernels, filter, .. } => vm::run(&kernels, &filter),
        Task::Bench { args } => build::bench(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// nettopd's exit code is the command's.
fn finish_run(code: anyhow::Result<u8>) -> ExitCode {
    code.map_or_else(|error| fail(&error), ExitCode::from)
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("xtask: {error:#}");
    ExitCode::FAILURE
}
