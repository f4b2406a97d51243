//! Documents as tables, lines, JSON and CSV.

mod ancestry;
mod cells;
pub mod connections;
pub mod csv;
mod drops;
pub mod head;
pub mod history;
pub mod packets;
mod process_columns;
pub mod sink;
pub mod sockets;
pub mod status;
mod table;
pub mod trace;
mod tree;
