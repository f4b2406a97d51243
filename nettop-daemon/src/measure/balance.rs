//! The devices' balance: what rows count against the interface's own counters, on the interface's basis.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use nettop_common::Direction;
use nettop_kernel::ledger::{DeviceKey, DeviceReading, Presence};
use nettop_model::snapshot::{DeviceBalance, DeviceReport, DirectionBalance};

use self::{
    calibration::Calibration,
    report::report,
    sides::{BoundedBalance, add},
    stacks::Stacks,
};
use crate::identity::devices::{Counters, Device, Devices, Measured};

mod calibration;
mod report;
mod sides;
mod stacks;

/// Readings for which a negative rest may be packets under way, after the balance began or its base was taken again: rows
/// are read before devices. What is left then is in rows only. A rest that turns negative later stays as it is.
const SETTLING_READINGS: u8 = 4;
/// And this long: a packet waits for its neighbour's address for three probes of a second each (`neigh_timer_handler`).
const SETTLING_TIME: Duration = Duration::from_secs(4);
/// Readings for which a device that was just decided may be busy. A rest that turns negative later stays as it is.
const MAX_BUSY_READINGS: u8 = 60;

/// One device's balance.
struct Account {
    /// As it was last seen.
    device: Device,
    total: BoundedBalance,
    /// Of hardware: what software counts is known.
    calibration: Option<Calibration>,
    /// By direction, where it has just become known what it counts.
    decided: [Option<Decided>; 2],
    /// It is gone, and was reported for the last time unless its rows move on.
    is_closed: bool,
    /// Readings left of [`SETTLING_READINGS`], and time left of [`SETTLING_TIME`]. Both have to pass.
    settling: u8,
    settling_for: Duration,
    /// The balance began with the device: once its rest is not negative, nothing is missing.
    is_new: bool,
}

/// What has been pending in each of the readings since. A device is read after its rows: while it is busy, it may have
/// counted what they do not hold yet, and less is pending than is missing.
struct Decided {
    readings: u8,
    bytes: u64,
    packets: u64,
}

impl Default for Decided {
    fn default() -> Self {
        Self { readings: 0, bytes: u64::MAX, packets: u64::MAX }
    }
}

impl Decided {
    /// What stays, in bytes and packets: for a busy device, after [`SETTLING_READINGS`] readings; for an idle one, at once.
    fn stays(&mut self, (bytes, packets): (u64, u64), is_idle: bool) -> Option<(u64, u64)> {
        if is_idle {
            return Some((bytes, packets));
        }
        (self.bytes, self.packets) = (self.bytes.min(bytes), self.packets.min(packets));
        self.readings = self.readings.saturating_add(1);
        (self.readings == SETTLING_READINGS).then_some((self.bytes, self.packets))
    }
}

/// Of hardware.
fn calibration(device: &Device) -> Option<Calibration> {
    device.is_hardware().then(|| Calibration::new(device.setup.clone()))
}

impl Account {
    fn new(device: Device) -> Self {
        let is_new = device.counters == Counters::default();
        let total = BoundedBalance::default();
        let calibration = calibration(&device);
        let (settling, settling_for) = (SETTLING_READINGS, SETTLING_TIME);
        Self { device, total, calibration, decided: [None, None], is_closed: false, settling, settling_for, is_new }
    }

    /// The base was taken again.
    fn begin_again(&mut self) {
        (self.settling, self.settling_for, self.is_new) = (SETTLING_READINGS, SETTLING_TIME, false);
        if let Some(calibration) = &mut self.calibration {
            calibration.end_windows();
        }
    }

    /// What the device counts became known, or unknown.
    fn note_bases(&mut self, now: &Device) {
        for direction in [Direction::Tx, Direction::Rx] {
            let [before, after] = [&self.device, now].map(|device| device.basis[direction as usize].is_decided());
            if before != after {
                self.decided[direction as usize] = after.then(Decided::default);
            }
        }
    }

    /// Whether rows hold what the device has not counted.
    fn is_pending(&self) -> bool {
        let sides = [&self.total.balance.tx, &self.total.balance.rx];
        sides.iter().any(|side| side.pending_bytes > 0 || side.pending_packets > 0)
    }

    /// Adds an interval of this length in which the device's own counters were read.
    fn add(&mut self, interval: &mut BoundedBalance, length: Duration) {
        self.total.add(interval);
        for direction in [Direction::Tx, Direction::Rx] {
            let is_idle = *interval.side(direction) == DirectionBalance::default();
            self.fold_pending(direction, is_idle);
        }
        if self.is_new && !self.is_pending() {
            (self.settling, self.settling_for) = (0, Duration::ZERO);
        }
        if self.is_settling() {
            self.settling = self.settling.saturating_sub(1);
            self.settling_for = self.settling_for.saturating_sub(length);
            if !self.is_settling() {
                self.raise(interval);
            }
        }
    }

