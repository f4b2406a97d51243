//! How many files may be open: each hook, map and program is one, and a login shell's usual limit is soon reached.

use std::{io, os::unix::process::CommandExt as _, process::Command, sync::OnceLock};

use nix::{
    errno::Errno,
    sys::resource::{Resource, getrlimit, rlim_t, setrlimit},
};

/// As it was.
static BEFORE: OnceLock<(rlim_t, rlim_t)> = OnceLock::new();

/// Raises the soft limit to the hard one.
pub fn raise() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        let _ = BEFORE.set((soft, hard));
    }
}

/// Gives a command the limits that this process was started with: programs that use select(2) rely on theirs.
pub fn restore_for(command: &mut Command) {
    let Some((soft, hard)) = BEFORE.get().copied() else { return };
    let restore = move || setrlimit(Resource::RLIMIT_NOFILE, soft, hard).map_err(io::Error::from);
    // SAFETY: between fork and exec it makes one system call, and allocates nothing.
    unsafe {
        command.pre_exec(restore);
    }
}

/// What to do about an error, if the limit is its cause.
pub fn remedy(error: &anyhow::Error) -> Option<String> {
    let is_limit = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.raw_os_error() == Some(libc::EMFILE))
            || cause.downcast_ref::<Errno>() == Some(&Errno::EMFILE)
    };
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    error.chain().any(is_limit).then(|| {
        format!("this process may have {hard} files open (RLIMIT_NOFILE): raise it by `ulimit -Hn`, or LimitNOFILE= of the unit")
    })
}
