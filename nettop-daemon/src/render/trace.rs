//! Steps of socket calls as lines for people, as documents and as CSV.

pub mod decode;
pub mod record;
pub mod text;

use nettop_common::trace::{FIRST_FUNCTION, FUNCTIONS, call};

/// What a system call or function is called.
fn name(what: u32) -> &'static str {
    let names: &[&str] = if what >= FIRST_FUNCTION { FUNCTIONS } else { &call::NAMES };
    let index = if what >= FIRST_FUNCTION { what - FIRST_FUNCTION } else { what.wrapping_sub(1) };
    names.get(index as usize).copied().unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_its_name() {
        assert_eq!((name(call::SOCKET), name(call::GETSOCKOPT)), ("socket", "getsockopt"));
        assert_eq!(
            (name(call::ACCEPT4), name(call::RECVMMSG), name(call::SHUTDOWN)),
            ("accept4", "recvmmsg", "shutdown")
        );
        assert_eq!((name(FIRST_FUNCTION), name(0), name(u32::MAX)), ("__sys_socket", "?", "?"));
    }
}
