//! Names of kernel addresses, as the kernel itself prints them: `%pB` ignores `kptr_restrict`, and knows modules. Read
//! through an iterator over maps, which prints all on its first visit.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_seq_printf;

use crate::maps::ADDRESSES;

/// `struct bpf_iter_meta`, include/linux/bpf.h.
#[repr(C)]
pub struct Meta {
    pub seq: *mut c_void,
    session_id: u64,
    seq_num: u64,
}

/// `struct bpf_iter__bpf_map`, kernel/bpf/map_iter.c.
#[repr(C)]
pub struct Context {
    meta: *const Meta,
    map: *const c_void,
}

impl Context {
    /// Where to print on the first visit; `None` on the others.
    ///
    /// # Safety
    ///
    /// The pointer must be the context of an iterator over maps.
    #[inline(always)]
    pub unsafe fn first(context: *const Self) -> Option<*mut c_void> {
        // SAFETY: see above; the map is null in the last call.
        let (meta, map) = unsafe { ((*context).meta, (*context).map) };
        // SAFETY: the kernel's own, read through a typed pointer.
        unsafe { (!map.is_null() && (*meta).seq_num == 0).then(|| (*meta).seq) }
    }
}

/// `%pB` expects a return address, which may already be in the next function.
static FORMAT: [u8; 5] = *b"%pB\n\0";

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_map")]
pub fn symbols(ctx: *const Context) -> i32 {
    // SAFETY: the context is valid for the run.
    let Some(seq) = (unsafe { Context::first(ctx) }) else { return 0 };
    for index in 0..64 {
        let Some(address) = ADDRESSES.get_ptr(index) else { break };
        // SAFETY: an element of a map.
        if unsafe { *address } == 0 {
            break;
        }
        // SAFETY: the kernel checks all arguments; the address is only printed.
        unsafe { bpf_seq_printf(seq.cast(), FORMAT.as_ptr().cast(), 5, address.cast(), 8) };
    }
    0
}
