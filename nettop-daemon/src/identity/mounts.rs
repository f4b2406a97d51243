//! What is mounted where, by mountinfo of process 1, and of this one.

use std::{
    collections::HashMap,
    path::Path,
    time::{Duration, Instant},
};

use nettop_kernel::mountinfo::{Mount, mounts, unescape};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::sys::{escape::escape, proc_file::ProcFile};

/// Where block devices are mounted. A table is read again when it has changed, but not all the time.
pub struct MountPoints {
    /// Of process 1: a unit may not see all of it (`ProtectHome=`). What is missing there is looked up in the other.
    files: [ProcFile; 2],
    known: HashMap<Vec<u8>, String>,
    read: Option<Instant>,
}

impl MountPoints {
    /// A table may have thousands of mounts, and change with each container.
    const REST: Duration = Duration::from_secs(10);

    /// Reads below `proc`, which is /proc outside of tests.
    pub fn new(proc: &Path) -> Self {
        let files = ["1/mountinfo", "self/mountinfo"].map(|name| ProcFile::new(proc.join(name)));
        Self { files, known: HashMap::new(), read: None }
    }

    /// Reads the tables if one has changed.
    pub fn refresh(&mut self) {
        if self.read.is_some_and(|read| read.elapsed() < Self::REST || !self.files.iter().any(has_changed)) {
            return;
        }
        self.read = Some(Instant::now());
        self.known.clear();
        for file in &mut self.files {
            for (device, point) in file.read().map(points).unwrap_or_default() {
                self.known.entry(device).or_insert(point);
            }
        }
    }

    /// Where the file system of a block device is mounted, escaped.
    pub fn of(&self, major: i32, minor: i32, name: &str) -> Option<&str> {
        let numbers = format!("{major}:{minor}").into_bytes();
        let found = self.known.get(&numbers).or_else(|| self.known.get(format!("/dev/{name}").as_bytes()));
        found.map(String::as_str)
    }
}

/// Since it was asked last (`mounts_poll`). One that cannot be read is not tried again.
fn has_changed(file: &ProcFile) -> bool {
    let Some(file) = file.descriptor() else { return false };
    let mut polled = [PollFd::new(file, PollFlags::POLLPRI)];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|changed| changed > 0)
}

/// Of each file system the mount of its root, else its first one; by `major:minor` of its device. Btrfs has numbers of its own:
/// by the path of a device. Any user may give other file systems such a path, by FUSE.
fn points(text: &[u8]) -> HashMap<Vec<u8>, String> {
    let mut known: HashMap<Vec<u8>, (bool, String)> = HashMap::new();
    for Mount { device, root, point, kind, source } in mounts(text) {
        let key = if kind == b"btrfs" { source } else { device };
        if key.starts_with(b"0:") {
            continue;
        }
        let is_root = root == b"/";
        if known.get(key).is_none_or(|(has_root, _)| is_root && !has_root) {
            known.insert(key.to_vec(), (is_root, escape(&unescape(point))));
        }
    }
    known.into_iter().map(|(key, (_, point))| (key, point)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_device_is_where_its_root_is_mounted_first() {
        let text = "22 1 8:2 / / rw,noatime shared:1 - ext4 /dev/sda2 rw\n\
            30 22 8:2 / /mnt/again rw shared:1 - ext4 /dev/sda2 rw\n\
            31 22 253:0 /lib /var/lib rw - xfs /dev/mapper/vg-srv rw\n\
            32 22 253:0 / /srv/a\\040b rw shared:2 master:3 - xfs /dev/mapper/vg-srv rw\n\
            33 22 0:35 /@home /home rw - btrfs /dev/nvme0n1p3 rw\n\
            34 22 7:0 / /a\\012b rw - ext4 /dev/loop0 rw\n\
            35 22 0:60 / /home/user/mine rw - fuse.x /dev/sdb rw\n\
            no line of a mount\n";
        let own = "1 0 8:2 / /elsewhere rw - ext4 /dev/sda2 rw\n2 0 8:17 / /data rw - ext4 /dev/sdb1 rw\n";
        let proc = tempfile::tempdir().unwrap();
        for (of, text) in [("1", text), ("self", own)] {
            fs::create_dir(proc.path().join(of)).unwrap();
            fs::write(proc.path().join(of).join("mountinfo"), text).unwrap();
        }
        let mut points = MountPoints::new(proc.path());
        points.refresh();
        assert_eq!(points.of(8, 2, "sda2"), Some("/"), "as process 1 has it");
        assert_eq!(points.of(253, 0, "dm-0"), Some("/srv/a b"));
        assert_eq!(points.of(259, 3, "nvme0n1p3"), Some("/home"), "by its name");
        assert_eq!(points.of(7, 0, "loop0"), Some("/a\\x0ab"), "no line can be ended by a folder's name");
        assert_eq!(points.of(8, 16, "sdb"), None, "whatever a user calls a file system");
        assert_eq!(points.of(8, 17, "sdb1"), Some("/data"), "process 1 does not have it");
        // Not all the time.
        points.known.clear();
        points.refresh();
        assert!(points.known.is_empty());
    }
}
