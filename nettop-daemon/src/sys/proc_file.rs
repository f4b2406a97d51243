//! A file of /proc that stays open: to read it once more needs no path, no descriptor and no new memory.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _},
    os::fd::{AsFd as _, BorrowedFd},
    path::PathBuf,
};

use procfs::FromRead;

/// One that is read again and again. It is opened by the first reading, and anew after one that failed.
pub struct ProcFile {
    path: PathBuf,
    file: Option<File>,
    text: Vec<u8>,
}

impl ProcFile {
    /// Opens nothing yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), file: None, text: Vec::new() }
    }

    /// What it has now.
    ///
    /// # Errors
    ///
    /// If it is not there, or may not be read.
    pub fn read(&mut self) -> io::Result<&[u8]> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => File::open(&self.path)?,
        };
        self.text.clear();
        file.rewind()?;
        file.read_to_end(&mut self.text)?;
        self.file = Some(file);
        Ok(&self.text)
    }

    /// The same as a type of `procfs`; none also if it is no such file.
    pub fn parse<T: FromRead>(&mut self) -> Option<T> {
        T::from_read(self.read().ok()?).ok()
    }

    /// The open file, for `poll`.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(|file| file.as_fd())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn it_has_what_is_there_now_and_is_opened_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("loadavg");
        let mut file = ProcFile::new(&path);
        assert!(file.read().is_err(), "it is not there yet");
        fs::write(&path, "a longer text").unwrap();
        assert_eq!(file.read().unwrap(), b"a longer text");
        fs::write(&path, "short").unwrap();
        assert_eq!(file.read().unwrap(), b"short");
        // Whatever has its name now is another.
        fs::remove_file(&path).unwrap();
        assert_eq!(file.read().unwrap(), b"short");
    }
}
