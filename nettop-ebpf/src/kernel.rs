//! Reading kernel structs: offsets that the daemon filled in from the running kernel's BTF, and two ways to load.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::{Global, helpers::generated::bpf_probe_read_kernel};
use nettop_common::{Netns, offsets::ABSENT};

macro_rules! globals {
    ($($name:ident = $of:literal $path:literal;)*) => {
        $(
            #[doc = concat!("Offset of `", $of, ".", $path, "`.")]
            #[unsafe(no_mangle)]
            pub static $name: Global<u32> = Global::new(ABSENT);
        )*
    };
}
nettop_common::for_each_offset!(globals);

/// Loads a member through a pointer whose BTF type the verifier knows; a fault reads as zero.
#[inline(always)]
pub fn load<T: Copy>(base: *const c_void, offset: &Global<u32>) -> T {
    // SAFETY: the verifier checks the access against the pointer's BTF type, and the JIT turns it into a
    // load with an exception-table entry.
    unsafe { base.byte_add(offset.load() as usize).cast::<T>().read_volatile() }
}

/// Reads a member at an address that is only a number here; a fault reads as zero.
#[inline(always)]
pub fn probe<T: bytemuck::Pod>(base: u64, offset: &Global<u32>) -> T {
    probe_at(base + u64::from(offset.load()))
}

/// Reads what lies at an address; a fault reads as zero. Without a branch for it: verifiers follow both sides of each, and
/// before 6.3 twenty in a row are more than they can.
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

/// Which namespace a `struct net` is.
#[inline(always)]
pub fn netns(net: u64) -> Netns {
    Netns { inode: probe(net, &NET_INUM), cookie: probe::<u64>(net, &NET_COOKIE) as u32 }
}
