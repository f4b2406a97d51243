//! What `nettopd --version` prints.

use std::sync::LazyLock;

use nettop_kernel::hooks::Backend;

/// Version, the commit that it was built at (see build.rs), and the back ends built in.
pub static LONG: LazyLock<String> = LazyLock::new(|| {
    let backends = Backend::ALL.map(Backend::name);
    format!("{}\ncommit {}\nback ends: {}", env!("CARGO_PKG_VERSION"), env!("NETTOP_COMMIT"), backends.join(", "))
});