    /// What is on its way while a direction is undecided, or was when it became known, is part of that difference.
    fn fold_pending(&mut self, direction: Direction, is_idle: bool) {
        let total = self.total.side(direction);
        let pending = (total.pending_bytes, total.pending_packets);
        let decided = &mut self.decided[direction as usize];
        let stays = if self.device.basis[direction as usize].is_decided() {
            decided.as_mut().and_then(|decided| decided.stays(pending, is_idle))
        } else {
            Some(pending)
        };
        if is_idle || decided.as_ref().is_some_and(|decided| decided.readings > MAX_BUSY_READINGS) {
            *decided = None;
        }
        let Some((bytes, packets)) = stays else { return };
        total.undecided_bytes -= bytes.cast_signed();
        total.undecided_packets -= packets.cast_signed();
        total.settle();
    }

    fn is_settling(&self) -> bool {
        self.settling > 0 || !self.settling_for.is_zero()
    }

    /// Adds the last interval of the device.
    fn close(&mut self, interval: &mut BoundedBalance) {
        self.total.add(interval);
        if self.is_settling() {
            self.raise(interval);
        }
        self.is_closed = true;
    }

    /// Takes what is pending as counted by the device.
    fn raise(&mut self, interval: &mut BoundedBalance) {
        for direction in [Direction::Tx, Direction::Rx] {
            let (total, interval) = (self.total.side(direction), interval.side(direction));
            let (bytes, packets) = (total.pending_bytes, total.pending_packets);
            for side in [total, interval] {
                side.bytes += bytes;
                side.packets += packets;
                side.settle();
            }
        }
    }
}

/// Accumulates from the first reading on.
#[derive(Default)]
pub struct Balance {
    accounts: BTreeMap<DeviceKey, Account>,
    /// What rows counted on devices that could not be read yet: their counters hold it already.
    waiting: BTreeMap<DeviceKey, DeviceReading>,
    /// The latest last. An index may have had several.
    gone: VecDeque<(DeviceKey, Device)>,
    gone_total: DeviceBalance,
    stacks: Stacks,
}

impl Balance {
    /// Starts from the devices' counters as they are.
    pub fn new(devices: &Devices) -> Self {
        let account = |device: &Device| Account::new(device.clone());
        let accounts = devices.iter().map(|(key, device)| (*key, account(device))).collect();
        Self { accounts, ..Self::default() }
    }

    /// The balance of all gone devices, each on its own basis.
    pub const fn gone(&self) -> &DeviceBalance {
        &self.gone_total
    }

    /// What was observed of devices whose counters only their drivers' source documents.
    pub fn measured(&self) -> BTreeMap<DeviceKey, [Option<Measured>; 2]> {
        let of = |(key, account): (&DeviceKey, &Account)| Some((*key, account.calibration.as_ref()?.measured()));
        self.accounts.iter().filter_map(of).collect()
    }

    /// The balance of an interval of this length, for devices that are there or went in it. `rows` are those of the
    /// ledger's reading before the devices were read.
    pub fn update(
        &mut self,
        length: Duration,
        rows: &BTreeMap<DeviceKey, DeviceReading>,
        devices: &Devices,
    ) -> Vec<DeviceReport> {
        for (key, more) in rows {
            self.waiting.entry(*key).or_default().add(more);
        }
        let (mut reports, mut moved) = (BTreeMap::new(), BTreeMap::new());
        // What came is compared with what went: a device may have moved.
        let came: Vec<DeviceKey> =
            devices.iter().map(|(key, _)| *key).filter(|key| !self.accounts.contains_key(key)).collect();
        for key in came {
            if let Some(device) = devices.get(key) {
                let counters = self.base(key, device, devices);
                self.accounts.insert(key, Account::new(Device { counters, ..device.clone() }));
            }
        }
        for key in self.accounts.keys().copied().collect::<Vec<_>>() {
            let rows = self.waiting.get(&key).filter(|_| devices.is_fresh(key.0) || devices.present(key).is_none());
            moved.insert(key, rows.copied().unwrap_or_default());
            if let Some(report) = self.settle(key, length, devices) {
                reports.insert(key, report);
            }
        }
        let mut stacked = BTreeMap::new();
        for (key, Account { device, total, .. }) in &mut self.accounts {
            stacked.insert(*key, stacks::Account { device, total });
        }
        self.stacks.explain(length, &moved, &mut stacked, &mut reports);
        self.waiting.retain(|key, _| rows.contains_key(key) && !devices.is_fresh(key.0));
        reports.into_values().collect()
    }

