//! A device that counts each buffer by its basis, next to rows that count as the kernel's side does: nothing is left.

use proptest::{collection::vec, prelude::*};

use super::{
    super::simulated::{Buffer, buffer},
    *,
};
use crate::identity::devices::{Counters, Known};

const LINK_HEADER: u32 = 14;

fn basis() -> impl Strategy<Value = Basis> {
    let counts = || prop_oneof![Just(Counts::Segments), Just(Counts::Once), Just(Counts::Buffers)];
    (counts(), any::<bool>(), any::<bool>()).prop_map(|(counts, has_header, is_padded)| {
        let basis = Basis::new(counts, if has_header { LINK_HEADER } else { 0 });
        basis.padded(if is_padded { Padding::Always } else { Padding::Never })
    })
}

fn whole() -> impl Strategy<Value = Whole> {
    (any::<[bool; 2]>(), any::<bool>(), any::<[bool; 2]>()).prop_map(|(tcp, udp, large)| Whole { tcp, udp, large })
}

fn device_with(basis: Basis, whole: Whole, counters: Counters) -> Device {
    Device { basis: [basis; 2], whole, counters, ..Device::default() }
}

fn sum(buffers: &[Buffer], basis: &Basis, whole: &Whole, direction: Direction) -> (u64, u64) {
    buffers.iter().map(|buffer| buffer.device(basis, whole, direction)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
}

fn counters(buffers: &[Buffer], basis: &Basis, whole: &Whole) -> Counters {
    let [(tx_packets, tx_bytes), (rx_packets, rx_bytes)] =
        [Direction::Tx, Direction::Rx].map(|direction| sum(buffers, basis, whole, direction));
    Counters { tx_bytes, tx_packets, rx_bytes, rx_packets }
}

fn rows(buffers: &[Buffer]) -> DeviceReading {
    let mut rows = DeviceReading::default();
    for buffer in buffers {
        buffer.count(&mut rows, Direction::Tx);
        buffer.count(&mut rows, Direction::Rx);
    }
    rows
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_left_whatever_a_device_counts(buffers in vec(buffer(), 1..40), basis in basis(), whole in whole()) {
        let before = device_with(basis, whole, Counters::default());
        let now = device_with(basis, whole, counters(&buffers, &basis, &whole));
        let bounded = BoundedBalance::new(&before, &now, &rows(&buffers)).balance;
        for side in [bounded.tx, bounded.rx] {
            prop_assert_eq!((side.unattributed_bytes, side.pending_bytes), (0, 0), "{:?}", side);
            prop_assert_eq!((side.unattributed_packets, side.pending_packets), (0, 0), "{:?}", side);
        }
        // Without the counters, their expected values are taken.
        let known = BoundedBalance::known(&now, &rows(&buffers)).balance;
        prop_assert_eq!((known.tx.bytes, known.rx.packets), (now.counters.tx_bytes, now.counters.rx_packets));
    }

    #[test]
    fn nothing_is_left_of_what_one_device_received_and_another_sent(
        buffers in vec(buffer(), 1..40), basis in basis(), mut whole in whole()
    ) {
        for family in 0..2 {
            whole.large[family] &= whole.tcp[family];
        }
        let before = device_with(basis, whole, Counters::default());
        let mut rows = DeviceReading::default();
        buffers.iter().for_each(|buffer| buffer.forward(&mut rows, &whole));
        // What the sending device does not take whole, it counts as segments.
        let all = counters(&buffers, &basis, &whole);
        let bounded = BoundedBalance::new(&before, &device_with(basis, whole, all), &rows).balance;
        let tx_is_whole = |buffer: &Buffer| buffer.segments == 1 || !buffer.is_merged || buffer.jumbo_bytes() == 0;
        let sides = if buffers.iter().all(tx_is_whole) { vec![bounded.tx, bounded.rx] } else { vec![bounded.rx] };
        for side in sides {
            prop_assert_eq!((side.unattributed_bytes, side.pending_bytes), (0, 0), "{:?}", side);
            prop_assert_eq!((side.unattributed_packets, side.pending_packets), (0, 0), "{:?}", side);
            prop_assert!(side.forwarded_packets > 0);
        }
    }

    /// As a tunnel does, whose own GRO merges what it has counted.
    #[test]
    fn what_is_merged_after_it_was_counted_leaves_nothing(
        merged in vec(buffer(), 0..20), whole in vec(buffer(), 0..20), has_header in any::<bool>()
    ) {
        let of = |counts| Basis::new(counts, if has_header { LINK_HEADER } else { 0 });
        let [a, b] = [(&merged, Counts::Segments), (&whole, Counts::Buffers)]
            .map(|(buffers, counts)| counters(buffers, &of(counts), &Whole::default()));
        let counters = Counters {
            rx_bytes: a.rx_bytes + b.rx_bytes,
            rx_packets: a.rx_packets + b.rx_packets,
            ..Counters::default()
        };
        let buffers: Vec<Buffer> = merged.into_iter().chain(whole).collect();
        let [before, now] = [Counters::default(), counters]
            .map(|counters| device_with(of(Counts::Either), Whole::default(), counters));
        let side = BoundedBalance::new(&before, &now, &rows(&buffers)).balance.rx;
        prop_assert_eq!((side.unattributed_bytes, side.pending_bytes), (0, 0), "{:?}", side);
        prop_assert_eq!((side.unattributed_packets, side.pending_packets), (0, 0), "{:?}", side);
    }

    #[test]
    fn a_basis_that_changes_within_an_interval_leaves_nothing(
        first in vec(buffer(), 0..20), then in vec(buffer(), 0..20), is_on in any::<bool>()
    ) {
        let basis = Basis::new(Counts::Once, 0);
        let [whole, not] = [is_on, !is_on].map(|is_on| Whole { tcp: [is_on; 2], udp: is_on, large: [false; 2] });
        let [a, b] = [counters(&first, &basis, &whole), counters(&then, &basis, &not)];
        let counters = Counters {
            tx_bytes: a.tx_bytes + b.tx_bytes,
            tx_packets: a.tx_packets + b.tx_packets,
            ..Counters::default()
        };
        let buffers: Vec<Buffer> = first.into_iter().chain(then).collect();
        let before = device_with(basis, whole, Counters::default());
        let side = BoundedBalance::new(&before, &device_with(basis, not, counters), &rows(&buffers)).balance.tx;
        prop_assert_eq!((side.unattributed_bytes, side.pending_bytes), (0, 0), "{:?}", side);
        prop_assert_eq!((side.unattributed_packets, side.pending_packets), (0, 0), "{:?}", side);
    }
}

#[test]
fn padding_that_depends_on_the_sender_is_chosen_by_the_whole() {
    let short = Buffer { family: 0, segments: 1, segment_bytes: 2, is_udp: true, is_large: false, is_merged: false };
    let basis = Basis::new(Counts::Segments, LINK_HEADER).padded(Padding::Maybe);
    let device = |rx_packets, rx_bytes| {
        device_with(basis, Whole::default(), Counters { rx_packets, rx_bytes, ..Counters::default() })
    };
    // Two were counted when the rows had one, and none of them was padded.
    let (zero, two) = (device(0, 0), device(2, 2 * 44));
    let mut total = BoundedBalance::default();
    total.add(&mut BoundedBalance::new(&zero, &two, &rows(&[short])));
    total.add(&mut BoundedBalance::new(&two, &two, &rows(&[short])));
    let rx = total.balance.rx;
    assert_eq!((rx.padding_bytes, rx.unattributed_bytes, rx.pending_bytes), (0, 0, 0), "{rx:?}");
}

#[test]
fn an_undecided_device_claims_no_rest() {
    let basis = Basis::undecided("for a test");
    let now = device_with(basis, Whole::default(), Counters { tx_bytes: 1000, tx_packets: 9, ..Counters::default() });
    assert!(matches!(basis.known, Known::Undecided(_)));
    let side =
        BoundedBalance::new(&device_with(basis, Whole::default(), Counters::default()), &now, &rows(&[])).balance.tx;
    assert_eq!((side.undecided_bytes, side.undecided_packets), (1000, 9));
    assert_eq!((side.unattributed_bytes, side.pending_bytes, side.unattributed_packets), (0, 0, 0));
}

#[test]
fn a_packet_that_is_read_in_one_of_its_rows_first_is_counted_as_it_is() {
    let large =
        Buffer { family: 0, segments: 2, segment_bytes: 33_000, is_udp: false, is_large: true, is_merged: false };
    let whole = Whole::default();
    let basis = Basis::new(Counts::Once, 0);
    let counted = counters(&[large], &basis, &whole);
    let (before, now) = (device_with(basis, whole, Counters::default()), device_with(basis, whole, counted));
    // First it stands in the row of its kind alone, then in its socket's as well.
    let (mut first, mut then) = (DeviceReading::default(), rows(&[large]));
    std::mem::swap(&mut first.super_packets[0].large, &mut then.super_packets[0].large);
    let mut total = BoundedBalance::default();
    let mut intervals = [BoundedBalance::new(&before, &now, &first), BoundedBalance::new(&now, &now, &then)];
    let mut sum = DeviceBalance::default();
    for interval in &mut intervals {
        total.add(interval);
        add(&mut sum, &interval.balance);
    }
    for tx in [total.balance.tx, sum.tx] {
        assert_eq!((tx.offload_packets, tx.unattributed_bytes, tx.pending_bytes), (0, 0, 0), "{tx:?}");
    }
}
