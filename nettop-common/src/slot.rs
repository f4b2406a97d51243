//! References to slots of tables.

use bytemuck::{Pod, Zeroable};

/// A slot and its generation, read and written as one word. All zero: nothing.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Pod, Zeroable)]
pub struct Ref(pub u64);

impl Ref {
    pub const NONE: Self = Self(0);

    #[must_use]
    #[inline(always)]
    pub const fn new(slot: u32, generation: u32) -> Self {
        Self((generation as u64) << 32 | slot as u64)
    }

    #[must_use]
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the low half is the slot")]
    pub const fn slot(self) -> u32 {
        self.0 as u32
    }

    #[must_use]
    #[inline(always)]
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}
