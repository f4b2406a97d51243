//! Why a slot is not in the file.

use std::path::PathBuf;

use rusqlite::ErrorCode;
use thiserror::Error;

use crate::schema;

/// Why a slot is not in the file.
#[derive(Debug, Error)]
pub enum Trouble {
    /// Neither opened nor touched.
    #[error("{0}")]
    Refused(String),
    /// Written by a later version.
    #[error("{0} has schema {1}, this nettopd knows {known}: give another file", known = schema::VERSION)]
    Newer(PathBuf, i32),
    /// Not sound; has to be set aside.
    #[error("the file is not sound: {0}")]
    Corrupt(rusqlite::Error),
    /// SQLite found no room: under the quota, or on the disk.
    #[error("no room is left")]
    Full,
    #[error("its {0} bytes (--history-size) are used up, and nothing is left to give up")]
    Quota(u64),
    #[error("the disk is full, and nothing is left to give up")]
    Disk,
    #[error("a reader keeps the log from being emptied; it has reached {0} bytes")]
    Pinned(u64),
    #[error("{0}")]
    Io(String),
    #[error("{0}")]
    Other(rusqlite::Error),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt(error),
            Some(ErrorCode::DiskFull) => Self::Full,
            _ => Self::Other(error),
        }
    }
}
