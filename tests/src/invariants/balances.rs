//! Device balances in a document: each adds up, holds exactly what its rows hold, and leaves nothing pending.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use nettop_model::{
    Snapshot,
    snapshot::{DeviceBalance, DeviceReport, DirectionBalance, Traffic},
};

use super::items::{DeviceId, device_id, device_of, row_identity};
use crate::directions;

/// What a device has not counted, though rows hold it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Rest {
    netns: u32,
    device: String,
    direction: &'static str,
    what: &'static str,
}

/// Wire bytes and packets by direction.
type Amounts = [[u64; 2]; 2];

/// What is known of a row on a device.
struct Row {
    id: DeviceId,
    is_kernel: bool,
    total: Amounts,
}

/// Follows the devices of one nettopd.
#[derive(Default)]
pub struct DeviceBalances {
    rows: HashMap<String, Row>,
    /// What rows had counted when their device's balance began; of the kernel's rows and of others.
    base: HashMap<(DeviceId, bool), Amounts>,
    /// Rests that are negative in the latest document: since when, and their value then.
    negative_now: BTreeMap<Rest, (u64, u64)>,
    negative: BTreeMap<Rest, String>,
    /// All intervals together.
    elapsed_ms: u64,
    reported: BTreeSet<(DeviceId, &'static str)>,
}

/// Longer than a packet waits for a neighbour's address (three probes, a second apart) or in a queue.
const UNDER_WAY_MS: u64 = 5000;

/// A device holds in an interval what groups hold.
fn groups_make_the_device(device: &DeviceReport, direction: usize, document: &Snapshot) -> Option<String> {
    let of_device = document
        .groups
        .iter()
        .filter(|group| (group.netns, group.netns_cookie, group.ifindex.unwrap_or(0)) == device_id(device));
    let [bytes, packets] = of_device.fold([0; 2], |sum, group| {
        let more = amounts(&group.interval)[direction];
        [sum[0] + more[0], sum[1] + more[1]]
    });
    let (name, side) = directions(&device.interval)[direction];
    let held = [side.attributed_bytes + side.kernel_bytes, side.attributed_packets + side.kernel_packets];
    (held != [bytes, packets])
        .then(|| format!("groups hold {bytes} bytes in {packets} packets {name}, the device {held:?}: {device:?}"))
}

impl DeviceBalances {
    /// Devices may have gone, with their rows.
    pub fn forget(&mut self, gone: &HashSet<DeviceId>) {
        self.rows.retain(|_, row| !gone.contains(&row.id));
        self.base.retain(|(id, _), _| !gone.contains(id));
    }

    pub fn is_negative_now(&self) -> bool {
        !self.negative_now.is_empty()
    }

    /// What stayed negative on other devices than these.
    pub fn negative(&self, exempt: &[(u32, String)]) -> Vec<String> {
        let is_exempt = |rest: &Rest| exempt.iter().any(|(netns, name)| (*netns, name) == (rest.netns, &rest.device));
        self.negative.iter().filter(|(rest, _)| !is_exempt(rest)).map(|(_, text)| text.clone()).collect()
    }

    /// `begins`: whether this is the first document; none where rows are hidden.
    pub fn check(
        &mut self,
        document: &Snapshot,
        begins: Option<bool>,
        is_own: impl Fn(u32, u32) -> bool,
    ) -> Vec<String> {
        let mut found = Vec::new();
        self.elapsed_ms += document.interval_ms;
        // Groups have what their rows had.
        let is_grouped = document.by.is_some();
        if let Some(begins) = begins.filter(|_| !is_grouped) {
            self.take_rows(document, begins);
        }
        let rows = self.sums();
        let mut negative_now = BTreeMap::new();
        for device in &document.devices {
            for (direction, (name, total)) in directions(&device.total).into_iter().enumerate() {
                found.extend(adds_up(device, "interval", name, directions(&device.interval)[direction].1));
                found.extend(adds_up(device, "total", name, total));
                if begins.is_some() && is_grouped {
                    found.extend(groups_make_the_device(device, direction, document));
                } else if begins.is_some() {
                    found.extend(self.rows_make_the_device(device, direction, &rows));
                }
                if is_own(device.netns, device.netns_cookie) {
                    self.rest(device, name, total, &mut negative_now);
                }
            }
        }
        // What is gone cannot make up for it.
        let devices: HashSet<(u32, &str)> =
            document.devices.iter().map(|device| (device.netns, device.device.as_str())).collect();
        for (rest, (_, value)) in &self.negative_now {
            if !devices.contains(&(rest.netns, rest.device.as_str())) {
                let text = format!("{rest:?} was {value} when the device went");
                self.negative.entry(rest.clone()).or_insert(text);
            }
        }
        self.negative_now = negative_now;
        found
    }

