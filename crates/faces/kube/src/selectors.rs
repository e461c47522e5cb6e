//! Label and field selectors of lists and watches.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::fault::{Failure, Result};
use crate::validate;

/// The most requirements of one selector.
const MAX_REQUIREMENTS: usize = 100;

#[derive(Clone, Debug, PartialEq)]
enum Test {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    Absent,
    Greater(i64),
    Less(i64),
}

/// A label selector; the empty one matches everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelSelector(Vec<(String, Test)>);

impl LabelSelector {
    /// Parses `a=b,c!=d,e in (f,g),h,!i`.
    pub fn parse(text: &str) -> Result<Self> {
        let mut tests = Vec::new();
        for part in split(text) {
            let part = part.trim();
            if part.is_empty() {
                if text.trim().is_empty() {
                    continue;
                }
                return Err(unparsable(text, "found ',', expected: identifier"));
            }
            tests.push(requirement(part).ok_or_else(|| unparsable(text, "invalid requirement"))?);
        }
        if tests.len() > MAX_REQUIREMENTS {
            return Err(unparsable("…", "too many requirements"));
        }
        for (key, test) in &tests {
            if let Some(problem) = validate::key_problem(key) {
                return Err(unparsable(text, problem));
            }
            if let Test::In(values) | Test::NotIn(values) = test
                && let Some(problem) = values.iter().find_map(|v| validate::label_value_problem(v))
            {
                return Err(unparsable(text, problem));
            }
        }
        Ok(Self(tests))
    }

    /// The selector of an object: `{matchLabels, matchExpressions}`.
    pub fn of(selector: &Value) -> Self {
        let mut tests = Vec::new();
        for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
            tests.push((key.clone(), Test::In([value.as_str().unwrap_or("").to_owned()].into())));
        }
        for rule in selector["matchExpressions"].as_array().into_iter().flatten() {
            let values = || {
                rule["values"].as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
            };
            let test = match rule["operator"].as_str() {
                Some("In") => Test::In(values()),
                Some("NotIn") => Test::NotIn(values()),
                Some("DoesNotExist") => Test::Absent,
                _ => Test::Exists,
            };
            tests.push((rule["key"].as_str().unwrap_or("").to_owned(), test));
        }
        Self(tests)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &Value) -> bool {
        self.0.iter().all(|(key, test)| {
            let value = labels.get(key).and_then(Value::as_str);
            let number = || value.and_then(|v| v.parse::<i64>().ok());
            match test {
                Test::In(values) => value.is_some_and(|v| values.contains(v)),
                Test::NotIn(values) => value.is_none_or(|v| !values.contains(v)),
                Test::Exists => value.is_some(),
                Test::Absent => value.is_none(),
                Test::Greater(n) => number().is_some_and(|v| v > *n),
                Test::Less(n) => number().is_some_and(|v| v < *n),
            }
        })
    }
}

fn unparsable(text: &str, why: &str) -> Failure {
    Failure::bad_request(format!("unable to parse requirement: {why} (in {text:?})"))
}

/// Splits at commas outside of parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0usize, 0);
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn requirement(part: &str) -> Option<(String, Test)> {
    if let Some(key) = part.strip_prefix('!') {
        return Some((key.trim().to_owned(), Test::Absent));
    }
    let one = |value: &str| BTreeSet::from([value.trim().to_owned()]);
    if let Some((key, value)) = part.split_once("!=") {
        return Some((key.trim().to_owned(), Test::NotIn(one(value))));
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Some((key.trim().to_owned(), Test::In(one(value))));
    }
    if let Some((key, value)) = part.split_once('>') {
        return Some((key.trim().to_owned(), Test::Greater(value.trim().parse().ok()?)));
    }
    if let Some((key, value)) = part.split_once('<') {
        return Some((key.trim().to_owned(), Test::Less(value.trim().parse().ok()?)));
    }
    let Some(open) = part.find('(') else {
        return (!part.contains(char::is_whitespace)).then(|| (part.to_owned(), Test::Exists));
    };
    let values = part[open + 1..].strip_suffix(')')?;
    let values = values.split(',').map(|v| v.trim().to_owned()).collect();
    let (key, word) = part[..open].trim().split_once(char::is_whitespace)?;
    match word.trim() {
        "in" => Some((key.to_owned(), Test::In(values))),
        "notin" => Some((key.to_owned(), Test::NotIn(values))),
        _ => None,
    }
}

/// A field selector; the empty one matches everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldSelector(Vec<(String, bool, String)>);

impl FieldSelector {
    /// Parses `a=b,c!=d`; which fields can be selected by beside the name (and the namespace), the kind says.
    pub fn parse(namespaced: bool, selectable: &[&str], text: &str) -> Result<Self> {
        let mut tests = Vec::new();
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (key, equal, value) = if let Some((k, v)) = part.split_once("!=") {
                (k, false, v)
            } else if let Some((k, v)) = part.split_once("==").or_else(|| part.split_once('=')) {
                (k, true, v)
            } else {
                let message = format!("invalid selector: {part:?}; can't understand {part:?}");
                return Err(Failure::bad_request(message));
            };
            let known =
                key == "metadata.name" || (key == "metadata.namespace" && namespaced) || selectable.contains(&key);
            if !known {
                return Err(Failure::bad_request(format!("field label not supported: {key}")));
            }
            if tests.len() == MAX_REQUIREMENTS {
                return Err(Failure::bad_request("too many requirements in the field selector"));
            }
            tests.push((key.to_owned(), equal, value.to_owned()));
        }
        Ok(Self(tests))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|(key, equal, wanted)| {
            let mut value = object;
            for part in key.split('.') {
                value = &value[part];
            }
            let found = match value {
                Value::String(text) => text == wanted,
                Value::Null if key == "spec.hostNetwork" || key == "spec.unschedulable" => {
                    wanted == "false" || wanted.is_empty()
                }
                Value::Null => wanted.is_empty(),
                Value::Object(_) => value["component"].as_str().unwrap_or("") == wanted,
                other => serde_json::from_str::<Value>(wanted).is_ok_and(|wanted| *other == wanted),
            };
            found == *equal
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_are_selected() {
        let labels = json!({"app": "web", "tier": "front", "n": "5"});
        for (text, fits) in [
            ("", true),
            ("app=web", true),
            ("app==web,tier!=back", true),
            ("app in (web, db),tier", true),
            ("app notin (web)", false),
            ("!app", false),
            ("!other", true),
            ("other!=x", true),
            ("n>4,n<6", true),
        ] {
            assert_eq!(LabelSelector::parse(text).unwrap().matches(&labels), fits, "{text}");
        }
        for text in ["a b", "a=b,,c=d", "a in b", "-x=y", "a=b c"] {
            assert!(LabelSelector::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn fields_are_selected() {
        let known = &["status.phase", "spec.nodeName"];
        let pod = json!({"metadata": {"name": "a"}, "status": {"phase": "Running"}, "spec": {}});
        let fits = |text| FieldSelector::parse(true, known, text).unwrap().matches(&pod);
        assert!(fits("metadata.name=a,status.phase!=Failed,spec.nodeName="));
        assert!(!fits("spec.nodeName=n"));
        assert!(FieldSelector::parse(true, known, "spec.nonsense=a").is_err());
    }
}
