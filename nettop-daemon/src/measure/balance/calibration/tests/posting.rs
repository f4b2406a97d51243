//! Cards that post their counters each few seconds (`tg3`, `bnxt_en`, `iavf`, `idpf`), and not when they are read.

use proptest::test_runner::TestRunner;

use super::*;

const CASES: u32 = 500;
const BURST_S: usize = 3;

/// What is found after each second. The card posts each `period` seconds, and traffic passes in seconds that are `busy`.
fn watch(
    basis: Basis,
    direction: Direction,
    seed: u64,
    period: usize,
    seconds: usize,
    busy: impl Fn(usize) -> bool,
) -> Vec<Option<Basis>> {
    let mut random = Random(seed);
    let device = Device::default();
    let mut calibration = OneDirection::new(direction);
    let mut unposted = (0, 0);
    let mut second = |at: usize| {
        let mut rows = DeviceReading::default();
        let kinds = if busy(at) { 0..4 } else { 0..0 };
        for kind in kinds {
            let buffer = random.buffer(kind);
            let amount = random.about(300);
            buffer.count_times(amount, &mut rows, direction);
            let (packets, bytes) = buffer.device(&basis, &Whole::default(), direction);
            unposted = (unposted.0 + amount * packets, unposted.1 + amount * bytes);
        }
        let posted = if at % period == period - 1 { std::mem::take(&mut unposted) } else { (0, 0) };
        calibration.add((posted.0.cast_signed(), posted.1.cast_signed()), &device, &rows, SECOND);
        calibration.measured().map(|measured| measured.basis())
    };
    (0..seconds).map(&mut second).collect()
}

fn any_case() -> impl Strategy<Value = (Basis, Direction, u64, usize)> {
    (cases(), 2..12_usize).prop_map(|((basis, direction, seed), period)| (basis, direction, seed, period))
}

#[test]
fn a_card_that_posts_late_is_found_by_bursts() {
    let done = TestRunner::new(config(CASES)).run(&any_case(), |(basis, direction, seed, period)| {
        let round = BURST_S + period + POSTING_TIME.as_secs() as usize;
        let found = watch(basis, direction, seed, period, 8 * round, |at| at % round < BURST_S);
        for found in found.iter().flatten() {
            prop_assert!(found.counts_as(&basis), "{found:?}");
        }
        prop_assert!(found.last().is_some_and(Option::is_some));
        Ok(())
    });
    done.unwrap();
}

#[test]
fn a_card_that_posts_late_is_never_mistaken_while_it_is_busy() {
    let done = TestRunner::new(config(CASES)).run(&any_case(), |(basis, direction, seed, period)| {
        for found in watch(basis, direction, seed, period, 120, |_| true).iter().flatten() {
            prop_assert!(found.counts_as(&basis), "{found:?}");
        }
        Ok(())
    });
    done.unwrap();
}
