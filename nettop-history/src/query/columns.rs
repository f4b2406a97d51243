//! What an answer adds up: the columns of the temporary tables in which it is done.

use crate::{query::Order, usage::Usage};

/// Of the network.
pub(super) const NETWORK: [&str; 12] = [
    "tx_bytes",
    "rx_bytes",
    "tx_packets",
    "rx_packets",
    "tx_app_bytes",
    "rx_app_bytes",
    "drops",
    "retransmits",
    "tx_unattributed",
    "rx_unattributed",
    "tx_undecided",
    "rx_undecided",
];
const NETWORK_PEAKS: [&str; 2] = ["tx_peak", "rx_peak"];

/// Whether anything is to be shown. Not with only TCP's events at the end of a connection.
pub(super) const ALL: &str =
    "tx_bytes + rx_bytes + tx_packets + rx_packets + tx_app_bytes + rx_app_bytes + drops + retransmits
     + user_us + system_us + wait_us + runnable_ms + blocked_ms + rss_kib_s + read_bytes + write_bytes + oom_kills
     + exits_failed + exits_signaled";

/// What adds up.
pub(super) fn sums() -> Vec<&'static str> {
    [&NETWORK[..], Usage::SUMS].concat()
}

/// Of what the highest counts.
pub(super) fn highest() -> Vec<&'static str> {
    [&NETWORK_PEAKS[..], Usage::HIGHEST].concat()
}

/// Each of them, made of several rows.
pub(super) fn aggregates() -> String {
    let sums = sums().into_iter().map(|column| format!("sum({column}) AS {column}"));
    let highest = highest().into_iter().map(|column| format!("max({column}) AS {column}"));
    sums.chain(highest).collect::<Vec<_>>().join(", ")
}

/// `moved`: by number of a process or device. `shown`: the first of those. `member`: the numbers they are made of. `twin`:
/// the same process as a lower number.
pub(super) fn tables() -> String {
    let columns: Vec<String> =
        [sums(), highest()].concat().iter().map(|column| format!("{column} INTEGER NOT NULL DEFAULT 0")).collect();
    let columns = columns.join(", ");
    format!(
        "CREATE TEMP TABLE moved(number INTEGER PRIMARY KEY, {columns});
         CREATE TEMP TABLE shown(id INTEGER PRIMARY KEY, key0, key1, key2, key3, key4, {columns});
         CREATE INDEX temp.shown_keys ON shown(key4, key1, key2, key3, key0);
         CREATE TEMP TABLE member(number INTEGER PRIMARY KEY, shown INTEGER NOT NULL);
         CREATE TEMP TABLE twin(number INTEGER PRIMARY KEY, first INTEGER NOT NULL);"
    )
}

/// Adds to a row that exists.
pub(super) fn add_on_conflict() -> String {
    let sums = sums().into_iter().map(|column| format!("{column} = {column} + excluded.{column}"));
    let highest = highest().into_iter().map(|column| format!("{column} = max({column}, excluded.{column})"));
    format!("ON CONFLICT(number) DO UPDATE SET {}", sums.chain(highest).collect::<Vec<_>>().join(", "))
}

/// What an order is by.
pub(super) const fn ranked_by(order: Order) -> &'static str {
    match order {
        Order::Bytes => "tx_bytes + rx_bytes",
        Order::TxBytes => "tx_bytes",
        Order::RxBytes => "rx_bytes",
        Order::Packets => "tx_packets + rx_packets",
        Order::Peak => "tx_peak + rx_peak",
        Order::Drops => "drops",
        Order::Retransmits => "retransmits",
        Order::Cpu => "user_us + system_us",
        Order::Memory => "rss_kib_s",
        Order::Disk => "read_bytes + write_bytes",
        Order::Load => "runnable_ms + blocked_ms",
        Order::OomKills => "oom_kills",
        Order::Exits => "1000000 * exits_signaled + exits_failed",
    }
}

/// What is drawn of an order of usage.
pub(super) const fn drawn_by(order: Order) -> &'static str {
    match order {
        Order::Exits => "exits_signaled + exits_failed",
        _ => ranked_by(order),
    }
}

/// Whether it is of what processes used besides the network.
pub(super) const fn is_of_usage(order: Order) -> bool {
    matches!(order, Order::Cpu | Order::Memory | Order::Disk | Order::Load | Order::OomKills | Order::Exits)
}
