//! Names for what the kernel counts by number: processes, users, units, containers, namespaces, devices.

pub mod cgroup;
pub mod devices;
pub mod escape;
pub mod hosts;
pub mod namespaces;
pub mod processes;
pub mod users;

pub use processes::start_ticks;
