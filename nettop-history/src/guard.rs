//! Whose file it is: nothing is opened that is not ours alone to write, and only one daemon writes.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};

use crate::store::Trouble;

/// Readable by a group, so that ordinary clients are enough.
const MODE: u32 = 0o640;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// A file that may be written; others are locked out while this lives.
pub struct Guard {
    /// Without symbolic links in its folder's name.
    pub path: PathBuf,
    /// Never closed while SQLite has the file open: closing any descriptor of a file ends a process's POSIX locks on it.
    file: Flock<File>,
}

impl Guard {
    /// Makes the file if there is none.
    ///
    /// # Errors
    ///
    /// [`Trouble::Refused`] if it is a symbolic link, no plain file, somebody else's or another daemon's.
    pub fn open(path: &Path) -> Result<Self, Trouble> {
        let refused = |why: String| Trouble::Refused(format!("{}: {why}", path.display()));
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(refused("this names no file".into()));
        };
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let folder = folder.canonicalize().map_err(|error| Trouble::Io(format!("{}: {error}", folder.display())))?;
        let open_to_all = fs::metadata(&folder).is_ok_and(|folder| folder.mode() & 0o1002 == 0o002);
        if open_to_all {
            return Err(refused("everybody may write to its folder".into()));
        }
        let path = folder.join(name);
        for beside in ["-wal", "-shm"] {
            is_ours(&beside_path(&path, beside)).map_err(refused)?;
        }
        let is_new = !is_ours(&path).map_err(refused)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).mode(MODE).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
        let file = options.open(&path).map_err(|error| Trouble::Io(format!("{}: {error}", path.display())))?;
        if is_new {
            // Whatever the umask says.
            file.set_permissions(fs::Permissions::from_mode(MODE))
                .map_err(|error| Trouble::Io(format!("{}: {error}", path.display())))?;
        }
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|_| refused("another nettopd writes it".into()))?;
        Ok(Self { path, file })
    }

    /// Whether the file still has its name: SQLite would go on writing to one that was removed.
    pub fn is_in_place(&self) -> bool {
        let inode = |metadata: io::Result<fs::Metadata>| metadata.map(|found| (found.dev(), found.ino())).ok();
        let ours = inode(self.file.metadata());
        ours.is_some() && ours == inode(fs::symlink_metadata(&self.path))
    }

    /// Whether somebody else has the file.
    pub fn is_locked(path: &Path) -> bool {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
        file.is_ok_and(|file| Flock::lock(file, FlockArg::LockSharedNonblock).is_err())
    }

    /// Whether it never was a database of SQLite's. One of ours whose header is smashed still has its log beside it.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn is_foreign(&self) -> io::Result<bool> {
        let mut header = [0; MAGIC.len()];
        let read = self.file.read_at(&mut header, 0)?;
        Ok(read > 0 && header != *MAGIC && !beside_path(&self.path, "-wal").exists())
    }

    /// Renames the file and what is beside it, and returns its new name.
    pub fn set_aside(self) -> io::Result<PathBuf> {
        let aside = beside_path(&self.path, ".corrupt");
        for beside in ["", "-wal", "-shm"] {
            let from = beside_path(&self.path, beside);
            let to = beside_path(&aside, beside);
            match fs::rename(from, to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(aside)
    }
}

/// The name with something behind it.
pub fn beside_path(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Whether the file is there; it is an error if it is there and not ours.
fn is_ours(path: &Path) -> Result<bool, String> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.to_string()),
        Ok(found) if found.is_symlink() => Err("it is a symbolic link".into()),
        Ok(found) if !found.is_file() => Err("it is no plain file".into()),
        Ok(found) if found.uid() != nix::unistd::geteuid().as_raw() => {
            Err(format!("it belongs to user {}", found.uid()))
        }
        Ok(found) if found.nlink() != 1 => Err("it has another name as well".into()),
        Ok(_) => Ok(true),
    }
}
