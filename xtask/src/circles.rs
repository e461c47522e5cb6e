//! Circles among the files of a crate. Files that use each other in a circle can be understood, tested and moved only all
//! at once, and such circles grow: the one of the Kubernetes face had reached 22 files before anybody counted. So no
//! more than three files of a crate may stand in one.
//!
//! A file uses another when its code names something that is defined there. What names what is found as the compiler
//! finds it: through `use` lines, re-exports, globs, `crate::` and `super::`, in macros too. What follows from that:
//!
//! * `mod x;` is no use, and passing through a module is none: `crate::pod::find::seen` uses `pod/find.rs`, not `pod.rs`.
//! * `pub use` is no use either: it gives a name to others. Who uses that name uses the file that defines it.
//! * Tests are left out: they may name whatever they compare with.
//! * Methods are left out: only a compiler knows whose they are.
//! * The root of a crate (`lib.rs`, `main.rs`) is left out: it is made of all the files and holds what all of them
//!   share, so that with it every crate were one circle. A module with submodules is not: what its parts share belongs
//!   in one of the parts.
//!
//! Refused: reading `use` lines alone, by which a re-export in a parent makes the whole folder one circle; counting
//! modules instead of files, by which a folder hides the circle in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// Lists of all that there is of something closed, which each of its members knows: left out as the root of a crate is, and
/// for the same reason. Each new kind of row would make the circle longer by one.
const LISTS: &[&str] = &["crates/model/src/resource.rs"];

/// What is followed by the name of a type in what a macro makes. Functions and constants there are mostly those of a trait.
const DEFINE: [&str; 3] = ["enum", "struct", "trait"];

/// The files of a crate, and what they say.
#[derive(Default)]
struct Sources {
    files: Vec<PathBuf>,
    /// Roots and lists.
    left_out: BTreeSet<usize>,
    modules: Vec<Module>,
}

/// A module, of a file of its own or in another's.
#[derive(Default)]
struct Module {
    file: usize,
    root: usize,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
    /// What is defined here, with the file: exported macros are found at the root, wherever they stand.
    items: BTreeMap<String, usize>,
    imports: Vec<(String, Vec<String>)>,
    globs: Vec<Vec<String>>,
    named: Vec<Named>,
}

/// A path in the code.
struct Named {
    path: Vec<String>,
    line: usize,
}

/// What a name can stand for.
#[derive(Clone, Copy, PartialEq)]
enum Meaning {
    Module(usize),
    /// Something that is defined in this file.
    Item(usize),
}

impl Sources {
    fn of(src: &Path) -> Sources {
        let mut sources = Sources::default();
        let programs = std::fs::read_dir(src.join("bin")).into_iter().flatten().flatten().map(|e| e.path());
        for root in [src.join("lib.rs"), src.join("main.rs")].into_iter().chain(programs).filter(|f| f.is_file()) {
            let module = sources.modules.len();
            sources.read(&root, src, Module { root: module, ..Module::default() });
            sources.left_out.insert(sources.modules[module].file);
        }
        sources
    }

    /// Reads the file of a module, and those of the modules in it, which lie in `folder`.
    fn read(&mut self, file: &Path, folder: &Path, module: Module) -> usize {
        let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let parsed = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let (number, id) = (self.files.len(), self.modules.len());
        self.files.push(file.to_owned());
        if LISTS.iter().any(|list| file.ends_with(list)) {
            self.left_out.insert(number);
        }
        self.modules.push(Module { file: number, ..module });
        Reader { sources: self, module: id, folder: folder.to_owned() }.visit_file(&parsed);
        id
    }

