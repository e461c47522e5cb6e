//! The JSONPath of columns and of subresources' fields: members, indices, all items, and items of which a field has a value.
//! What else JSONPath has is refused when the kind is defined, not shown as an empty column.

use serde_json::Value;

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Member(String),
    Index(i64),
    All,
    /// Items whose field is this text, number or truth: `[?(@.type=="Ready")]`.
    Where(Vec<String>, Value),
}

/// A path into an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Path(Vec<Step>);

/// How many steps a path has at most.
const MAX_STEPS: usize = 32;
/// At how many items one path looks in an object.
const LOOKED_AT: usize = 1000;

impl Path {
    /// Reads `.status.conditions[?(@.type=="Ready")].status`. `None` if it is not one of these.
    pub fn parse(text: &str) -> Option<Self> {
        let (mut rest, mut steps) = (text.trim(), Vec::new());
        rest = rest.strip_prefix('$').unwrap_or(rest);
        while !rest.is_empty() && steps.len() <= MAX_STEPS {
            let (step, left) = match rest.strip_prefix('.') {
                Some(name) => member(name)?,
                None => bracket(rest.strip_prefix('[')?)?,
            };
            steps.push(step);
            rest = left;
        }
        (!steps.is_empty() && steps.len() <= MAX_STEPS).then_some(Self(steps))
    }

    /// Members alone, as the paths of `scale` and of field selectors are.
    pub fn members(&self) -> Option<Vec<&str>> {
        let name = |step: &'_ Step| matches!(step, Step::Member(_));
        self.0.iter().all(name).then(|| {
            let names = self.0.iter().filter_map(|step| match step {
                Step::Member(name) => Some(name.as_str()),
                _ => None,
            });
            names.collect()
        })
    }

    /// The first value at the path, among the items that are looked at.
    pub fn first<'v>(&'v self, object: &'v Value) -> Option<&'v Value> {
        let mut left = LOOKED_AT;
        first(&self.0, object, &mut left)
    }
}

/// The first value at these steps, of which `left` may still be taken.
fn first<'v>(steps: &'v [Step], value: &'v Value, left: &mut usize) -> Option<&'v Value> {
    let Some((step, rest)) = steps.split_first() else { return Some(value) };
    for below in step.below(value) {
        *left = left.checked_sub(1)?;
        if let Some(found) = below.and_then(|below| first(rest, below, left)) {
            return Some(found);
        }
    }
    None
}

impl Step {
    /// What is below a value by this step; nothing in the place of an item that a filter leaves out.
    fn below<'v>(&'v self, value: &'v Value) -> Box<dyn Iterator<Item = Option<&'v Value>> + 'v> {
        let items = || value.as_array().map_or(&[][..], Vec::as_slice);
        match self {
            Self::Member(name) => Box::new(std::iter::once(value.get(name))),
            Self::Index(i) => {
                let place = if *i < 0 { items().len() as i64 + i } else { *i };
                Box::new(std::iter::once(usize::try_from(place).ok().and_then(|i| items().get(i))))
            }
            Self::All => match value {
                Value::Object(fields) => Box::new(fields.values().map(Some)),
                _ => Box::new(items().iter().map(Some)),
            },
            Self::Where(field, wanted) => {
                let found = |item: &'v Value| field.iter().fold(item, |value, name| &value[name.as_str()]);
                let fits = move |item: &'v Value| {
                    let found = found(item);
                    found == wanted || wanted.as_f64().is_some_and(|n| found.as_f64() == Some(n))
                };
                Box::new(items().iter().map(move |item| Some(item).filter(|item| fits(item))))
            }
        }
    }
}

/// The name behind a dot; a backslash before a dot makes it a part of the name.
fn member(text: &str) -> Option<(Step, &str)> {
    let (mut name, mut escaped) = (String::new(), false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => {
                name.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '.' | '[' => return (!name.is_empty()).then(|| (Step::Member(name.clone()), &text[i..])),
            c if c.is_alphanumeric() || "-_/".contains(c) => name.push(c),
            _ => return None,
        }
    }
    (!name.is_empty() && !escaped).then_some((Step::Member(name), ""))
}

/// What stands behind an opening bracket.
fn bracket(text: &str) -> Option<(Step, &str)> {
    if let Some(rest) = text.strip_prefix("?(@.") {
        let (test, left) = rest.split_once(")]")?;
        let (field, wanted) = test.split_once("==")?;
        let field = field.trim().split('.').map(str::to_owned).collect();
        return Some((Step::Where(field, scalar(wanted.trim())?), left));
    }
    for quote in ['\'', '"'] {
        if let Some(rest) = text.strip_prefix(quote) {
            let (name, left) = rest.split_once(quote)?;
            return Some((Step::Member(name.to_owned()), left.strip_prefix(']')?));
        }
    }
    let (index, left) = text.split_once(']')?;
    match index {
        "*" => Some((Step::All, left)),
        number => Some((Step::Index(number.parse().ok()?), left)),
    }
}

/// What a filter compares with: a text in quotes, a number or a truth.
fn scalar(text: &str) -> Option<Value> {
    for quote in ['\'', '"'] {
        if let Some(rest) = text.strip_prefix(quote) {
            return rest.strip_suffix(quote).filter(|text| !text.contains(quote)).map(Value::from);
        }
    }
    serde_json::from_str(text).ok().filter(|value: &Value| value.is_number() || value.is_boolean())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_lead_to_values() {
        let object = json!({"spec": {"a": [{"b": 1}, {"b": 2}], "x.y": "dotted"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        for (path, found) in [
            (".spec.a[0].b", json!(1)),
            (".spec.a[-1].b", json!(2)),
            (".spec.a[*].b", json!(1)),
            (r".spec.x\.y", json!("dotted")),
            (".spec['x.y']", json!("dotted")),
            (r#".status.conditions[?(@.type=="Ready")].status"#, json!("True")),
            (".spec.a[?(@.b==2)].b", json!(2)),
            (".spec.a[?(@.b == 2.0)].b", json!(2)),
        ] {
            assert_eq!(Path::parse(path).unwrap().first(&object), Some(&found), "{path}");
        }
        for path in [".spec.none", r#".spec.a[?(@.b=="2")].b"#, ".spec.a[?(@.b==true)].b"] {
            assert_eq!(Path::parse(path).unwrap().first(&object), None, "{path}");
        }
        for path in
            ["", "spec", ".spec[", ".spec..a", "..a", ".a[?(@.b>1)]", ".a[?(@.b==c)]", r#".a[?(@.b=="c')]"#, ".a b"]
        {
            assert_eq!(Path::parse(path), None, "{path}");
        }
    }
}
