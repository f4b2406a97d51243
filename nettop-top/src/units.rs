//! Amounts as short texts: bytes or bits, by thousands or by 1024.

/// What amounts are shown in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Units {
    /// Bits instead of bytes.
    pub bits: bool,
    /// By 1024 instead of 1000.
    pub iec: bool,
}

impl Units {
    /// The next in the order bytes, bits, bytes by 1024, bits by 1024.
    #[must_use]
    pub const fn next(self) -> Self {
        match (self.bits, self.iec) {
            (false, iec) => Self { bits: true, iec },
            (true, iec) => Self { bits: false, iec: !iec },
        }
    }

    /// In words.
    pub const fn name(self) -> &'static str {
        match (self.bits, self.iec) {
            (false, false) => "bytes",
            (true, false) => "bits",
            (false, true) => "bytes by 1024",
            (true, true) => "bits by 1024",
        }
    }

    /// What stands behind an amount: `B` or `b`.
    pub const fn letter(self) -> char {
        if self.bits { 'b' } else { 'B' }
    }

    /// Exact below the first step; above it two to four digits and the step's letter, never rounded up.
    pub fn short(self, bytes: u64) -> String {
        let amount = if self.bits { u128::from(bytes) * 8 } else { u128::from(bytes) };
        let step: u128 = if self.iec { 1024 } else { 1000 };
        if amount < step {
            return amount.to_string();
        }
        let first = if self.iec { "K" } else { "k" };
        let (mut unit, mut letter, mut letters) = (step, first, ["M", "G", "T", "P", "E", "Z"].iter());
        while amount >= unit * step {
            let Some(next) = letters.next() else { break };
            (unit, letter) = (unit * step, next);
        }
        let i = if self.iec { "i" } else { "" };
        match amount / unit {
            whole @ 0..=99 => format!("{whole}.{}{letter}{i}", amount % unit * 10 / unit),
            whole => format!("{whole}{letter}{i}"),
        }
    }
}

/// So much in a second, rounded down; 0 if no time has passed.
pub fn per_second(amount: u64, interval_ms: u64) -> u64 {
    let rate = u128::from(amount) * 1000 / u128::from(interval_ms.max(1));
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// A number with a step's letter, as `1.5M` or `10Ki`.
pub fn parse(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, letters) = text.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let letters = letters.to_ascii_lowercase();
    let letters = letters.strip_suffix('b').unwrap_or(&letters);
    let (letter, step) = match letters.strip_suffix('i') {
        Some(letter) => (letter, 1024.0_f64),
        None => (letters, 1000.0),
    };
    let power = ["", "k", "m", "g", "t", "p"].iter().position(|known| *known == letter)?;
    let amount = number * step.powi(i32::try_from(power).ok()?);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
    (amount >= 0.0).then_some(amount as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short_and_never_rounded_up() {
        let bytes = Units::default();
        let expected =
            [(0, "0"), (999, "999"), (1000, "1.0k"), (38_199_999, "38.1M"), (999_999, "999k"), (u64::MAX, "18.4E")];
        for (amount, text) in expected {
            assert_eq!(bytes.short(amount), text);
        }
        assert_eq!(bytes.next().short(125), "1.0k");
        assert_eq!(Units { bits: false, iec: true }.short(1536), "1.5Ki");
        assert_eq!(bytes.next().next().next().next(), bytes);
        assert_eq!(per_second(500, 200), 2500);
        assert_eq!(per_second(500, 0), 500_000);
        assert_eq!(
            [parse("1.5M"), parse("2Ki"), parse("7"), parse("3kb"), parse("M"), parse("1X")],
            [Some(1_500_000), Some(2048), Some(7), Some(3000), None, None]
        );
    }
}
