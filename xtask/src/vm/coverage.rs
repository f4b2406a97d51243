//! The table of docs/coverage.md: which scenario passes on which kernel through which back end, as the matrix found it.

use std::{collections::BTreeSet, fmt::Write as _, fs};

use anyhow::{Context as _, bail};

use super::{
    guest::{Outcome, Report},
    machine::Machine,
};
use crate::command::root;

const BEGIN: &str = "<!-- written by cargo xtask vm -->\n";
const END: &str = "<!-- end -->\n";
/// Files of scenarios that count something.
const FILES: [&str; 18] = [
    "paths",
    "layers",
    "devices",
    "shared",
    "owners",
    "senders",
    "deferred",
    "reconnect",
    "handshakes",
    "frames",
    "balance",
    "bounds",
    "drops",
    "troubles",
    "connections",
    "trace",
    "service",
    "members",
];

/// Files of scenarios that have nothing to do with back ends: they run in one machine of each kernel.
const ONCE: [&str; 14] = [
    "check",
    "hogs",
    "sockets",
    "meters",
    "packets",
    "drop_places",
    "retirement",
    "places",
    "names",
    "forwarded",
    "socketless",
    "crowds",
    "containers",
    "log",
];

/// Files of scenarios in machines that start from a disk.
const BOOTED: [&str; 1] = ["systemd"];

/// Compares the document's table with what the matrix found, or renews it where `UPDATE_GOLDEN` is set.
///
/// # Errors
///
/// If they differ: the message names the command that renews the table.
pub fn hold(runs: &[(Machine, Report)]) -> anyhow::Result<()> {
    let path = root().join("docs/coverage.md");
    let text = fs::read_to_string(&path).context("cannot read docs/coverage.md")?;
    let (before, rest) = text.split_once(BEGIN).context("docs/coverage.md has no place for the table")?;
    let (kept, after) = rest.split_once(END).context("the table of docs/coverage.md has no end")?;
    let runs: Vec<Run<'_>> = runs.iter().map(|(machine, report)| (machine, report)).collect();
    let found = table(&runs);
    if kept == found {
        return Ok(());
    }
    if std::env::var_os("UPDATE_GOLDEN").is_none() {
        bail!("the table of docs/coverage.md is out of date: run cargo xtask vm once with UPDATE_GOLDEN=1");
    }
    fs::write(path, format!("{before}{BEGIN}{found}{END}{after}"))?;
    Ok(())
}

type Run<'a> = (&'a Machine, &'a Report);

/// Three tables: by kernel and back end, by kernel alone, and of the package.
fn table(runs: &[Run<'_>]) -> String {
    let all: Vec<Run<'_>> = runs.iter().filter(|(machine, _)| machine.backend.is_some()).copied().collect();
    let first: Vec<Run<'_>> = all.iter().filter(|(machine, _)| machine.is_first()).copied().collect();
    let booted: Vec<Run<'_>> = runs.iter().filter(|(machine, _)| machine.disk.is_some()).copied().collect();
    let by_backend = |machine: &Machine| format!("{} {}", machine.kernel.version, machine.backend.unwrap_or_default());
    let by_kernel = |machine: &Machine| machine.kernel.version.to_owned();
    part(&all, by_backend, &FILES)
        + "\nWhat does not depend on back ends, tried once on each kernel:\n"
        + &part(&first, by_kernel, &ONCE)
        + "\nThe package, installed in a clean Debian whose systemd is process 1 of the machine:\n"
        + &part(&booted, by_kernel, &BOOTED)
}

/// Scenarios downwards, machines across, and below it why a kernel cannot run something.
fn part(columns: &[Run<'_>], name: impl Fn(&Machine) -> String, files: &[&str]) -> String {
    let mut text = String::from("\n| scenario |");
    for (machine, _) in columns {
        let _ = write!(text, " {} |", name(machine));
    }
    text += "\n|---|";
    text += &"---|".repeat(columns.len());
    text.push('\n');
    let mut skips = BTreeSet::new();
    for file in files {
        let all = columns.iter().flat_map(|(_, report)| &report.results).map(|result| result.test.as_str());
        let scenarios: BTreeSet<&str> = all.filter(|test| test.split("::").next() == Some(*file)).collect();
        for scenario in scenarios {
            let name = scenario.rsplit("::").next().unwrap_or(scenario).replace('_', " ");
            let _ = write!(text, "| {name} |");
            for (machine, report) in columns {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::{guest::Result, kernel::MATRIX};

    fn machine(version: &str, backend: Option<&'static str>) -> Machine {
        let kernel = MATRIX.iter().find(|kernel| kernel.version == version).unwrap();
        Machine {
            kernel,
            backend,
            image: "i".into(),
            initrd: "i".into(),
            disk: backend.is_none().then(|| "d".into()),
            devices: Vec::new(),
            network: None,
            log: "l".into(),
            arguments: Vec::new(),
            guests: 1,
        }
    }

    fn report(results: &[(&str, Outcome, &str)]) -> Report {
        let result = |(test, outcome, printed): &(&str, Outcome, &str)| Result {
            test: (*test).into(),
            outcome: *outcome,
            ms: 1,
            output: (*printed).into(),
        };
        Report { results: results.iter().map(result).collect(), ..Report::default() }
    }

    #[test]
    fn what_runs_once_on_a_kernel_has_one_column_for_it() {
        let machines = [machine("6.1", Some("fentry")), machine("6.1", Some("kprobe")), machine("6.1", None)];
        let reports = [
            report(&[("paths::a_b", Outcome::Pass, ""), ("sockets::c_d", Outcome::Skip, "no D\n")]),
            report(&[("paths::a_b", Outcome::Fail, "")]),
            report(&[("systemd::e_f", Outcome::Pass, "")]),
        ];
        let runs: Vec<(&Machine, &Report)> = machines.iter().zip(&reports).collect();
        assert_eq!(
            table(&runs),
            "\n| scenario | 6.1 fentry | 6.1 kprobe |\n|---|---|---|\n| a b | yes | no |\n\n\
             \nWhat does not depend on back ends, tried once on each kernel:\n\
             \n| scenario | 6.1 |\n|---|---|\n| c d | – |\n\n- c d, 6.1: no D\n\
             \nThe package, installed in a clean Debian whose systemd is process 1 of the machine:\n\
             \n| scenario | 6.1 |\n|---|---|\n| e f | yes |\n\n"
        );
    }
}
