//! Everything about the running kernel: what it has, what it permits, and the programs loaded into it.

pub mod adopt;
pub mod attach;
pub mod btf;
mod calls;
pub mod choose;
pub mod hooks;
pub mod listing;
pub mod mapping;
pub mod misses;
pub mod preflight;
pub mod programs;
pub mod questions;
mod symbols;
pub mod telling;
pub mod tracing;
