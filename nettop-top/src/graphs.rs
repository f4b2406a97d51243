//! What graphs are made of: computed when the frame, the chosen line or the width changes, not each time they are drawn.

use std::sync::Arc;

use crate::frame::Frame;

/// Bytes each second both ways of the latest intervals, the last at the end.
#[derive(Debug, Default)]
pub struct Graphs {
    pub of: Option<Of>,
    pub line: Vec<[u64; 2]>,
    pub host: Vec<[u64; 2]>,
}

/// What they are of.
#[derive(Debug)]
pub struct Of {
    pub frame: Arc<Frame>,
    pub line: Option<String>,
    pub view: usize,
    pub scope: Option<String>,
    pub most: usize,
}

impl PartialEq for Of {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.frame, &other.frame)
            && (&self.line, self.view, &self.scope, self.most) == (&other.line, other.view, &other.scope, other.most)
    }
}

/// Columns of one of two graphs beside each other.
pub const fn columns(width: u16) -> u16 {
    (width / 2).saturating_sub(2)
}
