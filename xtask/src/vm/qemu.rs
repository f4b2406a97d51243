//! How QEMU is called: with KVM where a machine boots with it, else it emulates.

use std::{
    fs::File,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use super::console::{Console, END};
use crate::{command::yielding, setup};

/// Few messages, a panic ends it, a busy host is no broken timer ("IO-APIC + timer doesn't work!"), and memory is not
/// cleared twice.
pub const KERNEL_ARGUMENTS: &str =
    "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off no_timer_check init_on_alloc=0 rcupdate.rcu_expedited=1";
/// Of a guest with scenarios.
pub const MEMORY_MIB: u32 = 1536;
/// An emulated machine boots within 5 s. Where KVM works it is faster; where it does not, QEMU ends, or its guest hangs.
const BOOT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accelerator {
    Kvm,
    /// Emulation by QEMU.
    Tcg,
}

impl Accelerator {
    /// Finds what works here, by a boot of this kernel. The init in its initrd ends at once.
    pub fn find(image: &Path, initrd: &Path) -> Self {
        let is_open = File::options().read(true).write(true).open("/dev/kvm").is_ok();
        let found = choose(is_open, || {
            let mut qemu = command(Self::Kvm, MEMORY_MIB);
            qemu.arg("-no-reboot").arg("-kernel").arg(image).arg("-initrd").arg(initrd);
            qemu.arg("-append").arg(format!("{KERNEL_ARGUMENTS} rdinit=/init -- probe"));
            boots(&mut qemu, BOOT_TIMEOUT)
        });
        eprintln!("xtask: {}", if found == Self::Kvm { "machines run by KVM" } else { "machines are emulated" });
        found
    }

    /// For QEMU.
    const fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            // With a thread per CPU, one may run into a breakpoint that another has just taken out of the kernel's code
            // ("Oops: int3" where a tracepoint is switched on).
            // QEMU emulates `rep stosb` and `rep movsb` byte by byte: without these features the kernel clears pages (else
            // a quarter of its time) and copies by words. Page tables of four levels are traversed faster than those of
            // five.
            Self::Tcg => ["-accel", "tcg,thread=single", "-cpu", "max,-erms,-fsrm,-la57"],
        }
    }
}

/// A machine, which gives way to what is measured beside it.
pub fn command(accelerator: Accelerator, memory_mib: u32) -> Command {
    let mut qemu = Command::new(setup::qemu::program());
    qemu.args(accelerator.arguments()).args(["-smp", "2"]);
    qemu.args(["-m", &memory_mib.to_string()]);
    qemu.args(["-nodefaults", "-display", "none", "-serial", "stdio", "-nic", "none"]);
    yielding(&qemu)
}

fn choose(is_open: bool, boots: impl FnOnce() -> bool) -> Accelerator {
    if is_open && boots() { Accelerator::Kvm } else { Accelerator::Tcg }
}

/// Whether a guest comes to its end in time.
fn boots(qemu: &mut Command, timeout: Duration) -> bool {
    let started = Console::start(qemu.stderr(Stdio::null()), None);
    started.is_ok_and(|console| console.until(END, timeout).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_is_used_where_a_machine_boots_with_it() {
        assert_eq!(choose(true, || true), Accelerator::Kvm);
        assert_eq!(choose(true, || false), Accelerator::Tcg);
        // Nothing is started.
        assert_eq!(choose(false, || unreachable!()), Accelerator::Tcg);
    }

    #[test]
    fn a_machine_that_dies_or_hangs_does_not_boot() {
        let script = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        let long = Duration::from_secs(60);
        assert!(boots(&mut script("echo early; echo vm: end; exec sleep 60"), long));
        assert!(!boots(&mut script("echo vm: endless; exit 1"), long));
        assert!(!boots(&mut script("exec sleep 60"), Duration::from_millis(1)));
        assert!(!boots(&mut Command::new("/nonexistent"), long));
    }
}
