//! The guest's part of the reset test.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use nix::mount::{MsFlags, mount};

/// The host resets the machine long before.
const RESET_TIMEOUT: Duration = Duration::from_secs(300);

/// A machine whose history is on a disk: it is loaded until it is reset from outside, or asked who it was.
pub fn run(part: &str) -> anyhow::Result<()> {
    fs::create_dir_all("/var/lib/nettopd")?;
    let none: Option<&str> = None;
    mount(Some("/dev/vda"), "/var/lib/nettopd", Some("ext4"), MsFlags::empty(), none)
        .context("cannot mount the disk")?;
    if part == "ask" {
        // As anybody would type it.
        Command::new("nettopd").args(["history", "--last-boot"]).status().context("cannot run nettopd")?;
        println!("vm: end");
        return Ok(());
    }
    Command::new("nettopd").arg("2").stdout(Stdio::null()).spawn().context("cannot run nettopd")?;
    std::thread::sleep(Duration::from_secs(10));
    let runaway = nettop_tests::Process::start(None, |_| {
        nettop_tests::set_name(b"runaway");
        let run = || -> std::io::Result<()> {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
            let mut buffer = [0; 4000];
            loop {
                socket.send_to(&buffer, socket.local_addr()?)?;
                socket.recv(&mut buffer)?;
            }
        };
        let _ = run();
        Default::default()
    });
    std::thread::sleep(Duration::from_secs(35));
    println!("vm: loaded");
    // The end comes from outside.
    std::thread::sleep(RESET_TIMEOUT);
    drop(runaway);
    Ok(())
}
