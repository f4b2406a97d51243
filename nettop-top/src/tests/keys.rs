//! What keys do, by what is on the screen after them and what is to be done.

use nettop_model::snapshot::Loss;

use super::{example, line_with, press, shown, state, type_text};
use crate::{
    event::{Effect, Event, Move},
    state::{Place, State},
    update::update,
};

fn measure(state: &mut State, numbers: impl IntoIterator<Item = u64>) {
    numbers.into_iter().for_each(|number| drop(update(state, Event::Measured(Box::new(example::measured(number))))));
}

fn measured() -> State {
    let mut state = state((120, 30));
    measure(&mut state, 1..=5);
    state
}

/// Names in the first column of the table, from the top.
fn names(state: &State) -> Vec<String> {
    let lines = shown(state).into_iter().skip(4).take_while(|line| !line.starts_with('─'));
    lines.filter_map(|line| line.get(2..)?.split_whitespace().next().map(ToOwned::to_owned)).collect()
}

#[test]
fn the_books_are_on_the_second_line_and_add_up() {
    let mut state = state((160, 30));
    let mut measured = example::measured(1);
    // Loopback is in none of the sums.
    measured.snapshot.devices[1].interval.tx.attributed_bytes = 900_000_000;
    update(&mut state, Event::Measured(Box::new(measured)));
    let books = line_with(&state, "owned");
    // 15,060,000 of processes and 205,000 of the kernel in 5 s.
    assert!(books.contains("up 3.0M = 3.0M owned + 41.0k kernel + 0 forwarded + 0 nobody"), "{books}");
    assert!(books.contains("+ 6.0k nobody") && books.contains("loss none") && books.ends_with("!drops 2/s"), "{books}");
    assert!(shown(&state)[0].ends_with("up 3.0MB/s  down 1.3MB/s"), "{}", shown(&state)[0]);
    let mut measured = example::measured(2);
    measured.snapshot.loss = Loss { rows_full: 3, overflow_tx_bytes: 9, ..Loss::default() };
    update(&mut state, Event::Measured(Box::new(measured)));
    assert!(shown(&state)[1].contains("!loss rows_full 3 +1"), "{}", shown(&state)[1]);
    let mut measured = example::measured(3);
    measured.snapshot.loss = Loss { rows_full: 5, overflow_tx_bytes: 9, hooks_missing: 1, ..Loss::default() };
    update(&mut state, Event::Measured(Box::new(measured)));
    assert!(shown(&state)[1].contains("!loss rows_full 2 +1"), "since the interval before: {}", shown(&state)[1]);
    // Counted before the first interval, and hooks that are missing all the time.
    let mut measured = example::measured(4);
    measured.snapshot.accounting_since = "another daemon's".into();
    measured.snapshot.loss = Loss { rows_full: 900, hooks_missing: 1, ..Loss::default() };
    update(&mut state, Event::Measured(Box::new(measured)));
    assert!(shown(&state)[1].contains("!loss hooks_missing 1 "), "{}", shown(&state)[1]);
    // Numbers that nobody counted stop at the end.
    let mut measured = example::measured(5);
    measured.snapshot.devices[0].interval.tx.attributed_bytes = u64::MAX;
    measured.snapshot.rows.iter_mut().for_each(|row| row.interval.tx.bytes = u64::MAX);
    update(&mut state, Event::Measured(Box::new(measured)));
    assert!(shown(&state)[0].contains("up 3.6EB/s"), "{}", shown(&state)[0]);
}

#[test]
fn enter_goes_down_and_escape_comes_back_to_the_line() {
    let mut state = measured();
    assert_eq!(names(&state)[..2], ["rsync", "nginx"]);
    press(&mut state, "down down enter");
    assert_eq!(names(&state), ["812", "813"]);
    assert!(shown(&state)[2].contains("in nginx  rate"), "{}", shown(&state)[2]);
    let effects = press(&mut state, "down enter");
    assert_eq!(effects, [Effect::Sockets { pids: vec![812] }]);
    update(&mut state, Event::Sockets(Ok(Box::new(example::sockets()))));
    assert!(line_with(&state, "listen").contains("nginx 812 +1"));
    assert!(shown(&state)[2].contains("in nginx > nginx 812"), "{}", shown(&state)[2]);
    press(&mut state, "esc esc");
    assert_eq!(names(&state)[..2], ["rsync", "nginx"]);
    assert!(line_with(&state, "/usr/sbin/nginx").contains("program"), "the details are of the line it came from");
}

