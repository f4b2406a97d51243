//! One file per hook family. An entry function names its hook and hands over to the ledger.

pub mod copies;
mod create;
mod drops;
mod freed;
mod packet;
mod process;
mod seed;
mod socketless;
mod symbols;
pub mod transfer;
