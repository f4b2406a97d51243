//! `kfree_skb`: each packet that the kernel frees as dropped, for any reason.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use super::{drops, socketless, unsent};

#[btf_tracepoint(function = "kfree_skb")]
pub fn packet_freed(ctx: BtfTracePointContext) -> i32 {
    let freed = drops::Freed::new(&ctx);
    let met_no_socket = socketless::is_one(&freed);
    if met_no_socket && socketless::had_receiver(freed.skb) {
        return 0;
    }
    drops::count(&freed);
    // Last, and only one of them: the verifier follows each branch to the end.
    if met_no_socket {
        socketless::count(freed.skb);
    } else {
        unsent::count(&freed);
    }
    0
}
