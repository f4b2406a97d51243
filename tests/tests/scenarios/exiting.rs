//! Processes whose end takes long.

use std::{
    fs,
    io::Write as _,
    net::{TcpListener, TcpStream, UdpSocket},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use nettop_tests::{
    Moved, Namespace, Nettopd, Process, assert_app, become_nobody, device,
    history::{Frozen, Mount, image},
    pairs::read_all,
    rows_of,
};
use nix::{
    fcntl::{FcntlArg, fcntl},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const DISK_BYTES: u64 = 16 << 20;
const RETIREMENT_TIMEOUT: Duration = Duration::from_secs(150);

/// A block device whose content is a file, until dropped.
struct LoopDevice(String);

impl LoopDevice {
    fn new(file: &Path) -> Self {
        fs::File::create(file).unwrap().set_len(DISK_BYTES / 4).unwrap();
        let output = Command::new("losetup").args(["--find", "--show"]).arg(file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }

    /// Opens it and writes to it: the last close waits until that is on the disk (`sync_blockdev`).
    fn write(&self) -> fs::File {
        let mut file = fs::File::options().write(true).open(&self.0).unwrap();
        file.write_all(&[1; 4096]).unwrap();
        file
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

/// Nobody's process that stays, and has a row.
fn nobody(namespace: &Namespace) -> Process {
    let process = Process::start(Some(namespace), |parent| {
        become_nobody();
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[0; 100], "127.0.0.1:7000").unwrap();
        parent.signal_ready();
        parent.wait_for_parent();
        Moved::default()
    });
    process.wait_until_ready();
    process
}

/// A process has ended before its files are closed (`do_exit`), which may take long: its rows leave meanwhile. What its
/// connections send then is the kernel's.
#[test]
fn files_that_take_long_to_close_bring_no_row_back() {
    let folder = tempfile::tempdir().unwrap();
    let image_path = folder.path().join("image");
    image(&image_path, DISK_BYTES, &[]);
    let disk = Mount::new(folder.path().join("disk"), &["-o", "loop", image_path.to_str().unwrap()]);
    let devices = ["first", "last"].map(|name| LoopDevice::new(&disk.folder.join(name)));
    let nettopd = Nettopd::start(&["--rows", "64"]);
    let alone = Namespace::new();
    // Their user has more than is free: his gone and quiet rows leave at once.
    let crowd: Vec<Process> = (0..40).map(|_| nobody(&alone)).collect();
    let server = Process::start(Some(&alone), |parent| {
        let listener = TcpListener::bind("127.0.0.1:4000").unwrap();
        parent.signal_ready();
        let received = read_all(listener.accept().unwrap().0);
        parent.signal_ready();
        parent.wait_for_parent();
        received
    });
    server.wait_until_ready();
    let client = Process::start(Some(&alone), |parent| {
        // Files are closed in one order or the other: one waits before the connection.
        let _first = devices[0].write();
        let _last = fcntl(devices[1].write(), FcntlArg::F_DUPFD(100)).unwrap();
        become_nobody();
        let mut stream = TcpStream::connect("127.0.0.1:4000").unwrap();
        stream.write_all(&[1; 1000]).unwrap();
        parent.signal_ready();
        parent.wait_for_parent();
        Moved::default()
    });
    client.wait_until_ready();
    let pid = client.pid();
    let before = nettopd.settled();
    assert_app(&before, pid, Moved { sent: 1000, received: 0 });
    let frozen = Frozen::new(&disk.folder);
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
    let deadline = Instant::now() + RETIREMENT_TIMEOUT;
    while !rows_of(&nettopd.settled(), pid).is_empty() {
        assert!(Instant::now() < deadline, "its row stays");
    }
    drop(frozen);
    server.wait_until_ready();
    let document = nettopd.settled();
    assert_eq!(rows_of(&document, pid).len(), 0, "{:#?}", document.rows);
    let [before, after] = [&before, &document].map(|document| device(document, alone.inode(), "lo"));
    assert!(after.tx.kernel_bytes > before.tx.kernel_bytes, "the connection was closed before: {after:#?}");
    assert_eq!(after.tx.unattributed_bytes, 0, "{after:#?}");
    drop((client, crowd));
}
