//! Why nettopd cannot run here.

use thiserror::Error;

/// Why nettopd cannot run here.
#[derive(Debug, Error)]
pub enum Refusal {
    /// Exit code 77.
    #[error(
        "not permitted: missing {0}; run as root, or grant the capabilities (setcap, or AmbientCapabilities= in a unit)"
    )]
    Permission(String),
    /// Exit code 69.
    #[error("{0}")]
    Kernel(String),
}
