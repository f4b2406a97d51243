//! What can be asked for. Each question is one type: flags and parameters of the API are read into it, and requests to
//! the daemon are made of it.

pub mod events;
pub mod format;
pub mod global;
pub mod history;
pub mod names;
pub mod parameters;
pub mod report;
pub mod selector;
pub mod sockets;
pub mod top;
pub mod unmatched;
pub mod user;
