//! Which folders with names of containers may be read, here and by the daemon.

use std::path::Path;

use nettop_model::{check::ContainerNames, status::Status};

use crate::{client, identity::containers::places, query::global::Global};

/// Those that are there, and those that a daemon could not read.
pub(super) fn list(global: &Global) -> Vec<ContainerNames> {
    let status = client::socket(global).and_then(|_| client::ask(global, "/v1/status").ok());
    let status: Option<Status> = status.and_then(|answer| client::read(&answer).ok());
    let mut closed = status.map(|status| status.container_names_closed).unwrap_or_default();
    let places = places().into_iter();
    let mut names: Vec<ContainerNames> = places
        .map(|(folder, found)| ContainerNames {
            folder: folder.into(),
            readable: found.is_ok(),
            closed_to_daemon: false,
        })
        .collect();
    for place in &mut names {
        let all = closed.len();
        closed.retain(|folder| !Path::new(folder).starts_with(&place.folder));
        place.closed_to_daemon = closed.len() < all;
    }
    names.extend(closed.into_iter().map(|folder| ContainerNames { folder, readable: true, closed_to_daemon: true }));
    names
}
