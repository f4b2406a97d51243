//! Control messages: descriptors that are passed on, credentials, and others by their bytes.

use crate::{
    render::trace::decode::names::{IP_OPTIONS, LEVELS, SCM_TYPES, name},
    sys::escape::quote,
};

/// `struct cmsghdr`: length, level, type.
const HEADER_BYTES: usize = 16;

/// What was copied of `total` bytes. `None`: not even one header.
pub fn decode(bytes: &[u8], total: u64) -> Option<String> {
    let mut messages = Vec::new();
    let mut rest = bytes;
    while rest.len() >= HEADER_BYTES {
        let length = usize::try_from(u64_at(rest, 0)?).ok()?;
        let level = i32_at(rest, 8)?;
        let kind = i32_at(rest, 12)?;
        let data = rest.get(HEADER_BYTES..length.min(rest.len())).unwrap_or_default();
        let shown_level = name(LEVELS, level, "SOL_???");
        let shown_kind = match level {
            libc::SOL_SOCKET => name(SCM_TYPES, kind, "SCM_???"),
            libc::SOL_IP => name(IP_OPTIONS, kind, "IP_???"),
            _ => format!("{kind:#x}"),
        };
        let data =
            if data.is_empty() { String::new() } else { format!(", cmsg_data={}", decode_data(level, kind, data)) };
        messages.push(format!("{{cmsg_len={length}, cmsg_level={shown_level}, cmsg_type={shown_kind}{data}}}"));
        // Each begins at a multiple of a word; one too short for its own header is the last.
        let next = length.checked_next_multiple_of(8).filter(|_| length >= HEADER_BYTES);
        rest = next.and_then(|next| rest.get(next..)).unwrap_or_default();
    }
    if messages.is_empty() {
        return None;
    }
    if u64::try_from(bytes.len()).is_ok_and(|copied| copied < total) {
        messages.push("...".into());
    }
    Some(format!("[{}]", messages.join(", ")))
}

fn decode_data(level: i32, kind: i32, data: &[u8]) -> String {
    match (level, kind) {
        (libc::SOL_SOCKET, libc::SCM_RIGHTS) if data.len() >= 4 => {
            let descriptors: Vec<String> =
                data.chunks_exact(4).filter_map(|bytes| i32_at(bytes, 0)).map(|fd| fd.to_string()).collect();
            format!("[{}]", descriptors.join(", "))
        }
        (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) => match [0, 4, 8].map(|at| i32_at(data, at)) {
            [Some(pid), Some(uid), Some(gid)] => format!("{{pid={pid}, uid={uid}, gid={gid}}}"),
            _ => quote(data),
        },
        _ => {
            let bytes: Vec<String> = data.iter().map(|byte| format!("\\x{byte:02x}")).collect();
            format!("\"{}\"", bytes.concat())
        }
    }
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_descriptors_are_named() {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&20_u64.to_ne_bytes());
        bytes[8..12].copy_from_slice(&libc::SOL_SOCKET.to_ne_bytes());
        bytes[12..16].copy_from_slice(&libc::SCM_RIGHTS.to_ne_bytes());
        bytes[16..20].copy_from_slice(&4_i32.to_ne_bytes());
        let shown = "{cmsg_len=20, cmsg_level=SOL_SOCKET, cmsg_type=SCM_RIGHTS, cmsg_data=[4]}";
        assert_eq!(decode(&bytes, 24).unwrap(), format!("[{shown}]"));
        assert_eq!(decode(&bytes, 100).unwrap(), format!("[{shown}, ...]"));
        // A length that leads nowhere ends it.
        bytes[..8].copy_from_slice(&u64::MAX.to_ne_bytes());
        assert!(decode(&bytes, 24).unwrap().starts_with("[{cmsg_len=18446744073709551615, "));
        bytes[..8].copy_from_slice(&0_u64.to_ne_bytes());
        assert!(decode(&bytes, 24).unwrap().starts_with("[{cmsg_len=0, "));
        assert_eq!(decode(&bytes[..8], 8), None);
    }
}
