//! The commands, one module each.

pub mod check;
pub mod config;
pub mod connections;
pub mod daemon;
pub mod history;
pub mod manual;
pub mod packets;
pub mod report;
pub mod sockets;
pub mod status;
pub mod top;
pub mod trace;
