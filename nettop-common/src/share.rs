//! How much of each table a user, or a network namespace of root's, has: none may use up what others need.

use bytemuck::{Pod, Zeroable};

/// Index of the machine itself: root, in nettopd's network namespace. Only the tables limit it.
pub const UNLIMITED: u32 = 0;
/// Users have the indexes below, root's network namespaces as many from here on.
pub const FIRST_NAMESPACE_INDEX: u32 = 1 << 15;
/// All indexes. Numbers equal modulo about 32,768 share one.
pub const SHARE_COUNT: u32 = 2 * FIRST_NAMESPACE_INDEX;

/// What is in use.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Pod, Zeroable)]
pub struct Share {
    pub rows: u32,
    /// Of the [`crate::row::RESERVED_ROWS`].
    pub reserved_rows: u32,
    pub owners: u32,
    pub ports: u32,
    pub listeners: u32,
    /// Pairs of devices between which something is forwarded.
    pub pairs: u32,
    /// Kinds of drops.
    pub drops: u32,
    pub padding: u32,
}

/// Index of a user by its number in the initial user namespace.
#[must_use]
#[inline(always)]
pub const fn of_user(uid: u32) -> u32 {
    if uid == 0 { UNLIMITED } else { 1 + uid % (FIRST_NAMESPACE_INDEX - 1) }
}

/// Index of a network namespace by its cookie.
#[must_use]
#[inline(always)]
pub const fn of_namespace(cookie: u32) -> u32 {
    FIRST_NAMESPACE_INDEX + cookie % (SHARE_COUNT - FIRST_NAMESPACE_INDEX)
}

/// A share may have this many for each that is free.
const SHARE_PER_FREE: u64 = 4;

/// Whether there is room for one more. A share may have four times as many as are free. So one greedy share gets four
/// fifths of the table, each of `n` gets 4/(4n+1), and 1/(4n+1) stays free for others (dynamic thresholds, Choudhury
/// and Hahne 1998).
#[must_use]
#[inline(always)]
pub const fn has_room(share: u32, of_share: u32, in_use: u64, limit: u64) -> bool {
    in_use < limit && (share == UNLIMITED || (of_share as u64) < (limit - in_use) * SHARE_PER_FREE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greedy_shares_leave_room_for_others() {
        const LIMIT: u64 = 64;
        for greedy in 1..5 {
            let mut shares = [0_u32; 5];
            let mut in_use = 0;
            for turn in 0..1000 {
                let share = &mut shares[turn % greedy];
                if has_room(1, *share, in_use, LIMIT) {
                    *share += 1;
                    in_use += 1;
                }
            }
            assert!(LIMIT - in_use >= LIMIT / (4 * greedy as u64 + 1), "{greedy}: {in_use}");
            assert!(has_room(2, 0, in_use, LIMIT) && has_room(UNLIMITED, 60, in_use, LIMIT));
        }
        assert!(!has_room(UNLIMITED, 0, LIMIT, LIMIT) && !has_room(1, 0, LIMIT + 1, LIMIT));
    }

    #[test]
    fn nobody_else_has_the_machines_own_share() {
        for uid in [1, 1000, FIRST_NAMESPACE_INDEX - 1, FIRST_NAMESPACE_INDEX, 65_534, u32::MAX] {
            assert!((1..FIRST_NAMESPACE_INDEX).contains(&of_user(uid)));
            assert!((FIRST_NAMESPACE_INDEX..SHARE_COUNT).contains(&of_namespace(uid)));
        }
        assert_eq!(of_user(0), UNLIMITED);
    }
}
