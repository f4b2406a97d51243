//! The history: what each interval adds to it, and what it answers.

pub mod answer;
pub mod choose;
mod document;
mod hogs;
mod pressure;
pub mod recorder;
pub mod replay;
pub mod slot;