    fn take_rows(&mut self, document: &Snapshot, begins: bool) {
        for row in &document.rows {
            let (id, is_kernel) = (device_of(row), row.owner == "kernel");
            let total = amounts(&row.total);
            if begins {
                let (base, interval) = (self.base.entry((id, is_kernel)).or_default(), amounts(&row.interval));
                for (base, (total, interval)) in
                    base.iter_mut().flatten().zip(total.iter().flatten().zip(interval.iter().flatten()))
                {
                    *base += total.saturating_sub(*interval);
                }
            }
            self.rows.insert(row_identity(row), Row { id, is_kernel, total });
        }
    }

    /// Sums of all rows ever, by device and whether they are the kernel's.
    fn sums(&self) -> HashMap<(DeviceId, bool), Amounts> {
        let mut sums = HashMap::<_, Amounts>::new();
        for row in self.rows.values() {
            let sum = sums.entry((row.id, row.is_kernel)).or_default();
            for (sum, more) in sum.iter_mut().flatten().zip(row.total.iter().flatten()) {
                *sum += more;
            }
        }
        sums
    }

    /// A device holds what its rows hold.
    fn rows_make_the_device(
        &mut self,
        device: &DeviceReport,
        direction: usize,
        rows: &HashMap<(DeviceId, bool), Amounts>,
    ) -> Option<String> {
        let id = device_id(device);
        let (name, total) = directions(&device.total)[direction];
        // A namespace that could not be entered this time: its balance waits.
        let is_quiet = device.interval == DeviceBalance::default();
        for (is_kernel, what, bytes, packets) in [
            (false, "attributed", total.attributed_bytes, total.attributed_packets),
            (true, "kernel", total.kernel_bytes, total.kernel_packets),
        ] {
            let base = self.base.get(&(id, is_kernel)).copied().unwrap_or_default()[direction];
            let rows = rows.get(&(id, is_kernel)).copied().unwrap_or_default()[direction];
            let holds = rows == [base[0] + bytes, base[1] + packets]
                || is_quiet && rows[0] >= base[0] + bytes && rows[1] >= base[1] + packets;
            if !holds && self.reported.insert((id, name)) {
                return Some(format!(
                    "rows of {what} on {:?} of namespace {} hold {} bytes in {} packets {name}, the device's balance {:?} in {packets} (before: {base:?}): {device:?}",
                    device.device, id.0, rows[0], rows[1], bytes
                ));
            }
        }
        None
    }

    /// A rest is not negative for long. A packet may be on its way to the device when rows are read, wait for its
    /// neighbour's address or in a queue, or, received, be counted by the device when its receive loop ends.
    fn rest(
        &mut self,
        device: &DeviceReport,
        direction: &'static str,
        total: DirectionBalance,
        now: &mut BTreeMap<Rest, (u64, u64)>,
    ) {
        for (what, value) in [("pending_bytes", total.pending_bytes), ("pending_packets", total.pending_packets)] {
            if value == 0 {
                continue;
            }
            let rest = Rest { netns: device.netns, device: device.device.clone(), direction, what };
            let (since_ms, before) = *self.negative_now.get(&rest).unwrap_or(&(self.elapsed_ms, value));
            if self.elapsed_ms - since_ms >= UNDER_WAY_MS {
                let text = format!("{rest:?} stays pending: first {before}, then {value}: {device:?}");
                self.negative.entry(rest.clone()).or_insert(text);
            }
            now.insert(rest, (since_ms, before));
        }
    }
}

fn adds_up(device: &DeviceReport, of: &str, direction: &str, side: DirectionBalance) -> Vec<String> {
    let has_bytes = [side.bytes, side.copied_bytes, side.offload_bytes, side.pending_bytes];
    let has_packets = [side.packets, side.copied_packets, side.offload_packets, side.pending_packets];
    let bytes = [
        side.attributed_bytes,
        side.kernel_bytes,
        side.forwarded_bytes,
        side.upper_bytes,
        side.link_header_bytes,
        side.padding_bytes,
        side.unattributed_bytes,
    ];
    let packets = [
        side.attributed_packets,
        side.kernel_packets,
        side.forwarded_packets,
        side.upper_packets,
        0,
        0,
        side.unattributed_packets,
    ];
    let mut found = Vec::new();
    for (what, has, said, undecided) in
        [("bytes", has_bytes, bytes, side.undecided_bytes), ("packets", has_packets, packets, side.undecided_packets)]
    {
        let has = has.map(i128::from).iter().sum::<i128>();
        let is_said = said.map(i128::from).iter().sum::<i128>() + i128::from(undecided);
        if has != is_said {
            found.push(format!(
                "{of} {direction} {what} of {:?} in namespace {} are {has} with copies, and {is_said} by owner: {side:?}",
                device.device, device.netns
            ));
        }
    }
    found
}

fn amounts(traffic: &Traffic) -> Amounts {
    [traffic.tx, traffic.rx].map(|direction| [direction.bytes, direction.packets])
}
