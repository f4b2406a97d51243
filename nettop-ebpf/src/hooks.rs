//! One file per hook family. An entry function names its hook and calls the ledger.

mod associations;
mod bind;
mod connections;
pub mod copies;
mod create;
mod destination;
mod drops;
mod forwarded;
mod frames;
mod freed;
mod headers;
mod listeners;
mod meter;
mod namespaces;
mod packet;
mod packets;
mod process;
mod seed;
mod sender;
mod socketless;
mod sockets;
mod symbols;
mod tcp;
mod trace;
pub mod transfer;
mod unsent;
mod usage;
