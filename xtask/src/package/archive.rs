//! An archive for systems that are not Debian: files as they lie below /usr/local, the same bytes for the same program.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use crate::command::{output, root, run};

/// Where packaged files name the program, and where the archive has it.
const PACKAGED: &str = "/usr/bin/nettopd";
const UNPACKED: &str = "/usr/local/bin/nettopd";
const DOCS: &str = "share/doc/nettopd";
const EXAMPLES: &str = "share/doc/nettopd/examples";

/// Packs a program with manual pages and completions from `contents`, and all packaged files that fit any system.
///
/// # Errors
///
/// If a file is missing, or tar fails.
pub fn pack(nettopd: &Path, contents: &Path, archive: &Path) -> anyhow::Result<()> {
    let (packaging, completions) = (root().join("packaging"), contents.join("completions"));
    let mut tree = Tree { folder: contents.join("tree"), files: Vec::new() };
    tree.program(nettopd, "bin/nettopd")?;
    tree.text(&packaging.join("nettopd.service"), "lib/systemd/system/nettopd.service")?;
    tree.text(&packaging.join("nettopd.sysusers"), "lib/sysusers.d/nettopd.conf")?;
    tree.text(&completions.join("nettopd"), "share/bash-completion/completions/nettopd")?;
    tree.text(&completions.join("_nettopd"), "share/zsh/site-functions/_nettopd")?;
    tree.text(&completions.join("nettopd.fish"), "share/fish/vendor_completions.d/nettopd.fish")?;
    tree.texts(&contents.join("man"), "8", "share/man/man8")?;
    tree.texts(&contents.join("man"), "5", "share/man/man5")?;
    tree.text(&packaging.join("debian/copyright"), &format!("{DOCS}/copyright"))?;
    tree.text(&root().join("README.md"), &format!("{DOCS}/README.md"))?;
    tree.text(&root().join("CHANGELOG.md"), &format!("{DOCS}/CHANGELOG.md"))?;
    tree.texts(&root().join("docs"), "md", DOCS)?;
    tree.texts(&root().join("docs"), "json", DOCS)?;
    tree.texts(&packaging, "toml", EXAMPLES)?;
    tree.texts(&packaging, "conf", EXAMPLES)?;
    tree.pack(archive)
}

/// What is packed.
struct Tree {
    folder: PathBuf,
    files: Vec<String>,
}

impl Tree {
    /// A program, without its symbols.
    fn program(&mut self, from: &Path, to: &str) -> anyhow::Result<()> {
        run(Command::new("strip").arg("-o").arg(self.place(to)?).arg(from))
    }

    fn text(&mut self, from: &Path, to: &str) -> anyhow::Result<()> {
        let text = fs::read_to_string(from).with_context(|| format!("cannot read {}", from.display()))?;
        Ok(fs::write(self.place(to)?, text.replace(PACKAGED, UNPACKED))?)
    }

    /// All files of a folder that have an extension.
    fn texts(&mut self, from: &Path, extension: &str, to: &str) -> anyhow::Result<()> {
        for entry in fs::read_dir(from)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.extension().is_some_and(|found| found == extension) {
                self.text(&path, &format!("{to}/{name}"))?;
            }
        }
        Ok(())
    }

    fn place(&mut self, to: &str) -> anyhow::Result<PathBuf> {
        self.files.push(to.to_owned());
        let place = self.folder.join(to);
        fs::create_dir_all(place.parent().unwrap_or(&self.folder))?;
        Ok(place)
    }

    /// Only files are named: unpacking leaves folders that are there as they are.
    fn pack(mut self, archive: &Path) -> anyhow::Result<()> {
        self.files.sort_unstable();
        let date = output(Command::new("git").current_dir(root()).args(["log", "-1", "--format=@%ct"]));
        let date = date.unwrap_or_else(|_| "@0".into());
        let mut tar = Command::new("tar");
        tar.args(["--format=gnu", "--owner=0", "--group=0", "--numeric-owner", "--mode=u=rwX,go=rX"]);
        tar.args([
            "--use-compress-program=gzip -9 --no-name",
            &format!("--mtime={}", date.trim()),
            "--create",
            "--file",
        ]);
        run(tar.arg(archive).arg("--directory").arg(&self.folder).args(&self.files))
    }
}
