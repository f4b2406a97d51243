//! Every way of counting, those that are not looked for included, under mixes of TCP, `UDP_SEGMENT`, BIG TCP, GRO, short
//! frames and features: many cases, each of a few kinds of packets. What is found is right, or nothing is.

use std::cell::Cell;

use proptest::test_runner::TestRunner;

use super::*;

const CASES: u32 = 5000;
const SECONDS: u32 = 20;
/// Not looked for: Ethernet's header with a VLAN's and the frame check sequence.
const UNUSUAL_HEADER_BYTES: u32 = 22;

fn any_basis() -> impl Strategy<Value = Basis> {
    let counts = prop_oneof![
        Just((Counts::Segments, Counts::Segments)),
        Just((Counts::Once, Counts::Once)),
        Just((Counts::Segments, Counts::Once)),
        Just((Counts::Once, Counts::Segments)),
        Just((Counts::Buffers, Counts::Buffers)),
    ];
    let header = prop_oneof![9 => (0..LINK_HEADER_BYTES.len()).prop_map(|at| LINK_HEADER_BYTES[at]), 1 => Just(UNUSUAL_HEADER_BYTES)];
    (counts, header, any::<bool>()).prop_map(|((packets, bytes), link_header_bytes, is_padded)| {
        let basis = Basis { bytes, ..Basis::new(packets, link_header_bytes) };
        basis.padded(if is_padded { Padding::Always } else { Padding::Never })
    })
}

/// What is there in every second, and at most how many of each: none of most kinds in some cases.
fn any_mix() -> impl Strategy<Value = Vec<(Buffer, u64)>> {
    let amount = prop_oneof![Just(0), 1..20_u64, 20..600_u64];
    proptest::collection::vec((super::super::super::simulated::buffer(), amount), 1..7)
}

fn any_whole() -> impl Strategy<Value = Whole> {
    (any::<[bool; 2]>(), any::<bool>(), any::<[bool; 2]>()).prop_map(|(tcp, udp, large)| Whole { tcp, udp, large })
}

/// Whether two ways of counting agree on a kind of packet, but for padding.
fn agree(a: &Basis, b: &Basis, whole: &Whole, direction: Direction, kind: &Buffer) -> bool {
    let count = |basis: &Basis| kind.device(&basis.padded(Padding::Never), whole, direction);
    count(a) == count(b)
}

/// The first way of counting that is found and is wrong about a kind of packet that has passed, and whether any is found
/// in the end.
fn find(basis: Basis, whole: Whole, direction: Direction, mix: &[(Buffer, u64)], seed: u64) -> (Option<Basis>, bool) {
    let mut random = Random(seed);
    let device = Device { whole, ..Device::default() };
    let mut calibration = OneDirection::new(direction);
    let mut passed = vec![false; mix.len()];
    // Counted by the device with the next second's.
    let mut late = (0, 0);
    for _ in 0..SECONDS {
        let (mut rows, mut packets, mut bytes) = (DeviceReading::default(), late.0, late.1);
        late = (0, 0);
        for ((kind, amount), passed) in mix.iter().zip(&mut passed) {
            let amount = random.about(*amount);
            *passed |= amount > 0;
            kind.count_times(amount, &mut rows, direction);
            let (of_packets, of_bytes) = kind.device(&basis, &whole, direction);
            (packets, bytes) = (packets + amount * of_packets, bytes + amount * of_bytes);
            if late == (0, 0) && amount > 0 && random.below(8) == 0 {
                late = (of_packets, of_bytes);
                (packets, bytes) = (packets - of_packets, bytes - of_bytes);
            }
        }
        for _ in 0..random.below(2) {
            (packets, bytes) = (packets + 1, bytes + 42);
        }
        calibration.add((packets.cast_signed(), bytes.cast_signed()), &device, &rows, SECOND);
        let Some(measured) = calibration.measured() else { continue };
        let found = measured.basis();
        let kinds = mix.iter().zip(&passed).filter(|(_, passed)| **passed).map(|((kind, _), _)| kind);
        if { kinds }.any(|kind| !agree(&found, &basis, &whole, direction, kind)) {
            return (Some(found), true);
        }
    }
    (None, calibration.measured().is_some())
}

#[test]
fn no_mix_makes_it_take_one_way_of_counting_for_another() {
    let decided = Cell::new(0);
    let direction = prop_oneof![Just(Direction::Tx), Just(Direction::Rx)];
    let cases = (any_basis(), any_whole(), direction, any_mix(), any::<u64>());
    let done = TestRunner::new(config(CASES)).run(&cases, |(basis, whole, direction, mix, seed)| {
        let (wrong, is_decided) = find(basis, whole, direction, &mix, seed);
        prop_assert_eq!(wrong, None);
        decided.set(decided.get() + u32::from(is_decided));
        Ok(())
    });
    done.unwrap();
    println!("{} of {CASES} decided", decided.get());
    assert!(decided.get() > CASES / 4, "{} decided", decided.get());
}

/// Small segments that a device counts look like packets in no row to who takes it for one that does not, and a packet that
/// is late hides that it does.
#[test]
fn a_late_packet_does_not_make_segments_unknown_packets() {
    let tcp = |family: usize, segments: u64, segment_bytes: u64| Buffer {
        family,
        segments,
        segment_bytes,
        is_udp: false,
        is_large: false,
        is_merged: false,
    };
    let few = [(tcp(0, 34, 1), 222), (tcp(1, 3, 1), 9), (tcp(0, 1, 107), 2), (tcp(0, 1, 1), 2)];
    let large = [(tcp(0, 12, 1), 338), (Buffer { is_large: true, ..tcp(0, 13, 1) }, 1)];
    let whole = |tcp, large| Whole { tcp, large, ..Whole::default() };
    let cases = [(&few[..], whole([false, true], [false; 2])), (&large, whole([false; 2], [true, false]))];
    for (seed, (mix, whole)) in (0..200).flat_map(|seed| cases.map(|case| (seed, case))) {
        let (wrong, _) = find(Basis::new(Counts::Segments, 0), whole, Direction::Tx, mix, seed);
        assert_eq!(wrong, None, "{seed}");
    }
}
