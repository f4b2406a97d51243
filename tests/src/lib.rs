//! What scenarios are made of: namespaces, processes that know what they moved, a sniffer, and nettopd itself.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a scenario that cannot be set up has failed")]
#![allow(clippy::print_stdout, reason = "a skip is told to whoever runs the scenario")]

pub mod api;
pub mod calls;
pub mod drops;
pub mod history;
pub mod machine;
mod memory;
mod namespace;
mod nettopd;
pub mod pairs;
mod process;
pub mod service;
mod sniffer;
mod stream;

/// Version of the running kernel. Only for what a kernel is known to lack; nettopd itself never asks.
pub fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// How much of something: an emulated machine takes ten times as long for it.
pub fn amount(here: u64, emulated: u64) -> u64 {
    if std::env::var_os("NETTOP_VM").is_some() { emulated } else { here }
}

/// Says that this kernel lacks what a scenario needs. Who runs all counts them.
pub fn skip(what_lacks: &str) {
    use std::io::Write as _;
    println!("skipped: {what_lacks}");
    if let Some(path) = std::env::var_os("NETTOP_SKIPS") {
        let scenario = std::thread::current().name().unwrap_or("?").to_owned();
        let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
        writeln!(file, "{scenario}: {what_lacks}").unwrap();
    }
}

pub use memory::MemoryCgroup;
pub use namespace::{Counters, Namespace, join, veth_pair};
pub use nettopd::{
    Nettopd, Row, app, assert_app, device, nettopd_command, owner_row, rows_of, rss_kib, run_nettopd, wire,
    without_daemon,
};
pub use process::{Moved, Parent, Process, set_name};
pub use sniffer::{Frames, Sniffer};
pub use stream::{Stream, Told};
