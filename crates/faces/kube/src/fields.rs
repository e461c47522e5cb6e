//! Every field of what users of pods, services and workloads write, and what becomes of it: done, refused in words, refused
//! by pod security, or without effect and why that does no harm. The kinds' tables refuse, a test holds them against the schemas, so
//! that no field is ever ignored by accident, and `docs/kubernetes.md` shows them.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;

use crate::kind::{Says, Treatment};
use crate::registry::built_in;
use crate::types::{Shape, Type, TypeId, Types};
use crate::validate::Errors;

/// All kinds' tables, pods' first: what others have within them is there.
fn table() -> impl Iterator<Item = &'static Treatment> {
    let tables = || {
        built_in().iter().filter_map(|kind| match kind.says {
            Says::Each(table) => Some((kind.kind == "Pod", table)),
            _ => None,
        })
    };
    let pods = tables().filter(|(pods, _)| *pods);
    pods.chain(tables().filter(|(pods, _)| !*pods)).flat_map(|(_, table)| table)
}

fn row(of: &str) -> Option<&'static Treatment> {
    static ROWS: LazyLock<HashMap<&str, &Treatment>> = LazyLock::new(|| table().map(|row| (row.of, row)).collect());
    ROWS.get(of).copied()
}

/// Refuses what the table refuses in the specification of an object.
pub fn check(shape: &Shape, object: &Value, errors: &mut Errors) {
    if let Type::Struct(structure) = shape.types.get(shape.root)
        && let Some(spec) = structure.fields.get("spec")
    {
        walk(&shape.types, *spec, &object["spec"], "spec", errors);
    }
}

fn walk(types: &Types, id: TypeId, value: &Value, at: &str, errors: &mut Errors) {
    match types.get(id) {
        Type::Struct(structure) => {
            let Some(row) = row(structure.name()) else { return };
            for (name, value) in value.as_object().into_iter().flatten() {
                let at = format!("{at}.{name}");
                match row.refused.iter().find(|(field, ..)| field == name) {
                    Some((_, harmless, why)) => refuse(value, harmless, why, &at, errors),
                    None => {
                        if let Some(field) = structure.fields.get(name.as_str()) {
                            walk(types, *field, value, &at, errors);
                        }
                    }
                }
            }
        }
        Type::List { item, .. } => {
            for (i, value) in value.as_array().into_iter().flatten().enumerate() {
                walk(types, *item, value, &format!("{at}[{i}]"), errors);
            }
        }
        _ => {}
    }
}

fn refuse(value: &Value, harmless: &[&str], why: &str, at: &str, errors: &mut Errors) {
    let empty = match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    if !empty && !harmless.contains(&value.to_string().as_str()) {
        errors.forbidden(at, why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::types;
    use std::collections::BTreeSet;

    /// The specification of each kind that is in the table.
    fn roots() -> Vec<TypeId> {
        let mut roots = Vec::new();
        for kind in crate::registry::built_in() {
            let Type::Struct(whole) = types().get(kind.shape.root) else { panic!("{kind:?} is no struct") };
            let spec = whole.fields.get("spec").copied();
            let listed = spec.filter(|id| matches!(types().get(*id), Type::Struct(s) if row(s.name()).is_some()));
            match kind.says {
                Says::Each(_) => assert!(listed.is_some(), "{}: no table has its specification", kind.kind),
                Says::Why(why) => assert!(listed.is_none() && !why.is_empty(), "{}: a table, or a reason", kind.kind),
                Says::Nothing => panic!("{}: what becomes of its fields? A table, or a reason", kind.kind),
            }
            roots.extend(listed);
        }
        roots
    }

    fn gather(id: TypeId, missing: &mut BTreeSet<String>, seen: &mut BTreeSet<String>) {
        match types().get(id) {
            Type::Struct(structure) => {
                let of = structure.name().to_owned();
                // Metadata has rules of its own.
                if of == "ObjectMeta" || !seen.insert(of.clone()) {
                    return;
                }
                let Some(row) = row(&of) else {
                    missing.insert(format!("{of} (with {:?})", structure.fields.keys().collect::<Vec<_>>()));
                    return;
                };
                let mut listed: Vec<&str> = row.done.split_whitespace().chain(row.policed.split_whitespace()).collect();
                let acted = listed.clone();
                listed.extend(row.idle.iter().map(|(field, _)| *field));
                listed.extend(row.refused.iter().map(|(field, ..)| *field));
                let unique: BTreeSet<&str> = listed.iter().copied().collect();
                assert_eq!(unique.len(), listed.len(), "{of} lists a field twice");
                for (field, id) in &structure.fields {
                    if !unique.contains(&**field) {
                        missing.insert(format!("{of}.{field}"));
                    }
                    if acted.contains(&&**field) {
                        gather(*id, missing, seen);
                    }
                }
                for field in unique {
                    assert!(structure.fields.contains_key(field), "{of} has no field {field}");
                }
            }
            Type::List { item, .. } => gather(*item, missing, seen),
            Type::Map { value, .. } => gather(*value, missing, seen),
            _ => {}
        }
    }

    #[test]
    fn no_field_is_forgotten() {
        let (mut missing, mut seen) = (BTreeSet::new(), BTreeSet::new());
        for root in roots() {
            gather(root, &mut missing, &mut seen);
        }
        assert!(missing.is_empty(), "not in the table: {missing:#?}");
        let listed: BTreeSet<&str> = table().map(|row| row.of).collect();
        for row in listed {
            assert!(seen.contains(row), "{row} is in the table and nowhere else");
        }
    }

    fn page() -> String {
        let mut out = String::new();
        for row in table() {
            out.push_str(&format!("\n### {}\n\n| field | |\n| --- | --- |\n", row.of));
            for field in row.done.split_whitespace() {
                out.push_str(&format!("| `{field}` | done |\n"));
            }
            for field in row.policed.split_whitespace() {
                out.push_str(&format!("| `{field}` | within pod security, level baseline; else 403 |\n"));
            }
            for (field, why) in row.idle {
                out.push_str(&format!("| `{field}` | no effect: {why} |\n"));
            }
            for (field, harmless, why) in row.refused {
                let but = match harmless {
                    [] => String::new(),
                    values => format!(" (but for `{}`)", values.join("`, `")),
                };
                out.push_str(&format!("| `{field}` | refused{but}: {why} |\n"));
            }
        }
        out
    }

    /// `BLESS=1 cargo test -p face-kube the_page` writes it anew.
    #[test]
    fn the_page_shows_the_table() {
        const MARK: &str = "<!-- The rest is made from the tables of crates/faces/kube/src/kinds -->\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/kubernetes.md");
        let text = std::fs::read_to_string(path).expect("docs/kubernetes.md");
        let (head, rest) = text.split_once(MARK).expect("the mark after which the table stands");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(path, format!("{head}{MARK}{}", page())).expect("written");
        } else {
            assert!(rest == page(), "docs/kubernetes.md differs from the table: run this test with BLESS=1");
        }
    }
}
