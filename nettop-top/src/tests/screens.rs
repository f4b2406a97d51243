//! Every view at several sizes, as it is kept in golden/. `UPDATE_GOLDEN=1` renews them: look at what changed.

use std::{fmt::Write as _, fs};

use super::{buffer, example, press, shown, state};
use crate::{
    event::Event,
    state::State,
    theme::{Colors, Theme},
    update::update,
    views::VIEWS,
};

/// Compares a text with what is kept.
fn hold(name: &str, text: &str) {
    let path = format!("{}/golden/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, text).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == text, "{path} is out of date: run the tests once with UPDATE_GOLDEN=1\n{text}");
}

/// After five intervals.
fn measured(size: (u16, u16)) -> State {
    let mut state = state(size);
    for number in 1..=5 {
        update(&mut state, Event::Measured(Box::new(example::measured(number))));
    }
    state
}

#[test]
fn every_view_is_shown_at_every_size() {
    for (columns, lines) in [(40, 8), (80, 24), (140, 40), (200, 60)] {
        let mut text = String::new();
        for (number, view) in (1..).zip(&VIEWS) {
            let mut state = measured((columns, lines));
            press(&mut state, &number.to_string());
            update(&mut state, Event::Sockets(Ok(Box::new(example::sockets()))));
            press(&mut state, "down");
            writeln!(text, "= {}", view.name).unwrap();
            shown(&state).iter().for_each(|line| writeln!(text, "{line}").unwrap());
        }
        hold(&format!("views-{columns}x{lines}"), &text);
    }
}

#[test]
fn what_is_over_a_view_is_shown() {
    let mut text = String::new();
    for (what, keys) in [
        ("help", "?"),
        ("palette", ": t i m e down"),
        ("filter", "/ n g"),
        ("wrong filter", "/ ( a"),
        ("zoomed details", "down z"),
        ("tree", "v"),
        ("in a program", "down down enter"),
        ("whole paths", "e"),
        ("sums", "m"),
        ("bits", "u"),
        ("paused, an interval back", "space T"),
    ] {
        let mut state = measured((80, 24));
        press(&mut state, keys);
        writeln!(text, "= {what}: {keys}").unwrap();
        shown(&state).iter().for_each(|line| writeln!(text, "{line}").unwrap());
    }
    hold("over-80x24", &text);
}

#[test]
fn a_plain_terminal_gets_ascii() {
    let mut state = measured((140, 40));
    state.options.is_ascii = true;
    let lines = shown(&state);
    assert!(lines.iter().all(|line| line.is_ascii()), "{}", lines.join("\n"));
    hold("ascii-140x40", &(lines.join("\n") + "\n"));
    let mut named = example::measured(6);
    named.snapshot.rows[0].process.exe = Some("/usr/bin/größe".into());
    update(&mut state, Event::Measured(Box::new(named)));
    assert!(shown(&state).iter().all(|line| line.is_ascii()) && shown(&state).join("").contains("gr??e"));
}

#[test]
fn colours_mean_the_same_in_every_mode() {
    let mut text = String::new();
    for colors in [Colors::Never, Colors::Sixteen, Colors::Many, Colors::True] {
        for is_light in [false, true] {
            let mut state = measured((80, 24));
            state.options.theme = Theme { colors, is_light };
            press(&mut state, "down");
            writeln!(text, "= {colors:?}, light {is_light}").unwrap();
            write_styles(&mut text, &state);
        }
    }
    hold("styles-80x24", &text);
}

/// Each run of cells with a style that is not the plain one.
fn write_styles(text: &mut String, state: &State) {
    let buffer = buffer(state);
    for y in 0..state.size.1 {
        let mut run: Option<(u16, String)> = None;
        for x in 0..=state.size.0 {
            let style = (x < state.size.0).then(|| {
                let cell = &buffer[(x, y)];
                format!("{:?} {:?} {:?}", cell.fg, cell.bg, cell.modifier)
            });
            if run.as_ref().map(|(_, style)| style) != style.as_ref() {
                if let Some((from, style)) = run.take().filter(|(_, style)| style != "Reset Reset NONE") {
                    writeln!(text, "{y}: {from}-{} {style}", x - 1).unwrap();
                }
                run = style.map(|style| (x, style));
            }
        }
    }
}
