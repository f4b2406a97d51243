//! Keys while something is typed: a filter, a time, the name of an action.

use super::acts;
use crate::{
    actions,
    editor::Editor,
    event::Effect,
    filter::Filter,
    keys::Key,
    state::{State, Typing},
    table,
};

pub(super) fn on_key(state: &mut State, key: Key) -> Vec<Effect> {
    let Some(mut typing) = state.typing.take() else { return Vec::new() };
    if let Key::Esc | Key::Ctrl('c') = key {
        if let Typing::Filter(_) = typing {
            // What was there before it was opened is gone: it was changed while typing.
            state.filter = Filter::default();
            state.filter_text.clear();
            table::renew(state);
        }
        return Vec::new();
    }
    if key == Key::Enter {
        return done(state, typing);
    }
    if let Typing::Palette(editor, at) = &mut typing {
        let most = actions::find(&editor.text()).len().saturating_sub(1);
        match key {
            Key::Up => *at = at.saturating_sub(1),
            Key::Down | Key::Tab => *at = (*at + 1).min(most),
            _ => {
                edit(editor, key);
                *at = 0;
            }
        }
    } else if let Typing::Filter(editor) = &mut typing {
        match key {
            Key::Up => editor.recall(&state.earlier_filters, false),
            Key::Down => editor.recall(&state.earlier_filters, true),
            _ => edit(editor, key),
        }
        apply(state, &editor.text());
    } else if let Typing::Time(editor) = &mut typing {
        edit(editor, key);
    }
    state.typing = Some(typing);
    Vec::new()
}

fn done(state: &mut State, typing: Typing) -> Vec<Effect> {
    match typing {
        Typing::Filter(editor) => {
            let text = editor.text();
            apply(state, &text);
            if state.message.is_some() {
                state.typing = Some(Typing::Filter(editor));
            } else {
                state.earlier_filters.push(text.trim());
            }
            Vec::new()
        }
        Typing::Time(editor) if editor.text().trim().is_empty() => Vec::new(),
        Typing::Time(editor) => vec![Effect::ReadTime(editor.text().trim().to_owned())],
        Typing::Palette(editor, at) => match actions::find(&editor.text()).get(at) {
            Some(known) => acts::act(state, known.action),
            None => Vec::new(),
        },
    }
}

/// While it is typed, the last one that was whole holds.
pub(super) fn apply(state: &mut State, text: &str) {
    match Filter::parse(text) {
        Ok(filter) => {
            state.filter = filter;
            text.trim().clone_into(&mut state.filter_text);
            state.message = None;
            table::renew(state);
        }
        Err(why) => state.message = Some(why),
    }
}

fn edit(editor: &mut Editor, key: Key) {
    match key {
        Key::Char(c) => editor.insert(c),
        Key::Backspace => editor.delete_before(),
        Key::Delete => editor.delete_here(),
        Key::Ctrl('u') => editor.delete_line(),
        Key::Left => editor.left(),
        Key::Right => editor.right(),
        Key::Home | Key::Ctrl('a') => editor.home(),
        Key::End | Key::Ctrl('e') => editor.end(),
        _ => {}
    }
}
