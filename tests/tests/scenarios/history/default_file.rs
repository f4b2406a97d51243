//! Who records to the default file, and who does not.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read},
    os::fd::{AsRawFd as _, FromRawFd as _},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::channel,
    time::Duration,
};

use nettop_tests::nettopd_command;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{number, read_only};

/// nettopd in a view of the file system where the folder of the default history is a new one, and its owner's.
fn with_default_folder(folder: &Path, owner: u32) -> Command {
    let mut command = Command::new("unshare");
    let program = nettopd_command().get_program().to_owned();
    let script = format!(
        "mount -t tmpfs tmpfs /var/lib && mkdir /var/lib/nettopd && mount --bind {0} /var/lib/nettopd \
         && chown {owner} /var/lib/nettopd && exec \"$@\"",
        folder.display()
    );
    command.args(["--mount", "sh", "-c", &script, "sh"]).arg(program);
    command
}

/// Runs it until it has reported twice, and returns its stderr. With a terminal, it writes there.
fn report_twice(mut command: Command, terminal: Option<(File, File)>) -> String {
    let (mut read_here, stdout): (Option<Box<dyn Read + Send>>, _) = match terminal {
        Some((main, other)) => (Some(Box::new(main)), other.into()),
        None => (None, Stdio::piped()),
    };
    let mut child = command.args(["--numeric", "0.2"]).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
    // This end of the terminal too.
    drop(command);
    let output = read_here.take().unwrap_or_else(|| Box::new(child.stdout.take().unwrap()));
    let (send, lines) = channel();
    std::thread::spawn(move || {
        // All is read, also when nobody waits for it any more.
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let _ = send.send(line);
        }
    });
    for _ in 0..2 {
        while !lines.recv_timeout(Duration::from_secs(60)).expect("it does not report").starts_with("loss:") {}
    }
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success(), "{said}");
    said
}

/// Both ends of a new terminal.
fn terminal() -> (File, File) {
    let main = File::options().read(true).write(true).open("/dev/ptmx").unwrap();
    let unlocked: libc::c_int = 0;
    // SAFETY: the request takes a pointer to an int, which lives.
    assert_eq!(unsafe { libc::ioctl(main.as_raw_fd(), libc::TIOCSPTLCK, std::ptr::from_ref(&unlocked)) }, 0);
    // SAFETY: the request takes flags and returns a descriptor that is nobody else's.
    let other = unsafe { libc::ioctl(main.as_raw_fd(), libc::TIOCGPTPEER, libc::O_RDWR | libc::O_NOCTTY) };
    assert!(other >= 0);
    // SAFETY: as above.
    (main, unsafe { File::from_raw_fd(other) })
}

#[test]
fn a_look_on_a_terminal_records_nothing_and_the_service_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    report_twice(with_default_folder(folder.path(), 0), Some(terminal()));
    assert!(!path.exists(), "nobody asked for it");
    let said = report_twice(with_default_folder(folder.path(), 65_534), None);
    assert!(said.contains("belongs to user 65534") && !path.exists(), "{said}");
    let said = report_twice(with_default_folder(folder.path(), 0), None);
    assert!(said.is_empty(), "{said}");
    assert!(number(&read_only(&path), "SELECT sum(readings) FROM tick_10s") > 0);
}
