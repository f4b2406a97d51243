//! `cargo xtask vm --reset`: a machine that is loaded until it is reset hard; after its next start one command names the
//! process.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use super::{guest, image, kernel::MATRIX};
use crate::{
    build::{self, Built},
    command::{self, root},
    setup,
};

const KERNEL: &str = "6.12";
const GUEST_TIMEOUT: Duration = Duration::from_secs(300);

/// Builds what is needed, and runs the test.
///
/// # Errors
///
/// Errors of building, and of [`run`].
pub fn build_and_run() -> anyhow::Result<()> {
    setup::vm_tools()?;
    run(&build::all()?)
}

/// Boots twice with the same disk, and checks what the second reports on the first.
///
/// # Errors
///
/// If a machine does not come as far as it should, or the process is not named.
pub fn run(built: &Built) -> anyhow::Result<()> {
    let kernel = MATRIX.iter().find(|kernel| kernel.version == KERNEL).context("the kernel is not in the matrix")?;
    let installed = kernel.install().with_context(|| format!("cannot fetch Linux {KERNEL}"))?;
    let folder = root().join("target/vm/reset");
    std::fs::create_dir_all(&folder)?;
    let (initrd, disk) = (folder.join("initrd"), folder.join("disk"));
    let guest = image::Guest { init: &built.init, nettopd: &built.nettopd, scenarios: None, package: None };
    image::write(&initrd, &guest, &installed)?;
    File::create(&disk)?.set_len(64 << 20)?;
    command::run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk))?;

    eprintln!("xtask: a machine is loaded");
    let loaded = Guest::boot(&installed.image, &initrd, &disk, "reset=load")?;
    loaded.until("vm: loaded")?;
    // No shutdown: as when somebody pulls the plug.
    drop(loaded);
    eprintln!("xtask: it was reset, and starts again");
    let asked = Guest::boot(&installed.image, &initrd, &disk, "reset=ask")?;
    let said = asked.until("vm: end")?;
    println!("{}", said.join("\n"));
    let hog = said.iter().skip_while(|line| !line.contains("XMIT_KB")).nth(1).context("no table")?;
    if !hog.contains("runaway") || !said.iter().any(|line| line.contains("nettopd did not end in order")) {
        bail!("`nettopd history --last-boot` does not name the process");
    }
    Ok(())
}

/// A machine that is off when dropped.
struct Guest {
    qemu: Child,
    lines: Receiver<String>,
}

impl Guest {
    fn boot(kernel: &Path, initrd: &Path, disk: &Path, words: &str) -> anyhow::Result<Self> {
        let mut qemu = guest::qemu(1024);
        qemu.arg("-no-reboot");
        qemu.arg("-drive").arg(format!("file={},format=raw,if=virtio,cache=writethrough", disk.display()));
        qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(initrd);
        qemu.arg("-append").arg(format!("{} rdinit=/init -- {words}", guest::KERNEL));
        let mut qemu = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot run QEMU")?;
        let stdout = qemu.stdout.take().context("QEMU has no output")?;
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                if send.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                    break;
                }
            }
        });
        Ok(Self { qemu, lines })
    }

    /// All it prints up to this line.
    fn until(&self, last: &str) -> anyhow::Result<Vec<String>> {
        let deadline = Instant::now() + GUEST_TIMEOUT;
        let mut said = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if line == last {
                return Ok(said);
            }
            said.push(line);
        }
        bail!("the machine never said '{last}', but:\n{}", said.join("\n"))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
