//! Devices on devices: all below one have no more of it than it has itself.

use std::collections::{BTreeMap, HashMap, HashSet};

use nettop_model::{
    Snapshot,
    snapshot::{DeviceReport, DirectionBalance},
};

use super::items::{DeviceId, device_id};
use crate::directions;

/// Link header with FCS, two tags, and the padding of an empty packet.
const MAX_FRAME_BYTES: u64 = 18 + 8 + 46;
/// Devices on one another.
const MAX_DEPTH: usize = 16;

/// Knows which stacks stay as they are: what a device has of one that went is not known here.
#[derive(Default)]
pub struct Stacks {
    uppers: HashMap<DeviceId, Vec<DeviceId>>,
    changed: HashSet<DeviceId>,
}

impl Stacks {
    pub fn check(&mut self, document: &Snapshot, is_own: impl Fn(u32, u32) -> bool) -> Vec<String> {
        let devices: HashMap<DeviceId, &DeviceReport> =
            document.devices.iter().map(|device| (device_id(device), device)).collect();
        let mut uppers = HashMap::<DeviceId, Vec<DeviceId>>::new();
        for id in devices.keys() {
            uppers.entry(*id).or_default();
        }
        for (id, device) in &devices {
            let at = |ifindex: u32| (id.0, id.1, ifindex);
            let lower = device.lower_ifindex.map(|lower| (at(lower), *id));
            let master = device.master_ifindex.map(|master| (*id, at(master)));
            for (lower, upper) in lower.into_iter().chain(master) {
                uppers.entry(lower).or_default().push(upper);
            }
        }
        uppers.values_mut().for_each(|uppers| uppers.sort_unstable());
        for (lower, before) in &self.uppers {
            if !before.is_empty() && uppers.get(lower).is_some_and(|now| now != before) {
                self.changed.insert(*lower);
            }
        }
        let mut lowers = BTreeMap::<DeviceId, Vec<DeviceId>>::new();
        for (lower, of_lower) in &uppers {
            if let [upper] = of_lower.as_slice()
                && !self.changed.contains(lower)
            {
                lowers.entry(*upper).or_default().push(*lower);
            }
        }
        let mut found = Vec::new();
        for (upper, below) in lowers {
            let Some(device) = devices.get(&upper).filter(|device| is_own(device.netns, device.netns_cookie)) else {
                continue;
            };
            for direction in 0..2 {
                let [bytes, packets] = wire(upper, direction, &devices, &uppers, MAX_DEPTH);
                let sides = below.iter().filter_map(|lower| Some(directions(&devices.get(lower)?.total)[direction].1));
                let has = sides.fold([0, 0], |sum, side| [sum[0] + side.upper_bytes, sum[1] + side.upper_packets]);
                if has[1] > packets || has[0] > bytes + has[1] * MAX_FRAME_BYTES {
                    found.push(format!(
                        "devices below {:?} of namespace {} have {has:?} of its {:?} ({direction}): {device:?}",
                        device.device,
                        device.netns,
                        [bytes, packets]
                    ));
                }
            }
        }
        self.uppers = uppers;
        found
    }
}

/// What a device and those above it have moved, at most, as segments.
fn wire(
    id: DeviceId,
    direction: usize,
    devices: &HashMap<DeviceId, &DeviceReport>,
    uppers: &HashMap<DeviceId, Vec<DeviceId>>,
    left: usize,
) -> [u64; 2] {
    let own = devices.get(&id).map(|device| of_side(&directions(&device.total)[direction].1)).unwrap_or_default();
    let above = uppers.get(&id).filter(|_| left > 0).into_iter().flatten();
    above.fold(own, |sum, upper| {
        let more = wire(*upper, direction, devices, uppers, left - 1);
        [sum[0] + more[0], sum[1] + more[1]]
    })
}

const fn of_side(side: &DirectionBalance) -> [u64; 2] {
    [
        side.attributed_bytes
            + side.kernel_bytes
            + side.forwarded_bytes
            + side.link_header_bytes
            + side.unattributed_bytes
            + side.undecided_bytes.unsigned_abs(),
        side.attributed_packets
            + side.kernel_packets
            + side.forwarded_packets
            + side.unattributed_packets
            + side.undecided_packets.unsigned_abs(),
    ]
}
