//! Lines of devices: whose the bytes were that each moved.

use std::collections::HashMap;

use nettop_model::snapshot::DeviceReport;

use super::line::{Amounts, Input, Line, Lines, Value, text, trends};
use crate::{
    books::{Side, device_key},
    filter::{Field, Numbers, Subject},
    units::per_second,
    views::{Kind, What},
};

pub(super) fn lines(input: &Input<'_>) -> Lines {
    let is_entered = |device: &DeviceReport| {
        input.scope.iter().all(|crumb| crumb.kind != Kind::Device || crumb.key == device_key(device))
    };
    let devices = input.frame.devices.iter().enumerate().filter(|(_, device)| is_entered(device));
    let mut devices: Vec<(usize, &DeviceReport)> = devices.collect();
    let of = devices.len();
    devices.retain(|(_, device)| {
        let [tx, rx] = moved(device).map(|bytes| per_second(bytes, input.frame.interval_ms));
        input.filter.admits(&OfDevice(device), &Numbers { tx, rx, ..Numbers::default() })
    });
    let keys = devices.iter().enumerate().map(|(place, (_, device))| (device_key(device), place));
    let places: HashMap<String, usize> = keys.collect();
    let trends = trends(input, devices.len(), |frame, add| {
        for device in &frame.devices {
            if let Some(place) = places.get(&device_key(device)) {
                add(*place, per_second(both(device), frame.interval_ms));
            }
        }
    });
    let lines = devices.into_iter().zip(trends).map(|((at, device), trend)| line(input, at, device, trend)).collect();
    Lines { lines, of }
}

/// In the interval, each way.
fn moved(device: &DeviceReport) -> [u64; 2] {
    [&device.interval.tx, &device.interval.rx].map(|side| Side::of(side).bytes())
}

fn both(device: &DeviceReport) -> u64 {
    let [tx, rx] = moved(device);
    tx.saturating_add(rx)
}

fn line(input: &Input<'_>, at: usize, device: &DeviceReport, trend: Vec<u64>) -> Line {
    let is_rate = input.amounts == Amounts::Rate;
    let balance = if is_rate { &device.interval } else { &device.total };
    let [tx, rx] = [&balance.tx, &balance.rx].map(Side::of);
    let shown = |bytes: u64| Value::Bytes(if is_rate { per_second(bytes, input.frame.interval_ms) } else { bytes });
    let mut trend = Some(trend);
    let mut value = |what: What| match what {
        What::Name => text(Some(&device.device)),
        What::Namespace => Value::Id(device.netns.into()),
        What::Up => shown(tx.bytes()),
        What::Down => shown(rx.bytes()),
        What::UpOwned => shown(tx.owned),
        What::UpKernel => shown(tx.kernel),
        What::UpForwarded => shown(tx.forwarded),
        What::UpNobody => shown(tx.unattributed),
        What::DownOwned => shown(rx.owned),
        What::DownKernel => shown(rx.kernel),
        What::DownForwarded => shown(rx.forwarded),
        What::DownNobody => shown(rx.unattributed),
        What::Basis if device.tx_basis.known == device.rx_basis.known => text(Some(&device.tx_basis.known)),
        What::Basis => text(Some(&format!("{}/{}", device.tx_basis.known, device.rx_basis.known))),
        What::Trend => trend.take().map_or(Value::None, Value::Trend),
        _ => Value::None,
    };
    Line {
        key: device_key(device),
        values: input.view.columns.iter().map(|column| value(column.what)).collect(),
        has_ended: false,
        is_bad: [&device.interval.tx, &device.interval.rx].iter().any(|side| Side::of(side).is_doubtful()),
        depth: 0,
        rows: Vec::new(),
        item: Some(at),
        weight: both(device),
    }
}

struct OfDevice<'a>(&'a DeviceReport);

impl Subject for OfDevice<'_> {
    fn any(&self, field: Field, is_wanted: &mut dyn FnMut(&str) -> bool) -> bool {
        field == Field::Dev && is_wanted(&self.0.device)
    }
}
