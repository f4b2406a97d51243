//! The guest's part of the reset test.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use nettop_model::history::{Document, Quality};
use nix::{
    mount::{MsFlags, mount},
    sys::wait::waitpid,
    unistd::{ForkResult, fork},
};

/// Between reports.
const INTERVAL_S: u64 = 2;
/// The host resets the machine long before.
const RESET_TIMEOUT: Duration = Duration::from_secs(900);

/// A machine whose history is on a disk: it is loaded until it is reset from outside, or asked who it was.
pub fn run(part: &str, hog: Option<&str>, end_s: Option<i64>) -> anyhow::Result<()> {
    fs::create_dir_all("/var/lib/nettopd")?;
    let none: Option<&str> = None;
    mount(Some("/dev/vda"), "/var/lib/nettopd", Some("ext4"), MsFlags::empty(), none)
        .context("cannot mount the disk")?;
    if part == "ask" {
        // As anybody would type it.
        Command::new("nettopd").args(["history", "--last-boot"]).status().context("cannot run nettopd")?;
        Command::new("nettopd").args(["history", "--last-boot", "--hogs"]).status().context("cannot run nettopd")?;
        end_s.map(ask_for_lateness).transpose()?;
        println!("vm: end");
        return Ok(());
    }
    Command::new("nettopd").arg(INTERVAL_S.to_string()).stdout(Stdio::null()).spawn().context("cannot run nettopd")?;
    std::thread::sleep(Duration::from_secs(10));
    let runaway = nettop_tests::Process::start(None, |_| {
        nettop_tests::set_name(b"runaway");
        let run = || -> std::io::Result<()> {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
            let mut buffer = [0; 4000];
            loop {
                socket.send_to(&buffer, socket.local_addr()?)?;
                socket.recv(&mut buffer)?;
                // It leads in bytes, and leaves the CPU to others.
                std::thread::sleep(Duration::from_millis(2));
            }
        };
        let _ = run();
        Default::default()
    });
    // An emulated machine takes 15 s until the first slot begins.
    std::thread::sleep(Duration::from_secs(35));
    drop(runaway);
    let hog = match hog {
        Some("burner") => start(b"burner", burn),
        Some("keeper") => start(b"keeper", keep),
        Some("filler") => start(b"filler", fill),
        Some("leak") => start(b"exhauster", exhaust),
        _ => bail!("there is no hog of that name"),
    };
    std::thread::sleep(Duration::from_secs(30));
    println!("vm: loaded");
    // The end comes from outside.
    std::thread::sleep(RESET_TIMEOUT);
    drop(hog);
    Ok(())
}

/// Reports how late readings of the machine's last ten minutes were, and what is missing up to its end, in seconds since 1970.
fn ask_for_lateness(end_s: i64) -> anyhow::Result<()> {
    let mut command = Command::new("nettopd");
    let answer = command.args(["history", "--last-boot", "--format", "json"]).stderr(Stdio::inherit()).output()?;
    let answer: Document = serde_json::from_slice(&answer.stdout).context("the history has no document")?;
    let last: jiff::Timestamp = answer.last_boot.context("there was no boot before")?.last.parse()?;
    let Quality { period_ms, measured_ms, late_ms, gaps, .. } = answer.quality;
    let unrecorded_s = end_s - last.as_second();
    println!("vm: {measured_ms} of {period_ms} ms were measured, at most {late_ms} ms late; gaps: {gaps:?}");
    println!("vm: the record ends {unrecorded_s} s before the reset");
    let missing_ms = period_ms - measured_ms.cast_signed();
    // The last slot, of 10 s, goes with the machine, and the one before it may be on its way. The last that came lacks what
    // of it belongs to the interval after it.
    let is_whole = missing_ms <= (INTERVAL_S * 1000).cast_signed() && unrecorded_s <= 25;
    if late_ms <= INTERVAL_S * 1000 && is_whole {
        println!("vm: in time");
    }
    Ok(())
}

/// One that says no word.
fn start(name: &'static [u8], work: fn()) -> nettop_tests::Process {
    nettop_tests::Process::start(None, move |_| {
        nettop_tests::set_name(name);
        work();
        Default::default()
    })
}

/// On all CPUs: what nettopd took to start is in its row.
fn burn() {
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for number in 0_u64.. {
                    std::hint::black_box(number);
                }
            });
        }
    });
}

/// A third of the memory.
fn keep() {
    let kept = vec![1_u8; 300 << 20];
    std::hint::black_box(&kept);
    std::thread::sleep(RESET_TIMEOUT);
}

/// Takes all of the disk, and again and again all memory: the kernel ends whom it likes.
fn exhaust() {
    let fill = || -> std::io::Result<()> {
        let mut file = fs::File::create("/var/lib/nettopd/rest")?;
        loop {
            file.write_all(&[7; 1 << 16])?;
        }
    };
    let _ = fill();
    loop {
        // SAFETY: this process has one thread, and the child never returns.
        match unsafe { fork() } {
            Ok(ForkResult::Parent { child }) => drop(waitpid(child, None)),
            Ok(ForkResult::Child) => leak(),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn leak() -> ! {
    nettop_tests::set_name(b"leak");
    // It is likelier to be ended than others, as what grows is.
    let _ = fs::write("/proc/self/oom_score_adj", "500");
    let mut all = Vec::new();
    loop {
        all.push(vec![1_u8; 1 << 20]);
        std::hint::black_box(&all);
    }
}

/// Writes the same megabyte again and again, each time to the disk.
fn fill() {
    let write = || -> std::io::Result<()> {
        let mut file = fs::File::create("/var/lib/nettopd/filler")?;
        file.write_all(&vec![7; 1 << 20])?;
        file.sync_all()
    };
    while write().is_ok() {
        std::thread::sleep(Duration::from_millis(200));
    }
}
