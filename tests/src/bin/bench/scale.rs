//! How nettopd handles large tables: time to read them, memory, CPU.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::UdpSocket,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nettop_model::Snapshot;
use nix::{
    time::{clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};

/// Reads the ledger with 10,000 busy rows, then fills the table; then watches CPU with 500 busy processes.
pub fn run(nettopd: &str) -> anyhow::Result<()> {
    let daemon = Daemon::start(nettopd, "1", &[])?;
    // A row is a process, user and device: one process that changes its user makes as many as it likes.
    let sender = |rows: u32| {
        let to = UdpSocket::bind("127.0.0.1:0")?;
        let from = UdpSocket::bind("127.0.0.1:0")?;
        from.connect(to.local_addr()?)?;
        for uid in 0..rows {
            set_user(100_000 + uid)?;
            from.send(&[0; 64])?;
            set_user(0)?;
        }
        anyhow::Ok(())
    };
    let mut read_us = Vec::new();
    for _ in 0..5 {
        sender(10_000)?;
        read_us.push(daemon.next()?.read_us);
    }
    read_us.sort_unstable();
    println!("10,000 busy rows: read in {} us (median of 5; goal 5000)", read_us[2]);
    sender(65_536)?;
    // The document of a full table is large: leave it the time to be written.
    daemon.next()?;
    sender(65_536)?;
    daemon.next()?;
    let (rss, shared) =
        (daemon.status_kib("VmRSS:")?, daemon.status_kib("RssShmem:")? + daemon.status_kib("RssFile:")?);
    println!("65,536 rows: {rss} KiB resident, of which {shared} KiB mapped (goal 25,600)");
    drop(daemon);
    busy_processes(nettopd)
}

fn busy_processes(nettopd: &str) -> anyhow::Result<()> {
    const SECONDS: u64 = 30;
    let mut peers = Vec::new();
    for _ in 0..500 {
        let child = Command::new(std::env::current_exe()?).arg("busy-peer").stdout(Stdio::null()).spawn()?;
        peers.push(Reaper(child));
    }
    let daemon = Daemon::start(nettopd, "5", &["--format", "table"])?;
    std::thread::sleep(Duration::from_secs(6));
    let (start, before) = (Instant::now(), daemon.cpu_ns()?);
    std::thread::sleep(Duration::from_secs(SECONDS));
    let ns = daemon.cpu_ns()? - before;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let percent = ns as f64 / start.elapsed().as_nanos() as f64 * 100.0;
    println!("500 busy processes, a report each 5 s: {percent:.3} % of one core over {SECONDS} s (goal 0.3)");
    Ok(())
}

/// What each of the 500 processes does: ten datagrams a second to itself, until it is ended.
pub fn busy_peer() -> anyhow::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(socket.local_addr()?)?;
    let mut buffer = [0; 64];
    loop {
        socket.send(&buffer)?;
        socket.recv(&mut buffer)?;
        std::thread::sleep(Duration::from_millis(100));
    }
}

struct Reaper(Child);

impl Drop for Reaper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Daemon {
    child: Reaper,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Daemon {
    fn start(path: &str, interval: &str, args: &[&str]) -> anyhow::Result<Self> {
        let args = if args.is_empty() { &["--format", "ndjson", "-p", "1"] } else { args };
        let mut child = Command::new(path).args(args).arg(interval).stdout(Stdio::piped()).spawn()?;
        let mut reader = BufReader::new(child.stdout.take().context("nettopd has no output")?);
        let (send, lines) = std::sync::mpsc::channel();
        let mut first = String::new();
        reader.read_line(&mut first)?;
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child: Reaper(child), lines })
    }

    /// The first document that begins after now.
    fn next(&self) -> anyhow::Result<Snapshot> {
        while self.lines.try_recv().is_ok() {}
        let line = self.lines.recv_timeout(Duration::from_secs(20))?;
        Ok(serde_json::from_str(&line)?)
    }

    fn status_kib(&self, field: &str) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.0.id()))?;
        let line = status.lines().find(|line| line.starts_with(field)).context("no such field")?;
        Ok(line.split_whitespace().nth(1).context("no value")?.parse()?)
    }

    /// Time on a CPU of all threads, those that have ended too.
    fn cpu_ns(&self) -> anyhow::Result<u64> {
        let pid = Pid::from_raw(self.child.0.id().cast_signed());
        Ok(Duration::from(clock_gettime(clock_getcpuclockid(pid)?)?).as_nanos().try_into()?)
    }
}

/// Changes the real user of this thread only, as the raw system call does.
fn set_user(uid: u32) -> anyhow::Result<()> {
    // SAFETY: plain integers; -1 leaves an id as it is.
    let result = unsafe { libc::syscall(libc::SYS_setresuid, uid, -1, -1) };
    anyhow::ensure!(result == 0, "setresuid to {uid} failed: {}", std::io::Error::last_os_error());
    Ok(())
}