#[test]
fn a_filter_counts_while_it_is_typed_and_sums_only_what_it_admits() {
    let mut state = measured();
    press(&mut state, "/");
    type_text(&mut state, "pid:812");
    assert!(line_with(&state, " /pid:812").contains("1 of 5 lines"), "curl has left a line of its own");
    press(&mut state, "enter");
    let nginx = line_with(&state, " nginx ");
    assert!(nginx.contains("1.8M"), "9,000,000 in 5 s: {nginx}");
    press(&mut state, "esc");
    assert!(names(&state).len() > 3);
    press(&mut state, "/");
    type_text(&mut state, "tx>1M and not rsync");
    assert_eq!(names(&state), ["nginx"]);
}

#[test]
fn what_ended_stays_for_a_minute_and_is_marked() {
    let mut state = state((120, 30));
    measure(&mut state, 1..=4);
    assert!(line_with(&state, "curl").starts_with('!'), "its last interval is this one");
    measure(&mut state, 5..=15);
    assert!(line_with(&state, "curl").starts_with('!'));
    measure(&mut state, 16..=17);
    assert!(!shown(&state).join("\n").contains("curl"), "65 s later it is gone");
}

#[test]
fn a_pause_stands_still_and_steps_through_what_is_in_memory() {
    let mut state = measured();
    press(&mut state, "space");
    measure(&mut state, [6]);
    assert!(shown(&state)[0].contains("PAUSED  22:10:25"), "{}", shown(&state)[0]);
    press(&mut state, "T");
    assert!(shown(&state)[0].contains("PAUSED  22:10:20"), "{}", shown(&state)[0]);
    press(&mut state, "T T T T");
    assert!(line_with(&state, "nothing older").contains("b goes to a time in the record"));
    press(&mut state, "t t t t t");
    assert!(shown(&state)[0].contains("22:10:30"), "{}", shown(&state)[0]);
    press(&mut state, "space");
    assert!(shown(&state)[0].contains("LIVE"), "{}", shown(&state)[0]);
}

#[test]
fn what_is_not_in_memory_is_asked_of_the_record() {
    let mut state = measured();
    let newest_ms = example::measured(5).at_ms;
    // The time of what ended then is before its end.
    let ask = |number: u64, to: Move| [Effect::Record { number, to }];
    assert_eq!(press(&mut state, "["), ask(1, Move::To(newest_ms - 60_001)));
    press(&mut state, "b");
    type_text(&mut state, "-2h");
    assert_eq!(press(&mut state, "enter"), [Effect::ReadTime("-2h".into())]);
    assert_eq!(update(&mut state, Event::Time(Ok(1000))), ask(2, Move::To(1000)));
    update(&mut state, Event::Recorded(2, vec![example::measured(1), example::measured(2)], None));
    assert_eq!(state.place, Place::Record);
    assert!(shown(&state)[0].contains("REPLAY  2026-11-18 22:10:10"), "{}", shown(&state)[0]);
    let shown_ms = example::measured(2).at_ms;
    assert_eq!(press(&mut state, "T"), ask(3, Move::From(shown_ms, -1)));
    assert_eq!(press(&mut state, "T T t T"), [], "the first is not answered");
    let answer = Event::Recorded(3, vec![example::measured(1)], None);
    assert_eq!(update(&mut state, answer), ask(4, Move::From(example::measured(1).at_ms, -2)));
    update(&mut state, Event::Recorded(4, Vec::new(), Some("the record begins here".into())));
    assert!(shown(&state).join("\n").contains("the record begins here"));
    assert_eq!(press(&mut state, "]"), ask(5, Move::Minutes(example::measured(1).at_ms, 1)));
    press(&mut state, "6");
    assert!(shown(&state).join("\n").contains("sockets are not recorded"));
    assert_eq!(press(&mut state, "1 down p"), [], "its processes are another time's");
    assert!(shown(&state).join("\n").contains("packets pass now, and this is a record"));
    press(&mut state, ".");
    assert!(shown(&state)[0].contains("LIVE"), "{}", shown(&state)[0]);
    update(&mut state, Event::Recorded(5, vec![example::measured(1)], None));
    assert!(shown(&state)[0].contains("LIVE"), "an answer that nobody waits for: {}", shown(&state)[0]);
    update(&mut state, Event::Time(Err("'x' is no time".into())));
    assert!(shown(&state).join("\n").contains("'x' is no time"));
}

