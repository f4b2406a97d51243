//! TCP's reactions to losses: retransmits and resets. All run in softirq as well as in calls; the socket shows whose
//! they are.

use core::{ffi::c_void, ptr};

use aya_ebpf::{Global, macros::btf_tracepoint, programs::BtfTracePointContext};
use nettop_common::drops::event;

use super::drops;
use crate::kernel::{self, load, probe};

/// Whether `tcp_retransmit_skb` has an error, its third argument (6.17). Before, it does not fire on an error.
#[unsafe(no_mangle)]
static HAS_RETRANSMIT_ERROR: Global<u32> = Global::new(0);

/// `__tcp_retransmit_skb`. Failed retransmits are not counted.
#[btf_tracepoint(function = "tcp_retransmit_skb")]
pub fn tcp_retransmit(ctx: BtfTracePointContext) -> i32 {
    if HAS_RETRANSMIT_ERROR.load() != 0 && ctx.arg::<i32>(2) != 0 {
        return 0;
    }
    let skb: *const c_void = ctx.arg(1);
    // As `RetransSegs` counts: `tcp_skb_pcount`.
    let at = skb as u64 + kernel::SKB_CB.load();
    let segments = u64::from(probe::<u16>(at, &kernel::TCP_CB_SEGMENTS)).max(1);
    let bytes = u64::from(load::<u32>(skb, &kernel::SKB_LEN));
    drops::count_event(ctx.arg(0), ptr::null(), event::RETRANSMIT, segments, bytes);
    0
}

/// `tcp_rtx_synack`: of a listener.
#[btf_tracepoint(function = "tcp_retransmit_synack")]
pub fn tcp_retransmit_synack(ctx: BtfTracePointContext) -> i32 {
    drops::count_event(ctx.arg(0), ptr::null(), event::RETRANSMIT, 1, 0);
    0
}

/// `tcp_v4_send_reset`, `tcp_v6_send_reset` and `tcp_send_active_reset`. From 6.10 on also without a socket: a closed
/// port's answer, and nobody's.
#[btf_tracepoint(function = "tcp_send_reset")]
pub fn tcp_reset_sent(ctx: BtfTracePointContext) -> i32 {
    drops::count_event(ctx.arg(0), ctx.arg(1), event::RESET_SENT, 1, 0);
    0
}

/// `tcp_reset`.
#[btf_tracepoint(function = "tcp_receive_reset")]
pub fn tcp_reset_received(ctx: BtfTracePointContext) -> i32 {
    drops::count_event(ctx.arg(0), ptr::null(), event::RESET_RECEIVED, 1, 0);
    0
}
