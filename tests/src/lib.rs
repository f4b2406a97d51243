//! What scenarios are made of: namespaces, processes that know what they moved, a sniffer, and nettopd itself.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a scenario that cannot be set up has failed")]
#![allow(clippy::print_stdout, reason = "whoever runs the scenario learns of a skip")]

pub mod api;
pub mod bpf;
mod bystander;
pub mod calls;
pub mod cgroup;
mod child;
mod documents;
pub mod drops;
pub mod egress;
mod ending;
mod followed;
pub mod history;
mod invariants;
pub mod machine;
mod memory;
mod moved;
mod namespace;
mod nettopd;
pub mod pairs;
mod process;
pub mod queue;
pub mod screen;
pub mod service;
mod sniffer;
pub mod sockets;
mod stream;
mod tables;
mod threads;
mod wait;

/// Version of the running kernel. Only for what a kernel is known to lack; nettopd itself never asks.
pub fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// Whether this is one of the matrix's machines, whose CPU is emulated.
pub fn is_emulated() -> bool {
    std::env::var_os("NETTOP_VM").is_some()
}

/// How much of something: an emulated machine takes ten times as long for it.
pub fn amount(here: u64, emulated: u64) -> u64 {
    if is_emulated() { emulated } else { here }
}

/// Prints that this kernel lacks what a scenario needs. The runner counts these.
pub fn skip(what_lacks: &str) {
    use std::io::Write as _;
    println!("skipped: {what_lacks}");
    if let Some(path) = std::env::var_os("NETTOP_SKIPS") {
        let scenario = std::thread::current().name().unwrap_or("?").to_owned();
        let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
        writeln!(file, "{scenario}: {what_lacks}").unwrap();
    }
}

pub use child::Parent;
pub use documents::{app, assert_app, assert_app_bytes, device, directions, owner_row, rows_of, wire};
pub use ending::FirstFin;
pub use memory::MemoryCgroup;
pub use moved::Moved;
pub use namespace::{Counters, Namespace, join, netns_cookie, netns_inode, routed, rto_min, set_up_lo, veth_pair};
pub use nettopd::{Nettopd, nettopd_command, rss_kib, run_nettopd, without_daemon};
pub use process::{Process, become_nobody, set_name, unshare_as_nobody};
pub use sniffer::{Frames, Sniffer};
pub use stream::{Stream, StreamResult};
pub use tables::{Kept, ports};
pub use threads::thread_statuses;
pub use wait::{hang_timeout, wait_at_most, wait_until};
