//! `kfree_skb`: each packet that the kernel frees as dropped, for whatever reason.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use super::{drops, socketless};

#[btf_tracepoint(function = "kfree_skb")]
pub fn packet_freed(ctx: BtfTracePointContext) -> i32 {
    let freed = drops::Freed::new(&ctx);
    socketless::count(&freed);
    drops::count(&freed);
    0
}
