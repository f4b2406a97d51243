//! What happens, and what is to be done about it outside.

use nettop_model::sockets::Document;

use crate::{frame::Measured, keys::Key};

/// What happened.
#[derive(Debug)]
pub enum Event {
    Key(Key),
    /// The left button, or with none the wheel, up or down.
    Mouse {
        column: u16,
        line: u16,
        wheel: Option<bool>,
    },
    Resized(u16, u16),
    /// As if it had been typed.
    Filter(String),
    /// The next interval.
    Measured(Box<Measured>),
    /// Nothing more comes, for this reason, until something does.
    Lost(String),
    /// The answer to the question of the record with this number: a part of it, the shown slot at its end; or none, and why.
    Recorded(u64, Vec<Measured>, Option<String>),
    /// A typed time.
    Time(Result<i64, String>),
    Sockets(Result<Box<Document>, String>),
    /// Of the events of the command with this number.
    Line(u64, String),
    StreamEnded(u64, String),
    /// How something that was asked for went.
    Done(String),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// End; with the last screen left, as text.
    Quit {
        leave: Option<String>,
    },
    /// List sockets of these processes, or all.
    Sockets {
        pids: Vec<u32>,
    },
    /// Find out which time is meant.
    ReadTime(String),
    /// Ask the record. Only the answer to the last question counts.
    Record {
        number: u64,
        to: Move,
    },
    /// Start `nettopd packets` or `connections` with these arguments.
    Stream {
        number: u64,
        command: &'static str,
        args: Vec<String>,
    },
    StopStream,
    /// Write a new file.
    Save {
        extension: &'static str,
        text: String,
    },
    Mouse(bool),
    Redraw,
    Suspend,
}

/// Where to in the record; times in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// The slot with this time, or the last before it.
    To(i64),
    /// The one so many from the one that ended then.
    From(i64, i64),
    /// The one so many minutes from the one that ended then; at least the next, however long they are.
    Minutes(i64, i64),
}
