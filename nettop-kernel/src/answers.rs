//! What name servers sent to sockets, as the programs copied it. A thread of the reader's own may wait for it.

use std::{
    mem::offset_of,
    os::fd::{AsRawFd as _, BorrowedFd},
    sync::{Arc, atomic::Ordering},
};

use anyhow::Context as _;
use aya::maps::{MapData, RingBuf};
use nettop_common::{AnswerHead, Stats};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{mapping::Mapping, programs::Programs};

/// One packet's payload: of UDP a message, of TCP a part of a stream of them.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    pub head: AnswerHead,
    pub payload: &'a [u8],
}

/// The ring. While there is one, the programs fill it.
pub struct Answers {
    ring: RingBuf<MapData>,
    stats: Arc<Mapping<Stats>>,
}

impl Programs {
    /// The reader of answers, once. From then on the programs copy them.
    ///
    /// # Errors
    ///
    /// If it was taken before, or the ring cannot be mapped.
    pub fn take_answers(&mut self) -> anyhow::Result<Answers> {
        let ring = self.answers.take().context("the ring was taken before")?;
        let answers = Answers { ring: RingBuf::try_from(ring)?, stats: Arc::clone(&self.stats) };
        want(&self.stats, true);
        Ok(answers)
    }
}

/// Has the programs copy answers, or not: a ring that nobody empties would fill, and count as loss.
pub(super) fn want(stats: &Mapping<Stats>, is_wanted: bool) {
    if let Some(wanted) = stats.double_word(0, offset_of!(Stats, answers_wanted)) {
        wanted.store(is_wanted.into(), Ordering::Relaxed);
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        want(&self.stats, false);
    }
}

impl Answers {
    /// Takes those that are there now.
    pub fn take(&mut self, mut each: impl FnMut(Answer<'_>)) {
        while let Some(item) = self.ring.next() {
            if let Some(answer) = parse(&item) {
                each(answer);
            }
        }
    }

    /// Waits until there are some.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to wait.
    pub fn wait(&self) -> anyhow::Result<()> {
        // SAFETY: the ring is there as long as this.
        let descriptor = unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) };
        match poll(&mut [PollFd::new(descriptor, PollFlags::POLLIN)], PollTimeout::NONE) {
            Err(error) if error != nix::errno::Errno::EINTR => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Those that found no room in the ring so far.
    pub fn lost(&self) -> u64 {
        self.stats.read(0).map_or(0, |stats| stats.answers_lost)
    }
}

fn parse(record: &[u8]) -> Option<Answer<'_>> {
    let (head, payload) = record.split_at_checked(size_of::<AnswerHead>())?;
    let head: AnswerHead = bytemuck::pod_read_unaligned(head);
    let payload = payload.get(..usize::try_from(head.bytes).ok()?)?;
    Some(Answer { head, payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_as_many_bytes_as_it_says() {
        let head = AnswerHead { bytes: 3, whole_bytes: 5, ..AnswerHead::default() };
        let record = [bytemuck::bytes_of(&head), b"abcold"].concat();
        let answer = parse(&record).unwrap();
        assert_eq!((answer.payload, answer.head.whole_bytes), (&b"abc"[..], 5));
        for end in 0..size_of::<AnswerHead>() + 3 {
            assert!(parse(&record[..end]).is_none(), "{end}");
        }
    }
}
