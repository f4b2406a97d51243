//! The socket's file: nobody finds it with wrong permissions, and a running daemon keeps its own.

use std::{
    fs,
    io::ErrorKind,
    os::{
        fd::AsRawFd as _,
        unix::{
            fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket},
    unistd::{Gid, chown, geteuid},
};

use crate::error::Occupied;

/// Whose members may ask.
const GROUP: &str = "nettopd";
/// Where packages put it. The name service is not asked: it may hang, and the daemon would not start.
const GROUP_FILES: [&str; 2] = ["/etc/group", "/usr/lib/group"];

/// A listening socket. Its file goes with it.
#[derive(Debug)]
pub struct Socket {
    pub(super) listener: UnixListener,
    pub(super) path: PathBuf,
    pub(super) group: Option<Gid>,
    /// Device and inode number: by the end another may be in its place.
    file: (u64, u64),
}

impl Socket {
    /// Binds; before capabilities are dropped, where the file's group is not the own.
    ///
    /// # Errors
    ///
    /// If a running daemon, another user's socket, or something that is no socket, has the path, or it cannot be made.
    pub fn bind(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let group = GROUP_FILES.iter().find_map(|file| gid_in(&fs::read_to_string(file).ok()?, GROUP));
        make_folder(path)?;
        make_room(path)?;
        // Under its name it always has its permissions. No client looks elsewhere in the folder.
        let nascent = path.with_extension(format!("{}~", std::process::id()));
        let _ = fs::remove_file(&nascent);
        let listener = UnixListener::bind(&nascent).with_context(|| format!("cannot make the socket {shown}"))?;
        let placed = grant(&nascent, group).and_then(|()| Ok(fs::rename(&nascent, path)?));
        if let Err(error) = placed {
            let _ = fs::remove_file(&nascent);
            return Err(error.context(format!("cannot make the socket {shown}")));
        }
        let file = fs::symlink_metadata(path)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, path: path.into(), group, file: (file.dev(), file.ino()) })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.file);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// The number of a group, by lines of name, password, number and members.
fn gid_in(text: &str, name: &str) -> Option<Gid> {
    let mut groups = text.lines().filter_map(|line| line.split_once(':'));
    let (_, rest) = groups.find(|(group, _)| *group == name)?;
    rest.split(':').nth(1)?.parse().ok().map(Gid::from_raw)
}

fn make_folder(path: &Path) -> anyhow::Result<()> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    match fs::DirBuilder::new().mode(0o755).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("cannot make the folder {} for the socket", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Nobody but root and the group may connect; without a group, nobody but root and who runs the daemon.
fn grant(path: &Path, group: Option<Gid>) -> anyhow::Result<()> {
    match group {
        Some(group) => {
            // Nobody can get in between: connecting needs the file's rights, and these are set last. The unit's filter of
            // system calls knows no chown: there the group is the daemon's own, and the file has it already.
            if fs::metadata(path)?.gid() != group.as_raw() {
                chown(path, None, Some(group)).with_context(|| {
                    format!("cannot give it to the group {GROUP}: the daemon's user has to be a member of it")
                })?;
            }
            fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
        }
        None => fs::set_permissions(path, fs::Permissions::from_mode(0o600))?,
    }
    Ok(())
}

/// Checks what is there already. What a daemon that ended left is replaced later, atomically.
fn make_room(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot look at {shown}")),
    };
    if !found.file_type().is_socket() {
        bail!("{shown} is there and is no socket; remove it, or name another place with --socket");
    }
    if found.uid() != geteuid().as_raw() && found.uid() != 0 {
        bail!("{shown} belongs to user {}; remove it, or name another place with --socket", found.uid());
    }
    if is_alive(path)? {
        let what = format!("another nettopd answers at {shown}");
        return Err(Occupied::new(what + "; name another place with --socket, or none with --socket ''").into());
    }
    Ok(())
}

/// Whether somebody listens. Does not wait: a daemon that is stopped has a full queue, and is alive.
fn is_alive(path: &Path) -> anyhow::Result<bool> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let probe = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match connect(probe.as_raw_fd(), &UnixAddr::new(path)?) {
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(false),
        Ok(()) | Err(Errno::EAGAIN) => Ok(true),
        Err(error) => {
            Err(error).with_context(|| format!("cannot find out whether a daemon answers at {}", path.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_its_whole_name() {
        let text = "root:x:0:\nnettopd2:x:7:\n# nettopd\nnettopd:!:996:alice,bob\nbroken\n";
        assert_eq!(gid_in(text, "nettopd"), Some(Gid::from_raw(996)));
        assert_eq!([gid_in(text, "broken"), gid_in(text, "alice"), gid_in("nettopd:x", "nettopd")], [None; 3]);
    }

    #[test]
    fn a_living_daemon_keeps_its_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/nettopd.sock");
        let socket = Socket::bind(&path).unwrap();
        let error = Socket::bind(&path).unwrap_err();
        assert!(error.to_string().contains("another nettopd answers"), "{error}");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "only the socket is left in the folder");
        assert!(is_alive(&path).unwrap());
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_crash_left_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nettopd.sock");
        drop(UnixListener::bind(&path).unwrap());
        let socket = Socket::bind(&path).unwrap();
        assert!(is_alive(&path).unwrap());
        let mode = fs::metadata(&path).unwrap().mode() & 0o777;
        assert_eq!(mode, if socket.group.is_some() { 0o660 } else { 0o600 });
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn neither_a_file_nor_a_link_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let [file, link] = ["file", "link"].map(|name| folder.path().join(name));
        fs::write(&file, "kept").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for path in [&file, &link] {
            let error = Socket::bind(path).unwrap_err();
            assert!(error.to_string().contains("is no socket"), "{error}");
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn anothers_socket_is_left_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nettopd.sock");
        let socket = Socket::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(socket);
        assert!(path.exists());
    }
}
