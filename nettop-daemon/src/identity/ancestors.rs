//! Arguments, login and ancestors of a process as /proc has them now, for those whom nobody recorded.

use std::{fs::File, io::Read as _, os::unix::ffi::OsStrExt as _, path::Path};

use nettop_common::process::MAX_ANCESTORS;
use nettop_kernel::{boot, processes::Described};
use nettop_model::{Login, Session, snapshot::Parent};
use procfs::{ProcResult, process::Process};

use crate::sys::escape::escape;

/// As many bytes of arguments as are looked at.
const MAX_ARGUMENT_BYTES: u64 = 255;

/// The ancestors, the parent first.
pub fn ancestors(root: &Path, process: &Process) -> Vec<Parent> {
    let mut ancestors = Vec::new();
    let mut above = process.stat().map_or(0, |stat| stat.ppid);
    while above > 0 && ancestors.len() < MAX_ANCESTORS {
        let Ok((parent, next)) = parent(root, above) else { break };
        ancestors.push(parent);
        above = next;
    }
    ancestors
}

/// A process, and the pid of the one above it.
fn parent(root: &Path, pid: i32) -> ProcResult<(Parent, i32)> {
    let process = Process::new_with_root(root.join(pid.to_string()))?;
    let (stat, uid) = (process.stat()?, process.status()?.ruid);
    let start_time_ns = boot::start_ns(stat.starttime);
    let comm = escape(stat.comm.as_bytes());
    Ok((Parent { pid: pid.cast_unsigned(), start_time_ns, comm, uid }, stat.ppid))
}

/// Who logged in, and the leader of the session.
pub fn login(root: &Path, process: &Process) -> Login {
    /// `AUDIT_UID_UNSET`.
    const NOBODY: u32 = u32::MAX;
    let session = process.stat().ok().map(|stat| stat.session).filter(|id| *id > 0);
    let session = session.map(|id| {
        let leader = parent(root, id).ok().map(|(leader, _)| leader);
        Session {
            pid: id.cast_unsigned(),
            start_time_ns: leader.as_ref().map(|leader| leader.start_time_ns),
            comm: leader.map(|leader| leader.comm),
        }
    });
    Login { login_uid: process.loginuid().ok().filter(|uid| *uid != NOBODY), session }
}

/// Program and arguments. A process whose memory is locked makes the reader wait.
pub fn with_arguments(folder: &Path, exe: &Path) -> Option<Described> {
    let mut bytes = Vec::new();
    File::open(folder.join("cmdline")).ok()?.take(MAX_ARGUMENT_BYTES + 1).read_to_end(&mut bytes).ok()?;
    let are_arguments_cut = bytes.len() as u64 > MAX_ARGUMENT_BYTES;
    if are_arguments_cut {
        // The last is not whole.
        bytes.truncate(MAX_ARGUMENT_BYTES as usize);
        bytes.truncate(bytes.iter().rposition(|byte| *byte == 0).unwrap_or(0));
    }
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    let arguments =
        if bytes.is_empty() { Vec::new() } else { bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect() };
    let program = Some(exe.as_os_str().as_bytes().to_vec());
    Some(Described { program, arguments, are_arguments_cut, ..Described::default() })
}
