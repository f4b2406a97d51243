//! Which source file imports which other: by `use`, and by paths wherever they stand, in macros too. Tests are left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, Expr, ExprLit, Item, ItemEnum, ItemImpl, ItemMod, ItemStruct, ItemType, ItemUse, Lit, Macro, Meta, Type,
    UseTree, Visibility,
    spanned::Spanned as _,
    visit::{self, Visit},
};

/// Begins a path in the file's own crate.
const OWN: &str = "crate";
/// A re-export of a re-export, and so on, is followed so often.
const MAX_REEXPORTS: usize = 8;

/// A file of a crate.
#[derive(Default)]
pub struct File {
    pub path: PathBuf,
    /// `a::b` for src/a/b.rs, nothing for the root.
    pub module: String,
    /// Lines, and the paths that are used there, from `crate` or another crate's name.
    pub imports: BTreeSet<(usize, String)>,
    /// The same of what is only passed on, by `pub use`.
    pub reexports: BTreeSet<(usize, String)>,
    /// Paths of what `use` names here.
    pub names: BTreeMap<String, String>,
    /// First words of paths, but those of a type in its own definition.
    pub words: BTreeSet<String>,
    /// Public types.
    pub types: Vec<String>,
}

/// All files of a crate that are no tests, from its root.
///
/// # Errors
///
/// If one cannot be read, or is not understood.
pub fn of_crate(root: &Path) -> anyhow::Result<Vec<File>> {
    let mut files = Vec::new();
    read(root, root.parent().unwrap_or(root), String::new(), &mut files)?;
    Ok(files)
}

/// The module that a path leads into, and what it names there: nothing, if that is the module. Re-exports are followed.
pub fn resolve<'a>(files: &'a [File], path: &str) -> Option<(&'a File, String)> {
    let mut path = path.to_owned();
    for _ in 0..MAX_REEXPORTS {
        let segments: Vec<&str> = path.split("::").skip(1).collect();
        let of_module = |length: usize| {
            let module = segments.get(..length)?.join("::");
            files.iter().find(|file| file.module == module)
        };
        let (length, file) = (0..=segments.len()).rev().find_map(|length| Some((length, of_module(length)?)))?;
        let rest = segments.get(length..).unwrap_or_default();
        let Some((name, more)) = rest.split_first() else { return Some((file, String::new())) };
        match file.names.get(*name) {
            Some(target) if target.starts_with(OWN) => {
                path = [&[target.as_str()], more].concat().join("::");
            }
            Some(_) => return None,
            None => return Some((file, (*name).to_owned())),
        }
    }
    None
}

