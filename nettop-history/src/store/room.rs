//! Room for what is new: the quota, the disk and the log.

use std::{fs::File, io, path::Path};

use nix::fcntl::{FallocateFlags, fallocate};
use rusqlite::{FileControl, TransactionBehavior};

use super::Store;
use crate::trouble::Trouble;
use crate::{guard::beside_path, retention};

const PAGE_BYTES: u64 = 4096;
/// Room for deleting rows if there is no other.
const MIN_RESERVE_BYTES: u64 = 1 << 20;
/// Room that the file and its log have ahead, each, so that the hour in which others fill the disk is still recorded. The log
/// is emptied before it is larger (`wal_autocheckpoint`).
const AHEAD_BYTES: u64 = 4 << 20;

impl Store {
    /// Gives up a corrupt file that was set aside, else the oldest rows, in a transaction of its own: small enough for the
    /// existing log.
    pub(super) fn cut(&mut self) -> Result<(), Trouble> {
        if let Some(aside) = self.guard.give_up_aside().map_err(|error| Trouble::Io(error.to_string()))? {
            tracing::warn!("history: {} is deleted to make room", aside.display());
            return self.bound();
        }
        self.refresh_names()?;
        self.names_stale = true;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let has_cut = retention::by_size(&transaction, &mut self.names, &self.limits.keep)?;
        transaction.commit()?;
        // A log that was emptied is written from its begin again.
        self.connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))?;
        if has_cut { Ok(()) } else { Err(Trouble::Full) }
    }

    /// Sets how large the file may become: where the disk is nearly full, no larger than the room that it has.
    pub(super) fn bound(&mut self) -> Result<(), Trouble> {
        let mut is_scarce = self.is_scarce(self.wal_bytes());
        if is_scarce {
            // What is in the log may have to grow the file. The log keeps its room, if it took some and not much more.
            let keeps = self.has_room_ahead && self.wal_bytes() <= AHEAD_BYTES;
            let mode = if keeps { "RESTART" } else { "TRUNCATE" };
            self.connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))?;
            is_scarce = self.is_scarce(0);
        }
        let pages: i64 = self.connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
        let pages = pages.cast_unsigned();
        // What was set aside counts. It may stay for a while, of any size.
        let size = self.limits.size_bytes;
        let most = size.saturating_sub(self.guard.aside_bytes()).max(size / 8);
        let most = (most - most % self.ahead_bytes()) / PAGE_BYTES;
        let allowed = if is_scarce { pages.max(self.guard.allocated_bytes() / PAGE_BYTES).min(most) } else { most };
        // Below the present size, SQLite uses that.
        self.connection.query_row(&format!("PRAGMA max_page_count = {}", allowed.max(1)), [], |_| Ok(()))?;
        if pages > most {
            let unused: i64 = self.connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
            if pages - unused.cast_unsigned() > most {
                match self.cut() {
                    Err(Trouble::Full) => {}
                    other => other?,
                }
            }
            // A step for each page.
            let mut vacuum = self.connection.prepare("PRAGMA incremental_vacuum(2000)")?;
            let mut pages = vacuum.query([])?;
            while pages.next()?.is_some() {}
        }
        Ok(())
    }

    /// Of a small quota it is little.
    fn ahead_bytes(&self) -> u64 {
        AHEAD_BYTES.min(self.limits.size_bytes / 16).next_multiple_of(PAGE_BYTES)
    }

    /// Takes room ahead, unless it is scarce. Where a file system cannot, there is none.
    pub(super) fn take_room_ahead(&mut self) -> Result<(), Trouble> {
        let ahead = self.ahead_bytes();
        if self.is_scarce(2 * ahead) {
            return Ok(());
        }
        // The file is a multiple of that: SQLite truncates it at each checkpoint, and would cut off what is beyond.
        let mut chunk = i32::try_from(ahead).unwrap_or(0);
        self.connection.file_control(Some("main"), FileControl::ChunkSize(&mut chunk))?;
        self.connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))?;
        // SQLite has no POSIX locks on the log, which closing a descriptor would end.
        if let Ok(log) = File::options().write(true).open(beside_path(&self.guard.path, "-wal")) {
            let taken = fallocate(&log, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, ahead.cast_signed());
            self.has_room_ahead = taken.is_ok();
        }
        Ok(())
    }

    /// Whether less than the reserve would be left if that much more were needed.
    fn is_scarce(&self, more: u64) -> bool {
        let reserve = |size: u64| self.limits.free_bytes.min((size / 20).max(MIN_RESERVE_BYTES));
        free_bytes(&self.guard.path).is_ok_and(|(free, size)| free < reserve(size) + more)
    }

    /// Why there was no room.
    pub(super) fn what_is_full(&self) -> Trouble {
        if self.is_scarce(0) { Trouble::Disk } else { Trouble::Quota(self.limits.size_bytes) }
    }

    fn wal_bytes(&self) -> u64 {
        std::fs::metadata(beside_path(&self.guard.path, "-wal")).map_or(0, |wal| wal.len())
    }

    pub(super) fn check_wal(&self) -> Result<(), Trouble> {
        if self.wal_bytes() > self.limits.wal_bytes {
            self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        }
        if self.wal_bytes() > self.limits.wal_bytes { Err(Trouble::Pinned(self.wal_bytes())) } else { Ok(()) }
    }
}

/// Free and total bytes of a file system.
fn free_bytes(path: &Path) -> io::Result<(u64, u64)> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    Ok((stat.blocks_available() * stat.fragment_size(), stat.blocks() * stat.fragment_size()))
}
