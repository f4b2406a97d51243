//! Units where systemd keeps them in a hierarchy of cgroup v1.

use std::{fs, path::PathBuf, process::Command};

use nettop_tests::{Namespace, Nettopd, skip};

use super::{BASH, SEND, row};

/// The hierarchy, mounted for this scenario.
struct Hierarchy(tempfile::TempDir);

impl Hierarchy {
    /// None where the kernel has no cgroup v1.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "cgroup", "-o", "none,name=systemd", "cgroup"]).arg(folder.path());
        mount.status().unwrap().success().then_some(Self(folder))
    }

    fn group(&self, path: &str) -> PathBuf {
        let path = self.0.path().join(path);
        fs::create_dir_all(&path).unwrap();
        path
    }
}

impl Drop for Hierarchy {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_process_of_milliseconds_has_its_unit_of_cgroup_v1() {
    let Some(hierarchy) = Hierarchy::mount() else { return skip("this kernel has no cgroup v1") };
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let slice = format!("nettop-tests-{}.slice", std::process::id());
    let group = hierarchy.group(&format!("{slice}/old.service"));
    let unified = nettop_tests::cgroup::cgroup2();
    let mut shell = Command::new(BASH);
    shell.args([
        "-c",
        // In cgroup2 it is at the root, as all are where systemd does not use that.
        &format!("echo $$ > {}/cgroup.procs; echo $$ > {}/cgroup.procs; {SEND}", unified.display(), group.display()),
    ]);
    let mut shell = alone.inside(shell).spawn().unwrap();
    assert!(shell.wait().unwrap().success());
    fs::remove_dir(&group).unwrap();
    fs::remove_dir(group.parent().unwrap()).unwrap();
    let document = nettopd.settled();
    let row = row(&document, shell.id());
    assert_eq!(row.process.unit.as_deref(), Some("old.service"), "{row:#?}");
    assert_eq!(row.process.cgroup, Some(format!("/{slice}/old.service")), "{row:#?}");
}