    /// What a path can stand for that is written in a module.
    fn resolve(&self, module: usize, path: &[String], tried: &mut BTreeSet<(usize, String)>) -> Vec<Meaning> {
        let Some((first, rest)) = path.split_first() else { return Vec::new() };
        let this = &self.modules[module];
        let mut meanings = match first.as_str() {
            "crate" => vec![Meaning::Module(this.root)],
            "self" => vec![Meaning::Module(module)],
            "super" => this.parent.map(Meaning::Module).into_iter().collect(),
            name => self.look_up(module, name, tried),
        };
        for segment in rest {
            meanings = meanings
                .into_iter()
                .flat_map(|meaning| match meaning {
                    Meaning::Module(module) if segment == "super" => {
                        self.modules[module].parent.map(Meaning::Module).into_iter().collect()
                    }
                    Meaning::Module(module) => self.look_up(module, segment, tried),
                    Meaning::Item(_) => vec![meaning],
                })
                .collect();
        }
        meanings
    }

    fn look_up(&self, module: usize, name: &str, tried: &mut BTreeSet<(usize, String)>) -> Vec<Meaning> {
        if !tried.insert((module, name.to_owned())) {
            return Vec::new();
        }
        let this = &self.modules[module];
        let mut found: Vec<Meaning> =
            this.children.get(name).map(|child| Meaning::Module(*child)).into_iter().collect();
        found.extend(this.items.get(name).map(|file| Meaning::Item(*file)));
        for (_, path) in this.imports.iter().filter(|(import, _)| import == name) {
            found.extend(self.resolve(module, path, tried));
        }
        if found.is_empty() {
            for glob in &this.globs {
                for meaning in self.resolve(module, glob, tried) {
                    if let Meaning::Module(module) = meaning {
                        found.extend(self.look_up(module, name, tried));
                    }
                }
            }
        }
        tried.remove(&(module, name.to_owned()));
        found
    }

    /// Which file uses which, and where it does so first.
    fn uses(&self) -> BTreeMap<(usize, usize), &Named> {
        let mut uses: BTreeMap<(usize, usize), &Named> = BTreeMap::new();
        for (id, module) in self.modules.iter().enumerate() {
            for named in &module.named {
                for meaning in self.resolve(id, &named.path, &mut BTreeSet::new()) {
                    let Meaning::Item(file) = meaning else { continue };
                    if file != module.file && ![file, module.file].iter().any(|f| self.left_out.contains(f)) {
                        let first = uses.entry((module.file, file)).or_insert(named);
                        if named.line < first.line {
                            *first = named;
                        }
                    }
                }
            }
        }
        uses
    }
}

/// Reads the code of one module.
struct Reader<'s> {
    sources: &'s mut Sources,
    module: usize,
    folder: PathBuf,
}

