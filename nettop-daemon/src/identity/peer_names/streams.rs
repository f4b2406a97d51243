//! Messages of name servers over TCP, each with its length before it, from the segments of many connections.

use lru::LruCache;
use nettop_common::answer::LONG_BYTES;

/// Connections at a time; the one without segments for longest goes.
const MAX_STREAMS: usize = 64;
/// Longer ones are transfers of zones, and their connection is not read on.
const MAX_MESSAGE_BYTES: usize = LONG_BYTES;
const MIN_MESSAGE_BYTES: usize = 12;

/// Connections by the cookie of their socket.
pub struct Streams(LruCache<u64, Stream>);

struct Stream {
    /// Sequence number of the byte that comes next.
    next: u32,
    /// The begin of a message.
    begun: Vec<u8>,
}

impl Default for Streams {
    fn default() -> Self {
        Self(LruCache::unbounded())
    }
}

impl Streams {
    /// Adds a segment, and passes on the messages that are whole then. Returns whether the connection can be read on: one of
    /// which something is missing begins anew with its next segment.
    pub fn add(
        &mut self,
        cookie: u64,
        sequence: u32,
        segment: &[u8],
        is_whole: bool,
        mut each: impl FnMut(&[u8]),
    ) -> bool {
        let stream = self.0.get_or_insert_mut(cookie, || Stream { next: sequence, begun: Vec::new() });
        let is_read = stream.add(sequence, segment, &mut each) && is_whole;
        if !is_read {
            self.0.pop(&cookie);
        }
        while self.0.len() > MAX_STREAMS {
            self.0.pop_lru();
        }
        is_read
    }
}

impl Stream {
    fn add(&mut self, sequence: u32, segment: &[u8], each: &mut impl FnMut(&[u8])) -> bool {
        let known = self.next.wrapping_sub(sequence);
        if known > i32::MAX.cast_unsigned() {
            // There was one before it.
            return false;
        }
        // Of one that was sent again, only the rest is new.
        let new = usize::try_from(known).ok().and_then(|known| segment.get(known..)).unwrap_or_default();
        self.next = self.next.wrapping_add(u32::try_from(new.len()).unwrap_or(0));
        self.begun.extend_from_slice(new);
        let mut at = 0;
        let is_read = loop {
            let Some(length) = self.begun.get(at..at + 2) else { break true };
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            if !(MIN_MESSAGE_BYTES..=MAX_MESSAGE_BYTES).contains(&length) {
                break false;
            }
            let Some(message) = self.begun.get(at + 2..at + 2 + length) else { break true };
            each(message);
            at += 2 + length;
        };
        self.begun.drain(..at);
        self.begun.shrink_to_fit();
        is_read
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Messages with their lengths.
    fn stream(messages: &[Vec<u8>]) -> Vec<u8> {
        let length = |message: &Vec<u8>| u16::try_from(message.len()).unwrap().to_be_bytes();
        messages.iter().flat_map(|message| [&length(message)[..], message].concat()).collect()
    }

    fn read(streams: &mut Streams, segments: &[(u32, &[u8])]) -> (Vec<Vec<u8>>, bool) {
        let mut messages = Vec::new();
        let read = |(sequence, segment): &(u32, &[u8])| {
            streams.add(7, *sequence, segment, true, |message| messages.push(message.to_vec()))
        };
        let is_read = segments.iter().map(read).filter(|is_read| !is_read).count() == 0;
        (messages, is_read)
    }

    proptest! {
        #[test]
        fn messages_are_whole_wherever_segments_end(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 12..200), 1..8),
            size in 1..100_usize,
            first in any::<u32>(),
        ) {
            let bytes = stream(&messages);
            let mut at = first;
            let mut segments: Vec<(u32, &[u8])> = Vec::new();
            for segment in bytes.chunks(size) {
                segments.push((at, segment));
                at = at.wrapping_add(u32::try_from(segment.len()).unwrap());
            }
            // Each once more, and with what came before.
            let again: Vec<_> = segments.iter().flat_map(|segment| [*segment, *segment, segments[0]]).collect();
            prop_assert_eq!(read(&mut Streams::default(), &again), (messages, true));
        }

        #[test]
        fn no_bytes_take_more_than_a_message(segments in prop::collection::vec(
            (0..1000_u64, prop::collection::vec(any::<u8>(), 0..2), 0..20_000_usize), 100..300,
        )) {
            let (mut streams, mut next) = (Streams::default(), HashMap::<u64, u32>::new());
            for (cookie, begin, length) in segments {
                let mut segment = begin;
                segment.resize(length, 0x3f);
                let sequence = next.entry(cookie).or_default();
                streams.add(cookie, *sequence, &segment, true, |_| {});
                *sequence = sequence.wrapping_add(u32::try_from(segment.len()).unwrap());
                prop_assert!(streams.0.len() <= MAX_STREAMS);
                let most = streams.0.iter().map(|(_, stream)| stream.begun.capacity()).max().unwrap_or(0);
                prop_assert!(most <= MAX_MESSAGE_BYTES + 2, "{most}");
            }
        }
    }

    #[test]
    fn what_has_a_gap_or_is_too_long_is_not_read_on() {
        let message = stream(&[vec![1; 20]]);
        let mut streams = Streams::default();
        assert_eq!(read(&mut streams, &[(0, &message[..5]), (6, &message[6..])]), (vec![], false));
        assert!(streams.0.is_empty());
        assert_eq!(read(&mut streams, &[(100, &message)]), (vec![vec![1; 20]], true), "it begins anew");
        assert_eq!(read(&mut streams, &[(122, &[0xff, 0xff, 0, 0])]), (vec![], false));
        assert_eq!(read(&mut streams, &[(126, &[0, 3, 0, 0])]), (vec![], false));
        assert!(!streams.add(8, 0, &message, false, |_| {}), "the rest of its segment is missing");
        assert!(streams.0.is_empty());
    }
}
