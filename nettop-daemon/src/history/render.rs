//! Answers of the history: a table with a picture for people, the document `nettop.history/1`, and CSV.

mod csv;
mod document;
mod table;

use nettop_history::{Answer, Boot};

use super::args::HistoryArgs;
use crate::{cli::Format, identity::users::Users};

/// Writes the answer.
///
/// # Errors
///
/// If it cannot be encoded.
pub fn encode(args: &HistoryArgs, answer: &Answer, boot: Option<&Boot>) -> anyhow::Result<Vec<u8>> {
    let mut users = (!args.numeric).then(Users::default);
    let document = document::document(args, answer, boot, &mut users);
    Ok(match args.format {
        Format::Table => table::table(args, answer, &document).into_bytes(),
        Format::Json => [serde_json::to_vec_pretty(&document)?, vec![b'\n']].concat(),
        Format::Ndjson => [serde_json::to_vec(&document)?, vec![b'\n']].concat(),
        Format::Csv => csv::csv(&document)?,
    })
}
