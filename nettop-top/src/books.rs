//! The books of an interval: whose the bytes of the devices were. Loopback is left out, and what devices below others count
//! again.

use nettop_model::snapshot::{DeviceReport, DirectionBalance};

/// One way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// Of processes.
    pub owned: u64,
    pub kernel: u64,
    pub forwarded: u64,
    /// What no IP socket saw.
    pub unattributed: u64,
    /// The difference on devices whose counting is not known, whichever is more.
    pub undecided: u64,
}

/// Both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    pub tx: Side,
    pub rx: Side,
}

impl Side {
    pub const fn of(balance: &DirectionBalance) -> Self {
        Self {
            owned: balance.attributed_bytes,
            kernel: balance.kernel_bytes,
            forwarded: balance.forwarded_bytes,
            unattributed: balance.unattributed_bytes,
            undecided: balance.undecided_bytes.unsigned_abs(),
        }
    }

    /// All that is explained or not: what the first line shows.
    pub const fn bytes(&self) -> u64 {
        self.owned.saturating_add(self.kernel).saturating_add(self.forwarded).saturating_add(self.unattributed)
    }

    /// Whether more than a twentieth is nobody's.
    pub const fn is_doubtful(&self) -> bool {
        self.unattributed > self.bytes() / 20
    }

    const fn add(&mut self, more: &Self) {
        self.owned = self.owned.saturating_add(more.owned);
        self.kernel = self.kernel.saturating_add(more.kernel);
        self.forwarded = self.forwarded.saturating_add(more.forwarded);
        self.unattributed = self.unattributed.saturating_add(more.unattributed);
        self.undecided = self.undecided.saturating_add(more.undecided);
    }
}

/// Of an interval's devices: of all but loopback, or of one.
pub fn books(devices: &[DeviceReport], only: Option<&str>) -> Books {
    let mut books = Books::default();
    let is_asked = |device: &&DeviceReport| match only {
        Some(key) => device_key(device) == key,
        None => device.device != "lo",
    };
    for device in devices.iter().filter(is_asked) {
        books.tx.add(&Side::of(&device.interval.tx));
        books.rx.add(&Side::of(&device.interval.rx));
    }
    books
}

/// What tells devices of all namespaces apart.
pub fn device_key(device: &DeviceReport) -> String {
    key_of(device.netns, device.netns_cookie, device.ifindex)
}

/// The same for a row's device.
pub fn key_of(netns: u32, netns_cookie: u32, ifindex: u32) -> String {
    format!("{netns}:{netns_cookie}:{ifindex}")
}