/// Reads a module, and those that it declares, which are in `folder`.
fn read(path: &Path, folder: &Path, module: String, files: &mut Vec<File>) -> anyhow::Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = syn::parse_file(&text).with_context(|| format!("{} is not understood", path.display()))?;
    let mut found = Found::new(path, module.clone());
    found.is_naming = true;
    found.visit_file(&file);
    found.is_naming = false;
    found.visit_file(&file);
    files.push(found.file);
    for item in &file.items {
        let Item::Mod(ItemMod { ident, content: None, attrs, .. }) = item else { continue };
        if is_test(attrs) {
            continue;
        }
        let name = ident.to_string();
        let named = attrs.iter().find_map(path_of).zip(path.parent());
        let path = named.map_or_else(|| folder.join(&name).with_extension("rs"), |(named, beside)| beside.join(named));
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

/// Of `#[path = "…"]`.
fn path_of(attribute: &Attribute) -> Option<String> {
    let value = &attribute.meta.require_name_value().ok().filter(|_| attribute.path().is_ident("path"))?.value;
    if let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = value { Some(text.value()) } else { None }
}

/// What is found in a file, in two rounds: what names are there, then where they are used.
struct Found {
    file: File,
    is_naming: bool,
    /// With inline modules.
    module: Vec<String>,
    /// Modules that are declared here.
    children: BTreeSet<String>,
    /// The type that is being defined.
    own: Option<String>,
}

impl Found {
    fn new(path: &Path, module: String) -> Self {
        let file = File { path: path.to_owned(), module: module.clone(), ..File::default() };
        let module = module.split("::").filter(|segment| !segment.is_empty()).map(ToOwned::to_owned).collect();
        Self { file, is_naming: false, module, children: BTreeSet::new(), own: None }
    }

    /// A path from its crate's name, unless it names something of this file.
    fn absolute(&self, segments: &[String]) -> Option<String> {
        let (first, mut rest) = segments.split_first()?;
        let mut from: Vec<&str> = self.module.iter().map(String::as_str).collect();
        match first.as_str() {
            OWN => from.clear(),
            "self" if !rest.is_empty() => {}
            "super" => {
                from.pop();
                while let Some(("super", more)) = rest.split_first().map(|(first, more)| (first.as_str(), more)) {
                    from.pop();
                    rest = more;
                }
            }
            // A local variable may have a module's name.
            child if !rest.is_empty() && self.children.contains(child) => rest = segments,
            name => {
                let named = self.file.names.get(name).map(String::as_str);
                let crate_name = (!rest.is_empty()).then_some(name);
                let path = std::iter::once(named.or(crate_name)?).chain(rest.iter().map(String::as_str));
                return Some(path.collect::<Vec<_>>().join("::"));
            }
        }
        let path = std::iter::once(OWN).chain(from).chain(rest.iter().map(String::as_str));
        Some(path.collect::<Vec<_>>().join("::"))
    }

    fn note(&mut self, line: usize, segments: &[String]) {
        if self.is_naming {
            return;
        }
        if let Some(first) = segments.first().filter(|first| self.own.as_ref() != Some(*first)) {
            self.file.words.insert(first.clone());
        }
        if let Some(path) = self.absolute(segments) {
            self.file.imports.insert((line, path));
        }
    }

    fn note_tree(&mut self, tree: &UseTree, before: &mut Vec<String>, is_passed_on: bool) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.note_tree(&path.tree, before, is_passed_on);
                before.pop();
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.note_tree(tree, before, is_passed_on));
            }
            UseTree::Name(name) => self.note_leaf(&name.ident, None, before, is_passed_on),
            UseTree::Rename(rename) => self.note_leaf(&rename.ident, Some(&rename.rename), before, is_passed_on),
            UseTree::Glob(glob) => self.note(glob.span().start().line, before),
        }
    }

    fn note_leaf(&mut self, leaf: &syn::Ident, named: Option<&syn::Ident>, before: &[String], is_passed_on: bool) {
        let whole = if leaf == "self" { before.to_vec() } else { [before, &[leaf.to_string()]].concat() };
        let Some(path) = self.absolute(&whole) else { return };
        let name = named.map(ToString::to_string).or_else(|| whole.last().cloned()).unwrap_or_default();
        let at = (leaf.span().start().line, path.clone());
        if self.is_naming {
            self.file.names.insert(name, path);
        } else if is_passed_on {
            self.file.reexports.insert(at);
        } else {
            self.file.imports.insert(at);
        }
    }

    /// Paths in what a macro or an attribute is given.
    fn note_tokens(&mut self, tokens: TokenStream) {
        let mut path = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
                TokenTree::Ident(word) => {
                    if colons != 2 {
                        self.note(line, &path);
                        path.clear();
                    }
                    (line, colons) = (word.span().start().line, 0);
                    path.push(word.to_string());
                }
                other => {
                    self.note(line, &path);
                    path.clear();
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.note_tokens(group.stream());
                    }
                }
            }
        }
        self.note(line, &path);
    }

    /// Visits the definition of a type.
    fn define(&mut self, name: &syn::Ident, visibility: Option<&Visibility>, visit: impl FnOnce(&mut Self)) {
        if self.is_naming && matches!(visibility, Some(Visibility::Public(_))) {
            self.file.types.push(name.to_string());
        }
        let outer = self.own.replace(name.to_string());
        visit(self);
        self.own = outer;
    }
}

impl<'ast> Visit<'ast> for Found {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if is_test(&item.attrs) {
            return;
        }
        let name = item.ident.to_string();
        if item.content.is_none() && self.is_naming {
            self.children.insert(name);
        } else {
            self.module.push(name);
            visit::visit_item_mod(self, item);
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let is_passed_on = !matches!(item.vis, Visibility::Inherited);
        if !is_test(&item.attrs) {
            self.note_tree(&item.tree, &mut Vec::new(), is_passed_on);
        }
    }

    fn visit_item_struct(&mut self, item: &'ast ItemStruct) {
        self.define(&item.ident, Some(&item.vis), |found| visit::visit_item_struct(found, item));
    }

    fn visit_item_enum(&mut self, item: &'ast ItemEnum) {
        self.define(&item.ident, Some(&item.vis), |found| visit::visit_item_enum(found, item));
    }

