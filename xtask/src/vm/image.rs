//! The guest's file system: an initramfs of the host's own programs, the tests, and the kernel's modules.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};
use cpio::newc;

use super::kernel::Installed;
use crate::command::{output, path};

/// Programs that scenarios call, at the places where the guest's `PATH` has them.
const PROGRAMS: &[&str] = &[
    "bash", "cp", "ip", "lsof", "mount", "nft", "setpriv", "sh", "sleep", "ss", "strace", "tc", "tcpdump", "umount",
    "unshare", "wg",
];
const DIRECTORY_MODE: u32 = 0o040_755;
const FILE_MODE: u32 = 0o100_755;
const LINK_MODE: u32 = 0o120_777;

/// What the guest is to run.
pub struct Guest<'a> {
    pub init: &'a Path,
    pub nettopd: &'a Path,
    /// None for the reset test, which has a part in `init`.
    pub scenarios: Option<&'a Path>,
    /// For a guest with a Debian root.
    pub package: Option<&'a Path>,
}

/// Writes the archive.
///
/// # Errors
///
/// If a program or one of its libraries is missing.
pub fn write(to: &Path, guest: &Guest<'_>, kernel: &Installed) -> anyhow::Result<()> {
    let mut archive = Archive { out: BufWriter::new(File::create(to)?), inode: 0, made: BTreeSet::new() };
    for directory in ["dev", "proc", "sys", "run", "tmp", "etc", "modules", "usr/bin", "usr/lib", "usr/lib64"] {
        archive.directory(Path::new(directory))?;
    }
    for (link, target) in [("bin", "usr/bin"), ("sbin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        archive.link(Path::new(link), target)?;
    }
    archive.bytes(Path::new("etc/passwd"), b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")?;
    archive.program(guest.init, Path::new("init"))?;
    archive.program(guest.nettopd, Path::new("usr/bin/nettopd"))?;
    if let Some(scenarios) = guest.scenarios {
        archive.program(scenarios, Path::new("usr/bin/scenarios"))?;
    }
    if let Some(package) = guest.package {
        archive.bytes(Path::new("package.deb"), &fs::read(package)?)?;
    }
    for program in PROGRAMS {
        let found = std::env::split_paths(&path()).map(|folder| folder.join(program)).find(|path| path.is_file());
        let found = found.with_context(|| format!("{program} is not on this machine"))?;
        archive.program(&found, &Path::new("usr/bin").join(program))?;
    }
    let mut order = String::new();
    for module in &kernel.modules {
        let name = module.file_name().and_then(|name| name.to_str()).context("a module without a name")?;
        archive.bytes(&Path::new("modules").join(name), &fs::read(module)?)?;
        order += &format!("{name}\n");
    }
    archive.bytes(Path::new("modules/order"), order.as_bytes())?;
    archive.finish()
}

/// An archive under way.
struct Archive {
    out: BufWriter<File>,
    inode: u32,
    made: BTreeSet<PathBuf>,
}

impl Archive {
    /// A program and the libraries it is linked with.
    fn program(&mut self, from: &Path, to: &Path) -> anyhow::Result<()> {
        self.bytes(to, &fs::read(from).with_context(|| format!("cannot read {}", from.display()))?)?;
        // A static program has none, and ldd fails.
        for line in output(Command::new("ldd").arg(from)).unwrap_or_default().lines() {
            let library = line.split_whitespace().find(|word| word.starts_with('/'));
            let Some(library) = library.map(Path::new) else { continue };
            // Where the loader looks: /lib is a link to usr/lib here as there.
            let place = Path::new("usr").join(library.strip_prefix("/usr").or_else(|_| library.strip_prefix("/"))?);
            if !self.made.contains(&place) {
                if let Some(parent) = place.parent() {
                    self.directory(parent)?;
                }
                self.bytes(&place, &fs::read(library)?)?;
            }
        }
        Ok(())
    }

    fn directory(&mut self, path: &Path) -> anyhow::Result<()> {
        let mut parents: Vec<&Path> = path.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
        parents.reverse();
        for path in parents {
            if !self.made.contains(path) {
                self.entry(path, DIRECTORY_MODE, &[])?;
            }
        }
        Ok(())
    }

    fn link(&mut self, path: &Path, target: &str) -> anyhow::Result<()> {
        self.entry(path, LINK_MODE, target.as_bytes())
    }

    fn bytes(&mut self, path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
        self.entry(path, FILE_MODE, bytes)
    }

    fn entry(&mut self, path: &Path, mode: u32, bytes: &[u8]) -> anyhow::Result<()> {
        let Some(name) = path.to_str() else { bail!("{} is not UTF-8", path.display()) };
        self.inode += 1;
        self.made.insert(path.to_owned());
        let entry = newc::Builder::new(name).ino(self.inode).mode(mode).nlink(1);
        let mut writer = entry.write(&mut self.out, u32::try_from(bytes.len())?);
        writer.write_all(bytes)?;
        writer.finish()?;
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<()> {
        newc::trailer(&mut self.out)?;
        self.out.flush()?;
        Ok(())
    }
}
