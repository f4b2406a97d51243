//! bpf(2) for programs with only a descriptor. aya needs the object of a program.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use bytemuck::{Pod, Zeroable};
use nettop_common::abi::{BPF_ITER_CREATE, BPF_LINK_CREATE, BPF_RAW_TRACEPOINT_OPEN, BPF_TRACE_ITER};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    iter_info: u64,
    iter_info_len: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct IterCreate {
    link: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct RawTracepointOpen {
    name: u64,
    program: u32,
    padding: u32,
}

/// An iterator's output, to be read.
///
/// # Errors
///
/// If descriptors or memory are exhausted. No capability is needed: the program is loaded.
pub fn iterate(program: &OwnedFd) -> io::Result<File> {
    let attr = LinkCreate { program: number(program), attach_type: BPF_TRACE_ITER, ..LinkCreate::zeroed() };
    let link = bpf(BPF_LINK_CREATE, &attr)?;
    // It holds the link.
    Ok(bpf(BPF_ITER_CREATE, &IterCreate { link: number(&link), flags: 0 })?.into())
}

/// Attaches a `tp_btf` program to the tracepoint that it was loaded for.
///
/// # Errors
///
/// E2BIG if too many programs are there, else if descriptors or memory are exhausted.
pub fn attach_tracepoint(program: &OwnedFd) -> io::Result<OwnedFd> {
    bpf(BPF_RAW_TRACEPOINT_OPEN, &RawTracepointOpen { name: 0, program: number(program), padding: 0 })
}

/// A new map, of `enum bpf_map_type`.
///
/// # Errors
///
/// EPERM without `CAP_BPF`, EINVAL if the kernel has no such kind or refuses a size or a flag, else if descriptors or
/// memory are exhausted.
#[cfg(test)]
pub fn create_map(kind: u32, key_bytes: u32, value_bytes: u32, entries: u32, flags: u32) -> io::Result<OwnedFd> {
    bpf(nettop_common::abi::BPF_MAP_CREATE, &[kind, key_bytes, value_bytes, entries, flags])
}

fn number(fd: &OwnedFd) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn bpf<T: Pod>(command: libc::c_int, attr: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of a live value; these commands return a new descriptor, ours.
    unsafe {
        let fd = libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>());
        match i32::try_from(fd) {
            Ok(fd) if fd >= 0 => Ok(OwnedFd::from_raw_fd(fd)),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
