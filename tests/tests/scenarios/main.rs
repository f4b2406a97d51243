//! Every scenario, in one program: it is linked once, and a guest gets one file.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a scenario that cannot be set up has failed")]

mod addresses;
mod api;
mod archive;
mod balance;
mod bounds;
mod cards;
mod check;
mod churn;
mod connections;
mod containers;
mod crowds;
mod devices;
mod drop_places;
mod drops;
mod floor;
mod forwarded;
mod frames;
mod handshakes;
mod history;
mod history_crashes;
mod history_daemon;
mod history_troubles;
mod layers;
mod limits;
mod log;
mod meters;
mod names;
mod output;
mod owners;
mod package;
mod packets;
mod paths;
mod places;
mod reconnect;
mod retirement;
mod senders;
mod service;
mod shared;
mod socketless;
mod sockets;
mod systemd;
mod trace;
mod troubles;
mod usage;