impl Reader<'_> {
    fn this(&mut self) -> &mut Module {
        &mut self.sources.modules[self.module]
    }

    fn define(&mut self, name: &syn::Ident) {
        let file = self.this().file;
        self.this().items.insert(name.to_string(), file);
    }

    fn module(&mut self, module: &syn::ItemMod) {
        let name = module.ident.to_string();
        let (this, id) = (self.module, self.sources.modules.len());
        let new = Module { file: self.this().file, root: self.this().root, parent: Some(this), ..Module::default() };
        let inside = self.folder.join(&name);
        self.this().children.insert(name.clone(), id);
        match &module.content {
            Some((_, items)) => {
                self.sources.modules.push(new);
                let mut reader = Reader { sources: &mut *self.sources, module: id, folder: inside };
                items.iter().for_each(|item| reader.visit_item(item));
            }
            None => {
                let files = [self.folder.join(format!("{name}.rs")), inside.join("mod.rs")];
                let file = files.iter().find(|f| f.is_file()).unwrap_or_else(|| panic!("no {}", files[0].display()));
                self.sources.read(file, &inside, new);
            }
        }
    }

    fn import(&mut self, tree: &syn::UseTree, before: &[String], private: bool) {
        let with = |name: &syn::Ident| match name == "self" && !before.is_empty() {
            true => before.to_vec(),
            false => [before, &[name.to_string()]].concat(),
        };
        let (path, name) = match tree {
            syn::UseTree::Path(path) => return self.import(&path.tree, &with(&path.ident), private),
            syn::UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.import(tree, before, private));
            }
            syn::UseTree::Glob(_) => return self.this().globs.push(before.to_vec()),
            syn::UseTree::Name(name) => (with(&name.ident), &name.ident),
            syn::UseTree::Rename(rename) => (with(&rename.ident), &rename.rename),
        };
        let called = path.last().filter(|_| name == "self").cloned().unwrap_or(name.to_string());
        if private {
            self.this().named.push(Named { path: path.clone(), line: name.span().start().line });
        }
        self.this().imports.push((called, path));
    }

    /// Paths in what a macro is given or makes, and the types that it defines by names of their own (`enum Kind`).
    fn tokens(&mut self, tokens: &TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        for token in tokens.clone() {
            match &token {
                TokenTree::Ident(name) if !path.is_empty() && colons == 2 => path.push(name.to_string()),
                TokenTree::Ident(name) if path.len() == 1 && DEFINE.contains(&path[0].as_str()) => {
                    self.define(name);
                    path.clear();
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => {
                    colons += 1;
                    continue;
                }
                _ => {
                    self.name(std::mem::take(&mut path), line);
                    match &token {
                        TokenTree::Ident(name) => {
                            path.push(name.to_string());
                            line = name.span().start().line;
                        }
                        TokenTree::Group(group) => self.tokens(&group.stream()),
                        _ => {}
                    }
                }
            }
            colons = 0;
        }
        self.name(path, line);
    }

    fn name(&mut self, path: Vec<String>, line: usize) {
        if !path.is_empty() {
            self.this().named.push(Named { path, line });
        }
    }
}

fn has(attributes: &[syn::Attribute], name: &str) -> bool {
    attributes.iter().any(|a| a.path().is_ident(name))
}

