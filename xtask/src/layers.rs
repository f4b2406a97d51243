//! Module boundaries: in nettopd each module uses only those below it, no files of a crate use each other in a circle, and
//! all that is published is used.

use std::{collections::BTreeMap, fs};

use anyhow::bail;

use crate::{
    command::root,
    imports::{self, File},
};

/// Modules of nettopd from the lowest to the highest. Those in one line do not know each other.
const LAYERS: &[&[&str]] = &[
    &["error", "defaults"],
    &["sys"],
    &["identity"],
    &["query"],
    &["config", "measure"],
    &["render"],
    &["events", "record", "client"],
    &["serve"],
    &["commands"],
    &["cli"],
];
const LAYERED: &str = "nettop-daemon";
const CRATES: &[&str] = &[
    "nettop-common",
    "nettop-daemon",
    "nettop-ebpf",
    "nettop-history",
    "nettop-kernel",
    "nettop-model",
    "tests",
    "xtask",
];
/// Its types are documents.
const DOCUMENTS: &str = "nettop-model";

/// Checks all crates.
///
/// # Errors
///
/// If a rule is broken; each breach is printed.
pub fn run() -> anyhow::Result<()> {
    let mut breaches = Vec::new();
    let mut texts = Vec::new();
    for name in CRATES {
        let files = imports::of_crate(&root().join(name).join("src"))?;
        if *name == LAYERED {
            breaches.extend(upward(&files, LAYERS));
        }
        breaches.extend(circle(&files));
        for file in &files {
            texts.push((*name, file.path.clone(), fs::read_to_string(&file.path)?));
        }
    }
    let documents = texts.iter().filter(|(name, ..)| *name == DOCUMENTS);
    for (_, path, text) in documents {
        for document in published(text) {
            let uses = texts.iter().filter(|(_, of, _)| of != path).map(|(.., text)| text.as_str());
            // In its own file besides where it is made.
            if !uses.chain([text.as_str()]).any(|text| mentions(text, document)) {
                breaches.push(format!("{}: nobody uses {document}", shown(path)));
            }
        }
    }
    for breach in &breaches {
        eprintln!("{breach}");
    }
    if breaches.is_empty() { Ok(()) } else { bail!("{} breaches of layers", breaches.len()) }
}

