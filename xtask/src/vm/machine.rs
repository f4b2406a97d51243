//! Virtual machines: a kernel and a back end each, and the guests that its scenarios are dealt out to.

use std::path::{Path, PathBuf};

use super::{
    image::{self, Guest},
    kernel::{Installed, Kernel, MATRIX},
};

/// Of a machine that runs many scenarios: one guest would still run when all others have ended. Each costs a boot of 5 s.
const GUESTS_OF_A_LONG_ONE: usize = 2;

/// A kernel and the back end that is forced in it; none where the kernel is refused.
pub struct Machine {
    pub kernel: &'static Kernel,
    pub backend: Option<&'static str>,
    pub image: PathBuf,
    pub initrd: PathBuf,
    /// With a Debian root, from which it starts and reboots.
    pub disk: Option<PathBuf>,
    /// More arguments of QEMU, for devices that only this machine has.
    pub devices: Vec<String>,
    /// Commands that make what those are joined to, in a network namespace that QEMU runs in.
    pub network: Option<String>,
    pub log: PathBuf,
    /// For the guest's init.
    pub arguments: Vec<String>,
    /// Its scenarios are dealt out to so many guests, which run at once.
    pub guests: usize,
}

impl Machine {
    /// With one guest, and nothing but a kernel and its initrd.
    fn new(kernel: &'static Kernel, image: &Path, initrd: &Path, log: PathBuf, arguments: Vec<String>) -> Self {
        Self {
            kernel,
            backend: None,
            image: image.into(),
            initrd: initrd.into(),
            disk: None,
            devices: Vec::new(),
            network: None,
            log,
            arguments,
            guests: 1,
        }
    }

    /// One for scenarios of their own `kind`, which names its files and is a word for the guest's init. Writes its initrd.
    ///
    /// # Errors
    ///
    /// If a program is missing, or the initrd cannot be written.
    pub fn for_kind(
        kind: &str,
        kernel: &'static Kernel,
        installed: &Installed,
        guest: &Guest<'_>,
        filter: &[String],
    ) -> anyhow::Result<Self> {
        let folder = installed.folder()?;
        let initrd = folder.join(format!("{kind}.initrd"));
        image::write(&initrd, guest, installed)?;
        let mut arguments = filters(filter);
        arguments.push(kind.to_owned());
        Ok(Self::new(kernel, &installed.image, &initrd, folder.join(format!("{kind}.log")), arguments))
    }

    pub fn name(&self) -> String {
        let kind = match self {
            _ if self.disk.is_some() => Some("systemd"),
            _ if !self.devices.is_empty() => Some("cards"),
            _ => self.backend,
        };
        let kind = kind.map_or_else(String::new, |kind| format!(" {kind}"));
        format!("Linux {}{kind}", self.kernel.version)
    }

    /// Name of one of its guests.
    pub fn guest_name(&self, guest: usize) -> String {
        if self.guests == 1 { self.name() } else { format!("{} {}/{}", self.name(), guest + 1, self.guests) }
    }

    /// Where a guest is in the order of how long they take: a Debian boots slowly, and kprobes have scenarios that
    /// trampolines leave to tracepoints.
    pub fn length(&self) -> usize {
        match self.backend {
            _ if self.disk.is_some() => 3,
            _ if self.is_first() && self.backend.is_some() => 2,
            Some("kprobe") => 1,
            _ => 0,
        }
    }

    /// Whether it runs what does not depend on back ends.
    pub fn is_first(&self) -> bool {
        self.backend == self.kernel.backends.first().copied()
    }

    /// Runs also what takes long in an emulated machine.
    #[must_use]
    pub fn with_long(mut self) -> Self {
        if self.backend.is_some() {
            self.arguments.push("long".into());
        }
        self
    }

    /// Leaves to the oldest kernel what is the same there. The newest runs more than those in the middle.
    pub fn shorten(&mut self) {
        if self.backend.is_some() && !self.kernel.is_oldest() {
            let is_newest = self.kernel.is_newest();
            self.arguments.push(format!("scope={}", if is_newest { "kernel" } else { "use" }));
            self.guests = if is_newest { self.guests } else { 1 };
        }
    }
}

impl Kernel {
    /// One machine for each back end. What does not depend on those runs in the first.
    pub fn machines(&'static self, folder: &Path, image: &Path, initrd: &Path, filter: &[String]) -> Vec<Machine> {
        let first = self.backends.first().copied();
        let machine = |backend: Option<&'static str>| {
            let is_first = backend == first;
            let mut arguments = filters(filter);
            arguments.extend(backend.map(|backend| format!("backend={backend}")));
            arguments.extend(first.map(|first| format!("first={first}")));
            let log = folder.join(format!("{}.log", backend.unwrap_or("none")));
            let is_long = (is_first || self.is_oldest()) && backend.is_some() && filter.is_empty();
            let guests = if is_long { GUESTS_OF_A_LONG_ONE } else { 1 };
            Machine { backend, guests, ..Machine::new(self, image, initrd, log, arguments) }
        };
        if self.backends.is_empty() {
            return vec![machine(None)];
        }
        self.backends.iter().map(|backend| machine(Some(backend))).collect()
    }

    fn is_oldest(&self) -> bool {
        MATRIX.iter().find(|kernel| !kernel.backends.is_empty()).is_some_and(|kernel| kernel.version == self.version)
    }

    fn is_newest(&self) -> bool {
        MATRIX.last().is_some_and(|kernel| kernel.version == self.version)
    }

    /// Whether an older kernel is tried with the same back end.
    pub fn repeats(&self, backend: &str) -> bool {
        let older = MATRIX.iter().take_while(|kernel| kernel.version != self.version);
        older.flat_map(|kernel| kernel.backends).any(|other| *other == backend)
    }
}

/// For the guest's init.
fn filters(filter: &[String]) -> Vec<String> {
    filter.iter().map(|filter| format!("filter={filter}")).collect()
}
