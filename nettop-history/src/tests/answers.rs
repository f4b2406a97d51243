//! What an answer says of itself, and of boots that are over.

use super::{file, folder, open, origin, question, slot};
use crate::{Limits, Reader, Store};

const BEGIN: i64 = 1_795_000_000;

#[test]
fn the_answer_says_what_was_not_measured_and_when_alone() {
    let folder = folder();
    let path = file(&folder);
    let mut store = open(&path);
    for number in [0, 1, 2, 5, 6] {
        let mut slot = slot(BEGIN + number * 10, &[(1, 10), (2, 20)]);
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let load = number as f64;
        slot.tick.load = Some([load, 1.0, 1.0]);
        if number == 5 {
            slot.losses.insert("history_shed", 4);
            slot.tick.clock_step_ms = -7000;
        }
        store.write(&[slot]).unwrap();
    }
    let reader = Reader::open(&path).unwrap();
    let answer = reader.answer(&question(BEGIN, BEGIN + 80)).unwrap();
    assert_eq!(answer.gaps, [(BEGIN + 30, BEGIN + 50), (BEGIN + 70, BEGIN + 80)]);
    assert_eq!((answer.measured_ms, answer.load_peak, answer.clock_step_ms), (50_000, Some(6.0), -7000));
    assert_eq!(answer.losses, [("history_shed".to_owned(), 4)]);
    assert_eq!(answer.rows[0].who.pid, 102);
    let when = Some("load > 1 and load < 6".parse().unwrap());
    let answer = reader.answer(&crate::Question { when, top: 1, ..question(BEGIN, BEGIN + 80) }).unwrap();
    assert_eq!(answer.selected_ms, 20_000);
    assert_eq!((answer.rows[0].counters.tx_bytes, answer.others.tx_bytes, answer.others_number), (40, 20, 1));
    // An interval of a minute is in the slot where it ended, and covers what was before.
    let mut long = slot(BEGIN + 190, &[(1, 10)]);
    long.tick.measured_ms = 60_000;
    store.write(&[long]).unwrap();
    let answer = reader.answer(&question(BEGIN + 100, BEGIN + 200)).unwrap();
    assert_eq!(answer.gaps, [(BEGIN + 100, BEGIN + 140)]);
}

#[test]
fn the_last_boot_is_the_one_before_this() {
    let folder = folder();
    let path = file(&folder);
    let boot = |name: &str, at: i64| {
        let origin = crate::Origin { boot_id: name.into(), ..origin() };
        Store::open(&path, Limits::default(), &origin, at).unwrap()
    };
    boot("first", BEGIN).write(&[slot(BEGIN, &[(1, 1)])]).unwrap();
    let reader = Reader::open(&path).unwrap();
    assert!(reader.last_boot("first").unwrap().is_none());
    // Before anything records again, and after.
    let found = reader.last_boot("second").unwrap().unwrap();
    assert_eq!((found.last, found.is_clean), (BEGIN + 10, false));
    let mut second = boot("second", BEGIN + 100);
    second.write(&[slot(BEGIN + 100, &[(1, 1)])]).unwrap();
    let found = reader.last_boot("second").unwrap().unwrap();
    assert_eq!((found.boot_id.as_str(), found.last, found.is_clean), ("first", BEGIN + 10, false));
    second.finish(BEGIN + 110).unwrap();
    assert!(reader.last_boot("third").unwrap().unwrap().is_clean);
}
