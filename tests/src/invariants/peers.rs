//! A row's peers and their rest are the row.

use std::collections::HashSet;

use nettop_model::{Snapshot, snapshot::RowReport};

use super::items::{TRAFFIC, add, row_identity, traffic};

/// What is not so.
pub(super) fn violations(document: &Snapshot) -> Vec<String> {
    document.rows.iter().filter(|row| row.peers_other.is_some() || !row.peers.is_empty()).flat_map(of_row).collect()
}

fn of_row(row: &RowReport) -> Vec<String> {
    let mut found = Vec::new();
    let other = row.peers_other.unwrap_or_default();
    let mut sums = [traffic(&other.interval), traffic(&other.total)];
    let mut seen = HashSet::new();
    for peer in &row.peers {
        add(&mut sums[0], traffic(&peer.interval));
        add(&mut sums[1], traffic(&peer.total));
        if !seen.insert((&peer.role, &peer.protocol, &peer.address, peer.port)) {
            found.push(format!("{}: the peer {peer:?} is there twice", row_identity(row)));
        }
    }
    for (what, sum, expected) in
        [("interval", sums[0], traffic(&row.interval)), ("total", sums[1], traffic(&row.total))]
    {
        for (at, name) in TRAFFIC.iter().enumerate().filter(|(at, _)| sum[*at] != expected[*at]) {
            let has = expected[at];
            found.push(format!(
                "{}: its peers and others have {} {name} in the {what}, it has {has}",
                row_identity(row),
                sum[at]
            ));
        }
    }
    found
}
