//! Names for what the kernel counts by number: processes, users, units, containers, namespaces, devices.

pub mod address;
pub mod ancestors;
pub mod cgroup;
pub mod containers;
pub mod details;
pub mod device_names;
pub mod devices;
pub mod executions;
pub mod host;
pub mod hosts;
pub mod lookups;
pub mod mounts;
pub mod namespaces;
pub mod processes;
mod script;
pub mod services;
pub mod users;