#[test]
fn sums_since_a_mark_begin_there() {
    let mut state = measured();
    press(&mut state, "0");
    measure(&mut state, 6..=7);
    let nginx = line_with(&state, " nginx ");
    assert!(nginx.contains("26.0M"), "13,000,000 in each of two intervals: {nginx}");
    assert!(shown(&state)[3].contains("UP MARK"), "{}", shown(&state)[3]);
    press(&mut state, "m");
    assert!(shown(&state)[3].contains("UP/s"), "{}", shown(&state)[3]);
    press(&mut state, "m");
    assert!(line_with(&state, " nginx ").contains("91.0M"), "in all seven");
}

#[test]
fn any_column_sorts_and_an_order_can_be_held() {
    let mut state = measured();
    press(&mut state, "<");
    assert!(line_with(&state, "sorted by").contains("sorted by UNIT"));
    press(&mut state, "< < <");
    assert!(line_with(&state, "sorted by").contains("sorted by PROGRAM"));
    assert_eq!(names(&state), ["[kernel]", "curl", "nginx", "postgres", "rsync"]);
    press(&mut state, "S");
    assert_eq!(names(&state), ["rsync", "postgres", "nginx", "curl", "[kernel]"]);
    let heading = shown(&state)[3].clone();
    let column = u16::try_from(heading.find("DOWN/s").unwrap()).unwrap();
    update(&mut state, Event::Mouse { column, line: 3, wheel: None });
    assert_eq!(names(&state)[0], "postgres");
    press(&mut state, "o < <");
    assert!(line_with(&state, "sorted by").contains("UNIT"), "a new order lets the held one go");
}

#[test]
fn packets_and_connections_are_asked_for_by_process() {
    let mut state = measured();
    press(&mut state, "down down");
    let args: Vec<String> = ["--pid", "812", "--pid", "813"].map(Into::into).into();
    assert_eq!(press(&mut state, "p"), [Effect::Stream { number: 1, command: "packets", args: args.clone() }]);
    update(&mut state, Event::Line(1, "12:00 a\x1b[2Jb".into()));
    update(&mut state, Event::Line(0, "of an earlier one".into()));
    assert!(line_with(&state, "12:00").contains("a?[2Jb"));
    assert!(!shown(&state).join("\n").contains("of an earlier one"));
    update(&mut state, Event::StreamEnded(1, "it has ended".into()));
    assert!(shown(&state).join("\n").contains("it has ended"));
    assert_eq!(press(&mut state, "esc"), [Effect::StopStream]);
    assert_eq!(press(&mut state, "c"), [Effect::Stream { number: 2, command: "connections", args }]);
    press(&mut state, "esc 4 down");
    let args: Vec<String> = ["--interface", "eth0"].map(Into::into).into();
    assert_eq!(press(&mut state, "p"), [Effect::Stream { number: 3, command: "packets", args }]);
}

#[test]
fn a_screen_is_saved_as_it_is_shown_and_a_view_with_all_its_lines() {
    let mut state = measured();
    let [Effect::Save { extension: "txt", text }] = &press(&mut state, "w")[..] else { panic!() };
    assert_eq!(*text, shown(&state).join("\n") + "\n");
    let [Effect::Save { extension: "json", text }] = &press(&mut state, "W")[..] else { panic!() };
    let document: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!((&document["view"], &document["amounts"]), (&"program".into(), &"bytes_per_s".into()));
    assert_eq!(document["rows"].as_array().unwrap().len(), 5);
    assert_eq!(document["rows"][0]["name"], "rsync");
    assert_eq!(document["rows"][0]["up"], 38_100_000);
    assert_eq!(document["rows"][0]["up_sum"], 952_500_000);
    assert_eq!(press(&mut state, "q"), [Effect::Quit { leave: None }]);
    assert!(matches!(&press(&mut state, "Q")[..], [Effect::Quit { leave: Some(_) }]));
}

#[test]
fn a_lost_daemon_is_said_until_it_is_heard_again() {
    let mut state = measured();
    update(&mut state, Event::Lost("the daemon is no longer heard".into()));
    assert!(shown(&state)[0].contains("!LOST"), "{}", shown(&state)[0]);
    assert!(shown(&state).join("\n").contains("the daemon is no longer heard"));
    measure(&mut state, [6]);
    assert!(shown(&state)[0].contains("LIVE"), "{}", shown(&state)[0]);
}

