//! Every scenario, in one program: it is linked once, and a guest gets one file.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a scenario that cannot be set up has failed")]

mod api;
mod archive;
mod balance;
mod bounds;
mod check;
mod connections;
mod crowds;
mod devices;
mod drops;
mod floor;
mod history;
mod history_crashes;
mod history_daemon;
mod history_troubles;
mod layers;
mod meters;
mod owners;
mod package;
mod packets;
mod paths;
mod service;
mod shared;
mod sockets;
mod systemd;
mod trace;
mod troubles;
mod usage;
