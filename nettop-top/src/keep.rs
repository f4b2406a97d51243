//! The frames of the last minutes, bounded in bytes: what stepping back, trends and graphs are made of.

use std::{collections::VecDeque, sync::Arc};

use crate::frame::Frame;

/// What live frames may take.
pub const MAX_BYTES: usize = 24 << 20;
/// However small they are: an hour of seconds.
const MAX_FRAMES: usize = 3600;

/// Frames in the order of time. The newest stays, whatever it takes.
#[derive(Debug)]
pub struct Keep {
    frames: VecDeque<Arc<Frame>>,
    bytes: usize,
    max_bytes: usize,
}

impl Keep {
    pub const fn new(max_bytes: usize) -> Self {
        Self { frames: VecDeque::new(), bytes: 0, max_bytes }
    }

    /// Adds the newest, and lets the oldest go for it.
    pub fn push(&mut self, frame: Arc<Frame>) {
        self.bytes += frame.bytes;
        self.frames.push_back(frame);
        while self.frames.len() > MAX_FRAMES || self.bytes > self.max_bytes && self.frames.len() > 1 {
            let Some(oldest) = self.frames.pop_front() else { break };
            self.bytes -= oldest.bytes;
        }
    }

    pub fn clear(&mut self) {
        self.frames.clear();
        self.bytes = 0;
    }

    pub fn newest(&self) -> Option<&Arc<Frame>> {
        self.frames.back()
    }

    pub fn oldest(&self) -> Option<&Arc<Frame>> {
        self.frames.front()
    }

    /// The last frame that ended at that time or before it.
    pub fn at(&self, at_ms: i64) -> Option<&Arc<Frame>> {
        self.frames.iter().rev().find(|frame| frame.at_ms <= at_ms)
    }

    /// The frame so many steps from the one that ended then, as far as there are any.
    pub fn step(&self, at_ms: i64, steps: isize) -> Option<&Arc<Frame>> {
        let here = self.frames.iter().rposition(|frame| frame.at_ms <= at_ms)?;
        self.frames.get(here.saturating_add_signed(steps).min(self.frames.len() - 1))
    }

    /// The last `most` frames up to that time, the oldest first.
    pub fn until(&self, at_ms: i64, most: usize) -> impl Iterator<Item = &Arc<Frame>> {
        let end = self.frames.iter().rposition(|frame| frame.at_ms <= at_ms).map_or(0, |at| at + 1);
        self.frames.range(end.saturating_sub(most)..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(at_ms: i64, bytes: usize) -> Arc<Frame> {
        Arc::new(Frame { at_ms, bytes, ..Frame::default() })
    }

    #[test]
    fn frames_are_bounded_in_bytes_and_found_by_time() {
        let mut keep = Keep::new(100);
        for at in 1..=5 {
            keep.push(frame(at * 1000, 30));
        }
        let ends = |keep: &Keep| (keep.oldest().unwrap().at_ms, keep.newest().unwrap().at_ms);
        assert_eq!(ends(&keep), (3000, 5000));
        assert_eq!(keep.at(4500).unwrap().at_ms, 4000);
        assert!(keep.at(2999).is_none());
        assert_eq!(keep.step(4000, -1).unwrap().at_ms, 3000);
        assert_eq!(keep.step(3000, -1).unwrap().at_ms, 3000, "there is none before");
        assert_eq!(keep.step(5000, 1).unwrap().at_ms, 5000);
        assert_eq!(keep.until(4000, 9).map(|frame| frame.at_ms).collect::<Vec<_>>(), [3000, 4000]);
        assert_eq!(keep.until(5000, 1).map(|frame| frame.at_ms).collect::<Vec<_>>(), [5000]);
        keep.push(frame(6000, 500));
        assert_eq!(ends(&keep), (6000, 6000), "the newest stays, however large");
    }
}
