//! One file per hook family. An entry function names its hook and hands over to the ledger.

mod associations;
mod bind;
mod connections;
pub mod copies;
mod create;
mod destination;
mod drops;
mod freed;
mod headers;
mod listeners;
mod meter;
mod packet;
mod packets;
mod process;
mod seed;
mod socketless;
mod sockets;
mod symbols;
mod tcp;
mod trace;
pub mod transfer;
