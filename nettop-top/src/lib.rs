//! The full-screen view of nettopd. State, what events make of it, and the screen it gives are pure: what reads, waits and
//! writes is in the program.

#![forbid(unsafe_code)]

mod actions;
mod books;
mod editor;
mod event;
mod filter;
mod frame;
mod graphs;
mod keep;
mod keys;
mod layout;
mod lines;
mod order;
mod save;
mod screen;
mod state;
mod table;
mod text;
mod theme;
mod units;
mod update;
mod views;

pub use event::{Effect, Event, Move};
pub use filter::check as check_filter;
pub use frame::Measured;
pub use keys::{Key, Keymap};
pub use save::text as save_text;
pub use screen::draw;
pub use state::{Options, State};
pub use theme::{Colors, Theme};
pub use update::update;

#[cfg(test)]
mod tests;
