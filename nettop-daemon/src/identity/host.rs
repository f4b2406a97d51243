//! Names of this machine and its kernel.

use std::os::unix::ffi::OsStrExt as _;

use nix::sys::utsname::uname;

use crate::sys::escape::escape;

/// What this machine is called.
pub fn host_name() -> String {
    uname().map(|names| escape(names.nodename().as_bytes())).unwrap_or_default()
}

/// Of the running kernel.
pub fn kernel_release() -> String {
    uname().map(|names| escape(names.release().as_bytes())).unwrap_or_default()
}
