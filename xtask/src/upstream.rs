//! What Kubernetes' own files say of its messages and the JSON schemas do not: the fields' numbers, and how lists, maps and
//! structs merge. It is read here from k8s-pb, which carries upstream's `generated.proto` files with their comments, and goes
//! as one table to the Kubernetes face, which then needs neither the 3 MB of them nor `protoc`. JSON names are those
//! of k8s-openapi.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

const TABLE: &str = "crates/faces/kube/src/upstream.txt";

/// Where a package lies, and which of its features are on. k8s-pb is a dependency by a feature that nothing else turns on:
/// it is fetched, and never compiled.
fn package(metadata: &Value, name: &str) -> (PathBuf, Vec<String>) {
    let packages = metadata["packages"].as_array().expect("packages");
    let package = packages.iter().find(|p| p["name"] == name).unwrap_or_else(|| panic!("{name} is a dependency"));
    let manifest = Path::new(package["manifest_path"].as_str().expect("a path"));
    let nodes = metadata["resolve"]["nodes"].as_array().expect("nodes");
    let node = nodes.iter().find(|n| n["id"] == package["id"]).expect("a node");
    let features = node["features"].as_array().into_iter().flatten().filter_map(|f| f.as_str().map(str::to_owned));
    (manifest.parent().expect("a folder").join("src"), features.collect())
}

/// The same name in the JSON of Kubernetes and in Rust: `clusterIPs`, `cluster_i_ps`.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// Of each definition of one version of k8s-openapi the JSON names of its fields.
fn definitions(folder: &Path) -> BTreeMap<String, Vec<String>> {
    let mut files = Vec::new();
    crate::tests::sources(folder, &mut files);
    let mut found = BTreeMap::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("text");
        let Some(rest) = text.strip_prefix("// Generated from definition ") else { continue };
        // What is no struct has no fields to tell apart.
        if !text.contains("Field::Other") {
            continue;
        }
        let name = rest.lines().next().expect("a line").trim().to_owned();
        let fields = text.lines().filter_map(|line| line.trim().strip_prefix('"')?.split_once("\" => Field::Key_"));
        found.insert(name, fields.map(|(field, _)| field.to_owned()).collect());
    }
    found
}

/// A message of upstream's.
struct Message {
    name: String,
    markers: Vec<String>,
    fields: Vec<Field>,
}

struct Field {
    number: u32,
    /// As in [`plain`].
    name: String,
    /// The last part of its type's name, as in [`plain`].
    of: String,
    markers: Vec<String>,
}

/// What stands behind `+` in the comments, one a line.
fn markers(attributes: &[syn::Attribute]) -> Vec<String> {
    let comment = |attribute: &syn::Attribute| match &attribute.meta {
        syn::Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    };
    let lines = attributes.iter().filter_map(comment);
    lines.filter_map(|line| line.trim().strip_prefix('+').map(str::to_owned)).collect()
}

fn values<'a>(markers: &'a [String], name: &str) -> Vec<&'a str> {
    markers.iter().filter_map(|m| m.strip_prefix(name)?.strip_prefix('=')).map(str::trim).collect()
}

fn number(attributes: &[syn::Attribute]) -> Option<u32> {
    let list = attributes.iter().find_map(|a| match &a.meta {
        syn::Meta::List(list) if list.path.is_ident("prost") => Some(list.tokens.to_string()),
        _ => None,
    })?;
    list.split("tag = \"").nth(1)?.split('"').next()?.parse().ok()
}

/// The last name in a type, within what wraps it.
fn innermost(of: &syn::Type) -> String {
    let syn::Type::Path(path) = of else { return String::new() };
    let Some(last) = path.path.segments.last() else { return String::new() };
    match &last.arguments {
        syn::PathArguments::AngleBracketed(list) => match list.args.last() {
            Some(syn::GenericArgument::Type(inner)) => innermost(inner),
            _ => String::new(),
        },
        _ => plain(&last.ident.to_string()),
    }
}

/// The messages of one package of upstream's, by their names as in [`plain`].
fn messages(file: &Path) -> BTreeMap<String, Message> {
    let Ok(text) = std::fs::read_to_string(file) else { return BTreeMap::new() };
    let mut found = BTreeMap::new();
    for item in syn::parse_file(&text).expect("Rust").items {
        let syn::Item::Struct(message) = item else { continue };
        let field = |field: &syn::Field| {
            Some(Field {
                number: number(&field.attrs)?,
                name: plain(field.ident.as_ref()?.to_string().trim_start_matches("r#")),
                of: innermost(&field.ty),
                markers: markers(&field.attrs),
            })
        };
        let fields = message.fields.iter().filter_map(field).collect();
        let name = message.ident.to_string();
        found.insert(plain(&name), Message { name, markers: markers(&message.attrs), fields });
    }
    found
}

