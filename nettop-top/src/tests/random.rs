//! Any size, any keys, any names: nothing panics, nothing is past the edge, no cell moves a cursor.

use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any, prop_oneof, proptest},
};
use unicode_width::UnicodeWidthStr as _;

use super::{buffer, example, state};
use crate::{event::Event, frame::Measured, keys::Key, update::update};

/// What happens.
#[derive(Clone, Debug)]
enum Step {
    Key(Key),
    Measured(u64, String),
    Recorded(u64, String),
    Resized(u16, u16),
    Click(u16, u16),
    Line(String),
    Sockets(String),
}

/// Names that a process may give itself, or a file from elsewhere may have.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,15}",
        ".{0,40}",
        Just("\u{1b}[2J\u{1b}]0;x\u{7}".to_owned()),
        Just("\u{202e}gnp.exe\u{200b}".to_owned()),
        Just("日本語のとても長いプロセス名前".to_owned()),
        Just("e\u{301}\u{301}\u{301}".to_owned()),
        Just("👩‍👩‍👧‍👦 family".to_owned()),
        Just("\n\r\t\u{85}\u{2028}".to_owned()),
        Just(String::new()),
    ]
}

fn key() -> impl Strategy<Value = Key> {
    let named = [
        "enter",
        "esc",
        "backspace",
        "delete",
        "tab",
        "shift-tab",
        "up",
        "down",
        "left",
        "right",
        "home",
        "end",
        "page-up",
        "page-down",
        "ctrl-u",
        "ctrl-d",
        "f1",
    ];
    prop_oneof![
        4 => "[ -~]".prop_map(|text| Key::Char(text.chars().next().unwrap())),
        4 => (0..named.len()).prop_map(move |at| Key::parse(named[at]).unwrap()),
        1 => any::<char>().prop_map(Key::Char),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => key().prop_map(Step::Key),
        3 => (1..40_u64, name()).prop_map(|(number, name)| Step::Measured(number, name)),
        1 => (1..40_u64, name()).prop_map(|(number, name)| Step::Recorded(number, name)),
        1 => (0..300_u16, 0..100_u16).prop_map(|(columns, lines)| Step::Resized(columns, lines)),
        1 => (0..300_u16, 0..100_u16).prop_map(|(column, line)| Step::Click(column, line)),
        1 => name().prop_map(Step::Line),
        1 => name().prop_map(Step::Sockets),
    ]
}

/// An interval in which everything has that name.
fn named(number: u64, name: &str) -> Measured {
    let mut measured = example::measured(number);
    let snapshot = &mut measured.snapshot;
    name.clone_into(&mut snapshot.host);
    for row in &mut snapshot.rows {
        name.clone_into(&mut row.comm);
        row.process.exe = Some(format!("/{name}/{name}"));
        row.process.unit = Some(name.to_owned());
        row.user = Some(name.to_owned());
    }
    for device in &mut snapshot.devices {
        name.clone_into(&mut device.device);
    }
    for drop in &mut snapshot.drops {
        name.clone_into(&mut drop.reason);
        name.clone_into(&mut drop.location);
    }
    measured
}

proptest! {
    #[test]
    fn no_screen_breaks(size in (1..300_u16, 1..100_u16), steps in vec(step(), 1..40), is_ascii in any::<bool>()) {
        let mut state = state(size);
        state.options.is_ascii = is_ascii;
        for step in steps {
            let event = match step {
                Step::Key(key) => Event::Key(key),
                Step::Measured(number, name) => Event::Measured(Box::new(named(number, &name))),
                Step::Recorded(number, name) => {
                    let question = *state.asks_record.get_or_insert(0);
                    Event::Recorded(question, vec![named(number, &name), named(number + 1, &name)], None)
                },
                Step::Resized(columns, lines) => Event::Resized(columns.max(1), lines.max(1)),
                Step::Click(column, line) => Event::Mouse { column, line, wheel: None },
                Step::Line(line) => Event::Line(1, line),
                Step::Sockets(name) => {
                    let mut document = example::sockets();
                    document.sockets[0].local = name;
                    Event::Sockets(Ok(Box::new(document)))
                }
            };
            update(&mut state, event);
            let buffer = buffer(&state);
            for y in 0..state.size.1 {
                let mut end = 0;
                for x in 0..state.size.0 {
                    let symbol = buffer[(x, y)].symbol();
                    assert!(!symbol.chars().any(char::is_control), "{symbol:?}");
                    assert!(!symbol.contains(['\u{202e}', '\u{200b}', '\u{2028}']), "{symbol:?}");
                    assert!(!is_ascii || symbol.is_ascii(), "{symbol:?}");
                    if usize::from(x) >= end {
                        end = usize::from(x) + symbol.width().max(1);
                    }
                }
                assert!(end <= usize::from(state.size.0), "line {y} ends at {end} of {}", state.size.0);
            }
        }
    }
}
