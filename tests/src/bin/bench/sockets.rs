//! How long a listing of 100,000 sockets takes, next to ss.

use std::{
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, UdpSocket},
    process::{Child, Command, Stdio},
    time::Instant,
};

use anyhow::Context as _;

const PROCESSES: u8 = 100;
const EACH: usize = 1000;
const ROUNDS: usize = 5;

/// Lists them both ways in turn, and prints the medians.
pub fn run(nettopd: &str) -> anyhow::Result<()> {
    let holders = (0..PROCESSES).map(Holder::start).collect::<anyhow::Result<Vec<_>>>()?;
    let mut listings = [("nettopd sockets", nettopd, &["sockets", "-n"][..]), ("ss -tunap", "ss", &["-tunap"][..])]
        .map(|(name, program, args)| (name, program, args, Vec::new()));
    for _ in 0..ROUNDS {
        for (name, program, args, seconds) in &mut listings {
            let start = Instant::now();
            let output = Command::new(program).args(*args).output().with_context(|| format!("cannot run {name}"))?;
            seconds.push(start.elapsed().as_secs_f64());
            let lines = output.stdout.iter().filter(|byte| **byte == b'\n').count();
            anyhow::ensure!(lines > usize::from(PROCESSES) * EACH, "{name} listed {lines} lines");
        }
    }
    for (name, _, _, seconds) in &mut listings {
        seconds.sort_by(f64::total_cmp);
        println!("100,000 sockets: {name} in {:.2} s (median of {ROUNDS}; goal 2)", seconds[ROUNDS / 2]);
    }
    drop(holders);
    Ok(())
}

/// The process that holds a share of the sockets until its input ends.
pub fn hold(number: &str) -> anyhow::Result<()> {
    let address = Ipv4Addr::new(127, 0, 1, number.parse()?);
    let sockets = (0..EACH).map(|_| UdpSocket::bind((address, 0))).collect::<Result<Vec<_>, _>>()?;
    println!("ready");
    std::io::stdin().read_line(&mut String::new())?;
    drop(sockets);
    Ok(())
}

/// Ended when dropped.
struct Holder(Child);

impl Holder {
    fn start(number: u8) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["hold-sockets", &number.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("a holder has no output")?;
        let holder = Self(child);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        anyhow::ensure!(line == "ready\n", "a holder could not make its sockets");
        Ok(holder)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
