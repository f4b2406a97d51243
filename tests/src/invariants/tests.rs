//! Each invariant, broken once.

use nettop_model::{
    Snapshot,
    drops::{Class, DropReport, TcpReport},
    snapshot::{Amount, Count, DeviceBalance, DeviceReport, DirectionBalance, DropAmount, Loss, RowReport, Traffic},
};

use super::{Invariants, own};

const NETNS: u32 = 77;
const BYSTANDER: u32 = 99;

fn traffic(n: u64) -> Traffic {
    let amount = Amount { bytes: 100 * n, packets: n, app_bytes: 72 * n };
    Traffic { tx: amount, rx: amount }
}

fn balances(n: u64) -> DeviceBalance {
    let side = DirectionBalance {
        bytes: 100 * n,
        packets: n,
        attributed_bytes: 100 * n,
        attributed_packets: n,
        ..DirectionBalance::default()
    };
    DeviceBalance { tx: side, rx: side }
}

/// The document after `n` intervals, in each of which one process sent itself a packet of 100 bytes.
fn document(n: u64) -> Snapshot {
    let count = Count { interval: u64::from(n > 0), total: n };
    let dropped = |packets| DropAmount { packets, bytes: None };
    Snapshot {
        interval_ms: 5000,
        rows: vec![RowReport {
            pid: 5,
            start_time_ns: Some(1),
            uid: Some(0),
            comm: "a".into(),
            owner: "user".into(),
            netns: NETNS,
            netns_cookie: 1,
            ifindex: Some(1),
            interval: traffic(1),
            total: traffic(n),
            drops: count,
            retransmits: count,
            ..RowReport::default()
        }],
        devices: vec![DeviceReport {
            netns: NETNS,
            netns_cookie: 1,
            device: "lo".into(),
            ifindex: 1,
            interval: balances(1),
            total: balances(n),
            ..DeviceReport::default()
        }],
        drops: vec![DropReport {
            reason: "X".into(),
            reason_code: None,
            class: Class::Capacity,
            location: "f+1".into(),
            protocol: None,
            netns: Some(NETNS),
            netns_cookie: None,
            device: None,
            ifindex: None,
            pid: Some(5),
            start_time_ns: None,
            uid: None,
            comm: None,
            owner: "packet".into(),
            local_port: None,
            interval: dropped(1),
            total: dropped(n),
        }],
        tcp: vec![TcpReport { event: "retransmit".into(), pid: Some(5), count, ..TcpReport::default() }],
        loss: Loss { rows_full: n, namespaces_unread: 9 - n, ..Loss::default() },
        ..Snapshot::default()
    }
}

/// What is found in four documents of which the third and fourth are changed.
fn found(change: impl Fn(&mut Snapshot)) -> Vec<String> {
    found_in([2, 3], change)
}

fn found_in(changed: impl IntoIterator<Item = u64> + Clone, change: impl Fn(&mut Snapshot)) -> Vec<String> {
    own(NETNS, 1);
    let mut invariants = Invariants::new(&[], vec![BYSTANDER]);
    for n in 0..4 {
        let mut document = document(n + 1);
        if changed.clone().into_iter().any(|changed| changed == n) {
            change(&mut document);
        }
        invariants.check(&document);
    }
    invariants.violations(0, &[])
}

fn assert_found(found: &[String], words: &str) {
    assert!(found.iter().any(|text| text.contains(words)), "{words} is not in {found:#?}");
}

#[test]
fn documents_that_keep_all_break_nothing() {
    assert_eq!(found(|_| {}), [""; 0]);
}

#[test]
fn a_counter_that_falls_is_found_whatever_it_is() {
    let falls: [fn(&mut Snapshot); 7] = [
        |document| document.rows[0].total.tx.bytes = 0,
        |document| document.rows[0].drops.total = 0,
        |document| document.rows[0].retransmits.total = 0,
        |document| document.devices[0].total.rx.packets = 0,
        |document| document.drops[0].total.packets = 0,
        |document| document.tcp[0].count.total = 0,
        |document| document.loss.rows_full = 0,
    ];
    for (at, change) in falls.into_iter().enumerate() {
        let found = found(change);
        assert!(found.iter().any(|text| text.contains("fell from") && text.ends_with("to 0")), "{at}: {found:#?}");
    }
    let exited = found_in([1], |document| document.exited.tx.bytes = 7);
    assert_found(&exited, "exited: tx.bytes fell from 7 to 0");
    let gone = found_in([1], |document| document.gone_devices.rx.kernel_bytes = 7);
    assert_found(&gone, "gone devices: rx.kernel_bytes fell from 7 to 0");
}

#[test]
fn every_loss_is_followed() {
    let all = serde_json::to_value(Loss::default()).unwrap();
    let named = Loss::default().entries().map(|(name, _)| name);
    assert!(all.as_object().unwrap().keys().all(|name| named.contains(&name.as_str())), "{all}");
}

