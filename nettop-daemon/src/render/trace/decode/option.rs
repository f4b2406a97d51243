//! Options of sockets and their values.

use nettop_common::trace::{CallStep, have};

use crate::{
    render::trace::decode::{
        errors::errno,
        names::{
            IP_OPTIONS, LEVELS, NETLINK_OPTIONS, PACKET_OPTIONS, SOCKET_OPTIONS, TCP_OPTIONS, UDP_OPTIONS, V6_OPTIONS,
            name,
        },
        values::{number, pointer},
    },
    sys::escape::quote,
};

/// Level and option.
pub fn names(level: i32, option: i32) -> (String, String) {
    let shown = match level {
        libc::SOL_SOCKET => name(SOCKET_OPTIONS, option, "SO_???"),
        libc::SOL_IP => name(IP_OPTIONS, option, "IP_???"),
        libc::SOL_IPV6 => name(V6_OPTIONS, option, "IPV6_???"),
        libc::SOL_TCP => name(TCP_OPTIONS, option, "TCP_???"),
        libc::SOL_UDP => name(UDP_OPTIONS, option, "UDP_???"),
        libc::SOL_PACKET => name(PACKET_OPTIONS, option, "PACKET_???"),
        libc::SOL_NETLINK => name(NETLINK_OPTIONS, option, "NETLINK_???"),
        _ => option.cast_unsigned().to_string(),
    };
    (name(LEVELS, level, "SOL_??"), shown)
}

/// A value that the process gave.
pub fn given(step: &CallStep) -> String {
    let [_, level, option, at, length, _] = step.arguments;
    let Some(bytes) = bytes(step) else {
        return if at != 0 && number(length) == 0 { "\"\"".into() } else { pointer(at) };
    };
    let length = usize::try_from(number(length)).unwrap_or(0);
    match (number(level), number(option)) {
        (libc::SOL_SOCKET, libc::SO_LINGER) => linger(bytes).unwrap_or_else(|| pointer(at)),
        (libc::SOL_SOCKET, option) if is_word(option) => word(bytes).map_or_else(|| pointer(at), boxed),
        (libc::SOL_IP, libc::IP_ADD_MEMBERSHIP | libc::IP_DROP_MEMBERSHIP) => membership(bytes, at),
        _ if length == 4 => word(bytes).map_or_else(|| pointer(at), boxed),
        _ => quote_some(bytes, length),
    }
}

/// A value that the kernel gave.
pub fn taken(step: &CallStep) -> String {
    let [_, level, option, at, ..] = step.arguments;
    let Some(bytes) = bytes(step).filter(|_| step.step.result >= 0 && step.have & have::LEN_AFTER != 0) else {
        return pointer(at);
    };
    let length = usize::try_from(step.len_after).unwrap_or(0);
    match (number(level), number(option)) {
        (libc::SOL_SOCKET, libc::SO_LINGER) => linger(bytes).unwrap_or_else(|| pointer(at)),
        (libc::SOL_SOCKET, libc::SO_PEERCRED) => credentials(bytes).unwrap_or_else(|| pointer(at)),
        (libc::SOL_SOCKET, libc::SO_ERROR) => match word(bytes) {
            Some(0) => boxed(0),
            Some(error) => format!("[{}]", errno(error)),
            None => pointer(at),
        },
        _ if length == 4 => word(bytes).map_or_else(|| pointer(at), boxed),
        _ => quote_some(bytes, length),
    }
}

/// The two descriptors of a pair.
pub fn pair(step: &CallStep) -> Option<String> {
    let bytes = bytes(step)?;
    Some(format!("[{}, {}]", word(bytes)?, word(bytes.get(4..)?)?))
}

fn bytes(step: &CallStep) -> Option<&[u8]> {
    (step.have & have::VALUE != 0).then(|| step.value.get(..step.value_bytes as usize)).flatten()
}

/// The first 32 bytes, and `...` where there are more than these.
fn quote_some(bytes: &[u8], length: usize) -> String {
    const MAX_BYTES: usize = 32;
    let more = if length > MAX_BYTES { "..." } else { "" };
    format!("{}{more}", quote(bytes.get(..MAX_BYTES).unwrap_or(bytes)))
}

fn word(bytes: &[u8]) -> Option<i32> {
    Some(i32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?))
}

fn boxed(word: i32) -> String {
    format!("[{word}]")
}

/// Those of `SOL_SOCKET` whose first four bytes are all that counts.
const fn is_word(option: i32) -> bool {
    matches!(
        option,
        libc::SO_DEBUG
            | libc::SO_REUSEADDR
            | libc::SO_DONTROUTE
            | libc::SO_BROADCAST
            | libc::SO_SNDBUF
            | libc::SO_RCVBUF
            | libc::SO_KEEPALIVE
            | libc::SO_OOBINLINE
            | libc::SO_PRIORITY
            | libc::SO_REUSEPORT
            | libc::SO_PASSCRED
            | libc::SO_RCVLOWAT
            | libc::SO_SNDBUFFORCE
            | libc::SO_RCVBUFFORCE
            | libc::SO_MARK
            | libc::SO_BUSY_POLL
            | libc::SO_INCOMING_CPU
            | libc::SO_ZEROCOPY
    )
}

fn linger(bytes: &[u8]) -> Option<String> {
    Some(format!("{{l_onoff={}, l_linger={}}}", word(bytes)?, word(bytes.get(4..)?)?))
}

fn credentials(bytes: &[u8]) -> Option<String> {
    let [pid, uid, gid] = [word(bytes)?, word(bytes.get(4..)?)?, word(bytes.get(8..)?)?];
    Some(format!("{{pid={pid}, uid={uid}, gid={gid}}}"))
}

fn membership(bytes: &[u8], at: u64) -> String {
    let address = |at: usize| -> Option<std::net::Ipv4Addr> {
        let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(octets.into())
    };
    match (address(0), address(4)) {
        (Some(group), Some(interface)) => {
            format!("{{imr_multiaddr=inet_addr(\"{group}\"), imr_interface=inet_addr(\"{interface}\")}}")
        }
        _ => pointer(at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_is_shown_in_part() {
        assert_eq!(quote_some(&[b'a'; 40], 40), format!("\"{}\"...", "a".repeat(32)));
        assert_eq!(quote_some(b"lo\0", 3), r#""lo\0""#);
    }
}