fn shown(path: &std::path::Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Imports from a layer above, or beside.
fn upward(files: &[File], layers: &[&[&str]]) -> Vec<String> {
    let layer = |module: &str| {
        let top = module.split("::").next().unwrap_or_default().to_owned();
        let rank = layers.iter().position(|names| names.contains(&top.as_str()));
        rank.map(|rank| (rank, top))
    };
    let mut breaches = Vec::new();
    // The root is above all.
    for file in files.iter().filter(|file| !file.module.is_empty()) {
        let Some((rank, own)) = layer(&file.module) else {
            breaches.push(format!("{}: {} is in no layer", shown(&file.path), file.module));
            continue;
        };
        for (line, import) in &file.imports {
            if let Some((above, top)) = layer(import)
                && top != own
                && above >= rank
            {
                breaches.push(format!("{}:{line}: {own} may not use {top}: {import}", shown(&file.path)));
            }
        }
    }
    breaches
}

/// A circle of files, if there is one.
fn circle(files: &[File]) -> Option<String> {
    let by_module: BTreeMap<&str, &File> = files.iter().map(|file| (file.module.as_str(), file)).collect();
    // The file that a path leads into: the longest module that it begins with.
    let target = |import: &str| {
        let ends = import.match_indices("::").map(|(end, _)| end).chain([import.len()]);
        let mut modules: Vec<&str> = ends.filter_map(|end| import.get(..end)).collect();
        modules.reverse();
        modules.into_iter().find_map(|module| by_module.get_key_value(module)).map(|(module, _)| *module)
    };
    let mut done = BTreeMap::new();
    files.iter().find_map(|file| visit(file, &by_module, &target, &mut Vec::new(), &mut done))
}

/// Follows imports from a file. `done` has files that lead into no circle.
fn visit<'a>(
    file: &'a File,
    by_module: &BTreeMap<&'a str, &'a File>,
    target: &impl Fn(&str) -> Option<&'a str>,
    way: &mut Vec<(&'a str, String)>,
    done: &mut BTreeMap<&'a str, ()>,
) -> Option<String> {
    if done.contains_key(file.module.as_str()) {
        return None;
    }
    if let Some(begin) = way.iter().position(|(module, _)| *module == file.module) {
        let steps: Vec<&str> = way.iter().skip(begin).map(|(_, step)| step.as_str()).collect();
        return Some(format!("a circle of files: {}", steps.join(", ")));
    }
    for (line, import) in &file.imports {
        let Some(next) = target(import).filter(|next| *next != file.module).and_then(|next| by_module.get(next)) else {
            continue;
        };
        way.push((&file.module, format!("{}:{line} uses {import}", shown(&file.path))));
        let found = visit(next, by_module, target, way, done);
        way.pop();
        if found.is_some() {
            return found;
        }
    }
    done.insert(&file.module, ());
    None
}

/// Names of public types in a source text.
fn published(text: &str) -> Vec<&str> {
    let names = text.lines().filter_map(|line| {
        let rest = ["pub struct ", "pub enum ", "pub type "].into_iter().find_map(|begin| line.strip_prefix(begin))?;
        rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()
    });
    names.collect()
}

/// Whether a text uses a name, beyond declaring, implementing or re-exporting it.
fn mentions(text: &str, name: &str) -> bool {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let lines = text.lines().filter(|line| {
        !["pub struct ", "pub enum ", "pub type ", "pub use ", "impl ", "//"]
            .iter()
            .any(|begin| line.trim_start().starts_with(begin))
    });
    lines.into_iter().any(|line| {
        line.match_indices(name).any(|(at, _)| {
            let (before, after) = (line.get(..at).unwrap_or_default(), line.get(at + name.len()..).unwrap_or_default());
            !is_word(before.chars().next_back()) && !is_word(after.chars().next())
        })
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn file(module: &str, imports: &[&str]) -> File {
        let imports = imports.iter().map(|import| (7, (*import).to_owned())).collect();
        File { path: PathBuf::from(format!("{}.rs", module.replace("::", "/"))), module: module.into(), imports }
    }

    #[test]
    fn a_layer_uses_those_below_it_only() {
        let layers: &[&[&str]] = &[&["low"], &["left", "right"], &["high"]];
        let sound = [file("low", &["low::x"]), file("left::a", &["low::x", "left::b"]), file("high", &["left", "low"])];
        assert_eq!(upward(&sound, layers), [""; 0]);
        let broken = [file("low", &["high::Cli"]), file("left::a", &["right::b"]), file("new", &[])];
        assert_eq!(
            upward(&broken, layers),
            [
                "low.rs:7: low may not use high: high::Cli",
                "left/a.rs:7: left may not use right: right::b",
                "new.rs: new is in no layer",
            ]
        );
    }

    #[test]
    fn a_circle_is_printed_step_by_step() {
        let sound = [file("", &["a", "b"]), file("a", &["a::c::X", "b::f"]), file("a::c", &["b"]), file("b", &[])];
        assert_eq!(circle(&sound), None);
        let broken = [file("a", &["b::X"]), file("b", &["c"]), file("c", &["a::f"])];
        assert_eq!(circle(&broken).unwrap(), "a circle of files: a.rs:7 uses b::X, b.rs:7 uses c, c.rs:7 uses a::f");
    }

    #[test]
    fn a_document_is_used_by_more_than_its_declaration() {
        let text = "pub struct Row {\n    pub sum: Traffic,\n}\nimpl Row {\n// Row\n}\npub use a::Row;\n";
        assert_eq!(published(text), ["Row"]);
        assert!(!mentions(text, "Row") && mentions(text, "Traffic") && !mentions("let x: Rows;", "Row"));
    }
}
