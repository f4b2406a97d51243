//! One file per hook family. An entry function names its hook and hands over to the ledger.

pub mod copies;
mod create;
mod packet;
mod process;
mod seed;
mod socketless;
pub mod transfer;
