//! Errors that have an exit code of their own.

use std::{io, path::PathBuf, process::ExitCode};

use nettop_kernel::Refusal;
use thiserror::Error;

/// A mistake of the command line that clap cannot see: exit code 2.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Usage(String);

/// What is needed is not there: exit code 69.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Unavailable(String);

/// Another daemon has what this one needs: exit code 73.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Occupied(String);

/// What this user may not do: exit code 77.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct NotPermitted(String);

/// What is wrong with the configuration. Exit code 78.
#[derive(Debug, Error)]
pub enum Fault {
    #[error("cannot read the configuration {}: {error}", file.display())]
    Unreadable { file: PathBuf, error: io::Error },
    #[error("{}, line {line}: {what}", file.display())]
    Wrong { file: PathBuf, line: usize, what: String },
}

macro_rules! new {
    ($($error:ident)*) => {
        $(impl $error {
            pub fn new(what: impl Into<String>) -> Self {
                Self(what.into())
            }
        })*
    };
}

new!(Usage Unavailable Occupied NotPermitted);

/// As in sysexits.h, for systemd's `RestartPreventExitStatus=`.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    const USAGE: u8 = 2;
    const UNAVAILABLE: u8 = 69;
    const CANTCREAT: u8 = 73;
    const NOPERM: u8 = 77;
    const CONFIG: u8 = 78;
    let refusal = error.downcast_ref();
    if error.is::<Usage>() {
        USAGE.into()
    } else if error.is::<Occupied>() {
        CANTCREAT.into()
    } else if error.is::<Fault>() {
        CONFIG.into()
    } else if error.is::<NotPermitted>() || matches!(refusal, Some(Refusal::Permission(_))) {
        NOPERM.into()
    } else if error.is::<Unavailable>() || matches!(refusal, Some(Refusal::Kernel(_))) {
        UNAVAILABLE.into()
    } else {
        ExitCode::FAILURE
    }
}
/// The name that a mistyped word was meant for, if it is like one.
pub fn most_similar<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// By Jaro and Winkler.
    const MIN_SIMILARITY: f64 = 0.8;
    let likeness = |name: &'a str| (strsim::jaro_winkler(word, name), name);
    let (similarity, name) = names.map(likeness).max_by(|one, other| one.0.total_cmp(&other.0))?;
    (similarity >= MIN_SIMILARITY).then_some(name)
}