#[test]
fn an_action_is_found_by_its_name_and_an_unknown_key_is_answered() {
    let mut state = measured();
    press(&mut state, ":");
    type_text(&mut state, "device");
    press(&mut state, "enter");
    assert_eq!(state.view().name, "Device");
    press(&mut state, "X");
    assert!(shown(&state).join("\n").contains("X does nothing; ? f1 explains the keys"));
}

#[test]
fn a_tree_has_each_process_below_its_starter() {
    let mut state = measured();
    press(&mut state, "v");
    let lines = shown(&state);
    let indent = |name: &str| {
        let line = lines.iter().skip(4).position(|line| line.contains(&format!(" {name} ")));
        let line = line.unwrap_or_else(|| panic!("no {name} in {lines:#?}"));
        (line, lines[line + 4].find(name))
    };
    let (systemd, backup, rsync) = (indent("systemd"), indent("backup.sh"), indent("rsync"));
    assert!(systemd < backup && backup < rsync, "{lines:#?}");
    assert!(systemd.1 < backup.1 && backup.1 < rsync.1, "{lines:#?}");
    assert!(indent("812") < indent("813"), "they are side by side");
}

#[test]
fn every_action_is_on_its_page_with_its_keys() {
    let page = include_str!("../../../docs/top.md");
    for known in &crate::actions::ACTIONS {
        let keys: Vec<String> = known.keys.iter().map(|key| format!("`{key}`")).collect();
        let line = format!("| {} | {} | `{}` |", keys.join(" "), known.explains, known.name);
        assert!(page.contains(&line), "docs/top.md lacks {line}");
    }
    for view in &crate::views::VIEWS {
        assert!(page.contains(&format!(" {} |", view.name)), "docs/top.md lacks {}", view.name);
    }
}

#[test]
fn a_mark_ends_with_the_counting_that_it_was_set_in() {
    let mut state = measured();
    press(&mut state, "0");
    let mut anew = example::measured(6);
    anew.snapshot.accounting_since = "another daemon's".into();
    update(&mut state, Event::Measured(Box::new(anew)));
    assert!(line_with(&state, "counting has begun anew").contains("the mark is gone"));
    assert!(shown(&state)[2].ends_with("sum"), "{}", shown(&state)[2]);
}

#[test]
fn what_has_ended_or_stands_still_is_not_asked_for() {
    let mut state = state((120, 30));
    measure(&mut state, 1..=4);
    press(&mut state, "3 /");
    type_text(&mut state, "pid:3000");
    press(&mut state, "enter down");
    assert_eq!(press(&mut state, "p"), [], "curl has ended");
    assert!(line_with(&state, "there is no process").contains("packets"));
    press(&mut state, "esc 6");
    update(&mut state, Event::Sockets(Ok(Box::new(example::sockets()))));
    assert!(shown(&state).join("\n").contains("listen"));
    press(&mut state, "space T");
    assert!(!shown(&state).join("\n").contains("listen"), "they are as of now");
}

#[test]
fn numbers_that_are_names_are_in_their_order_and_the_last_column_has_none_beside_it() {
    let mut state = measured();
    press(&mut state, "3 < < < <");
    assert!(line_with(&state, "sorted by").ends_with("sorted by PID"), "{}", line_with(&state, "sorted by"));
    assert_eq!(names(&state)[..4], ["812", "813", "940", "3000"]);
    press(&mut state, "<");
    assert_eq!(names(&state)[..4], ["812", "813", "940", "3000"], "it is not reversed");
    press(&mut state, "v /");
    type_text(&mut state, "pid:812");
    assert!(line_with(&state, " /pid:812").contains("1 of 6 lines"), "{}", line_with(&state, " /pid:812"));
}

#[test]
fn drops_are_asked_and_saved_as_packets() {
    let mut state = measured();
    press(&mut state, "5 /");
    type_text(&mut state, "drops>9 and drops<11");
    assert!(line_with(&state, "SOCKET_RCVBUFF").contains("nginx"), "ten in five seconds");
    press(&mut state, "enter");
    let [Effect::Save { extension: "json", text }] = &press(&mut state, "W")[..] else { panic!() };
    let document: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!((&document["schema"], &document["amounts"]), (&"nettop.top/1".into(), &"packets_per_s".into()));
}
