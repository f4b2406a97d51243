//! `cargo xtask bench`: what nettopd costs, next to no monitor, to empty programs and to its peers, all in one run.
//!
//! Timings on a busy machine lie; modes are interleaved round by round, and medians of differences are printed.

#![expect(clippy::print_stdout, reason = "the output is the figures")]

mod history;
mod monitors;
mod scale;
mod sockets;
mod traffic;
mod usage;

use anyhow::Context as _;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use crate::{monitors::Mode, traffic::Load};

const ROUNDS: usize = 21;
const WINDOWS: usize = 100;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    match (args.next().as_deref(), args.next()) {
        (Some("busy-peer"), _) => return scale::busy_peer(),
        (Some("hold-sockets"), Some(number)) => return sockets::hold(&number),
        _ => {}
    }
    let nettopd = std::env::var("NETTOPD_BIN").context("NETTOPD_BIN is not set; run `cargo xtask bench`")?;
    let empty = std::env::var("NETTOP_EMPTY").context("NETTOP_EMPTY is not set; run `cargo xtask bench`")?;
    let only = std::env::args().nth(1);
    let wants = |name: &str| only.as_deref().is_none_or(|only| only == name);
    for load in Load::ALL {
        if wants("cost") {
            cost(&nettopd, &empty, load)?;
        }
    }
    if wants("scale") {
        scale::run(&nettopd)?;
    }
    if wants("sockets") {
        sockets::run(&nettopd)?;
    }
    if wants("history") {
        history::run()?;
    }
    if wants("usage") {
        usage::run(&nettopd)?;
    }
    Ok(())
}

/// Nanoseconds per operation in each mode, and what the mode adds to no monitor.
fn cost(nettopd: &str, empty: &str, load: Load) -> anyhow::Result<()> {
    let modes = Mode::available(nettopd, empty, load);
    let mut ns = vec![Vec::new(); modes.len()];
    for round in 0..ROUNDS {
        // Forward and back, so that the order favours nobody.
        let forth = 0..modes.len();
        let order: Vec<usize> = if round % 2 == 0 { forth.collect() } else { forth.rev().collect() };
        for index in order {
            let monitor = modes[index].start()?;
            ns[index].push(on_last_cpu(|| load.ns_per_operation(WINDOWS))?);
            drop(monitor);
        }
    }
    println!("{load}: median of {ROUNDS} interleaved rounds");
    let floor = added(&ns, 1);
    for (index, mode) in modes.iter().enumerate() {
        let added = added(&ns, index);
        println!(
            "  {:<16} {:>6.0} ns  {:>5.2} x empty  added {:>+6.0} ns  {:>5.2} x empty",
            mode.name(),
            median(ns[index].clone()),
            median(ns[index].iter().zip(&ns[1]).map(|(with, empty)| with / empty).collect()),
            added,
            added / floor
        );
    }
    Ok(())
}

/// Runs the load on one CPU; the monitor's own process stays free to go elsewhere.
fn on_last_cpu<T: Send>(load: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    std::thread::scope(|scope| {
        let pinned = scope.spawn(|| {
            let mut cpus = CpuSet::new();
            cpus.set(std::thread::available_parallelism()?.get() - 1)?;
            sched_setaffinity(Pid::from_raw(0), &cpus)?;
            load()
        });
        pinned.join().map_err(|_| anyhow::anyhow!("the load panicked"))?
    })
}

/// Median over the rounds of the difference to the same round without a monitor.
fn added(ns: &[Vec<f64>], mode: usize) -> f64 {
    median(ns[mode].iter().zip(&ns[0]).map(|(with, without)| with - without).collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
