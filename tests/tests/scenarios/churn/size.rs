//! How much comes and goes.

pub fn is_full() -> bool {
    std::env::var_os("NETTOP_CHURN").is_some_and(|size| size == "full")
}

/// An amount: in full, and for the daily run.
pub fn amount(full: u64, daily: u64) -> u64 {
    if is_full() { full } else { daily }
}
