//! `nettopd completions` and `nettopd man`: what packages install, made from the definition of the command line.

mod settings;

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use anyhow::Context as _;
use clap_complete::Shell;
use clap_mangen::{
    Man,
    roff::{Inline, Roff},
};

use crate::{defaults, sys::stdout};

const SECTION: &str = "8";

/// Prints the completions of a shell.
///
/// # Errors
///
/// If standard output cannot be written.
pub fn completions(mut definition: clap::Command, shell: Shell) -> anyhow::Result<()> {
    // Generated in whole first: clap_complete panics on an output that fails.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut definition, "nettopd", &mut script);
    stdout::print(&script)
}

/// Writes nettopd(8), a page for each sub-command, and nettopd.toml(5) into a folder, which is made if it is missing.
///
/// # Errors
///
/// If a file cannot be written.
pub fn write_pages(mut command: clap::Command, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // Gives sub-commands their full names and the options that are global.
    command.build();
    write_tree(&command, folder)?;
    let path = folder.join("nettopd.toml.5");
    let written = File::create(&path).and_then(|mut file| settings::write_page(&mut file));
    written.with_context(|| format!("cannot write {}", path.display()))
}

fn write_tree(command: &clap::Command, folder: &Path) -> anyhow::Result<()> {
    let man = Man::new(command.clone()).section(SECTION).source("nettopd").manual("System Administration");
    let path = folder.join(man.get_filename());
    write_page(&man, command, &path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    shown.try_for_each(|command| write_tree(command, folder))
}

fn write_page(man: &Man, command: &clap::Command, path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    man.render_title(&mut file)?;
    man.render_name_section(&mut file)?;
    man.render_synopsis_section(&mut file)?;
    man.render_description_section(&mut file)?;
    man.render_options_section(&mut file)?;
    if command.get_subcommands().any(|command| !command.is_hide_set()) {
        man.render_subcommands_section(&mut file)?;
    }
    let mut roff = Roff::new();
    if let Some(text) = command.get_after_help() {
        roff.control("SH", ["EXIT STATUS"]).text([Inline::LineBreak, Inline::Roman(text.to_string())]);
    }
    roff.control("SH", ["FILES"]);
    for (path, what) in FILES {
        roff.control("TP", []).text([Inline::Bold((*path).into())]).text([Inline::Roman((*what).into())]);
    }
    roff.to_writer(&mut file)
}

const FILES: &[(&str, &str)] = &[
    (defaults::CONFIG_FILE, "settings of the service, see nettopd.toml(5)"),
    (defaults::HISTORY_FILE, "the history, see nettopd-history(8)"),
];
