//! What a line of a stream repeats only when it changes: hooks, and devices that count nothing.

use std::collections::HashMap;

use crate::{
    Snapshot,
    snapshot::{DeviceBalance, DeviceReport, ForwardedAmount, HookReport},
};

/// What readers of a stream know from the line before.
#[derive(Default, Debug)]
pub struct Known {
    hooks: Vec<HookReport>,
    /// Without what they counted in the interval.
    devices: HashMap<(u32, u32, u32), DeviceReport>,
}

impl Known {
    /// After this snapshot, whether it was shown whole or without what was known before.
    #[must_use]
    pub fn after(snapshot: &Snapshot) -> Self {
        let devices = snapshot.devices.iter();
        Self { hooks: snapshot.hooks.clone(), devices: devices.map(|device| (key(device), quiet(device))).collect() }
    }

    /// The next snapshot without what is known.
    #[must_use]
    pub fn changes(&self, mut next: Snapshot) -> Snapshot {
        let is_new = |device: &DeviceReport| {
            device.interval != DeviceBalance::default() || self.devices.get(&key(device)) != Some(&quiet(device))
        };
        next.devices.retain(is_new);
        next.forwarded.retain(|pair| pair.interval != ForwardedAmount::default());
        if next.hooks == self.hooks {
            next.hooks.clear();
        }
        next
    }
}

fn quiet(device: &DeviceReport) -> DeviceReport {
    DeviceReport { interval: DeviceBalance::default(), ..device.clone() }
}

const fn key(device: &DeviceReport) -> (u32, u32, u32) {
    (device.netns, device.netns_cookie, device.ifindex)
}
