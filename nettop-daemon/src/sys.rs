//! What this process does with its system: memory, clocks, limits, signals, standard output and error.

pub mod allocator;
pub mod clock;
pub mod descriptors;
pub mod escape;
pub mod ethtool;
pub mod limits;
pub mod lock;
pub mod proc_file;
pub mod resident;
pub mod runtime;
pub mod signals;
pub mod stderr;
pub mod stdout;
pub mod version;
