//! Whose file it is: only files that we alone may write are opened, and only one daemon writes.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};

use crate::trouble::Trouble;

/// Readable by a group, so that ordinary clients are enough.
const FILE_MODE: u32 = 0o640;
/// Of the lock: opening it is enough to take it.
const LOCK_MODE: u32 = 0o600;
const LOCK: &str = ".lock";
/// Suffixes of SQLite's files.
const FILES: [&str; 3] = ["", "-wal", "-shm"];
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// A file that may be written; others are locked out while this lives.
pub struct Guard {
    /// Without symbolic links in its folder's name.
    pub path: PathBuf,
    /// Never closed while SQLite has the file open: closing any descriptor of a file ends a process's POSIX locks on it.
    file: File,
    /// A file of its own, because those who may read the history could lock that.
    lock: Flock<File>,
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
        let io = |path: &Path, error: io::Error| Trouble::Io(format!("{}: {error}", path.display()));
        let found = fs::metadata(&folder).map_err(|error| io(&folder, error))?;
        if found.uid() != nix::unistd::geteuid().as_raw() && found.uid() != 0 {
            return Err(refused(format!("its folder belongs to user {}", found.uid())));
        }
        // In a sticky folder, nobody replaces another's file.
        if found.mode() & 0o022 != 0 && found.mode() & 0o1000 == 0 {
            return Err(refused("others may write to its folder".into()));
        }
        let path = folder.join(name);
        for beside in FILES.into_iter().chain([LOCK]) {
            is_ours(&beside_path(&path, beside)).map_err(refused)?;
        }
        let lock_path = beside_path(&path, LOCK);
        let lock = open_own(&lock_path, LOCK_MODE).map_err(|error| io(&lock_path, error))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|_| refused("another nettopd writes it".into()))?;
        let is_new = !is_ours(&path).map_err(refused)?;
        let file = open_own(&path, FILE_MODE).map_err(|error| io(&path, error))?;
        // The open file, not what was there a moment ago.
        check(&file.metadata().map_err(|error| io(&path, error))?).map_err(refused)?;
        if is_new {
            // For any umask.
            file.set_permissions(fs::Permissions::from_mode(FILE_MODE)).map_err(|error| io(&path, error))?;
        }
        Ok(Self { path, file, lock })
    }

    /// Whether file and lock still have their names: SQLite would go on writing to a file that was removed.
    pub fn is_in_place(&self) -> bool {
        let inode = |metadata: io::Result<fs::Metadata>| metadata.map(|found| (found.dev(), found.ino())).ok();
        let is_at = |file: &File, path: &Path| {
            let ours = inode(file.metadata());
            ours.is_some() && ours == inode(fs::symlink_metadata(path))
        };
        is_at(&self.file, &self.path) && is_at(&self.lock, &beside_path(&self.path, LOCK))
    }

    /// Whether it never was a database of SQLite's. One of ours whose header is smashed still has its log beside it.
    ///
    /// # Errors
    ///
    /// If the file's beginning cannot be read.
    pub fn is_foreign(&self) -> io::Result<bool> {
        let mut header = [0; MAGIC.len()];
        let read = self.file.read_at(&mut header, 0)?;
        Ok(read > 0 && header != *MAGIC && !beside_path(&self.path, "-wal").exists())
    }

    /// Renames the file and what is beside it, over what was set aside before. Returns its new name.
    ///
    /// # Errors
    ///
    /// If what was set aside before cannot be deleted, or a file cannot be renamed, as in a read-only folder. Others
    /// may be renamed by then.
    pub fn set_aside(self) -> io::Result<PathBuf> {
        // Nothing of the one before may stay: a log beside another file would be taken for that file's.
        self.give_up_aside()?;
        let aside = self.aside();
        for beside in FILES {
            if_there(fs::rename(beside_path(&self.path, beside), beside_path(&aside, beside)))?;
        }
        Ok(aside)
    }

    /// Room on the disk that the file has, also ahead of its end.
    pub fn allocated_bytes(&self) -> u64 {
        /// Whatever the file system's are (stat(2)).
        const BLOCK_BYTES: u64 = 512;
        self.file.metadata().map_or(0, |found| found.blocks() * BLOCK_BYTES)
    }

    /// Bytes of what was set aside.
    pub fn aside_bytes(&self) -> u64 {
        FILES
            .iter()
            .filter_map(|beside| fs::metadata(beside_path(&self.aside(), beside)).ok())
            .map(|found| found.len())
            .sum()
    }

    /// Deletes what was set aside, and returns its name if there was any.
    ///
    /// # Errors
    ///
    /// If one of the files cannot be deleted, as in a read-only folder. Others may be gone by then.
    pub fn give_up_aside(&self) -> io::Result<Option<PathBuf>> {
        let aside = self.aside();
        let mut was_there = false;
        for beside in FILES {
            was_there |= if_there(fs::remove_file(beside_path(&aside, beside)))?;
        }
        Ok(was_there.then_some(aside))
    }

    fn aside(&self) -> PathBuf {
        beside_path(&self.path, ".corrupt")
    }
}

/// The name with something behind it.
pub fn beside_path(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Whether the file existed.
fn if_there(done: io::Result<()>) -> io::Result<bool> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        other => other.map(|()| true),
    }
}

/// Opens a file, and makes it if there is none.
fn open_own(path: &Path, mode: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(mode);
    // A pipe that was put there makes nobody wait.
    options.custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK).open(path)
}

/// Whether the file exists; an error if it is not ours.
fn is_ours(path: &Path) -> Result<bool, String> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.to_string()),
        Ok(found) => check(&found).map(|()| true),
    }
}

/// Whether it is a plain file of ours alone.
fn check(found: &fs::Metadata) -> Result<(), String> {
    if found.is_symlink() {
        Err("it is a symbolic link".into())
    } else if !found.is_file() {
        Err("it is no plain file".into())
    } else if found.uid() != nix::unistd::geteuid().as_raw() {
        Err(format!("it belongs to user {}", found.uid()))
    } else if found.nlink() != 1 {
        Err("it has another name as well".into())
    } else {
        Ok(())
    }
}
