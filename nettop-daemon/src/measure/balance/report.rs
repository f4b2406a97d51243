//! A device's balance as documents have it.

use nettop_kernel::ledger::DeviceKey;
use nettop_model::snapshot::{BasisReport, DeviceBalance, DeviceReport};

use crate::identity::devices::{Basis, Device};

pub fn report(key: DeviceKey, device: &Device, interval: DeviceBalance, total: DeviceBalance) -> DeviceReport {
    let [tx_basis, rx_basis] = device.basis.map(|basis| of_basis(&basis));
    DeviceReport {
        netns: key.0.inode,
        netns_cookie: key.0.cookie,
        device: device.name.clone(),
        ifindex: key.1,
        lower_ifindex: device.lower(),
        master_ifindex: device.setup.master,
        driver: (!device.setup.driver.is_empty()).then(|| device.setup.driver.clone()),
        tx_basis,
        rx_basis,
        interval,
        total,
    }
}

fn of_basis(basis: &Basis) -> BasisReport {
    BasisReport {
        packets: basis.packets.word(),
        bytes: basis.bytes.word(),
        link_header_bytes: basis.link_header_bytes,
        known: basis.known.word(),
        reason: basis.known.reason().map(ToOwned::to_owned),
    }
}
