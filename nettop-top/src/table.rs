//! The lines of the shown frame, and where the chosen one is.

use crate::{
    layout::page,
    lines::{Lines, as_tree, lines},
    order::arrange,
    state::State,
    views::Kind,
};

/// Makes the lines anew. The chosen line stays chosen wherever it went.
pub fn renew(state: &mut State) {
    let Some(input) = state.input() else { return };
    let Lines { mut lines, of } = lines(&input);
    let sort = state.sort();
    arrange(&mut lines, sort, &mut state.calm, state.held.as_deref());
    if state.is_tree
        && state.view().kind == Kind::Process
        && let Some(frame) = &state.shown
    {
        lines = as_tree(frame, state.view(), lines);
    }
    (state.lines, state.lines_of) = (lines, of);
    let place = state.chosen.as_ref().and_then(|key| state.lines.iter().position(|line| line.key == *key));
    state.cursor = place.unwrap_or(state.cursor).min(state.lines.len().saturating_sub(1));
    if state.chosen.is_some() {
        state.chosen = state.line().map(|line| line.key.clone());
    }
    scroll(state);
}

/// Keeps the chosen line on the screen. Where none is, the first lines are what matters.
pub fn scroll(state: &mut State) {
    if state.chosen.is_none() {
        state.top = 0;
        return;
    }
    state.top = state.top.min(state.cursor).max((state.cursor + 1).saturating_sub(page(state)));
}

/// Chooses a line by its place, or the last.
pub fn choose(state: &mut State, at: usize) {
    state.cursor = at.min(state.lines.len().saturating_sub(1));
    state.chosen = state.line().map(|line| line.key.clone());
    scroll(state);
}
