//! The table of docs/coverage.md: which scenario passes on which kernel through which back end, as the matrix found it.

use std::{collections::BTreeSet, fmt::Write as _, fs};

use anyhow::{Context as _, bail};

use super::{
    Machine,
    guest::{Outcome, Report},
};
use crate::command::root;

const BEGIN: &str = "<!-- written by cargo xtask vm -->\n";
const END: &str = "<!-- end -->\n";
/// Files of scenarios that count something.
const FILES: [&str; 9] = ["paths", "layers", "devices", "shared", "owners", "balance", "bounds", "drops", "troubles"];

/// Compares the document's table with what the matrix found, or renews it where `UPDATE_GOLDEN` is set.
///
/// # Errors
///
/// If they differ.
pub fn hold(runs: &[(&Machine, &Report)]) -> anyhow::Result<()> {
    let path = root().join("docs/coverage.md");
    let text = fs::read_to_string(&path).context("cannot read docs/coverage.md")?;
    let (before, rest) = text.split_once(BEGIN).context("docs/coverage.md has no place for the table")?;
    let (kept, after) = rest.split_once(END).context("the table of docs/coverage.md has no end")?;
    let found = table(runs);
    if kept == found {
        return Ok(());
    }
    if std::env::var_os("UPDATE_GOLDEN").is_none() {
        bail!("the table of docs/coverage.md is out of date: run cargo xtask vm once with UPDATE_GOLDEN=1");
    }
    fs::write(path, format!("{before}{BEGIN}{found}{END}{after}"))?;
    Ok(())
}

/// Scenarios downwards, machines across, and below it why a kernel cannot run something.
fn table(runs: &[(&Machine, &Report)]) -> String {
    let columns: Vec<_> = runs.iter().filter(|(machine, _)| machine.backend.is_some()).collect();
    let mut text = String::from("\n| scenario |");
    for (machine, _) in &columns {
        let _ = write!(text, " {} {} |", machine.kernel.version, machine.backend.unwrap_or_default());
    }
    text += "\n|---|";
    text += &"---|".repeat(columns.len());
    text.push('\n');
    let mut skips = BTreeSet::new();
    for file in FILES {
        let all = columns.iter().flat_map(|(_, report)| &report.results).map(|result| result.test.as_str());
        let scenarios: BTreeSet<&str> = all.filter(|test| test.split("::").next() == Some(file)).collect();
        for scenario in scenarios {
            let name = scenario.split_once("::").map_or(scenario, |(_, name)| name).replace('_', " ");
            let _ = write!(text, "| {name} |");
            for (machine, report) in &columns {
                let result = report.results.iter().find(|result| result.test == scenario);
                let cell = match result.map(|result| (result.outcome, result.last_line())) {
                    Some((Outcome::Pass, _)) => "yes",
                    Some((Outcome::Once, _)) => "=",
                    Some((Outcome::Skip, reason)) => {
                        skips.insert(format!("- {name}, {}: {reason}\n", machine.kernel.version));
                        "–"
                    }
                    _ => "no",
                };
                let _ = write!(text, " {cell} |");
            }
            text.push('\n');
        }
    }
    text.push('\n');
    text.extend(skips);
    text
}
