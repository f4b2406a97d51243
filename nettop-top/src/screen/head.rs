//! The lines that never scroll away: who and when, how much, whose it was, what was lost; and which views there are.

use unicode_width::UnicodeWidthStr as _;

use super::pen::{Pen, join};
use crate::{
    books::{Side, books},
    frame::Frame,
    layout::Layout,
    lines::Amounts,
    state::{Place, State},
    text::safe,
    theme::Role,
    units::per_second,
    views::{Kind, VIEWS},
};

pub(super) fn draw(pen: &mut Pen<'_>, layout: &Layout) {
    let state = pen.state;
    draw_first(pen, layout);
    match state.shown.as_deref() {
        Some(frame) => draw_books(pen, layout, frame),
        None => pen.line(layout.books, " the first interval is not over", Role::Dim),
    }
    draw_tabs(pen, layout);
}

/// The device that was entered, if any.
fn device(state: &State) -> Option<&str> {
    state.scope.iter().find(|crumb| crumb.kind == Kind::Device).map(|crumb| crumb.key.as_str())
}

fn draw_first(pen: &mut Pen<'_>, layout: &Layout) {
    let state = pen.state;
    let place = match (&state.lost, state.place) {
        (Some(_), Place::Newest) => "!LOST",
        (_, Place::Newest) => "LIVE",
        (_, Place::Held) => "PAUSED",
        (_, Place::Record) => "REPLAY",
    };
    let Some(frame) = state.shown.as_deref() else {
        return pen.line(layout.head, &format!(" nettopd  {place}"), Role::Heading);
    };
    let books = books(&frame.devices, device(state));
    let rate = |side: &Side| state.units.short(per_second(side.bytes(), frame.interval_ms));
    let letter = state.units.letter();
    let right = format!("up {}{letter}/s  down {}{letter}/s ", rate(&books.tx), rate(&books.rx));
    // Of the record it is the whole time; live the day is today.
    let time = frame.local_time.as_str();
    let time = match (state.place, time.split_once(' ')) {
        (Place::Newest | Place::Held, Some((_, time))) => time,
        _ => time,
    };
    let every = format!("every {} s", seconds(frame.interval_ms));
    let parts = [safe(&frame.host), place.to_owned(), time.to_owned(), every, format!("Linux {}", safe(&frame.kernel))];
    let name = if layout.head.width < 60 { " " } else { " nettopd  " };
    // What happens now and when comes before whose host it is.
    let room = usize::from(layout.head.width).saturating_sub(right.width() + name.len() + 1);
    let short = join(&[place.to_owned(), time.to_owned()], room);
    let long = join(&parts, room);
    let left = if long.contains(time) { long } else { short };
    pen.line(layout.head, &format!("{name}{left}"), Role::Heading);
    let x = layout.head.width.saturating_sub(u16::try_from(right.width()).unwrap_or(0));
    pen.put(x, layout.head.y, layout.head.width - x, &right, Role::Heading);
}

/// `5`, `0.2`.
fn seconds(interval_ms: u64) -> String {
    // Ticks are some milliseconds early or late.
    let tenths = (interval_ms + 50) / 100;
    if tenths.is_multiple_of(10) { (tenths / 10).to_string() } else { format!("{}.{}", tenths / 10, tenths % 10) }
}