/// Whether something is there in tests only.
fn for_tests(attributes: &[syn::Attribute]) -> bool {
    let says = |a: &syn::Attribute| matches!(&a.meta, syn::Meta::List(l) if l.tokens.to_string() == "test");
    has(attributes, "test") || attributes.iter().any(|a| a.path().is_ident("cfg") && says(a))
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        use syn::Item;
        let attributes: &[syn::Attribute] = match item {
            Item::Const(i) => &i.attrs,
            Item::Fn(i) => &i.attrs,
            Item::Impl(i) => &i.attrs,
            Item::Macro(i) => &i.attrs,
            Item::Mod(i) => &i.attrs,
            Item::Static(i) => &i.attrs,
            Item::Struct(i) => &i.attrs,
            Item::Use(i) => &i.attrs,
            _ => &[],
        };
        if for_tests(attributes) {
            return;
        }
        match item {
            Item::Mod(module) => return self.module(module),
            Item::Const(i) => self.define(&i.ident),
            Item::Enum(i) => self.define(&i.ident),
            Item::Fn(i) => self.define(&i.sig.ident),
            Item::Static(i) => self.define(&i.ident),
            Item::Struct(i) => self.define(&i.ident),
            Item::Trait(i) => self.define(&i.ident),
            Item::Type(i) => self.define(&i.ident),
            Item::Union(i) => self.define(&i.ident),
            Item::Macro(i) => {
                if let Some(name) = &i.ident {
                    self.define(name);
                    let (file, root) = (self.this().file, self.this().root);
                    if has(&i.attrs, "macro_export") {
                        self.sources.modules[root].items.insert(name.to_string(), file);
                    }
                }
            }
            _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if item.leading_colon.is_none() {
            self.import(&item.tree, &[], matches!(item.vis, syn::Visibility::Inherited));
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if let (None, Some(first)) = (path.leading_colon, path.segments.first()) {
            let names = path.segments.iter().map(|s| s.ident.to_string()).collect();
            self.name(names, first.ident.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        self.visit_path(&mac.path);
        self.tokens(&mac.tokens);
    }
}

/// The files that each file reaches by what it uses and by what that uses.
fn reach(files: usize, uses: &BTreeMap<(usize, usize), &Named>) -> Vec<BTreeSet<usize>> {
    let from = |file| {
        let mut reached = BTreeSet::new();
        let mut next = vec![file];
        while let Some(file) = next.pop() {
            let used = uses.range((file, 0)..=(file, usize::MAX)).map(|((_, used), _)| *used);
            next.extend(used.filter(|used| reached.insert(*used)));
        }
        reached
    };
    (0..files).map(from).collect()
}

/// Circles of more than three files, each as the files' names from the project's root and as where they use each other.
fn circles(src: &Path, root: &Path) -> Vec<(Vec<String>, Vec<String>)> {
    let sources = Sources::of(src);
    let uses = sources.uses();
    let reached = reach(sources.files.len(), &uses);
    let name =
        |file: usize| sources.files[file].strip_prefix(root).unwrap_or(&sources.files[file]).display().to_string();
    let mut found: BTreeSet<Vec<usize>> = BTreeSet::new();
    for (file, reaches) in reached.iter().enumerate() {
        found.insert(reaches.iter().copied().filter(|other| reached[*other].contains(&file)).collect());
    }
    found.retain(|circle| circle.len() > 3);
    let lines = |circle: &[usize]| {
        let within = uses.iter().filter(|((from, to), _)| circle.contains(from) && circle.contains(to));
        within
            .map(|((from, to), n)| format!("{}:{}: {} ({})", name(*from), n.line, n.path.join("::"), name(*to)))
            .collect()
    };
    found.iter().map(|circle| (circle.iter().map(|f| name(*f)).collect(), lines(circle))).collect()
}

#[test]
fn no_circle_of_more_than_three_files() {
    let root = crate::tests::root();
    let mut wrong = Vec::new();
    for src in crate::tests::crates() {
        for (files, lines) in circles(&src.join("src"), &root) {
            wrong.push(format!("{} files in a circle:\n  {}", files.len(), lines.join("\n  ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_circle_is_seen_through_whatever_leads_to_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("two")).expect("a folder");
    let found = |sources: &[(&str, &str)]| -> Vec<Vec<String>> {
        for (name, text) in sources {
            std::fs::write(folder.path().join(name), text).expect("a file");
        }
        circles(folder.path(), folder.path()).into_iter().map(|(files, _)| files).collect()
    };
    // In pairs at most: what is passed through, re-exported or only tested is not used.
    let apart = found(&[
        ("lib.rs", "mod one; mod two; mod three; mod four; mod five; pub use two::Two; pub use five::Five;"),
        ("one.rs", "use crate::Two; pub struct One(Two); #[cfg(test)] use crate::Five;"),
        ("two.rs", "pub mod parts; pub use parts::*; pub struct Two;"),
        ("two/parts.rs", "use super::*; pub fn part() -> Two { format!(\"{}\", crate::three::three()) }"),
        ("three.rs", "use crate::two; pub fn three() { two::part(); crate::four::FOUR }"),
        ("four.rs", "pub const FOUR: () = { use crate::one as first; first::One; };"),
        ("five.rs", "use crate::two; use crate::one::One; pub struct Five;"),
    ]);
    assert_eq!(apart, [[""; 0]; 0]);
    let together = found(&[
        ("two.rs", "pub mod parts; pub use parts::*; pub struct Two(parts::Part);"),
        ("two/parts.rs", "pub struct Part(crate::three::Three);"),
        ("three.rs", "macro_rules! make { () => { pub struct Three(crate::four::Four); } } make!();"),
        ("four.rs", "pub struct Four(crate::one::One);"),
    ]);
    assert_eq!(together, [["one.rs", "two.rs", "two/parts.rs", "three.rs", "four.rs"]]);
}
