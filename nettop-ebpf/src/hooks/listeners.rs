//! A listener's own count of drops, for the daemon. Connections refused by a full accept queue never reach `kfree_skb`
//! (`tcp_conn_request` counts and returns 0). No hook sees them on every kernel; the counter does.

use aya_ebpf::helpers::generated::bpf_seq_printf;

use super::symbols::Context;
use crate::{
    kernel::{self, probe},
    maps::ADDRESSES,
};

/// Cookie and drops of the socket at each address. The cookie shows if it is another socket by now.
static FORMAT: [u8; 9] = *b"%llu %u\n\0";

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_map")]
pub fn listeners(ctx: *const Context) -> i32 {
    // SAFETY: the context is valid for the run.
    let Some(seq) = (unsafe { Context::first(ctx) }) else { return 0 };
    for index in 0..64 {
        let Some(address) = ADDRESSES.get_ptr(index) else { break };
        // SAFETY: an element of a map.
        let sk = unsafe { *address };
        if sk == 0 {
            break;
        }
        let values = [probe::<u64>(sk, &kernel::SOCK_COOKIE), u64::from(probe::<u32>(sk, &kernel::SOCK_DROPS))];
        // SAFETY: the kernel checks all arguments.
        unsafe { bpf_seq_printf(seq.cast(), FORMAT.as_ptr().cast(), 9, values.as_ptr().cast(), 16) };
    }
    0
}
