//! What is mounted where, by /proc/self/mountinfo.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::sys::{escape::escape, proc_file::ProcFile};

/// One mount, its texts as the kernel writes them (`show_mountinfo`).
#[derive(Debug, PartialEq, Eq)]
pub struct Mount<'a> {
    /// `major:minor` of the file system.
    pub device: &'a [u8],
    /// What of the file system is mounted.
    pub root: &'a [u8],
    pub point: &'a [u8],
    /// A path of a device, or any text.
    pub source: &'a [u8],
}

/// The mounts in the text of the file. Lines that are no such are left out.
pub fn mounts(text: &[u8]) -> impl Iterator<Item = Mount<'_>> {
    text.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ').skip(2);
        let (device, root, point) = (fields.next()?, fields.next()?, fields.next()?);
        // Optional fields end with a hyphen; the type follows.
        fields.find(|field| *field == b"-")?;
        let source = fields.nth(1)?;
        Some(Mount { device, root, point, source })
    })
}

/// `mangle_path` writes blanks and backslashes as octal numbers.
pub fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, more)) = rest.split_first() {
        let octal = more.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = octal.filter(|_| *first == b'\\').and_then(|octal| u8::from_str_radix(octal, 8).ok());
        plain.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &more[3..] } else { more };
    }
    plain
}

/// Where block devices are mounted. The table is read again when it has changed, but not all the time.
pub struct MountPoints {
    file: ProcFile,
    /// By `major:minor`, and by the path of a device: btrfs has numbers of its own.
    known: HashMap<Vec<u8>, String>,
    read: Option<Instant>,
}

impl MountPoints {
    /// A table may have thousands of mounts, and change with each container.
    const REST: Duration = Duration::from_secs(10);

    pub fn new() -> Self {
        Self { file: ProcFile::new("/proc/self/mountinfo"), known: HashMap::new(), read: None }
    }

    /// Reads the table if it has changed.
    pub fn refresh(&mut self) {
        if self.read.is_some_and(|read| read.elapsed() < Self::REST || !self.has_changed()) {
            return;
        }
        self.read = Some(Instant::now());
        self.known = self.file.read().map(points).unwrap_or_default();
    }

    /// Where the file system of a block device is mounted, escaped.
    pub fn of(&self, major: i32, minor: i32, name: &str) -> Option<&str> {
        let numbers = format!("{major}:{minor}").into_bytes();
        let found = self.known.get(&numbers).or_else(|| self.known.get(format!("/dev/{name}").as_bytes()));
        found.map(String::as_str)
    }

    /// Since it was asked last (`mounts_poll`).
    fn has_changed(&self) -> bool {
        let Some(file) = self.file.descriptor() else { return true };
        let mut polled = [PollFd::new(file, PollFlags::POLLPRI)];
        poll(&mut polled, PollTimeout::ZERO).is_ok_and(|changed| changed > 0)
    }
}

/// Of each file system the mount of its root, else its first one.
fn points(text: &[u8]) -> HashMap<Vec<u8>, String> {
    let mut known: HashMap<Vec<u8>, (bool, String)> = HashMap::new();
    for Mount { device, root, point, source } in mounts(text) {
        for key in [device, source] {
            let is_root = root == b"/";
            let entry = known.get(key);
            if entry.is_none_or(|(has_root, _)| is_root && !has_root) {
                known.insert(key.to_vec(), (is_root, escape(&unescape(point))));
            }
        }
    }
    known.into_iter().map(|(key, (_, point))| (key, point)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_where_its_root_is_mounted_first() {
        let text = b"22 1 8:2 / / rw,noatime shared:1 - ext4 /dev/sda2 rw\n\
            30 22 8:2 / /mnt/again rw shared:1 - ext4 /dev/sda2 rw\n\
            31 22 253:0 /lib /var/lib rw - xfs /dev/mapper/vg-srv rw\n\
            32 22 253:0 / /srv/a\\040b rw shared:2 master:3 - xfs /dev/mapper/vg-srv rw\n\
            33 22 0:35 /@home /home rw - btrfs /dev/nvme0n1p3 rw\n\
            34 22 7:0 / /a\\012b rw - ext4 /dev/loop0 rw\n\
            no line of a mount\n";
        let known = MountPoints { known: points(text), ..MountPoints::new() };
        assert_eq!(known.of(8, 2, "sda2"), Some("/"));
        assert_eq!(known.of(253, 0, "dm-0"), Some("/srv/a b"));
        assert_eq!(known.of(259, 3, "nvme0n1p3"), Some("/home"), "by its name");
        assert_eq!(known.of(7, 0, "loop0"), Some("/a\\x0ab"), "no line can be ended by a folder's name");
        assert_eq!(known.of(8, 0, "sda"), None);
    }

    #[test]
    fn the_own_table_is_not_read_all_the_time() {
        let mut points = MountPoints::new();
        points.refresh();
        assert!(points.known.values().any(|point| point == "/"), "{:?}", points.known);
        points.known.clear();
        points.refresh();
        assert!(points.known.is_empty());
    }
}