    /// Closes the interval of one device.
    fn settle(&mut self, key: DeviceKey, length: Duration, devices: &Devices) -> Option<DeviceReport> {
        let account = self.accounts.get_mut(&key)?;
        let mut interval = BoundedBalance::default();
        match devices.present(key) {
            Some(now) if devices.is_fresh(key.0) => {
                let rows = self.waiting.remove(&key).unwrap_or_default();
                let before = account.device.counters;
                let is_another = is_another(&account.device, now);
                // One that was away counted elsewhere as well.
                let fell = now.counters.any_below(&before) || is_another || account.is_closed;
                // Some drivers count nothing while the device is down (ena, mana, i40e), and go on afterwards.
                let is_mute = fell && now.counters == Counters::default() && !is_another;
                if is_another {
                    account.calibration = calibration(now);
                    keep_gone(&mut self.gone, key, &account.device);
                }
                if fell {
                    account.begin_again();
                    interval = BoundedBalance::known(now, &rows);
                } else {
                    interval = BoundedBalance::new(&account.device, now, &rows);
                    if let Some(calibration) = &mut account.calibration {
                        calibration.add(&account.device, now, &rows, length);
                    }
                }
                account.note_bases(now);
                account.device = now.clone();
                account.is_closed = false;
                if is_mute {
                    account.device.counters = before;
                }
                account.add(&mut interval, length);
                if is_another {
                    // What is pending was the other's, which went.
                    account.raise(&mut interval);
                }
            }
            Some(_) => {}
            None => {
                let rows = self.waiting.remove(&key).unwrap_or_default();
                if account.is_closed && rows.is_empty() {
                    add(&mut self.gone_total, &account.total.balance);
                    keep_gone(&mut self.gone, key, &account.device);
                    self.accounts.remove(&key);
                    return None;
                }
                // Its counters went with it.
                interval = BoundedBalance::known(&account.device, &rows);
                account.close(&mut interval);
            }
        }
        Some(report(key, &account.device, interval.balance, account.total.balance))
    }

    /// The counters where the balance of a device begins when it is first seen: zero for a new one.
    fn base(&mut self, key: DeviceKey, device: &Device, devices: &Devices) -> Counters {
        let now = device.counters;
        let is_same = |(other, before): &(&DeviceKey, &Device)| {
            **other != key && may_be_same(other, before, &key, device) && !now.any_below(&before.counters)
        };
        // It was in another namespace a moment ago: it moved here what it moved since, except what it moved there.
        let went = |(other, account): &(&DeviceKey, &Account)| {
            let is_there = |now: &Device| now.identity == account.device.identity && !now.is_unlisted;
            devices.place(**other) == Presence::Gone
                || devices.is_fresh(other.0) && !devices.present(**other).is_some_and(is_there)
        };
        let from = self.accounts.iter().find(|entry| is_same(&(entry.0, &entry.1.device)) && went(entry));
        if let Some((other, Account { device: before, is_closed: false, .. })) = from {
            let there = self.waiting.get(other).copied().unwrap_or_default();
            return before.counters.plus(&BoundedBalance::known(device, &there).balance).at_most(&now);
        }
        // A reading found it nowhere.
        let was_away = from.is_some();
        let is_it = |(other, before): &(DeviceKey, Device)| {
            (*other == key && before.identity == device.identity || may_be_same(other, before, &key, device))
                && !now.any_below(&before.counters)
        };
        let is_back = self.gone.iter().rposition(is_it).and_then(|at| self.gone.remove(at)).is_some();
        // It counted all of it somewhere else, and hardware was there before it came here.
        if was_away || is_back || devices.is_late(key.0) || device.is_hardware() {
            self.waiting.remove(&key);
            return now;
        }
        Counters::default()
    }
}

/// Whether an index now belongs to another device. A device may be renamed, and gets another address or peer when it is set
/// up.
fn is_another(before: &Device, now: &Device) -> bool {
    let is_renamed = before.name != now.name;
    before.identity.kind != now.identity.kind || is_renamed && before.identity.address != now.identity.address
}

/// Keeps a device in case it comes back.
fn keep_gone(gone: &mut VecDeque<(DeviceKey, Device)>, key: DeviceKey, device: &Device) {
    gone.push_back((key, device.clone()));
    if gone.len() > Devices::MAX_GONE_DEVICES {
        gone.pop_front();
    }
}

/// Whether two are one device that moved, maybe away and back. It keeps its name or its index; all VLANs and ipvlans of a
/// device have its address.
fn may_be_same(other: &DeviceKey, before: &Device, key: &DeviceKey, device: &Device) -> bool {
    let has_address = device.identity.address.iter().any(|byte| *byte != 0);
    let (has_its_index, has_its_name) = (other.1 == key.1, before.name == device.name);
    before.identity == device.identity
        && if has_address {
            has_its_index || has_its_name
        } else {
            has_its_index && has_its_name && !device.identity.kind.is_empty()
        }
}

#[cfg(test)]
mod simulated;
#[cfg(test)]
mod tests;