#[test]
fn a_row_that_comes_back_goes_on() {
    let found = found_in([2], |document| document.rows.clear());
    assert_found(&found, "tx.bytes went from 200 to 400, and the interval says 100");
}

#[test]
fn a_total_grows_by_its_interval() {
    let found = found(|document| document.rows[0].total.rx.packets = 9);
    assert_found(&found, "rx.packets went from 2 to 9, and the interval says 1");
}

#[test]
fn what_retires_is_in_exited() {
    let gone = |document: &mut Snapshot| {
        document.rows.clear();
        document.exited = Traffic { tx: traffic(1).tx, rx: traffic(2).rx };
    };
    assert_found(&found(gone), "rows and exited together: tx.bytes went from 200 to 100, and the intervals say 0");
}

#[test]
fn an_identity_has_one_row() {
    let twice = |document: &mut Snapshot| document.rows.push(document.rows[0].clone());
    assert_found(&found(twice), "is in one document twice");
}

#[test]
fn balances_add_up_and_hold_their_rows() {
    let found_unequal = found(|document| document.devices[0].total.tx.copied_bytes = 5);
    assert_found(&found_unequal, "total tx bytes of \"lo\" in namespace 77");
    let less = |document: &mut Snapshot| {
        let side = &mut document.devices[0].total.rx;
        side.attributed_bytes = 100;
        side.unattributed_bytes = side.bytes - 100;
    };
    assert_found(&found(less), "rows of attributed on \"lo\" of namespace 77 hold");
}

#[test]
fn a_row_that_its_device_does_not_hold_is_found() {
    let more = |document: &mut Snapshot| document.rows[0].total.tx.bytes += 1;
    assert!(found(more).iter().any(|text| text.contains("rows of attributed")));
}

#[test]
fn what_stays_pending_is_found_and_one_that_passes_is_not() {
    let negative = |document: &mut Snapshot| {
        let side = &mut document.devices[0].total.tx;
        side.attributed_packets += 1;
        side.pending_packets = 1;
    };
    let is_of_rest = |text: &String| text.contains("stays pending: first 1, then 1");
    assert!(found(negative).iter().any(is_of_rest));
    assert!(!found_in([2], negative).iter().any(is_of_rest));
}

#[test]
fn devices_below_another_have_no_more_than_it_has() {
    let below = |packets: u64| {
        move |document: &mut Snapshot| {
            for (ifindex, packets) in [(2, 1), (3, packets)] {
                let side = DirectionBalance {
                    bytes: 114 * packets,
                    packets,
                    upper_bytes: 114 * packets,
                    upper_packets: packets,
                    ..DirectionBalance::default()
                };
                let total = DeviceBalance { tx: side, ..DeviceBalance::default() };
                let (device, master_ifindex) = (format!("v{ifindex}"), Some(1));
                let (netns, netns_cookie) = (NETNS, 1);
                document.devices.push(DeviceReport {
                    netns,
                    netns_cookie,
                    device,
                    ifindex,
                    master_ifindex,
                    interval: total,
                    total,
                    ..DeviceReport::default()
                });
            }
        }
    };
    // The third and the fourth document have 3 and 4 packets above.
    assert_eq!(found_in([2], below(2)), [""; 0]);
    assert_found(&found_in([2], below(3)), "devices below \"lo\" of namespace 77 have [456, 4] of its [300, 3]");
}

#[test]
fn who_only_spins_has_nothing() {
    let of_bystander: [fn(&mut Snapshot); 3] = [
        |document| document.rows[0].pid = BYSTANDER,
        |document| document.drops[0].pid = Some(BYSTANDER),
        |document| document.tcp[0].pid = Some(BYSTANDER),
    ];
    for change in of_bystander {
        assert_found(&found(change), "a process that only spins");
    }
}

#[test]
fn the_next_daemon_goes_on_or_says_when_it_began() {
    let found = |change: fn(&mut Snapshot)| {
        let mut invariants = Invariants::of_daemons();
        (1..4).for_each(|n| invariants.check(&document(n)));
        let mut next = document(4);
        // Its devices begin again.
        next.devices_since = Some("later".into());
        next.devices[0].total = next.devices[0].interval;
        change(&mut next);
        invariants.check(&next);
        invariants.violations(0, &[])
    };
    assert_eq!(found(|_| {}), [""; 0]);
    let fallen = found(|next| next.rows[0].total = next.rows[0].interval);
    assert_found(&fallen, "tx.bytes fell from 300 to 100");
    assert_found(&fallen, "rows and exited together: tx.bytes went from 300 to 100");
    assert_found(&found(|next| next.devices_since = None), "tx.bytes fell from 300 to 100");
    let anew = found(|next| {
        let devices_since = next.devices_since.take();
        *next = Snapshot { accounting_since: "later".into(), devices_since, ..document(1) };
    });
    assert_eq!(anew, [""; 0]);
}
