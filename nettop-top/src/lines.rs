//! From a frame to the lines of a view: what is in scope and wanted, added up.

mod devices;
mod drops;
mod hogs;
mod line;
mod processes;
mod sockets;
mod tree;

pub use self::line::{Amounts, Crumb, Input, Line, Lines, Value, is_in_scope, key, process_key, series};
use crate::{
    frame::Frame,
    views::{Kind, View},
};

/// The lines of a view.
pub fn lines(input: &Input<'_>) -> Lines {
    match input.view.kind {
        Kind::Program | Kind::Unit | Kind::Process => processes::lines(input),
        Kind::Device => devices::lines(input),
        Kind::Drops => drops::lines(input),
        Kind::Sockets => sockets::lines(input),
        Kind::Hogs => hogs::lines(input),
    }
}

/// Puts each process below those that started it.
pub fn as_tree(frame: &Frame, view: &View, lines: Vec<Line>) -> Vec<Line> {
    tree::as_tree(frame, view, lines)
}
