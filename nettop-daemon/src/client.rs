//! Asks the running daemon instead of measuring: that needs only the right to ask, and costs nothing twice.
//!
//! An answer is read back into the document's own types, and shown by the code for local measurements.

mod connection;
pub mod target;

use std::path::{Display, Path, PathBuf};

use anyhow::Context as _;
use hyper::body::Bytes;
use nettop_kernel::Refusal;
use serde::de::DeserializeOwned;

pub use self::connection::Lines;
use self::connection::Unanswered;
use crate::{
    config::{Config, settings::Settings},
    defaults,
    error::{NotPermitted, Unavailable, Usage},
    query::global::Global,
};

/// Shows the daemon's answer, if one runs and can answer; else does it `standalone`. Without a socket it asks none.
///
/// # Errors
///
/// [`NotPermitted`] where the daemon refuses this user, and `standalone` lacks a permission as well: the message names the
/// group to join. Else as `show`; or as `standalone`, where no daemon answers.
pub fn ask_or_else(
    socket: Option<&Path>,
    target: &str,
    show: impl FnOnce(&[u8]) -> anyhow::Result<()>,
    standalone: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let Some(socket) = socket else { return standalone() };
    or_else(socket, connection::ask(socket, target).map(|answer| show(&answer)), standalone)
}

/// The same for lines that have no end.
///
/// # Errors
///
/// As [`ask_or_else`].
pub fn follow_or_else(
    socket: Option<&Path>,
    target: &str,
    show: impl AsyncFnOnce(Lines) -> anyhow::Result<()>,
    standalone: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let Some(socket) = socket else { return standalone() };
    or_else(socket, connection::follow(socket, target, show), standalone)
}

fn or_else(
    socket: &Path,
    answered: Result<anyhow::Result<()>, Unanswered>,
    standalone: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    match answered {
        Ok(shown) => shown,
        Err(Unanswered::Nobody) => standalone(),
        Err(Unanswered::Refused) => {
            standalone().map_err(|error| if is_permission(&error) { refused(&socket.display()).into() } else { error })
        }
        Err(Unanswered::Failed(error)) => {
            tracing::warn!("the daemon at {} does not answer: {error:#}; doing it without", socket.display());
            standalone()
        }
    }
}

/// The daemon's answer; nobody else has one.
///
/// # Errors
///
/// [`Usage`] if no socket is configured, [`Unavailable`] where none runs, [`NotPermitted`] where it refuses this user: each
/// message has the remedy. Else if its answer fails or takes too long.
pub fn ask(global: &Global, target: &str) -> anyhow::Result<Bytes> {
    let socket = configured(global);
    if socket == Path::new("") {
        return Err(Usage::new("no daemon to ask: --socket, NETTOPD_SOCKET or the configuration says ''; name its socket with --socket PATH").into());
    }
    let shown = socket.display();
    connection::ask(&socket, target).map_err(|unanswered| match unanswered {
        Unanswered::Nobody => Unavailable::new(format!(
            "no daemon answers at {shown}; start it with 'systemctl start nettopd', or 'nettopd daemon'"
        ))
        .into(),
        Unanswered::Refused => refused(&shown).into(),
        Unanswered::Failed(error) => error.context(format!("the daemon at {shown} does not answer")),
    })
}

/// An answer as the document that it is.
///
/// # Errors
///
/// If it is none: client and daemon are of different versions.
pub fn read<T: DeserializeOwned>(answer: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(answer).context("the daemon's answer is not understood; is it of this version?")
}

/// Where to ask, if at all.
pub fn socket(global: &Global) -> Option<PathBuf> {
    let socket = configured(global);
    (!global.standalone && socket != Path::new("")).then_some(socket)
}

/// The socket that was named, or the one of this machine's daemon. A wrong configuration is the daemon's to report.
fn configured(global: &Global) -> PathBuf {
    let of_daemon =
        || Config::load(None, &Settings::default()).map_or_else(|_| defaults::SOCKET.into(), |config| config.socket);
    global.socket.clone().unwrap_or_else(of_daemon)
}

fn refused(socket: &Display<'_>) -> NotPermitted {
    NotPermitted::new(format!(
        "not permitted: the daemon at {socket} answers root and members of the group nettopd; have the administrator add you to it (adduser USER nettopd), and log in again"
    ))
}

fn is_permission(error: &anyhow::Error) -> bool {
    let is_denied = |error: &std::io::Error| error.kind() == std::io::ErrorKind::PermissionDenied;
    matches!(error.downcast_ref(), Some(Refusal::Permission(_)))
        || error.chain().any(|cause| cause.downcast_ref().is_some_and(is_denied))
}
