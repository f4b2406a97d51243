//! Notes the commit that is built.

#![forbid(unsafe_code)]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

fn main() {
    let manifest_dir = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let commit = manifest_dir.as_deref().and_then(Path::parent).and_then(commit);
    println!("cargo::rustc-env=NETTOP_COMMIT={}", commit.unwrap_or_else(|| "unknown".into()));
}

/// The commit that is checked out, if git knows one. What was changed since is not seen here.
fn commit(root: &Path) -> Option<String> {
    let git = |args: &[&str]| {
        let output = Command::new("git").current_dir(root).args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    // Written whenever the commit changes, by whatever way, and at no other time. A file that is missing would have this
    // script run each time.
    let log = root.join(git(&["rev-parse", "--git-path", "logs/HEAD"])?);
    if log.exists() {
        println!("cargo::rerun-if-changed={}", log.display());
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}
