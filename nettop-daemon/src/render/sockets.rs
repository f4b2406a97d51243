//! Listings of sockets: a table, the document, and CSV.

mod csv;
#[cfg(test)]
mod golden;
mod table;

use nettop_model::sockets::Document;

use crate::query::format::SocketsFormat;

pub use table::Layout;

/// Writes the document.
///
/// # Errors
///
/// If it cannot be encoded.
pub fn encode(document: &Document, format: SocketsFormat, layout: Layout) -> anyhow::Result<Vec<u8>> {
    Ok(match format {
        SocketsFormat::Table => table::table(document, layout).into_bytes(),
        SocketsFormat::Json => [serde_json::to_vec_pretty(document)?, vec![b'\n']].concat(),
        SocketsFormat::Ndjson => [serde_json::to_vec(document)?, vec![b'\n']].concat(),
        SocketsFormat::Csv => csv::csv(document)?,
    })
}
