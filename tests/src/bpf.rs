//! Programs of two instructions, by bpf(2): they return a number.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use nix::net::if_::if_nametoindex;

use crate::sockets::check;

/// Loads a program that returns `verdict`.
pub(crate) fn load(kind: u64, attach_type: u64, verdict: u64) -> OwnedFd {
    const BPF_PROG_LOAD: i64 = 5;
    // r0 = verdict; exit.
    let instructions = [0xb7_u64 | verdict << 32, 0x95];
    let mut load = [0_u64; 9];
    load[0] = kind | 2 << 32;
    (load[1], load[2]) = (instructions.as_ptr() as u64, c"GPL".as_ptr() as u64);
    // `expected_attach_type`, behind the name and the device.
    load[8] = attach_type << 32;
    owned(call(BPF_PROG_LOAD, &mut load))
}

/// Has an XDP program of the driver let all pass that a device of this namespace receives, until the result is dropped.
pub fn pass_by_xdp(device: &str) -> [OwnedFd; 2] {
    const BPF_PROG_TYPE_XDP: u64 = 6;
    const BPF_XDP: u64 = 37;
    const BPF_LINK_CREATE: i64 = 28;
    const XDP_PASS: u64 = 2;
    const XDP_FLAGS_DRV_MODE: u64 = 4;
    let program = load(BPF_PROG_TYPE_XDP, BPF_XDP, XDP_PASS);
    let mut link =
        [number(&program) | u64::from(if_nametoindex(device).unwrap()) << 32, BPF_XDP | XDP_FLAGS_DRV_MODE << 32];
    [owned(call(BPF_LINK_CREATE, &mut link)), program]
}

pub(crate) fn number(fd: &OwnedFd) -> u64 {
    u64::try_from(fd.as_raw_fd()).unwrap()
}

fn owned(fd: u64) -> OwnedFd {
    // SAFETY: a descriptor that bpf(2) has just returned.
    unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).unwrap()) }
}

/// bpf(2), of a command whose attributes are `attributes`.
pub(crate) fn call<T>(command: i64, attributes: &mut T) -> u64 {
    // SAFETY: the kernel reads and writes a live value of the size it is given.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) } as isize)
}
