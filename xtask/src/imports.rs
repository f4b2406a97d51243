//! Which source file of a crate imports which other: by `use`, and by paths from `crate` or `super`. Tests are left out.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use syn::{
    Attribute, Item, ItemMod, ItemUse, UseTree, Visibility,
    spanned::Spanned as _,
    visit::{self, Visit},
};

/// A file of a crate.
pub struct File {
    pub path: PathBuf,
    /// `a::b` for src/a/b.rs, nothing for the root.
    pub module: String,
    /// Lines, and the paths there from the crate's root.
    pub imports: BTreeSet<(usize, String)>,
}

/// All files of a crate that are no tests.
///
/// # Errors
///
/// If one cannot be read, or is not understood.
pub fn of_crate(source: &Path) -> anyhow::Result<Vec<File>> {
    let root = ["main.rs", "lib.rs"].map(|name| source.join(name)).into_iter().find(|path| path.exists());
    let root = root.with_context(|| format!("{} has no root", source.display()))?;
    let mut files = Vec::new();
    read(&root, source, String::new(), &mut files)?;
    Ok(files)
}

/// Reads a module, and those that it declares, which are in `folder`.
fn read(path: &Path, folder: &Path, module: String, files: &mut Vec<File>) -> anyhow::Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = syn::parse_file(&text).with_context(|| format!("{} is not understood", path.display()))?;
    let mut found = Imports { module: &module, imports: BTreeSet::new() };
    found.visit_file(&file);
    files.push(File { path: path.to_owned(), module: module.clone(), imports: found.imports });
    for item in &file.items {
        let Item::Mod(ItemMod { ident, content: None, attrs, .. }) = item else { continue };
        if is_test(attrs) {
            continue;
        }
        let name = ident.to_string();
        let path = folder.join(&name).with_extension("rs");
        let module = if module.is_empty() { name.clone() } else { format!("{module}::{name}") };
        read(&path, &folder.join(&name), module, files)?;
    }
    Ok(())
}

/// Whether something is compiled for tests only.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let test = |meta: &syn::MetaList| meta.tokens.to_string() == "test";
        attribute.path().is_ident("cfg") && attribute.meta.require_list().is_ok_and(test)
    })
}

struct Imports<'a> {
    module: &'a str,
    imports: BTreeSet<(usize, String)>,
}

impl Imports<'_> {
    /// Notes a path that begins at the crate's root, at this module, or above it.
    fn note(&mut self, line: usize, segments: &[String]) {
        let Some((first, rest)) = segments.split_first() else { return };
        let mut from: Vec<&str> = self.module.split("::").filter(|segment| !segment.is_empty()).collect();
        match first.as_str() {
            "crate" => from.clear(),
            "self" => {}
            "super" => {
                from.pop();
            }
            _ => return,
        }
        let mut rest = rest;
        while let Some((first, more)) = rest.split_first()
            && first == "super"
        {
            from.pop();
            rest = more;
        }
        let path: Vec<&str> = from.into_iter().chain(rest.iter().map(String::as_str)).collect();
        self.imports.insert((line, path.join("::")));
    }

    fn note_tree(&mut self, tree: &UseTree, before: &mut Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.note_tree(&path.tree, before);
                before.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.note_tree(tree, before)),
            UseTree::Name(name) => self.note_leaf(&name.ident, before),
            UseTree::Rename(rename) => self.note_leaf(&rename.ident, before),
            UseTree::Glob(glob) => self.note(glob.span().start().line, before),
        }
    }

    fn note_leaf(&mut self, leaf: &syn::Ident, before: &[String]) {
        let whole = if leaf == "self" { before.to_vec() } else { [before, &[leaf.to_string()]].concat() };
        self.note(leaf.span().start().line, &whole);
    }
}

impl<'ast> Visit<'ast> for Imports<'_> {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        // Inline modules have paths of their own; only tests are inline.
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.note_tree(&item.tree, &mut Vec::new());
    }

    /// `pub(super)` imports nothing.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.note(path.span().start().line, &segments);
        visit::visit_path(self, path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_found_wherever_they_stand_but_in_tests() {
        let folder = std::env::temp_dir().join(format!("nettop-imports-{}", std::process::id()));
        fs::create_dir_all(folder.join("a")).unwrap();
        let lib = "mod a;\nuse crate::a::{self, B};\n#[cfg(test)]\nmod tests { use crate::gone::X; }\n";
        fs::write(folder.join("lib.rs"), lib).unwrap();
        fs::write(
            folder.join("a.rs"),
            "mod c;\npub(super) fn f() { super::g::<crate::h::I>() }\n#[cfg(test)]\nmod t;\n",
        )
        .unwrap();
        fs::write(folder.join("a/c.rs"), "use super::super::x;\nuse self::y::z as w;\nuse std::fs;\n").unwrap();
        let files = of_crate(&folder);
        fs::remove_dir_all(&folder).unwrap();
        let found: Vec<(String, Vec<(usize, String)>)> =
            files.unwrap().into_iter().map(|file| (file.module, file.imports.into_iter().collect())).collect();
        let at = |line: usize, path: &str| (line, path.to_owned());
        assert_eq!(
            found,
            [
                (String::new(), vec![at(2, "a"), at(2, "a::B")]),
                ("a".into(), vec![at(2, "g"), at(2, "h::I")]),
                ("a::c".into(), vec![at(1, "x"), at(2, "a::c::y::z")]),
            ]
        );
    }
}
