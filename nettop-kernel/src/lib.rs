//! Everything about the running kernel: what it has and permits, the loaded programs, and their counts. Nothing else
//! loads programs or reads their maps.

pub mod adopt;
pub mod attach;
pub mod boot;
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
pub mod log;
mod mapping;
pub mod members;
pub mod netns;
mod object;
pub mod places;
pub mod preflight;
pub mod processes;
pub mod programs;
mod queries;
pub mod recursion_misses;
pub mod refusal;
pub mod socket_iterators;
mod start;
pub mod state;
pub mod tracer;

pub use kernel::Kernel;
pub use limits::Limits;
pub use programs::Programs;
pub use queries::existing_namespaces;
pub use refusal::Refusal;
