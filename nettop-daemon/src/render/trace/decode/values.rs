//! Arguments as the types that they have.

/// An `int`.
#[expect(clippy::cast_possible_truncation, reason = "an int in a register: the kernel looks at these bits only")]
pub const fn number(argument: u64) -> i32 {
    (argument as u32).cast_signed()
}

/// An `unsigned int`.
pub const fn low(argument: u64) -> u32 {
    number(argument).cast_unsigned()
}

/// An `unsigned short`.
#[expect(clippy::cast_possible_truncation, reason = "as above")]
pub const fn short(argument: u64) -> u16 {
    argument as u16
}

pub fn pointer(address: u64) -> String {
    if address == 0 { "NULL".into() } else { format!("{address:#x}") }
}
