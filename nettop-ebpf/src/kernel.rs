//! Reading kernel structs: offsets that the daemon took from the running kernel's BTF, and two ways to load.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::{Global, helpers::generated::bpf_probe_read_kernel};
use nettop_common::{Netns, offsets::ABSENT};

macro_rules! globals {
    ($($name:ident = $of:literal $path:literal;)*) => {
        $(
            #[doc = concat!("Offset of `", $of, ".", $path, "`.")]
            #[unsafe(no_mangle)]
            pub static $name: Global<u64> = Global::new(ABSENT);
        )*
    };
}
nettop_common::for_each_offset!(globals);

/// Loads a member through a pointer whose BTF type the verifier knows; a fault reads as zero.
#[inline(always)]
pub fn load<T: Copy>(base: *const c_void, offset: &Global<u64>) -> T {
    // SAFETY: the verifier checks the access against the pointer's BTF type, and the JIT turns it into a
    // load with an exception-table entry.
    unsafe { base.byte_add(offset.load() as usize).cast::<T>().read_volatile() }
}

/// The same; zero if the kernel lacks the member. The branch costs verifiers nothing: offsets are constants to them.
#[inline(always)]
pub fn load_if_there<T: bytemuck::Pod>(base: *const c_void, offset: &Global<u64>) -> T {
    if offset.load() == ABSENT { T::zeroed() } else { load(base, offset) }
}

/// Reads a member at an address that is only a number here. A fault or an absent member reads as zero, without a
/// branch: see [`ABSENT`].
#[inline(always)]
pub fn probe<T: bytemuck::Pod>(base: u64, offset: &Global<u64>) -> T {
    probe_at(base.wrapping_add(offset.load()))
}

/// The same, if it matters whether the kernel has the member, or if the verifier knows the base as a pointer: it refuses
/// to add [`ABSENT`] to one (`check_reg_sane_offset`).
#[inline(always)]
pub fn probe_if_there<T: bytemuck::Pod>(base: u64, offset: &Global<u64>) -> Option<T> {
    if offset.load() == ABSENT { None } else { Some(probe(base, offset)) }
}

/// Reads an address; a fault reads as zero. No branch for that: verifiers follow both sides of each, and before 6.3
/// they cannot handle twenty in a row.
#[inline(always)]
pub fn probe_at<T: bytemuck::Pod>(address: u64) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper checks the source, and writes all of the destination: zeroes where it faults
    // (`bpf_probe_read_kernel_common`, since 5.5). Any bytes are a value.
    unsafe {
        bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, address as *const c_void);
        value.assume_init()
    }
}

/// The namespace of a `struct net`.
#[inline(always)]
pub fn netns(net: u64) -> Netns {
    Netns { inode: probe(net, &NET_INUM), cookie: probe::<u64>(net, &NET_COOKIE) as u32 }
}

/// Whether a packet is in a tunnel.
#[inline(always)]
pub fn is_tunnelled(skb: u64) -> bool {
    probe::<u16>(skb, &SKB_INNER_NETWORK_HEADER) != 0
}
