//! What a device's own counters count.

use nettop_common::{Direction, abi::ETHERNET_HEADER_BYTES};
use nettop_model::Word;

/// Indexes of what is kept by [`Direction`].
pub const TX: usize = Direction::Tx as usize;
pub const RX: usize = Direction::Rx as usize;

/// Which packets a counter counts.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Counts {
    /// Those on the wire.
    #[default]
    Segments,
    /// A super-packet once, if the device segments or merged it.
    Once,
    /// Every super-packet once.
    Buffers,
    /// Some super-packets once, and some as the segments that were merged afterwards.
    Either,
}

impl Counts {
    /// As in documents.
    pub fn word(self) -> Word {
        Word::from(match self {
            Self::Segments => "segments",
            Self::Once => "once",
            Self::Buffers => "buffers",
            Self::Either => "either",
        })
    }
}

/// Whether packets are counted with padding.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Padding {
    #[default]
    Never,
    /// With Ethernet's, of short frames.
    Always,
    /// With Ethernet's, if the sender handed them over so.
    Maybe,
    /// To a multiple of [`Self::BLOCK_BYTES`] where the MTU lets it (`calculate_skb_padding`).
    ToBlocks,
}

impl Padding {
    /// `MESSAGE_PADDING_MULTIPLE` of wireguard.
    pub const BLOCK_BYTES: u32 = 16;
}

/// How a basis is known.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Known {
    /// From the source of the driver, or of the kind of device.
    #[default]
    Source,
    /// By observation, as no source documents it.
    Measured,
    /// By observation, though the source differs.
    Conflict,
    /// Not at all, and why.
    Undecided(&'static str),
}

impl Known {
    /// As in documents.
    pub fn word(self) -> Word {
        Word::from(match self {
            Self::Source => "source",
            Self::Measured => "measured",
            Self::Conflict => "conflict",
            Self::Undecided(_) => "undecided",
        })
    }

    /// Why it is not known, or not by its source.
    pub const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Source | Self::Measured => None,
            Self::Conflict => Some("its driver's source says something else than what was observed"),
            Self::Undecided(why) => Some(why),
        }
    }
}

/// What the counters of one direction count.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Basis {
    pub packets: Counts,
    /// Which headers the byte counter has: those of each packet counted this way.
    pub bytes: Counts,
    /// Bytes of link header with each of those packets.
    pub link_header_bytes: u32,
    pub padding: Padding,
    pub known: Known,
}

impl Basis {
    /// Packets and bytes alike, of frames that are not padded.
    pub const fn new(counts: Counts, link_header_bytes: u32) -> Self {
        let (packets, bytes, padding) = (counts, counts, Padding::Never);
        Self { packets, bytes, link_header_bytes, padding, known: Known::Source }
    }

    /// The same, with padding.
    pub const fn padded(self, padding: Padding) -> Self {
        Self { padding, ..self }
    }

    /// The best guess for an unknown device: Ethernet frames as on the wire.
    pub const fn undecided(why: &'static str) -> Self {
        Self { known: Known::Undecided(why), ..Self::new(Counts::Segments, ETHERNET_HEADER_BYTES) }
    }

    /// Whether both count frames that need no padding alike.
    pub fn counts_as(&self, other: &Self) -> bool {
        let of = |basis: &Self| (basis.packets, basis.bytes, basis.link_header_bytes);
        of(self) == of(other)
    }

    /// Whether it is known at all.
    pub const fn is_decided(&self) -> bool {
        !matches!(self.known, Known::Undecided(_))
    }
}

/// Which super-packets a device gets whole; the kernel segments others before (`validate_xmit_skb`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Whole {
    /// By [`nettop_common::Family`].
    pub tcp: [bool; 2],
    pub udp: bool,
    /// Those of 64 KiB and more, by [`nettop_common::Family`].
    pub large: [bool; 2],
}

impl Whole {
    /// Those that two devices in a row get whole.
    pub fn and(&self, other: &Self) -> Self {
        let both = |of: [bool; 2], others: [bool; 2]| [of[0] && others[0], of[1] && others[1]];
        Self { tcp: both(self.tcp, other.tcp), udp: self.udp && other.udp, large: both(self.large, other.large) }
    }
}

impl Default for Whole {
    fn default() -> Self {
        Self { tcp: [true; 2], udp: true, large: [false; 2] }
    }
}
