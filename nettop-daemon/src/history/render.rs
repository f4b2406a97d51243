//! Answers of the history: a table with a picture for people, the document `nettop.history/1`, and CSV.

mod csv;
mod document;
mod table;

pub use document::{Document, document, utc};

use super::args::HistoryArgs;
use crate::cli::Format;

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
