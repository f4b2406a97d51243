//! Module boundaries: in nettopd each module uses only those below it, no files of a crate use each other in a circle, and
//! all that is published is used.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::{
    command::{cargo, output, root},
    imports::{self, File, resolve},
};

/// Modules of nettopd from the lowest to the highest. Those in one line do not know each other.
const LAYERS: &[&[&str]] = &[
    &["error", "bounds", "defaults"],
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
/// Its types are documents.
const DOCUMENTS: &str = "nettop-model";

/// Library, program, test or build script.
struct Target {
    package: String,
    files: Vec<File>,
}

/// Checks all crates.
///
/// # Errors
///
/// If a rule is broken; each breach is printed.
pub fn run() -> anyhow::Result<()> {
    let mut targets = Vec::new();
    for (package, path) in sources()? {
        targets.push(Target { package, files: imports::of_crate(&path)? });
    }
    let target_of = |package: &str, root: &str| {
        let is_it = |target: &&Target| {
            target.package == package && target.files.first().is_some_and(|file| file.path.ends_with(root))
        };
        targets.iter().find(is_it).with_context(|| format!("{package} has no {root}"))
    };
    let mut breaches = upward(&target_of(LAYERED, "src/main.rs")?.files, LAYERS);
    for target in &targets {
        breaches.extend(circle(&target.files));
    }
    let model = target_of(DOCUMENTS, "src/lib.rs")?;
    let others = targets.iter().filter(|target| target.package != DOCUMENTS);
    breaches.extend(unused(&model.files, others.flat_map(|target| &target.files)));
    for breach in &breaches {
        eprintln!("{breach}");
    }
    if breaches.is_empty() { Ok(()) } else { bail!("{} breaches of layers", breaches.len()) }
}

/// Packages and the roots of their targets, as cargo has them.
fn sources() -> anyhow::Result<Vec<(String, PathBuf)>> {
    let text = output(cargo().args(["metadata", "--no-deps", "--offline", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&text)?;
    let list = |value: &Value, member: &str| {
        let found = value.get(member).and_then(Value::as_array).cloned();
        found.with_context(|| format!("cargo metadata has no {member}"))
    };
    let text = |value: &Value, member: &str| {
        let found = value.get(member).and_then(Value::as_str).map(ToOwned::to_owned);
        found.with_context(|| format!("cargo metadata has no {member}"))
    };
    let mut sources = Vec::new();
    for package in list(&metadata, "packages")? {
        for target in list(&package, "targets")? {
            sources.push((text(&package, "name")?, text(&target, "src_path")?.into()));
        }
    }
    Ok(sources)
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Whether a path is in its file's own crate.
fn is_own(import: &str) -> bool {
    import.split("::").next() == Some("crate")
}

/// Imports from a layer above, or beside.
fn upward(files: &[File], layers: &[&[&str]]) -> Vec<String> {
    let layer = |module: &str| {
        let top = module.trim_start_matches("crate::").split("::").next().unwrap_or_default().to_owned();
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
        for (line, import) in file.imports.iter().chain(&file.reexports).filter(|(_, import)| is_own(import)) {
            let at = format!("{}:{line}: {own}", shown(&file.path));
            // By its name, and by what that stands for.
            let leads = resolve(files, import).map(|(file, _)| file.module.as_str());
            if leads == Some("") {
                breaches.push(format!("{at} may not use the root: {import}"));
            }
            let names = [import.as_str()].into_iter().chain(leads);
            let above = names.filter_map(layer).find(|(above, top)| *top != own && *above >= rank);
            if let Some((_, top)) = above {
                breaches.push(format!("{at} may not use {top}: {import}"));
            }
        }
    }
    breaches
}

/// A circle of files, if there is one.
fn circle(files: &[File]) -> Option<String> {
    let mut done = BTreeMap::new();
    files.iter().find_map(|file| visit(file, files, &mut Vec::new(), &mut done))
}

/// Follows imports from a file. `done` has files that lead into no circle.
fn visit<'a>(
    file: &'a File,
    files: &'a [File],
    path: &mut Vec<(&'a str, String)>,
    done: &mut BTreeMap<&'a str, ()>,
) -> Option<String> {
    if done.contains_key(file.module.as_str()) {
        return None;
    }
    if let Some(begin) = path.iter().position(|(module, _)| *module == file.module) {
        let steps: Vec<&str> = path.iter().skip(begin).map(|(_, step)| step.as_str()).collect();
        return Some(format!("a circle of files: {}", steps.join(", ")));
    }
    for (line, import) in &file.imports {
        let next = resolve(files, import).filter(|_| is_own(import)).map(|(next, _)| next);
        let Some(next) = next.filter(|next| next.module != file.module) else { continue };
        path.push((&file.module, format!("{}:{line} uses {import}", shown(&file.path))));
        let found = visit(next, files, path, done);
        path.pop();
        if found.is_some() {
            return found;
        }
    }
    done.insert(&file.module, ());
    None
}

/// Public types of `model` that neither it nor another crate uses.
fn unused<'a>(model: &'a [File], others: impl Iterator<Item = &'a File>) -> Vec<String> {
    let crate_name = DOCUMENTS.replace('-', "_") + "::";
    let of_others = others.flat_map(|file| &file.imports).filter(|(_, import)| import.starts_with(&crate_name));
    let of_model = model.iter().flat_map(|file| &file.imports).filter(|(_, import)| is_own(import));
    let used: Vec<(&str, String)> = of_others
        .chain(of_model)
        .filter_map(|(_, import)| resolve(model, import))
        .map(|(file, name)| (file.module.as_str(), name))
        .collect();
    let mut breaches = Vec::new();
    for file in model {
        for name in &file.types {
            if !file.words.contains(name) && !used.contains(&(&file.module, name.clone())) {
                breaches.push(format!("{}: nobody uses {name}", shown(&file.path)));
            }
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names are modules, or of the root; those that begin with `pub ` are passed on.
    fn file(module: &str, imports: &[&str]) -> File {
        let path = PathBuf::from(format!("{}.rs", module.replace("::", "/")));
        let mut file = File { path, module: module.into(), ..File::default() };
        for import in imports {
            match import.strip_prefix("pub ") {
                Some(import) => {
                    file.reexports.insert((7, format!("crate::{import}")));
                    let name = import.split("::").last().unwrap();
                    file.names.insert(name.to_owned(), format!("crate::{import}"));
                }
                None => drop(file.imports.insert((7, format!("crate::{import}")))),
            }
        }
        file
    }

    #[test]
    fn a_layer_uses_those_below_it_only() {
        let layers: &[&[&str]] = &[&["low"], &["left", "right"], &["high"]];
        let mut sound = [
            file("", &["high", "pub left::X"]),
            file("low", &["low::x"]),
            file("left", &[]),
            file("left::a", &["low::x", "left::b"]),
            file("high", &["left", "low", "X"]),
        ];
        sound[1].imports.insert((7, "high::of_another_crate".into()));
        assert_eq!(upward(&sound, layers), [""; 0]);
        let broken = [
            file("", &["pub high::Cli"]),
            file("low", &["high::Cli", "pub left::a"]),
            file("low::by_name", &["Cli"]),
            file("left", &[]),
            file("left::a", &["right::b", "main"]),
            file("right", &[]),
            file("high", &[]),
            file("new", &[]),
        ];
        assert_eq!(
            upward(&broken, layers),
            [
                "low.rs:7: low may not use high: crate::high::Cli",
                "low.rs:7: low may not use left: crate::left::a",
                "low/by_name.rs:7: low may not use high: crate::Cli",
                "left/a.rs:7: left may not use the root: crate::main",
                "left/a.rs:7: left may not use right: crate::right::b",
                "new.rs: new is in no layer",
            ]
        );
    }

    #[test]
    fn a_circle_is_printed_step_by_step() {
        // Passing something on is no use of it.
        let sound = [
            file("", &["a", "b", "pub d::Y"]),
            file("a", &["a::c::X", "b::f"]),
            file("a::c", &["b"]),
            file("b", &[]),
            file("d", &["root_item", "b"]),
        ];
        assert_eq!(circle(&sound), None);
        let broken = [file("a", &["b::X"]), file("b", &["c"]), file("c", &["a::f"])];
        assert_eq!(
            circle(&broken).unwrap(),
            "a circle of files: a.rs:7 uses crate::b::X, b.rs:7 uses crate::c, c.rs:7 uses crate::a::f"
        );
        let by_the_root = [file("", &["pub a::X"]), file("a", &["b"]), file("b", &["X"])];
        assert_eq!(circle(&by_the_root).unwrap(), "a circle of files: a.rs:7 uses crate::b, b.rs:7 uses crate::X");
        let with_the_root = [file("", &["a"]), file("a", &["item"])];
        assert_eq!(circle(&with_the_root).unwrap(), "a circle of files: .rs:7 uses crate::a, a.rs:7 uses crate::item");
    }

    #[test]
    fn a_document_is_used_where_its_path_leads_to_it() {
        let types = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut model = [
            file("", &["pub a::Row"]),
            File { types: types(&["Row", "Sum", "Idle"]), ..file("a", &[]) },
            File { types: types(&["Idle", "Kept"]), ..file("b", &["a::Sum"]) },
        ];
        model[2].words.insert("Kept".into());
        let imports = [(1, "nettop_model::Row"), (2, "other_crate::a::Idle"), (3, "nettop_model::b::Idle")];
        let other = File {
            imports: imports.map(|(line, path)| (line, path.to_owned())).into(),
            words: ["Idle".to_owned()].into(),
            ..File::default()
        };
        assert_eq!(unused(&model, [&other].into_iter()), ["a.rs: nobody uses Idle"]);
    }
}
