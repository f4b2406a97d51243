//! Asks the running daemon instead of measuring: what it answers needs no rights but to ask, and costs nothing twice.
//!
//! An answer is read back into the document's own types, and shown by whoever shows what was measured here.

mod ask;
mod follow;
mod request;
mod status;

use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use crate::{
    api,
    cli::{CheckFormat, Cli, Command},
    config::{Config, Settings},
    kernel::preflight::Refusal,
};
use ask::{Unanswered, ask, follow};
use request::Request;

/// Shows what the daemon answers, where there is one and it can answer this; else does it standalone.
///
/// # Errors
///
/// [`Refusal::Daemon`] where the daemon refuses and the caller may not do it alone, else as `standalone`.
pub fn or_else(cli: &Cli, standalone: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let Some((socket, request)) = socket(cli).zip(Request::of(cli)?) else { return standalone() };
    let answered = if request.is_endless() {
        follow(&socket, &request.target, async |lines| follow::show(cli, lines).await)
    } else {
        ask(&socket, &request.target).map(|answer| request.show(cli, &answer))
    };
    match answered {
        Ok(shown) => shown,
        Err(Unanswered::Nobody) => standalone(),
        Err(Unanswered::Refused) => standalone().map_err(|error| {
            if is_permission(&error) { Refusal::Daemon(socket.display().to_string()).into() } else { error }
        }),
        Err(Unanswered::Failed(error)) => {
            tracing::warn!("the daemon at {} does not answer: {error:#}; doing it without", socket.display());
            standalone()
        }
    }
}

/// `nettopd status`.
///
/// # Errors
///
/// [`Refusal::NoDaemon`] where none runs, [`Refusal::Daemon`] where it refuses, else if it does not answer.
pub fn status(cli: &Cli, format: CheckFormat) -> anyhow::Result<()> {
    let socket = configured(cli);
    let shown = socket.display().to_string();
    match ask(&socket, "/v1/status") {
        Ok(answer) => status::show(&answer, format),
        Err(Unanswered::Nobody) => Err(Refusal::NoDaemon(shown).into()),
        Err(Unanswered::Refused) => Err(Refusal::Daemon(shown).into()),
        Err(Unanswered::Failed(error)) => Err(error.context(format!("the daemon at {shown} does not answer"))),
    }
}

/// Where to ask, if at all.
fn socket(cli: &Cli) -> Option<PathBuf> {
    let socket = configured(cli);
    // Root finds out more by itself: a daemon without capabilities sees neither paths nor all tables.
    let sees_more = geteuid().is_root() && matches!(cli.command, Some(Command::Sockets(_)));
    (!cli.standalone && !sees_more && socket != Path::new("")).then_some(socket)
}

/// The socket that was named, or the one of this machine's daemon. A configuration that is wrong is the daemon's to tell.
fn configured(cli: &Cli) -> PathBuf {
    let of_daemon =
        || Config::load(None, &Settings::default()).map_or_else(|_| api::DEFAULT.into(), |config| config.socket);
    cli.socket.clone().unwrap_or_else(of_daemon)
}

fn is_permission(error: &anyhow::Error) -> bool {
    let is_denied = |error: &std::io::Error| error.kind() == std::io::ErrorKind::PermissionDenied;
    matches!(error.downcast_ref(), Some(Refusal::Permission(_)))
        || error.chain().any(|cause| cause.downcast_ref().is_some_and(is_denied))
}
