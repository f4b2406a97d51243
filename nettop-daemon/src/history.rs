//! The history: what each interval adds to it, and `nettopd history`, which asks it.

pub mod args;
mod ask;
mod pressure;
mod record;
mod render;

pub use ask::{answer, in_utc, print, run};
pub use record::{Recorder, of_service, recorder};
pub use render::Document;