fn draw_books(pen: &mut Pen<'_>, layout: &Layout, frame: &Frame) {
    let state = pen.state;
    let books = books(&frame.devices, device(state));
    let losses = &frame.losses;
    let is_lost = losses.iter().any(|(cause, _)| *cause != "hooks_missing");
    let loss = match losses.as_slice() {
        [] => "loss none".to_owned(),
        [(cause, count)] => format!("!loss {cause} {count}"),
        [(cause, count), more @ ..] => format!("!loss {cause} {count} +{}", more.len()),
    };
    let drops = format!("drops {}/s", per_second(frame.dropped, frame.interval_ms));
    let drops = if frame.dropped > 0 { format!("!{drops}") } else { drops };
    let right = format!("{loss}  {drops} ");
    let width = usize::from(layout.books.width);
    let room = width.saturating_sub(right.width() + 2);
    let amount = |bytes: u64| state.units.short(per_second(bytes, frame.interval_ms));
    let whole = |name: &str, side: &Side| {
        let undecided =
            if side.undecided > 0 { format!(", {} undecided", amount(side.undecided)) } else { String::new() };
        format!(
            "{name} {} = {} owned + {} kernel + {} forwarded + {} nobody{undecided}",
            amount(side.bytes()),
            amount(side.owned),
            amount(side.kernel),
            amount(side.forwarded),
            amount(side.unattributed)
        )
    };
    let shares = |name: &str, side: &Side| {
        format!(
            "{name} {} owned {} kernel {} nobody",
            share(side.owned, side),
            share(side.kernel, side),
            share(side.unattributed, side)
        )
    };
    let short = |name: &str, side: &Side| {
        format!("{name} own {} nobody {}", share(side.owned, side), share(side.unattributed, side))
    };
    let nobody = |name: &str, side: &Side| format!("{name} {} nobody", share(side.unattributed, side));
    let variants = [
        format!("{}   {}", whole("up", &books.tx), whole("down", &books.rx)),
        format!("{}  {}", shares("up", &books.tx), shares("down", &books.rx)),
        format!("{}  {}", short("up", &books.tx), short("down", &books.rx)),
        format!("{}  {}", nobody("up", &books.tx), nobody("down", &books.rx)),
    ];
    let left = variants.iter().find(|text| text.width() <= room).map_or("", String::as_str);
    let is_doubtful = books.tx.is_doubtful() || books.rx.is_doubtful();
    let mark = if is_doubtful { '!' } else { ' ' };
    pen.line(layout.books, &format!("{mark}{left}"), if is_doubtful { Role::Bad } else { Role::Plain });
    let x = layout.books.width.saturating_sub(u16::try_from(right.width()).unwrap_or(0));
    let role = match (is_lost || frame.dropped > 0, losses.is_empty()) {
        (true, _) => Role::Bad,
        (false, false) => Role::Near,
        (false, true) => Role::Plain,
    };
    pen.put(x, layout.books.y, layout.books.width - x, &right, role);
}

/// Percent with a digit behind the point, never rounded up to 100.
fn share(part: u64, side: &Side) -> String {
    match side.bytes() {
        0 => "-".into(),
        all => {
            let tenths = u128::from(part) * 1000 / u128::from(all);
            format!("{}.{}%", tenths / 10, tenths % 10)
        }
    }
}

fn draw_tabs(pen: &mut Pen<'_>, layout: &Layout) {
    let state = pen.state;
    for (at, x, text) in tabs(state) {
        let role = if at == state.view { Role::Chosen } else { Role::Plain };
        pen.put(x, layout.tabs.y, layout.tabs.width.saturating_sub(x), &text, role);
    }
    let end = tabs(state).last().map_or(0, |(_, x, text)| x + u16::try_from(text.width()).unwrap_or(0));
    let amounts = match state.shown_amounts() {
        Amounts::Rate => "rate",
        Amounts::Sum => "sum",
        Amounts::SinceMark => "since mark",
    };
    let crumbs: Vec<&str> = state.scope.iter().map(|crumb| crumb.title.as_str()).collect();
    let crumbs = if crumbs.is_empty() { String::new() } else { format!("in {}  ", crumbs.join(" > ")) };
    let right = format!("{crumbs}{amounts} ");
    let room = layout.tabs.width.saturating_sub(end + 2);
    let text = crate::text::cut_front(&right, usize::from(room));
    let x = layout.tabs.width.saturating_sub(u16::try_from(text.width()).unwrap_or(0));
    pen.put(x, layout.tabs.y, layout.tabs.width - x, &text, Role::Plain);
}

/// Each view with its column. Where there is little room, names are cut, and where an inner line is, only the view's number.
fn tabs(state: &State) -> Vec<(usize, u16, String)> {
    let (columns, _) = state.size;
    let most = match columns {
        ..70 => 0,
        70..100 => 7,
        _ => 20,
    };
    let mut x = 1;
    let tab = |(at, name): (usize, &str)| {
        let is_whole = at == state.view || most > 0;
        let text =
            if is_whole { format!("{} {}", at + 1, crate::text::cut(name, most.max(9))) } else { (at + 1).to_string() };
        let begin = x;
        x += u16::try_from(text.width()).unwrap_or(0) + 2;
        (at, begin, text)
    };
    VIEWS.iter().map(|view| view.name).enumerate().map(tab).collect()
}

/// The view whose name is there.
pub(super) fn view_at(state: &State, column: u16) -> Option<usize> {
    let is_there =
        |(_, x, text): &(usize, u16, String)| (*x..*x + u16::try_from(text.width()).unwrap_or(0)).contains(&column);
    tabs(state).into_iter().find(is_there).map(|(at, ..)| at)
}
