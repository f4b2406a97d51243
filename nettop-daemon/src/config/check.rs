//! `nettopd config check`: reads the configuration as the daemon would.

use std::io::Write as _;

use super::{Config, ConfigArgs, Settings, settings::ConfigCommand};

/// Checks the configuration and prints it if that was asked for.
///
/// # Errors
///
/// [`super::Fault`] for what is wrong with it.
pub fn run(args: &ConfigArgs) -> anyhow::Result<()> {
    let ConfigCommand::Check { file, show } = &args.command;
    let config = Config::load(file.as_deref(), &Settings::default())?;
    if *show {
        std::io::stdout().write_all(config.shown().as_bytes())?;
    }
    Ok(())
}