/// How a field merges, in the words of the table; nothing if it is as all others.
fn rules(markers: &[String]) -> String {
    let mut out = String::new();
    match values(markers, "listType").first() {
        Some(&"map") => out.push_str(&format!(":map/{}", values(markers, "listMapKey").join("/"))),
        Some(&"set") => out.push_str(":set"),
        Some(&"atomic") | None => {}
        Some(other) => panic!("the list type {other}"),
    }
    if values(markers, "mapType").contains(&"atomic") || values(markers, "structType").contains(&"atomic") {
        out.push_str(":atomic");
    }
    let strategies = values(markers, "patchStrategy");
    let strategies: BTreeSet<&str> = strategies.iter().flat_map(|s| s.split(',')).collect();
    if strategies.contains("merge") {
        out.push_str(format!(":merge/{}", values(markers, "patchMergeKey").join("/")).trim_end_matches('/'));
    }
    if strategies.contains("retainKeys") {
        out.push_str(":retainKeys");
    }
    out
}

/// The messages of one package, definition by definition.
struct Package<'a> {
    name: &'a str,
    messages: BTreeMap<String, Message>,
    lines: BTreeMap<String, String>,
}

impl Package<'_> {
    /// The line of a message whose fields have these JSON names, and those of the messages whose fields stand in it.
    fn write(&mut self, message: &str, definition: &str, fields: &BTreeMap<String, &String>) {
        let Some(found) = self.messages.get(message) else { panic!("k8s-pb has no {definition}") };
        let atomic = values(&found.markers, "structType").contains(&"atomic");
        let (mut line, mut inline) = (format!("{definition}{}", if atomic { "!" } else { "" }), Vec::new());
        for field in &found.fields {
            line.push_str(&format!(" {}=", field.number));
            if let Some(json) = fields.get(&field.name) {
                line.push_str(json);
                line.push_str(&rules(&field.markers));
            } else if let Some(inner) = self.messages.get(&field.of) {
                let of = format!("{}.{}", self.name, inner.name);
                line.push_str(&format!("@{of}"));
                inline.push((field.of.clone(), of));
            } else {
                panic!("{definition}: the JSON has no {}", field.name);
            }
        }
        let old = self.lines.insert(definition.to_owned(), line);
        assert!(old.is_none_or(|old| old == self.lines[definition]), "{definition} stands in two messages differently");
        for (message, definition) in inline {
            self.write(&message, &definition, fields);
        }
    }
}

fn table(metadata: &Value) -> String {
    let (openapi, features) = package(metadata, "k8s-openapi");
    let version = features.iter().find(|f| f.starts_with("v1_")).expect("a version of Kubernetes");
    let (protos, _) = package(metadata, "k8s-pb");
    let definitions = definitions(&openapi.join(version));
    let mut packages: BTreeMap<&str, Vec<(&str, &Vec<String>)>> = BTreeMap::new();
    for (definition, fields) in &definitions {
        let (package, name) = definition.rsplit_once('.').expect("a definition has a package");
        let version = package.rsplit('.').next().expect("a version");
        let stable = version[1..].chars().all(|c| c.is_ascii_digit());
        if stable {
            packages.entry(package).or_default().push((name, fields));
        }
    }
    let mut out = String::new();
    for (package, definitions) in packages {
        let path = package.strip_prefix("io.k8s.").expect("of Kubernetes").replace('.', "/").replace('-', "_");
        let messages = messages(&protos.join(path).join("mod.rs"));
        let mut package = Package { name: package, messages, lines: BTreeMap::new() };
        for (name, fields) in definitions {
            let definition = format!("{}.{name}", package.name);
            package.write(&plain(name), &definition, &fields.iter().map(|f| (plain(f), f)).collect());
        }
        package.lines.values().for_each(|line| out.push_str(&format!("{line}\n")));
    }
    out
}

/// `BLESS=1 cargo test -p xtask upstream` writes it anew, after another version of Kubernetes.
#[test]
fn upstreams_table_is_current() {
    let made = table(&crate::tests::metadata_with("xtask/upstream"));
    let path = crate::tests::root().join(TABLE);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, made).expect("written");
    } else {
        let there = std::fs::read_to_string(&path).expect("the table");
        assert!(there == made, "{TABLE} differs from upstream's files: run this test with BLESS=1");
    }
}
