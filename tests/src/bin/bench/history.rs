//! What the history takes: bytes in the file and on the device, time to answer, CPU to write.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nettop_history::{
    Ancestor, By, Counters, Device, Disk, DiskUsage, HostUsage, Keep, Limits, Names, Order, Question, Reader, SLOT_S,
    Slot, Store, Tick, Usage, Who,
};
use nettop_tests::history::{Mount, image, origin};
use rusqlite::Connection;

const PROCESSES: u64 = 500;
const ACTIVE: u64 = 80;
const DAY: i64 = 86_400;
const BEGIN: i64 = 1_795_046_400;

/// A day as the daemon writes it, a commit each 10 s, on a file system of its own; then a week to ask.
pub fn run() -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("nettop-bench-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let measured = measure(&folder);
    fs::remove_dir_all(&folder)?;
    measured
}

fn measure(folder: &Path) -> anyhow::Result<()> {
    let disk = folder.join("disk");
    image(&disk, 1 << 30, &[]);
    let mount = Mount::new(folder.join("mount"), &["-o", "loop", &disk.to_string_lossy()]);
    let path = mount.folder.join("history.db");
    let mut chance = Chance(1);
    let written_before = device_bytes(&mount.folder)?;
    let cpu_before = cpu()?;
    let limits = Limits { keep: Keep { days: [30, 30, 400] }, ..Limits::default() };
    let mut store = Store::open(&path, limits, &origin(), BEGIN)?;
    for ts in (BEGIN..BEGIN + DAY).step_by(10) {
        store.write(&[slot(ts, &mut chance)])?;
    }
    let cpu_s = (cpu()? - cpu_before).as_secs_f64();
    store.finish(BEGIN + DAY)?;
    nix::unistd::sync();
    let written = device_bytes(&mount.folder)? - written_before;
    let connection = Connection::open(&path)?;
    let size = |tables: &str| -> anyhow::Result<u64> {
        let query = format!("SELECT sum(pgsize) FROM dbstat WHERE name GLOB '{tables}'");
        Ok(connection.query_row(&query, [], |row| row.get::<_, i64>(0))?.cast_unsigned())
    };
    let count = |table: &str| -> anyhow::Result<u64> {
        let query = format!("SELECT count(*) FROM {table}");
        Ok(connection.query_row(&query, [], |row| row.get::<_, i64>(0))?.cast_unsigned())
    };
    let (rows, used) = (count("sample_10s")?, count("usage_10s")?);
    let slots = (DAY / SLOT_S).cast_unsigned();
    println!("a day of {PROCESSES} processes, {ACTIVE} active in each 10 s: {rows} rows");
    println!("  {} bytes per row in the file (goal 40)", ratio(size("sample_10s")?, rows));
    let usage = size("usage_*")? + size("host_*")? + size("disk_*")?;
    println!(
        "  {} bytes per row of what a process used, {} rows in 10 s",
        ratio(size("usage_10s")?, used),
        used / slots
    );
    println!(
        "  {} MB for all of the network's 10 s (goal 25)",
        mb(size("*_10s")? - size("usage_10s")? - size("host_10s")? - size("disk_10s")?)
    );
    println!(
        "  {} MB with minutes and hours (goal 60), of which {} MB are what processes and the host used",
        mb(size("*")?),
        mb(usage)
    );
    println!("  {} bytes per row written to the device, a commit each 10 s", ratio(written, rows));
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let percent = cpu_s / DAY as f64 * 100.0;
    println!("  {percent:.3} % of a core to write it (goal 0.2)");
    drop(connection);
    let mut store = Store::open(&path, limits, &origin(), BEGIN)?;
    for hour in 24..24 * 7 {
        let from = BEGIN + hour * 3600;
        let slots: Vec<Slot> = (from..from + 3600).step_by(10).map(|ts| slot(ts, &mut chance)).collect();
        store.write(&slots)?;
    }
    let reader = Reader::open(&path)?;
    let mut ask = |length: i64, coarse: i64, times: u64| -> anyhow::Result<Duration> {
        let mut took = Vec::new();
        for _ in 0..times {
            let from = BEGIN + (chance.below((7 * DAY - length).cast_unsigned()).cast_signed() / coarse * coarse);
            let question = Question {
                from,
                to: from + length,
                by: By::Process,
                order: Order::Bytes,
                top: 20,
                when: None,
                names: Names::default(),
                boot: None,
                columns: 24,
            };
            let start = Instant::now();
            let answer = reader.answer(&question)?;
            took.push(start.elapsed());
            anyhow::ensure!(answer.gaps.is_empty() && answer.rows.len() == 20, "an answer is not whole");
        }
        took.sort_unstable();
        Ok(took[took.len() / 2])
    };
    println!("seven days, {} MB:", mb(fs::metadata(&path)?.len()));
    println!("  a minute (--at): {:.1} ms (median of 101; goal 10)", ms(ask(60, SLOT_S, 101)?));
    println!("  an hour: {:.1} ms, a day: {:.0} ms (medians)", ms(ask(3600, SLOT_S, 21)?), ms(ask(DAY, SLOT_S, 5)?));
    Ok(())
}

/// Each has a shell of its own, below one of some daemons.
fn parents(number: u64) -> Vec<Ancestor> {
    let parent = |pid: u64, comm: &str, passes_on| Ancestor {
        pid: u32::try_from(pid).unwrap_or(0),
        start_time_ns: pid * 1_000_000,
        uid: 33,
        comm: comm.into(),
        passes_on,
    };
    vec![parent(10_000 + number, "sh", true), parent(100 + number % 40, "worker", false), parent(1, "systemd", false)]
}

