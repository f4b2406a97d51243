//! What systemd is told. Without it, all of this does nothing.

use std::time::Duration;

use sd_notify::{NotifyState, notify};

/// Tells of the first sample that succeeded: from here on everything is counted.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// One line for `systemctl status`.
pub fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// The sampler's loop goes around.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// The configuration is read again; [`ready`] tells the end.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// How often [`alive`] has to be said: twice in the time after which systemd loses patience. Where nobody listens, rarely.
pub fn watchdog_period() -> Duration {
    const NOBODY: Duration = Duration::from_secs(60);
    sd_notify::watchdog_enabled().map_or(NOBODY, |limit| limit / 2).max(Duration::from_millis(1))
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = notify(states) {
        tracing::warn!("systemd cannot be told: {error}");
    }
}
