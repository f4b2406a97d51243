//! Signs that a program is not what it seems to be.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::Path,
};

use nettop_model::sockets::ProgramWarning;

use crate::identity::processes::exe;

/// All that is odd about a process. What /proc does not show is not odd.
pub fn warnings_of(proc: &Path, tgid: u32, comm: &[u8]) -> Vec<ProgramWarning> {
    const DELETED: &[u8] = b" (deleted)";
    let process = proc.join(tgid.to_string());
    let Ok(exe) = exe(&process) else { return Vec::new() };
    let (path, is_deleted) = match exe.as_os_str().as_bytes().strip_suffix(DELETED) {
        Some(path) if !exe.exists() => (Path::new(OsStr::from_bytes(path)), true),
        _ => (exe.as_path(), false),
    };
    let arguments = fs::read(process.join("cmdline")).unwrap_or_default();
    let warnings = [
        (is_deleted, ProgramWarning::Deleted),
        (is_world_writable(&process.join("root"), path), ProgramWarning::WorldWritable),
        (!is_named_after(comm, path, &arguments), ProgramWarning::Renamed),
    ];
    warnings.into_iter().filter(|(holds, _)| *holds).map(|(_, warning)| warning).collect()
}

/// Whether any directory on the way, as the process sees it, may be written by everybody.
fn is_world_writable(root: &Path, path: &Path) -> bool {
    const WRITE_OTHERS: u32 = 0o002;
    path.ancestors().skip(1).any(|folder| {
        let inside = root.join(folder.strip_prefix("/").unwrap_or(folder));
        fs::metadata(inside).is_ok_and(|metadata| metadata.mode() & WRITE_OTHERS != 0)
    })
}

/// A process is named after its file, or after the script that its file runs; many add what they are doing, or leave
/// out a version.
fn is_named_after(comm: &[u8], path: &Path, arguments: &[u8]) -> bool {
    const MAX_COMM_BYTES: usize = 15;
    let comm = comm.split(|byte| *byte == 0).next().unwrap_or_default();
    let file = path.file_name().map(OsStr::as_bytes).unwrap_or_default();
    let stem = |name: &[u8]| -> usize { name.iter().take_while(|byte| byte.is_ascii_alphabetic()).count() };
    let is = |name: &[u8]| {
        let shown = &name[..name.len().min(MAX_COMM_BYTES)];
        let stem = &name[..stem(name).max(1).min(name.len())];
        !name.is_empty() && (shown == comm || name.starts_with(comm) || stem.len() > 1 && comm.starts_with(stem))
    };
    let base = |argument: &[u8]| -> usize { argument.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1) };
    is(file) || arguments.split(|byte| *byte == 0).take(3).any(|argument| is(&argument[base(argument)..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_the_files_or_the_scripts_is_fine() {
        let is = |comm: &str, path: &str, arguments: &str| {
            is_named_after(comm.as_bytes(), Path::new(path), arguments.replace(' ', "\0").as_bytes())
        };
        assert!(is("sshd", "/usr/sbin/sshd", "sshd: /usr/sbin/sshd -D"));
        assert!(is("python3", "/usr/bin/python3.11", "python3 -m http.server"));
        assert!(is("tool", "/usr/bin/python3.11", "/usr/bin/python3 /usr/local/bin/tool"));
        assert!(is("systemd-resolve", "/usr/lib/systemd/systemd-resolved", "/usr/lib/systemd/systemd-resolved"));
        assert!(!is("sshd", "/tmp/x", "./x"));
        assert!(!is("kworker/0:1", "/usr/bin/perl", "perl -e 1"));
    }
}
