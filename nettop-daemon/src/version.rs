//! What `nettopd --version` tells.

use std::sync::LazyLock;

use clap::ValueEnum as _;

use crate::kernel::hooks::Backend;

/// Version, the commit that it was built at (see build.rs), and the back ends built in.
pub static LONG: LazyLock<String> = LazyLock::new(|| {
    let backends: Vec<&str> = Backend::value_variants().iter().map(|backend| backend.name()).collect();
    format!("{}\ncommit {}\nback ends: {}", env!("CARGO_PKG_VERSION"), env!("NETTOP_COMMIT"), backends.join(", "))
});
