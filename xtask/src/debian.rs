//! Packages of Debian suites that this machine does not follow: fetched with apt's own tools, unpacked into a folder,
//! never installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use crate::command::{output, run_quietly};

/// The package lists of one suite.
pub struct Suite {
    name: String,
    work: PathBuf,
}

impl Suite {
    /// Reads the lists of a suite into `work`, which is emptied first.
    ///
    /// # Errors
    ///
    /// If no archive is configured on this machine, or it does not answer.
    pub fn open(name: &str, work: &Path) -> anyhow::Result<Self> {
        if work.exists() {
            fs::remove_dir_all(work)?;
        }
        fs::create_dir_all(work.join("lists/partial"))?;
        let suite = Self { name: name.to_owned(), work: work.to_owned() };
        fs::write(suite.work.join("debian.sources"), sources(name)?)?;
        run_quietly(&format!("reading the package list of {name}"), suite.apt("apt-get").arg("update"))?;
        Ok(suite)
    }

    /// The newest of the packages whose name matches a regular expression.
    ///
    /// # Errors
    ///
    /// If no package has such a name.
    pub fn newest(&self, pattern: &str) -> anyhow::Result<String> {
        let found = output(self.apt("apt-cache").args(["search", "--names-only", pattern]))?;
        let names = found.lines().filter_map(|line| line.split(' ').next());
        let newest = names.max_by_key(|name| numbers(name));
        newest.map(ToOwned::to_owned).with_context(|| format!("Debian's {} has no package like {pattern}", self.name))
    }

    /// Downloads a package, which may carry `=VERSION`, and returns the folder that holds its files.
    ///
    /// # Errors
    ///
    /// If the archive has it no longer, or does not answer, or it cannot be unpacked.
    pub fn unpack(&self, package: &str) -> anyhow::Result<PathBuf> {
        run_quietly(&format!("downloading {package}"), self.apt("apt-get").args(["download", package]))?;
        let deb = fs::read_dir(&self.work)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .context("apt-get downloaded nothing")?;
        let files = self.work.join("files");
        run_quietly(&format!("unpacking {package}"), Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&files))?;
        fs::remove_file(deb)?;
        Ok(files)
    }

    /// An apt command that knows this suite and nothing else.
    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.work);
        for (option, value) in [
            ("Dir::Etc::sourcelist", self.work.join("debian.sources")),
            ("Dir::Etc::sourceparts", "/dev/null".into()),
            ("Dir::State::lists", self.work.join("lists")),
            ("Dir::Cache", self.work.join("cache")),
            // Downloads as root are handed to a user who may not reach this folder.
            ("APT::Sandbox::User", "root".into()),
        ] {
            command.arg("-o").arg(format!("{option}={}", value.display()));
        }
        command
    }
}

/// Every number of a name, for comparing versions.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// A source list for a suite, on the archive that this machine uses already.
///
/// # Errors
///
/// If none is configured.
pub fn sources(suite: &str) -> anyhow::Result<String> {
    let mut texts = Vec::from_iter(fs::read_to_string("/etc/apt/sources.list"));
    for entry in fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten() {
        texts.extend(fs::read_to_string(entry.path()));
    }
    let Some(uri) = texts.iter().find_map(|text| archive(text)) else {
        bail!("no Debian archive is configured in /etc/apt");
    };
    Ok(format!(
        "Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    ))
}

/// The URI of the main Debian archive in a source list of either form.
fn archive(sources: &str) -> Option<String> {
    // Others publish for Debian below longer paths.
    let is_archive = |uri: &&str| {
        let path = uri.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
        path.is_some_and(|(_, path)| path.trim_end_matches('/') == "debian")
    };
    sources
        .lines()
        .filter(|line| line.starts_with("URIs:") || line.starts_with("deb "))
        .find_map(|line| line.split_whitespace().find(is_archive))
        .map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::{archive, numbers};

    #[test]
    fn the_archive_is_found_in_both_forms_of_source_lists() {
        let deb822 = "Types: deb\n# http://x/debian\nURIs: http://mirror.example/debian\nSuites: stable\n";
        assert_eq!(archive(deb822).as_deref(), Some("http://mirror.example/debian"));
        assert_eq!(
            archive("deb [signed-by=/k] http://mirror.example/debian/ stable main\n").as_deref(),
            Some("http://mirror.example/debian/")
        );
        assert_eq!(archive("URIs: http://mirror.example/debian-security\n"), None);
        assert_eq!(archive("deb http://vendor.example/linux/debian stable main\n"), None);
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(numbers("linux-image-6.12.107+deb13-amd64") > numbers("linux-image-6.12.94+deb13-amd64"));
    }
}
