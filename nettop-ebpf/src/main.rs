//! The kernel side of nettopd. Hooks report events, the ledger keeps the counters, the daemon reads its maps.

#![no_std]
#![no_main]
#![allow(internal_features, reason = "atomic_xadd: the target has no AtomicU64::fetch_add")]
#![feature(core_intrinsics)]

mod atomic;
mod clock;
mod ends;
mod events;
mod forwarded;
mod hooks;
mod kernel;
mod ledger;
mod log;
mod maps;
mod owners;
mod ports;
mod processes;
mod recovery_probe;
mod rows;
mod shadow;
mod shares;
mod storage;
mod tags;
mod task;

/// Tracing helpers are open to GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// A reachable panic is an endless loop, which the verifier refuses: none can ship.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
