//! What the static program is linked with: musl, and a standard library for it. That is rustup's, or, where rustup cannot
//! have it, built here from rust-src.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Rustc, install, rustup};
use crate::command::{output, root, run};

/// Functions that libgcc's unwinder calls if they are there: nobody else has the linker take them from musl's archive.
const WEAK: &str = "__pthread_key_create pthread_getspecific pthread_key_create pthread_mutex_lock pthread_mutex_unlock \
                    pthread_once pthread_setspecific";

/// A target for programs that need no library.
pub struct Musl {
    pub target: String,
    /// Where the linker finds an unwinder, if the standard library is to be built here.
    unwinder: Option<PathBuf>,
}

impl Musl {
    /// Sets up what is missing.
    ///
    /// # Errors
    ///
    /// If rustc does not run, or rustup cannot add the target and the unwinder cannot be built. Also if musl-gcc is
    /// missing and apt-get cannot install it: the error names what to install by hand.
    pub fn set_up() -> anyhow::Result<Self> {
        // SQLite is C.
        install(&[("musl-gcc", "musl-tools")])?;
        let rustc = Rustc::query()?;
        let target = format!("{}-unknown-linux-musl", rustc.arch);
        let library = rustc.sysroot.join("lib/rustlib").join(&target).join("lib/self-contained");
        if library.exists() || rustup(&["target", "add", &target]).is_ok() {
            return Ok(Self { target, unwinder: None });
        }
        eprintln!("xtask: rustup cannot add {target} here, its standard library is built");
        let folder = root().join("target/setup/musl");
        unwinder(&folder)?;
        Ok(Self { target, unwinder: Some(folder) })
    }

    /// Has cargo build for it.
    pub fn apply(&self, cargo: &mut Command) {
        cargo.args(["--target", &self.target]);
        let Some(unwinder) = &self.unwinder else { return };
        let name = self.target.to_uppercase().replace('-', "_");
        // musl-gcc has no startup code for a position-independent static program.
        let flags = format!("-Clink-self-contained=no -Crelocation-model=static -Lnative={}", unwinder.display());
        cargo.args(["-Z", "build-std=std,panic_unwind"]).env("RUSTC_BOOTSTRAP", "1");
        cargo.env(format!("CARGO_TARGET_{name}_LINKER"), "musl-gcc");
        cargo.env(format!("CARGO_TARGET_{name}_RUSTFLAGS"), flags);
    }
}

/// The standard library asks for libunwind. GCC's stands in for it, with what that asks of glibc.
fn unwinder(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let object = folder.join("find_object.o");
    let source = root().join("xtask/src/setup/find_object.c");
    run(Command::new("musl-gcc").args(["-O2", "-Wall", "-Werror", "-c"]).arg(source).arg("-o").arg(&object))?;
    let libgcc = output(Command::new("musl-gcc").arg("-print-file-name=libgcc_eh.a"))?;
    let script = format!("EXTERN({WEAK})\nINPUT({} {})\n", object.display(), libgcc.trim());
    Ok(fs::write(folder.join("libunwind.a"), script)?)
}
