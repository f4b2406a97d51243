//! Reads what others wrote: regular files within bounds, never through a link below the root, and without waiting for a
//! pipe's writer.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Component, Path},
};

use nix::{
    fcntl::{OFlag, open, openat},
    sys::stat::Mode,
};

/// A file that was opened, and what tells whether it is still the same.
pub struct Found {
    file: File,
    pub stamp: Stamp,
}

/// Device, inode, size in bytes, seconds and nanoseconds of the last change.
pub type Stamp = (u64, u64, u64, i64, i64);

/// Opens the file `path` below `root`. The root itself may be behind a link: administrators move it.
///
/// # Errors
///
/// If it is not there, may not be read, or is no regular file of at most `max_bytes`.
pub fn find(root: &Path, path: &Path, max_bytes: u64) -> io::Result<Found> {
    let folder = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut at = open(root, folder, Mode::empty())?;
    // Not openat2 with RESOLVE_BENEATH: RestrictSUIDSGID= of systemd has it fail with ENOSYS.
    let mut parts = path.components().peekable();
    while let Some(part) = parts.next() {
        let Component::Normal(name) = part else { return Err(io::ErrorKind::InvalidInput.into()) };
        let is_last = parts.peek().is_none();
        let file = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        at = openat(&at, name, OFlag::O_NOFOLLOW | if is_last { file } else { folder }, Mode::empty())?;
    }
    let file = File::from(at);
    let is = file.metadata()?;
    if !is.is_file() || is.len() > max_bytes {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(Found { file, stamp: (is.dev(), is.ino(), is.len(), is.mtime(), is.mtime_nsec()) })
}

impl Found {
    /// Its bytes, as many as it had when it was opened.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn read(self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file.take(self.stamp.2).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    #[test]
    fn only_regular_files_below_the_root_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let [root, outside] = ["root", "outside"].map(|name| folder.path().join(name));
        fs::create_dir_all(root.join("a")).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::write(root.join("a/file"), "four").unwrap();
        fs::write(outside.join("file"), "four").unwrap();
        symlink(&outside, root.join("out")).unwrap();
        symlink("file", root.join("a/link")).unwrap();
        mkfifo(&root.join("fifo"), Mode::S_IRWXU).unwrap();
        let read = |path: &str| find(&root, Path::new(path), 4).and_then(Found::read).ok();
        assert_eq!(read("a/file").as_deref(), Some(&b"four"[..]));
        for path in ["out/file", "a/link", "fifo", "a", "../outside/file", "absent", "/etc/passwd"] {
            assert_eq!(read(path), None, "{path}");
        }
        fs::write(root.join("a/file"), "fives").unwrap();
        assert_eq!(read("a/file"), None, "it is larger than allowed");
        // That the root is behind a link is the administrator's choice.
        symlink(&root, folder.path().join("moved")).unwrap();
        fs::write(root.join("a/file"), "four").unwrap();
        assert!(find(&folder.path().join("moved"), Path::new("a/file"), 4).is_ok());
    }
}
