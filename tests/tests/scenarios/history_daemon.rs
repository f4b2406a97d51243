//! Disks and files that fail under a running nettopd: it counts on, to the byte, and the file has all of it afterwards.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::UdpSocket,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::mpsc::{Receiver, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nettop_model::Snapshot;
use nettop_tests::{
    Moved, Namespace, Process,
    history::{Frozen, Mount, image},
    nettopd_command, run_nettopd, set_name,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rusqlite::{Connection, OpenFlags};

const LOG_TIMEOUT: Duration = Duration::from_secs(60);

/// A process that sends itself datagrams, from one `go` to the next.
fn talker(namespace: &Namespace) -> Process {
    let talker = Process::start(Some(namespace), |parent| {
        set_name(b"talker");
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut buffer = [0; 500];
        parent.signal_ready();
        parent.wait_for_parent();
        let mut moved = Moved::default();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(32) {
            moved.sent += socket.send_to(&buffer, socket.local_addr().unwrap()).unwrap() as u64;
            moved.received += socket.recv(&mut buffer).unwrap() as u64;
            std::thread::sleep(Duration::from_millis(5));
        }
        parent.signal_ready();
        parent.wait_for_parent();
        moved
    });
    talker.wait_until_ready();
    talker
}

/// A nettopd that records, with its reports and its log.
struct Daemon {
    child: Child,
    path: PathBuf,
    reports: Option<JoinHandle<String>>,
    said: Receiver<String>,
    all_said: String,
}

impl Daemon {
    /// Starts it and waits until it counts.
    fn start(path: PathBuf) -> Self {
        let mut child = nettopd_command()
            .args(["--history", path.to_str().unwrap(), "--format", "ndjson", "0.5"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        stdout.read_line(&mut text).unwrap();
        let reports = std::thread::spawn(move || {
            stdout.read_to_string(&mut text).unwrap();
            text
        });
        let (send, said) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Self { child, path, reports: Some(reports), said, all_said: String::new() }
    }

    /// Waits until it logs this.
    fn hear(&mut self, what: &str) {
        let deadline = Instant::now() + LOG_TIMEOUT;
        while !self.all_said.contains(what) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(left) {
                Ok(line) => self.all_said += &line,
                Err(_) => panic!("it never said '{what}', but: {}", self.all_said),
            }
        }
    }

    fn terminate(&self) {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).unwrap();
    }

    /// Ends it and compares its reports with what the process knows it moved.
    fn assert_counted(mut self, talker: u32, moved: Moved) -> PathBuf {
        assert!(self.child.wait().unwrap().success(), "{}", self.all_said);
        let text = self.reports.take().unwrap().join().unwrap();
        let reports: Vec<Snapshot> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(reports.len() > 60, "{} reports in more than 32 s", reports.len());
        let last = reports.last().unwrap();
        for report in &reports {
            for device in &report.devices {
                for side in [device.interval.tx, device.interval.rx] {
                    let rest = side.unattributed_bytes.cast_signed() - side.pending_bytes.cast_signed();
                    assert_eq!(side.rest_bytes(), rest, "{device:?}");
                }
            }
        }
        let mut counted = Moved::default();
        for row in reports.iter().flat_map(|report| &report.rows).filter(|row| row.pid == talker) {
            counted.sent += row.interval.tx.app_bytes;
            counted.received += row.interval.rx.app_bytes;
        }
        assert_eq!(counted, moved, "{:?}", last.loss);
        assert_eq!(last.loss.history_shed, 0);
        self.path.clone()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process moved, by the file.
fn recorded(path: &Path, pid: u32) -> Moved {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let query = format!("SELECT sum(tx_app_bytes), sum(rx_app_bytes) FROM talkers WHERE pid = {pid}");
    let number = |row: &rusqlite::Row<'_>, index| row.get::<_, i64>(index).map(i64::cast_unsigned);
    connection.query_row(&query, [], |row| Ok(Moved { sent: number(row, 0)?, received: number(row, 1)? })).unwrap()
}

/// Fills a disk to its last byte.
fn fill(path: &Path) {
    let file = fs::File::create(path).unwrap();
    let mut end = 0;
    while file.write_at(&[1; 4096], end).is_ok_and(|written| written == 4096) {
        end += 4096;
    }
}

#[test]
fn whatever_becomes_of_the_file_nettopd_counts_on_and_records_it_later() {
    let folder = tempfile::tempdir().unwrap();
    let of = |name: &str| folder.path().join(name);
    // In memory, with room for the history and some more.
    let small = Mount::new(of("small"), &["-t", "tmpfs", "-o", "size=2m", "tmpfs"]);
    let read_only = Mount::new(of("read-only"), &["-t", "tmpfs", "-o", "ro", "tmpfs"]);
    image(&of("image"), 16 << 20, &[]);
    let hung = Mount::new(of("hung"), &["-o", "loop", of("image").to_str().unwrap()]);
    fs::create_dir(of("corrupt")).unwrap();
    let corrupt = of("corrupt/history.db");
    assert!(run_nettopd(&["--history", corrupt.to_str().unwrap(), "--format", "ndjson", "0.1", "1"]).status.success());
    let file = fs::File::options().write(true).open(&corrupt).unwrap();
    let pages = file.metadata().unwrap().len() / 4096;
    (1..pages).for_each(|page| file.write_all_at(&[0xa5; 4096], page * 4096).unwrap());
    let damaged = fs::read(&corrupt).unwrap();

    let mut on_small = Daemon::start(small.folder.join("history.db"));
    let mut on_read_only = Daemon::start(read_only.folder.join("history.db"));
    let mut on_hung = Daemon::start(hung.folder.join("history.db"));
    let mut on_corrupt = Daemon::start(corrupt);
    let alone = Namespace::new();
    let talker = talker(&alone);
    talker.go();
    on_corrupt.hear("set aside as");
    on_read_only.hear("Read-only file system");
    // The end of the slot finds no room.
    let filler = small.folder.join("filler");
    fill(&filler);
    let frozen = Frozen::new(&hung.folder);
    on_small.hear("the disk is full");
    fs::remove_file(&filler).unwrap();
    assert!(read_only.remount("remount,rw"));
    on_small.hear("is written again");
    on_read_only.hear("is written again");
    talker.wait_until_ready();
    // An interval more, so that the end of what was sent is read.
    std::thread::sleep(Duration::from_millis(1500));
    for daemon in [&on_small, &on_read_only, &on_hung, &on_corrupt] {
        daemon.terminate();
    }
    on_hung.hear("were not written: its disk does not answer");
    assert!(on_hung.all_said.contains(" slots with "), "{}", on_hung.all_said);
    drop(frozen);
    let pid = talker.pid();
    talker.go();
    let moved = talker.finish();
    assert!(moved.sent > 500_000, "{moved:?}");
    for daemon in [on_small, on_read_only, on_corrupt] {
        let path = daemon.assert_counted(pid, moved);
        assert_eq!(recorded(&path, pid), moved, "{}", path.display());
    }
    on_hung.assert_counted(pid, moved);
    assert_eq!(fs::read(of("corrupt/history.db.corrupt")).unwrap(), damaged);
    drop((small, read_only, hung));
}
