//! Words in maps that several CPUs change at once.

/// Adds to a counter that other CPUs add to as well.
#[inline(always)]
pub fn add(counter: *mut u64, n: u64) {
    use core::intrinsics::{AtomicOrdering, atomic_xadd};
    // SAFETY: the verifier knows the counter to lie in a map value.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, n) };
}

/// Adds to a word that other CPUs add to as well.
#[inline(always)]
pub fn add_word(counter: *mut u32, n: u32) {
    use core::intrinsics::{AtomicOrdering, atomic_xadd};
    // SAFETY: as in `add`.
    unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(counter, n) };
}

/// Takes one from a counter, and one from a word, that other CPUs change as well.
#[inline(always)]
pub fn take_one(counter: *mut u64, word: *mut u32) {
    add(counter, u64::MAX);
    add_word(word, u32::MAX);
}

/// Sets bits of a word that other CPUs change as well.
#[inline(always)]
pub fn or_word(word: *mut u32, bits: u32) {
    use core::intrinsics::{AtomicOrdering, atomic_or};
    // SAFETY: as in `add`.
    unsafe { atomic_or::<u32, u32, { AtomicOrdering::Relaxed }>(word, bits) };
}

/// Keeps bits of a word that other CPUs change as well.
#[inline(always)]
pub fn and_word(word: *mut u32, bits: u32) {
    use core::intrinsics::{AtomicOrdering, atomic_and};
    // SAFETY: as in `add`.
    unsafe { atomic_and::<u32, u32, { AtomicOrdering::Relaxed }>(word, bits) };
}

/// Adds one and returns the value before.
#[inline(always)]
pub fn next(counter: *mut u64) -> u64 {
    use core::intrinsics::{AtomicOrdering, atomic_xadd};
    // SAFETY: as in `add`. A relaxed add whose result is used compiles to a plain add and returns its
    // operand (rustc 1.95), hence SeqCst.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(counter, 1) }
}

/// Reads a word after everything that this CPU wrote before, and before everything that it reads later.
#[inline(always)]
pub fn fenced(word: *mut u64) -> u64 {
    use core::intrinsics::{AtomicOrdering, atomic_xadd};
    // SAFETY: as in `add`. An atomic operation that returns a value is a full barrier, and BPF has no other.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(word, 0) }
}

/// Hands out the next slot that was never used. The counter stops past the last one: it would wrap around.
#[inline(always)]
pub fn never_used(counter: *mut u64, slots: u64) -> u32 {
    // SAFETY: as in `add`.
    if unsafe { counter.read_volatile() } < slots { next(counter) as u32 } else { u32::MAX / 2 }
}