    fn visit_item_type(&mut self, item: &'ast ItemType) {
        self.define(&item.ident, Some(&item.vis), |found| visit::visit_item_type(found, item));
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        let named = if let Type::Path(named) = &*item.self_ty { named.path.segments.last() } else { None };
        match named {
            Some(named) => self.define(&named.ident, None, |found| visit::visit_item_impl(found, item)),
            None => visit::visit_item_impl(self, item),
        }
    }

    /// `pub(super)` imports nothing.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.note(path.span().start().line, &segments);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast Macro) {
        self.note_tokens(item.tokens.clone());
        visit::visit_macro(self, item);
    }

    fn visit_meta(&mut self, meta: &'ast Meta) {
        if let Meta::List(list) = meta {
            self.note_tokens(list.tokens.clone());
        }
        visit::visit_meta(self, meta);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found_in(texts: &[(&str, &str)]) -> Vec<File> {
        let folder = std::env::temp_dir().join(format!("nettop-imports-{}-{}", std::process::id(), texts[0].0));
        for (path, text) in texts {
            fs::create_dir_all(folder.join(path).parent().unwrap()).unwrap();
            fs::write(folder.join(path), text).unwrap();
        }
        let files = of_crate(&folder.join(texts[0].0));
        fs::remove_dir_all(&folder).unwrap();
        files.unwrap()
    }

    /// Those in the own crate.
    fn imports(file: &File) -> Vec<(usize, &str)> {
        let own = file.imports.iter().filter(|(_, path)| path.starts_with(OWN));
        own.map(|(line, path)| (*line, path.as_str())).collect()
    }

    #[test]
    fn imports_are_found_wherever_they_stand_but_in_tests() {
        let files = found_in(&[
            ("lib.rs", "mod a;\nuse crate::a::{self, B};\n#[cfg(test)]\nmod tests { use crate::gone::X; }\n"),
            ("a.rs", "mod c;\npub(super) fn f() { super::g::<crate::h::I>() }\n#[cfg(test)]\nmod t;\n"),
            ("a/c.rs", "use super::super::x;\nuse self::y::z as w;\nuse std::fs;\n"),
        ]);
        let modules: Vec<&str> = files.iter().map(|file| file.module.as_str()).collect();
        assert_eq!(modules, ["", "a", "a::c"]);
        assert_eq!(imports(&files[0]), [(2, "crate::a"), (2, "crate::a::B")]);
        assert_eq!(imports(&files[1]), [(2, "crate::g"), (2, "crate::h::I")]);
        assert_eq!(imports(&files[2]), [(1, "crate::x"), (2, "crate::a::c::y::z")]);
    }

    #[test]
    fn paths_are_found_by_bare_names_in_macros_attributes_and_inline_modules() {
        let files = found_in(&[
            (
                "main.rs",
                "mod a;\n#[path = \"elsewhere/b.rs\"]\nmod b;\npub use a::X;\npub(crate) use a::Y;\nfn main() { \
                 let a = 1;\nY;\nb::f();\nmatches!(a, crate::m::N(a::b) if a::b::c) }\n",
            ),
            ("a.rs", "#[derive(crate::d::D)]\npub struct X;\nmod inner { use super::e; }\nimpl X {}\n"),
            ("elsewhere/b.rs", "use crate::X as Z;\nuse other::W;\nfn f() -> Z { W::new(other::V) }\n"),
        ]);
        assert_eq!(
            imports(&files[0]),
            [(7, "crate::a::Y"), (8, "crate::b::f"), (9, "crate::a::b"), (9, "crate::a::b::c"), (9, "crate::m::N")]
        );
        assert_eq!(imports(&files[1]), [(1, "crate::d::D"), (3, "crate::a::e")]);
        assert!(files[1].types == ["X"] && !files[1].words.contains("X"));
        assert_eq!(imports(&files[2]), [(1, "crate::X"), (3, "crate::X")]);
        assert!(files[2].imports.contains(&(3, "other::W::new".into())));
        let leads = |path: &str| resolve(&files, path).map(|(file, name)| (file.module.as_str(), name));
        assert_eq!(leads("crate::X"), Some(("a", "X".into())));
        assert_eq!(leads("crate::b::Z::new"), Some(("a", "X".into())));
        assert_eq!(leads("crate::b::W"), None);
        assert_eq!(leads("crate::b"), Some(("b", String::new())));
        assert_eq!(leads("crate::main"), Some(("", "main".into())));
    }
}
