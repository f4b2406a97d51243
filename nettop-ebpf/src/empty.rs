//! Programs that do nothing, on the hooks of accounting: the baseline for `cargo xtask bench`.

#![no_std]
#![no_main]

use aya_ebpf::{
    macros::{btf_tracepoint, cgroup_skb},
    programs::{BtfTracePointContext, SkBuffContext},
};

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cgroup_skb]
pub fn packet_tx(_: SkBuffContext) -> i32 {
    1
}

#[cgroup_skb]
pub fn packet_rx(_: SkBuffContext) -> i32 {
    1
}

#[btf_tracepoint(function = "sock_send_length")]
pub fn sock_send_length(_: BtfTracePointContext) -> i32 {
    0
}

#[btf_tracepoint(function = "sock_recv_length")]
pub fn sock_recv_length(_: BtfTracePointContext) -> i32 {
    0
}

#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
pub fn tcp_rcv_space_adjust(_: BtfTracePointContext) -> i32 {
    0
}

#[btf_tracepoint(function = "kfree_skb")]
pub fn kfree_skb(_: BtfTracePointContext) -> i32 {
    0
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
