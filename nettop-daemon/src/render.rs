//! Documents as tables, lines, JSON and CSV.

pub mod connections;
pub mod csv;
mod drops;
pub mod head;
pub mod history;
pub mod packets;
pub mod sink;
pub mod sockets;
pub mod status;
mod table;
pub mod trace;
mod tree;
