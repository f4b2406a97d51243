//! Pairs of devices that come together and go together.

use std::fmt::Write as _;

/// Of the devices that go together.
pub const GROUP: u32 = 7;

/// Commands of `ip -batch` for pairs of devices with traffic.
pub fn pairs(count: u64) -> String {
    (0..count).fold(String::new(), |mut text, pair| {
        writeln!(
            text,
            "link add a{pair} group {GROUP} type veth peer name b{pair}\nlink set a{pair} up\nlink set b{pair} up"
        )
        .unwrap();
        text
    })
}
