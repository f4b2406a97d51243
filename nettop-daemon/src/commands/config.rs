//! `nettopd config check`: reads the configuration as the daemon would.

use crate::{
    config::{
        Config,
        settings::{ConfigArgs, ConfigCommand, Settings},
    },
    sys::stdout,
};

/// Checks the configuration and prints it if that was asked for.
///
/// # Errors
///
/// [`crate::error::Fault`] for what is wrong with it.
pub fn run(args: &ConfigArgs) -> anyhow::Result<()> {
    let ConfigCommand::Check { file, show } = &args.command;
    let config = Config::load(file.as_deref(), &Settings::default())?;
    if *show {
        stdout::print(config.shown().as_bytes())?;
    }
    Ok(())
}