/// 80 of 500 processes, most of which move little.
fn slot(ts: i64, chance: &mut Chance) -> Slot {
    let tick = Tick { measured_ms: 10_000, readings: 2, ..Tick::default() };
    let mut slot = Slot { ts, begin_ms: ts * 1000, end_ms: (ts + SLOT_S) * 1000, tick, ..Slot::default() };
    slot.tick.load = Some([1.25, 1.0, 0.75]);
    let device = Device { netns: 4_026_531_833, netns_cookie: 1, ifindex: 2, name: Some("eth0".into()) };
    while (slot.samples.len() as u64) < ACTIVE {
        let number = chance.below(PROCESSES);
        let who = Who {
            pid: 1000 + u32::try_from(number).unwrap_or(0),
            start_time_ns: Some(number * 1_000_000),
            uid: Some(33),
            comm: format!("worker{}", number % 40),
            exe: Some(format!("/usr/lib/worker/worker{}", number % 40)),
            unit: Some(format!("worker{}.service", number % 40)),
            cgroup: Some(format!("/system.slice/worker{}.service", number % 40)),
            script: None,
            container: None,
            parents: parents(number),
            device: device.clone(),
            ..Who::default()
        };
        let mut bytes = || 1 << chance.below(24);
        let (tx_bytes, rx_bytes): (u64, u64) = (bytes() + number, bytes() + number);
        let (tx_packets, rx_packets) = (tx_bytes / 1400 + 1, rx_bytes / 1400 + 1);
        let headers = |bytes: u64, packets: u64| bytes.saturating_sub(packets * 52);
        let counters = Counters {
            tx_bytes,
            rx_bytes,
            tx_packets,
            rx_packets,
            tx_app_bytes: headers(tx_bytes, tx_packets),
            rx_app_bytes: headers(rx_bytes, rx_packets),
        };
        slot.samples.insert(who, counters);
    }
    slot.devices.entry(device).or_default().tx.bytes = 1 << 30;
    add_used(&mut slot, chance);
    slot
}

/// What all processes used, of which those that talk had most to do, as the recorder has it.
fn add_used(slot: &mut Slot, chance: &mut Chance) {
    slot.host = Some(HostUsage {
        usage_ms: 10_000,
        user_ms: 3000 + chance.below(2000),
        system_ms: 1000 + chance.below(500),
        idle_ms: 30_000 + chance.below(3000),
        disk_write_bytes: chance.below(1 << 26),
        memory_total_kib: 16 << 20,
        memory_used_kib: (9 << 20) + chance.below(1 << 12),
        ..HostUsage::default()
    });
    for name in ["nvme0n1", "nvme0n1p2", "dm-0"] {
        let disk = Disk { name: name.into(), mounted: if name == "dm-0" { "/srv".into() } else { String::new() } };
        let (busy_ms, write_bytes) = (chance.below(5000), chance.below(1 << 26));
        let usage = DiskUsage { busy_ms, in_flight_ms: 5000 * chance.below(3), read_bytes: 0, write_bytes };
        slot.disks.insert(disk, usage);
    }
    let talkers: Vec<Who> = slot.samples.keys().cloned().collect();
    for number in 0..PROCESSES {
        let pid = 1000 + u32::try_from(number).unwrap_or(0);
        let talker = talkers.iter().find(|who| who.pid == pid);
        let who = match talker {
            Some(who) => Who { device: Device::default(), ..who.clone() },
            None => {
                Who { pid, start_time_ns: Some(number * 1_000_000), comm: format!("idle{number}"), ..Who::default() }
            }
        };
        let rss_kib = 2000 + number * number % 90_000;
        let idle =
            Usage { rss_kib_s: rss_kib * 10, rss_peak_kib: rss_kib + 500, threads: 1 + number % 9, ..Usage::default() };
        // Few have much to do, and those that have wait for CPUs.
        let user_us = 1 << chance.below(number % 23 + 1);
        let busy = Usage {
            user_us,
            system_us: user_us / (1 + chance.below(8)),
            wait_us: user_us / (1 + chance.below(32)),
            runnable_ms: if chance.below(10_000_000) < user_us { 5000 } else { 0 },
            read_bytes: if chance.below(8) == 0 { 4096 << chance.below(10) } else { 0 },
            write_bytes: if chance.below(4) == 0 { 4096 << chance.below(12) } else { 0 },
            voluntary_switches: chance.below(5000),
            involuntary_switches: chance.below(200),
            ..idle
        };
        slot.usage.insert(who, if talker.is_some() { busy } else { idle });
    }
    slot.cap(512);
}

/// Bytes that were written to the loop device below a folder.
fn device_bytes(folder: &Path) -> anyhow::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let device = fs::metadata(folder)?.dev();
    let stat = fs::read_to_string(format!("/sys/dev/block/{}:{}/stat", libc::major(device), libc::minor(device)))?;
    let sectors: u64 = stat.split_whitespace().nth(6).context("a short stat")?.parse()?;
    Ok(sectors * 512)
}

/// Of this thread.
fn cpu() -> anyhow::Result<Duration> {
    Ok(nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

struct Chance(u64);

impl Chance {
    const fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn ratio(a: u64, b: u64) -> String {
    format!("{:.1}", a as f64 / b as f64)
}

fn mb(bytes: u64) -> String {
    ratio(bytes, 1_000_000)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
