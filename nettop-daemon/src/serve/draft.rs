//! An answer in the making. Its bytes are counted before they exist: a request for more than there is room for is
//! refused, and costs nothing.

use std::{
    io::{self, Write},
    sync::Arc,
};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Room is counted in these.
pub(super) const KIB: usize = 1024;
/// The least growth; else a quarter of the bytes.
const RESERVATION_STEP_BYTES: usize = 64 * KIB;

/// All answers that are sent or made take up the room.
#[derive(Debug, thiserror::Error)]
#[error("there is no room for the answer")]
pub(super) struct Full;

/// Bytes, and the room they take.
#[derive(Debug)]
pub(super) struct Draft {
    bytes: Vec<u8>,
    /// KiB that answers may still take.
    room: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
    is_full: bool,
}

impl Draft {
    pub(super) fn new(room: &Arc<Semaphore>) -> Self {
        Self { bytes: Vec::new(), room: Arc::clone(room), taken: None, is_full: false }
    }

    /// Why it could not be encoded.
    pub(super) fn why(&self, error: serde_json::Error) -> anyhow::Error {
        if self.is_full { Full.into() } else { error.into() }
    }

    /// The document in a line. Its room is counted until it is sent, however many read it.
    ///
    /// # Errors
    ///
    /// [`Full`] if not even the end of the line has room: the client is to ask for less, or later.
    pub(super) fn finish(mut self) -> anyhow::Result<Bytes> {
        self.write_all(b"\n").map_err(|_| Full)?;
        self.bytes.shrink_to_fit();
        if let Some(taken) = &mut self.taken {
            // What was not needed is given back.
            drop(taken.split(taken.num_permits().saturating_sub(self.bytes.len().div_ceil(KIB))));
        }
        Ok(Bytes::from_owner(self))
    }

    /// Takes room for so many bytes.
    fn grow(&mut self, bytes: usize) -> Result<(), Full> {
        let wanted = bytes + (bytes / 4).max(RESERVATION_STEP_BYTES);
        // The rest, if that is enough.
        let kib =
            [wanted, bytes].into_iter().map(|bytes| bytes.div_ceil(KIB)).find(|kib| self.take(*kib)).ok_or(Full)?;
        self.bytes.reserve_exact(kib * KIB - self.bytes.len());
        Ok(())
    }

    /// Whether there is room for so much in all.
    fn take(&mut self, kib: usize) -> bool {
        let more = kib.saturating_sub(self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
        let more = u32::try_from(more).ok().and_then(|more| Arc::clone(&self.room).try_acquire_many_owned(more).ok());
        match (&mut self.taken, more) {
            (_, None) => return false,
            (Some(taken), Some(more)) => taken.merge(more),
            (taken, more) => *taken = more,
        }
        true
    }
}

impl Write for Draft {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        let needed = self.bytes.len() + more.len();
        if needed > self.bytes.capacity() && self.grow(needed).is_err() {
            self.is_full = true;
            return Err(io::Error::other(Full));
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsRef<[u8]> for Draft {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_before_bytes_are_and_given_back_with_them() {
        let room = Arc::new(Semaphore::new(1024));
        let mut draft = Draft::new(&room);
        for _ in 0..700 {
            draft.write_all(&[b'x'; KIB]).unwrap();
            let taken = 1024 - room.available_permits();
            assert!(taken * KIB >= draft.bytes.capacity(), "{taken} KiB for {}", draft.bytes.capacity());
        }
        let mut other = Draft::new(&room);
        let refused = other.write_all(&[b'y'; 400 * KIB]).unwrap_err();
        assert!(refused.get_ref().unwrap().is::<Full>() && other.bytes.capacity() == 0);
        let sent = draft.finish().unwrap();
        assert_eq!((sent.len(), room.available_permits()), (700 * KIB + 1, 1024 - 701));
        other.write_all(&[b'y'; 323 * KIB]).unwrap();
        assert_eq!(room.available_permits(), 0);
        drop((sent.slice(1..), sent, other));
        assert_eq!(room.available_permits(), 1024);
    }
}
