//! Notifies systemd. Without it, all of this does nothing.

use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use sd_notify::NotifyState;

/// Reports the first sample that succeeded: from here on everything is counted.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// One line for `systemctl status`.
pub fn status(status: &str) {
    try_notify(&format!("STATUS={status}"));
}

/// The sampler's loop goes around.
pub fn notify_watchdog() {
    try_notify("WATCHDOG=1");
}

/// The configuration is read again; [`ready`] reports the end.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

pub fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// How often [`notify_watchdog`] has to be called: four times in the time limit of systemd, since some may find no room.
/// Rarely if nobody listens.
pub fn watchdog_period() -> Duration {
    const UNWATCHED_PERIOD: Duration = Duration::from_secs(60);
    sd_notify::watchdog_enabled().map_or(UNWATCHED_PERIOD, |limit| limit / 4).max(Duration::from_millis(1))
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("systemd cannot be notified: {error}");
    }
}

/// Without waiting, unlike [`notify`]: systemd may be slow, and the sampler must not be. What finds no room is not
/// sent; the next interval, or [`watchdog_period`], sends it again.
fn try_notify(state: &str) {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else { return };
    let send = || {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        match path.as_bytes().split_first() {
            Some((b'@', name)) => socket.send_to_addr(state.as_bytes(), &SocketAddr::from_abstract_name(name)?),
            _ => socket.send_to(state.as_bytes(), &path),
        }
    };
    if let Err(error) = send()
        && error.kind() != io::ErrorKind::WouldBlock
    {
        tracing::warn!("systemd cannot be notified: {error}");
    }
}
