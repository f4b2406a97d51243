//! What graphs are made of: computed when the frame, the chosen line or the width changes, not each time they are drawn.

use std::sync::Arc;

use crate::{
    books::{Side, books},
    frame::{Frame, Who},
    layout::layout,
    lines::{is_in_scope, key, series},
    state::State,
    units::per_second,
};

/// Bytes each second both ways of the latest intervals, the last at the end.
#[derive(Debug, Default)]
pub struct Graphs {
    of: Option<Of>,
    pub line: Vec<[u64; 2]>,
    pub host: Vec<[u64; 2]>,
}

/// What they are of.
#[derive(Debug)]
struct Of {
    frame: Arc<Frame>,
    line: Option<String>,
    view: usize,
    scope: Option<String>,
    most: usize,
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

/// Computes them anew if they are of something else now; none where none are shown.
pub fn renew(state: &mut State) {
    let shown = state.shown.clone().filter(|_| layout(state).details.height > 0);
    let of = shown.map(|frame| Of {
        frame,
        line: state.line().filter(|line| !line.rows.is_empty()).map(|line| line.key.clone()),
        view: state.view,
        scope: state.scope.last().map(|crumb| crumb.key.clone()),
        most: columns(state.size.0).into(),
    });
    if of == state.graphs.of {
        return;
    }
    let (mut of_line, mut of_host) = (Vec::new(), Vec::new());
    if let (Some(of), Some(input)) = (&of, state.input()) {
        let host = |frame: &Arc<Frame>| {
            let books = books(&frame.devices, None);
            [&books.tx, &books.rx].map(|side| per_second(Side::bytes(side), frame.interval_ms))
        };
        of_host = input.keep.until(of.frame.at_ms, of.most).map(host).collect();
        if let Some(line) = &of.line {
            let kind = input.view.kind;
            let is_asked = |who: &Who| key(kind, who) == *line && is_in_scope(&state.scope, who);
            of_line = series(&input, of.most, is_asked);
        }
    }
    state.graphs = Graphs { of, line: of_line, host: of_host };
}
