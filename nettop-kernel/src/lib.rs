//! Everything about the running kernel: what it has and permits, the loaded programs, and their counts. Nothing else
//! loads programs or reads their maps.

#![deny(unsafe_code)]

#[expect(unsafe_code, reason = "duplicating descriptors of links")]
pub mod adopt;
pub mod attach;
pub mod boot;
#[expect(unsafe_code, reason = "system calls that no crate has")]
mod bpf_syscall;
pub mod btf;
pub mod choose;
pub mod drops;
pub mod event_ledger;
pub mod events;
pub mod hooks;
mod kallsyms;
pub mod kernel;
pub mod ledger;
pub mod limits;
mod lock;
pub mod log;
#[expect(unsafe_code, reason = "maps in memory")]
mod mapping;
pub mod members;
pub mod mountinfo;
#[expect(unsafe_code, reason = "a query that no crate has")]
pub mod netns;
mod object;
pub mod places;
pub mod preflight;
#[expect(unsafe_code, reason = "polling a ring's descriptor")]
pub mod processes;
pub mod programs;
mod queries;
pub mod recursion_misses;
pub mod refusal;
pub mod socket_iterators;
mod start;
pub mod state;
pub mod tracer;
pub mod usage;

pub use kernel::Kernel;
pub use limits::Limits;
pub use programs::Programs;
pub use queries::existing_namespaces;
pub use refusal::Refusal;
