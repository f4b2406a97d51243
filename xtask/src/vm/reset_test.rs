//! `cargo xtask vm --reset`: machines that are loaded until they are reset hard, each by another hog; after the next start
//! one command names the process that moved most, and one the hog. `cargo xtask vm --exhausted` loads one for ten minutes.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};

use super::{
    console::{Console, END},
    image,
    kernel::MATRIX,
    qemu::{self, Accelerator},
};
use crate::{
    build::{self, Built},
    command::{self, root},
    setup,
};

const KERNEL: &str = "6.12";
const GUEST_TIMEOUT: Duration = Duration::from_secs(300);
/// The measure by which `nettopd history --hogs` names a process. The last has taken all of the disk before.
const HOGS: [(&str, &str); 4] = [("cpu ", "burner"), ("mem ", "keeper"), ("disk ", "filler"), ("oom ", "leak")];
/// How long a machine is kept without memory and disk.
const EXHAUSTED_TIME: Duration = Duration::from_secs(600);

/// Builds what is needed, and runs the test.
///
/// # Errors
///
/// If QEMU or another tool is missing and cannot be installed, cargo cannot build what is needed, or [`run`] fails.
pub fn build_and_run() -> anyhow::Result<()> {
    setup::vm_tools()?;
    run(&build::all()?)
}

/// Keeps a machine without memory and disk for ten minutes, resets it, and prints what its history has of them.
///
/// # Errors
///
/// As [`build_and_run`]; and if a reading was later than an interval, or some were left out.
pub fn exhaust() -> anyhow::Result<()> {
    setup::vm_tools()?;
    let machine = Machine::new(&build::all()?)?;
    let printed = machine.reset("leak", EXHAUSTED_TIME)?;
    println!("{}", printed.join("\n"));
    if !printed.iter().any(|line| line == "vm: in time") {
        bail!("readings were late, or left out");
    }
    Ok(())
}

/// Boots each machine twice with the same disk, and checks what the second reports on the first.
///
/// # Errors
///
/// If a machine does not come as far as it should, or a process is not named.
pub fn run(built: &Built) -> anyhow::Result<()> {
    let machine = Machine::new(built)?;
    // One after the other: guests with scenarios need CPUs as well.
    HOGS.into_iter().try_for_each(|(measure, name)| check(measure, name, &machine.reset(name, Duration::ZERO)?))
}

fn check(measure: &str, name: &str, printed: &[String]) -> anyhow::Result<()> {
    println!("{}", printed.join("\n"));
    let hog = printed.iter().skip_while(|line| !line.contains("XMIT_KB")).nth(1).context("no table")?;
    if !hog.contains("runaway") || !printed.iter().any(|line| line.contains("nettopd did not end in order")) {
        bail!("`nettopd history --last-boot` does not name the process");
    }
    if !printed.iter().any(|line| line.starts_with(measure) && line.contains(&format!(" {name} "))) {
        bail!("`nettopd history --last-boot --hogs` does not name {name}");
    }
    Ok(())
}

/// What machines are started from.
struct Machine {
    accelerator: Accelerator,
    kernel: PathBuf,
    initrd: PathBuf,
}

impl Machine {
    fn new(built: &Built) -> anyhow::Result<Self> {
        let kernel =
            MATRIX.iter().find(|kernel| kernel.version == KERNEL).context("the kernel is not in the matrix")?;
        let installed = kernel.install().with_context(|| format!("cannot fetch Linux {KERNEL}"))?;
        let folder = root().join("target/vm/reset");
        std::fs::create_dir_all(&folder)?;
        let initrd = folder.join("initrd");
        let guest = image::Guest { init: &built.init, nettopd: &built.nettopd, scenarios: None, package: None };
        image::write(&initrd, &guest, &installed)?;
        let accelerator = Accelerator::find(&installed.image, &initrd);
        Ok(Self { accelerator, kernel: installed.image, initrd })
    }

    /// Starts it twice with a new disk: it is loaded for this much longer than the hog needs, and then asked.
    fn reset(&self, hog: &str, loaded_time: Duration) -> anyhow::Result<Vec<String>> {
        let disk = self.initrd.with_file_name(format!("{hog}.disk"));
        File::create(&disk)?.set_len(64 << 20)?;
        command::run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk))?;
        eprintln!("xtask: a machine is loaded by {hog}");
        let loaded = self.boot(&disk, &format!("reset=load hog={hog}"))?;
        loaded.until("vm: loaded", GUEST_TIMEOUT)?;
        std::thread::sleep(loaded_time);
        // No shutdown: as when somebody pulls the plug.
        drop(loaded);
        let end = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        eprintln!("xtask: the machine of {hog} was reset, and starts again");
        let words = if loaded_time.is_zero() { "reset=ask".into() } else { format!("reset=ask end={end}") };
        self.boot(&disk, &words)?.until(END, GUEST_TIMEOUT)
    }

    fn boot(&self, disk: &Path, words: &str) -> anyhow::Result<Console> {
        let mut qemu = qemu::command(self.accelerator, 1024);
        qemu.arg("-no-reboot");
        qemu.arg("-drive").arg(format!("file={},format=raw,if=virtio,cache=writethrough", disk.display()));
        qemu.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(&self.initrd);
        qemu.arg("-append").arg(format!("{} rdinit=/init -- {words}", qemu::KERNEL_ARGUMENTS));
        Console::start(&mut qemu, None)
    }
}
