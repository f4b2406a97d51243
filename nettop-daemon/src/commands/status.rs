//! `nettopd status`.

use clap::Args;

use crate::{
    client,
    query::{format::DocumentFormat, global::Global},
    render::status::text,
    sys::stdout,
};

/// `nettopd status`.
#[derive(Args, Debug, Clone)]
pub struct StatusArgs {
    #[arg(long, value_enum, default_value_t)]
    pub format: DocumentFormat,
}

/// Shows the daemon's state.
///
/// # Errors
///
/// [`crate::error::Unavailable`] where none runs, [`crate::error::NotPermitted`] where it refuses, else if it does not
/// answer.
pub fn run(global: &Global, args: &StatusArgs) -> anyhow::Result<()> {
    let status = client::read(&client::ask(global, "/v1/status")?)?;
    let shown = match args.format {
        DocumentFormat::Text => text(&status),
        DocumentFormat::Json => serde_json::to_string_pretty(&status)? + "\n",
    };
    stdout::print(shown.as_bytes())
}
