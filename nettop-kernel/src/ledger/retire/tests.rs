//! When rows may go, and that nothing finds them after.

use nettop_common::share;

use super::*;

impl Retirement {
    /// Lets time pass.
    pub(in crate::ledger) fn age(&mut self, time: Duration) {
        self.began_at = self.began_at.checked_sub(time).unwrap();
    }
}

const KEY: RowKey = RowKey { owner: owner::KERNEL, netns: Netns { inode: 7, cookie: 7 }, ifindex: 2, family: 0 };

#[test]
fn no_reference_to_a_row_is_right_again_whenever_its_generation_was_read() {
    let in_index = Row { key: KEY, generation: 4, state: row::LIVE, ..Row::zeroed() };
    // What `take_out` does.
    let left = Row { generation: in_index.generation + 1, ..in_index };
    let free = freed_row(&left);
    assert!(![in_index.generation, left.generation].contains(&free.generation));
    let owner = Owner { generation: 9, state: owner::EXITED, ..Owner::zeroed() };
    assert_ne!(freed_owner(&owner).generation, owner.generation);
}

#[test]
fn a_share_is_pressed_by_what_it_has_itself_before_it_is_refused_more() {
    const LIMIT: u64 = 64;
    // Another has four fifths.
    assert!(is_pressed(51, 52, LIMIT) && !is_pressed(1, 52, LIMIT));
    for in_use in 0..=LIMIT {
        for of_share in 0..=u32::try_from(in_use).unwrap() {
            let is_refused = !share::has_room(1, of_share, in_use, LIMIT);
            assert!(of_share == 0 || !is_refused || is_pressed(of_share, in_use, LIMIT), "{of_share} of {in_use}");
        }
    }
}

#[test]
fn what_lives_in_a_namespace_that_cannot_be_entered_stays() {
    let mut retirement = Retirement::new();
    let process = RowKey { owner: owner::FIRST, ..KEY };
    retirement.note(1, &KEY, Presence::Unknown, false, false);
    retirement.note(2, &process, Presence::Unknown, true, false);
    assert!(retirement.rows.iter().all(|slot| slot.gone == Gone::No));
    retirement.note(2, &process, Presence::Unknown, false, false);
    assert!(retirement.rows[2].gone == Gone::Owner);
    retirement.age(Duration::from_secs(2 * u64::from(QUIET_NAMESPACE_S)));
    retirement.note(1, &KEY, Presence::Unknown, false, false);
    assert!(retirement.rows[1].gone == Gone::Presence);
}

#[test]
fn a_device_that_is_back_keeps_its_rows() {
    let mut retirement = Retirement::new();
    retirement.note(1, &KEY, Presence::Gone, false, false);
    retirement.note(1, &KEY, Presence::Gone, false, false);
    assert!(due(&retirement.rows[1], true, 0) && !due(&retirement.rows[1], false, 0));
    retirement.note(1, &KEY, Presence::Present, false, false);
    assert!(!due(&retirement.rows[1], true, LINGER_S));
}
