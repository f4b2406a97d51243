//! Connections as lines for people, as documents and as CSV.

#[cfg(test)]
mod golden;
pub mod record;
pub mod text;

use nettop_common::{
    ConnectionEvent, Netns,
    abi::{IPPROTO_UDP, TCP_CLOSE_WAIT, TCP_ESTABLISHED},
    connection::kind,
};

use crate::identity::{address::Address, device_names::DeviceNames, processes::Processes, users::Users};

/// What numbers are called.
pub struct Names {
    /// Without it numbers stay numbers.
    pub users: Option<Users>,
    pub processes: Processes,
    pub host: Netns,
    /// Of addresses that mean something on one link only.
    pub devices: Option<DeviceNames>,
    /// Whether lines have what each process is, and documents its arguments.
    pub ancestry: bool,
}

impl Names {
    /// The device of a connection, if one of its addresses needs it.
    pub fn device(&mut self, event: &ConnectionEvent) -> Option<String> {
        let is_needed = [event.local, event.remote].into_iter().any(|end| Address::from(end).is_of_link());
        let devices = self.devices.as_mut().filter(|_| is_needed && event.ifindex != 0)?;
        Some(devices.name(event.netns, event.ifindex, event.owner.tgid))
    }
}

/// Of a conversation that nettopd does not see the end of.
pub const GOES_ON: u32 = libc::EINPROGRESS.cast_unsigned();

/// How a connection ended, or why there is none.
fn outcome(event: &ConnectionEvent) -> Option<&'static str> {
    let error = i32::try_from(event.error).unwrap_or(0);
    Some(match (event.kind, error) {
        (kind::CLOSED, 0) if u16::from(event.protocol) == IPPROTO_UDP => "silence",
        (kind::CLOSED, _) if u16::from(event.protocol) == IPPROTO_UDP => "going on",
        // `tcp_close` with unread data, SO_LINGER of 0 s, or an end that was not waited for.
        (kind::CLOSED, 0) if matches!(event.old_state, TCP_ESTABLISHED | TCP_CLOSE_WAIT) => "aborted",
        (kind::CLOSED, 0) => "finished",
        // `tcp_reset` sets EPIPE if the peer had finished before.
        (kind::CLOSED, libc::ECONNRESET | libc::EPIPE) => "reset",
        (kind::FAILED, libc::ECONNREFUSED) => "refused",
        (kind::CLOSED | kind::FAILED, libc::ETIMEDOUT) => "timed out",
        (kind::FAILED, 0) if event.sent_segments == 0 => "not sent",
        (kind::FAILED, 0) => "given up",
        (kind::CLOSED | kind::FAILED, libc::EHOSTUNREACH) => "host unreachable",
        (kind::CLOSED | kind::FAILED, libc::ENETUNREACH) => "network unreachable",
        (kind::CLOSED | kind::FAILED, libc::ECONNABORTED) => "killed",
        (kind::CLOSED | kind::FAILED, _) => "error",
        _ => return None,
    })
}

/// `EHOSTUNREACH` and so on.
fn errno(error: u32) -> Option<String> {
    let error = i32::try_from(error).ok().filter(|error| *error != 0)?;
    Some(format!("{:?}", nix::errno::Errno::from_raw(error)))
}

const fn name(kind: u32) -> &'static str {
    match kind {
        kind::ACCEPTED => "accepted",
        kind::OPENED => "opened",
        kind::CLOSED => "closed",
        kind::FAILED => "failed",
        kind::SENT => "sent",
        _ => "received",
    }
}
