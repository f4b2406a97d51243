//! Computes what graphs are made of, if they are of something else after an event.

use std::sync::Arc;

use crate::{
    books::{Side, books},
    frame::{Frame, Who},
    graphs::{Graphs, Of, columns},
    layout::layout,
    lines::{is_in_scope, key, series},
    state::State,
    units::per_second,
};

/// None where none are shown.
pub(super) fn renew(state: &mut State) {
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
