//! Programs in odd places: what /proc says of them while they live is what is known of them after.

use std::{
    ffi::OsString,
    fs,
    io::Write as _,
    os::{
        fd::AsRawFd as _,
        unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nettop_tests::{Moved, Namespace, Nettopd, Process, cgroup::Cgroup, skip, wait_until};

use super::{BASH, SEND, row, send, waiting};

/// A shell that begins as `begin` says, becomes the program of that name, and sends once it has read a line.
fn becoming(begin: &str, program: &str, alone: &Namespace) -> Child {
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "--propagation", "private", BASH, "-c"]);
    shell.arg(format!("{begin} && exec {program} -c 'read; {SEND}'")).stdin(Stdio::piped());
    alone.inside(shell).spawn().unwrap()
}

/// What /proc has of the program that a process has become, and its pid once it has sent and is gone. None if it ended
/// before. `called` is its first argument then.
fn told(mut child: Child, called: &str, is_it: impl Fn(&Path) -> bool) -> Option<(OsString, u32)> {
    let folder = PathBuf::from(format!("/proc/{}", child.id()));
    let link = folder.join("exe");
    let mut ended = false;
    wait_until("it has become the program", || {
        ended = child.try_wait().unwrap().is_some();
        let arguments = fs::read(folder.join("cmdline")).unwrap_or_default();
        let is_called = arguments.split(|byte| *byte == 0).next() == Some(called.as_bytes());
        ended || is_called && fs::read_link(&link).is_ok_and(|path| is_it(&path))
    });
    let path = fs::read_link(&link).ok().filter(|_| !ended)?;
    Some((path.into_os_string(), send(child)))
}

#[test]
fn programs_without_a_place_have_the_name_that_proc_gives_them() {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    fs::copy(BASH, folder.path().join("beta")).unwrap();
    // A file that never had a name.
    let options = fs::OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).open(folder.path());
    let mut nameless = options.unwrap();
    nameless.write_all(&fs::read(BASH).unwrap()).unwrap();
    nameless.set_permissions(fs::Permissions::from_mode(0o755)).unwrap();
    // It cannot be executed while it may be written.
    let readable = fs::File::open(format!("/proc/self/fd/{}", nameless.as_raw_fd())).unwrap();
    drop(nameless);
    let nameless_path = format!("/proc/self/fd/{}", readable.as_raw_fd());
    let nameless = waiting(&nameless_path, &alone);
    let mut all = vec![told(nameless, &nameless_path, |path| path.to_string_lossy().contains("/#")).unwrap()];
    let own = "/proc/self/exe";
    for (begin, program, called) in [
        // Through the link in /proc, which names what it leads to.
        ("true".to_owned(), format!("{at}/beta -c 'exec {own} \"$@\"' x"), own),
        // In a file system of its own, which is hidden by another from then on, or is taken away.
        (
            format!("mkdir {at}/over && mount -t tmpfs a {at}/over && cp {BASH} {at}/over/beta"),
            format!("{at}/over/beta -c 'mount -t tmpfs b {at}/over && exec {own} \"$@\"' x"),
            own,
        ),
        (
            format!("mkdir {at}/away && mount -t tmpfs c {at}/away && cp {BASH} {at}/away/beta"),
            format!("{at}/away/beta -c 'umount -l {at}/away && exec {own} \"$@\"' x"),
            own,
        ),
        // A mount of one file over another.
        (format!("touch {at}/file && mount --bind {BASH} {at}/file"), format!("{at}/file"), &format!("{at}/file")),
        // Another root.
        (format!("mkdir {at}/root && mount --bind / {at}/root"), format!("chroot {at}/root {BASH}"), BASH),
    ] {
        let is_it = |path: &Path| called != BASH || path.starts_with(folder.path());
        let child = becoming(&begin, &program, &alone);
        all.push(told(child, called, is_it).unwrap_or_else(|| panic!("{begin}")));
    }
    let document = nettopd.settled();
    for (path, pid) in all {
        assert_eq!(row(&document, pid).process.exe.as_deref(), path.to_str(), "{path:?}");
    }
}

#[test]
fn a_program_in_an_overlay_has_its_path_there() {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    // The upper folder cannot itself be in an overlay.
    let begin = format!(
        "mount -t tmpfs a {at} && mkdir {at}/lower {at}/upper {at}/work {at}/merged && cp {BASH} {at}/lower/beta && \
         mount -t overlay b -o lowerdir={at}/lower,upperdir={at}/upper,workdir={at}/work {at}/merged"
    );
    let program = format!("{at}/merged/beta");
    let Some((path, pid)) = told(becoming(&begin, &program, &alone), &program, |_| true) else {
        return skip("this kernel has no overlay file system");
    };
    let document = nettopd.settled();
    assert_eq!(path.to_str(), Some(program.as_str()));
    assert_eq!(row(&document, pid).process.exe.as_deref(), path.to_str());
}

#[test]
fn a_long_path_is_whole_and_of_a_longer_one_the_end_and_the_rest_of_the_record_is_there() {
    let nettopd = Nettopd::start(&["-e"]);
    let alone = Namespace::new();
    let folder = tempfile::tempdir().unwrap();
    let inner = |level: usize| format!("{level:0>120}");
    let group = Cgroup::new("long.slice");
    let groups = (0..8).fold(vec![group], |mut groups, level| {
        let child = groups[groups.len() - 1].child(&format!("{level:0>200}.service"));
        groups.push(child);
        groups
    });
    let last = groups.last().unwrap();
    let argument = "y".repeat(200);
    let run = |levels: usize| {
        let process = Process::start(Some(&alone), |parent| {
            last.enter();
            // Deeper than a path may be, step by step.
            std::env::set_current_dir(folder.path()).unwrap();
            for level in 0..levels {
                fs::create_dir_all(inner(level)).unwrap();
                std::env::set_current_dir(inner(level)).unwrap();
            }
            fs::copy(BASH, "beta").unwrap();
            let mut shell = Command::new("./beta").args(["-c", SEND, &argument]).spawn().unwrap();
            parent.send_number(shell.id().into());
            assert!(shell.wait().unwrap().success());
            Moved::default()
        });
        let (parent, shell) = (process.pid(), process.wait_until_ready());
        process.finish();
        (u32::try_from(shell).unwrap(), parent)
    };
    let levels = (1000 - "/beta".len() - folder.path().as_os_str().len()) / 121;
    let (whole, cut) = (run(levels), run(50));
    let path = (0..levels).fold(folder.path().to_owned(), |path, level| path.join(inner(level))).join("beta");
    let path = path.to_str().unwrap();
    assert!(path.len() > 850, "{}", path.len());
    let document = nettopd.settled();
    assert_eq!(row(&document, whole.0).process.exe.as_deref(), Some(path));
    let end = row(&document, cut.0).process.exe.as_deref().unwrap().strip_prefix("...").unwrap();
    let longer = (0..50).fold(folder.path().to_owned(), |path, level| path.join(inner(level))).join("beta");
    assert!(end.len() > 1000 && longer.to_str().unwrap().ends_with(end), "{end}");
    for (pid, parent) in [whole, cut] {
        let row = row(&document, pid);
        assert_eq!(row.process.cgroup.as_deref(), Some(last.name().as_str()));
        assert_eq!(row.process.arguments.as_ref().unwrap()[1..], ["-c", SEND, &argument]);
        assert_eq!(row.process.parents[0].pid, parent);
    }
    assert_eq!(document.loss.processes_unrecorded, 0);
    drop(groups);
}
