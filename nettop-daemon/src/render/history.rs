//! Answers of the history: a table with a sparkline for people, the document `nettop.history/1`, and CSV.

mod csv;
mod table;

pub use table::of_disk;

use nettop_model::history::Document;

use crate::query::{format::Format, history::HistoryArgs};

/// Writes the answer.
///
/// # Errors
///
/// If it cannot be encoded.
pub fn encode(args: &HistoryArgs, document: &Document) -> anyhow::Result<Vec<u8>> {
    Ok(match args.format {
        Format::Table => table::table(args, document).into_bytes(),
        Format::Json => [serde_json::to_vec_pretty(document)?, vec![b'\n']].concat(),
        Format::Ndjson => [serde_json::to_vec(document)?, vec![b'\n']].concat(),
        Format::Csv => csv::csv(document)?,
    })
}
