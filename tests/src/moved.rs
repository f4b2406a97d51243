//! What a process moved, by its own count.

/// App bytes a process sent and received.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Moved {
    pub sent: u64,
    pub received: u64,
}

impl Moved {
    /// As the other side has it.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self { sent: self.received, received: self.sent }
    }
}
