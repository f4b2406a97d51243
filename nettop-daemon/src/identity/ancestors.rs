//! Script and ancestors of a process as /proc has them now, for those whom nobody recorded.

use std::{fs::File, io::Read as _, os::unix::ffi::OsStrExt as _, path::Path};

use nettop_common::process::MAX_ANCESTORS;
use nettop_kernel::{boot, processes::Described};
use nettop_model::snapshot::Parent;
use procfs::{ProcResult, process::Process};

use crate::{identity::script::script, sys::escape::escape};

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

/// What an interpreter runs. A process whose memory is locked makes the reader wait.
pub fn script_in_proc(folder: &Path, exe: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(folder.join("cmdline")).ok()?.take(MAX_ARGUMENT_BYTES).read_to_end(&mut bytes).ok()?;
    if bytes.len() as u64 == MAX_ARGUMENT_BYTES {
        // The last is not whole.
        bytes.truncate(bytes.iter().rposition(|byte| *byte == 0)?);
    }
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    let arguments = bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    let program = Some(exe.as_os_str().as_bytes().to_vec());
    script(&Described { program, arguments, ..Described::default() }).map(|path| escape(&path))
}
