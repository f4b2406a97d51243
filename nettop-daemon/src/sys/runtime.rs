//! The runtime that waits for ticks, signals and sockets: of one thread, since all that it does is short.

use anyhow::Context as _;
use tokio::runtime::{Builder, Runtime};

/// One for the calling thread.
///
/// # Errors
///
/// If the kernel has no descriptors left for it.
pub fn start() -> anyhow::Result<Runtime> {
    build(&mut Builder::new_current_thread())
}

/// The same, with up to so many threads of this name for work that blocks.
///
/// # Errors
///
/// As [`start`].
pub fn start_with_threads(threads: usize, name: &str) -> anyhow::Result<Runtime> {
    build(Builder::new_current_thread().max_blocking_threads(threads).thread_name(name))
}

fn build(builder: &mut Builder) -> anyhow::Result<Runtime> {
    builder.enable_all().build().context("cannot start the runtime")
}
