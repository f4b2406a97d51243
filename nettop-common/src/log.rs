//! Log of the programs: events of slow paths, as numbers that the daemon formats.

/// The event. Its two numbers are in parentheses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum What {
    /// An owner was made (its process, its slot).
    OwnerMade = 1,
    /// The table of owners is full (the process).
    OwnersFull = 2,
    /// The index of owners refused one (the process, the error).
    OwnerIndexRefused = 3,
    /// A row was made (its owner's slot, its own).
    RowMade = 4,
    /// The limit of rows is reached (the owner's slot, the number).
    RowsFull = 5,
    /// The index of rows refused one (the owner's slot, the error).
    RowIndexRefused = 6,
    /// The kernel gave no storage for a socket.
    StorageRefused = 7,
    /// A socket has another owner (the slot it had, the one it has). The high half of the second is the evidence.
    SocketGiven = 8,
    /// A socket's owner was retired meanwhile (the slot).
    OwnerRetired = 9,
}

impl What {
    pub const ALL: [Self; 9] = [
        Self::OwnerMade,
        Self::OwnersFull,
        Self::OwnerIndexRefused,
        Self::RowMade,
        Self::RowsFull,
        Self::RowIndexRefused,
        Self::StorageRefused,
        Self::SocketGiven,
        Self::OwnerRetired,
    ];
}

/// Values of each record: event, the socket's cookie or 0, current process, and two numbers.
pub const VALUES: usize = 5;
