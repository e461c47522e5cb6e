//! The words in which Kubernetes says what is wrong with a field, and the rules for names and labels that all kinds share.

use serde_json::Value;

use crate::denied::Cause;

/// What is wrong with one object, field by field.
#[derive(Debug, Default)]
pub struct Errors(Vec<Cause>);

impl Errors {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn into_causes(self) -> Vec<Cause> {
        self.0
    }

    fn push(&mut self, reason: &'static str, field: impl Into<String>, message: String) {
        self.0.push(Cause { reason, message, field: field.into() });
    }

    pub fn required(&mut self, field: impl Into<String>, detail: &str) {
        let message = if detail.is_empty() { "Required value".to_owned() } else { format!("Required value: {detail}") };
        self.push("FieldValueRequired", field, message);
    }

    pub fn invalid(&mut self, field: impl Into<String>, value: &Value, detail: &str) {
        self.push("FieldValueInvalid", field, format!("Invalid value: {value}: {detail}"));
    }

    pub fn unsupported(&mut self, field: impl Into<String>, value: &Value, supported: &[&str]) {
        let supported: Vec<String> = supported.iter().map(|s| format!("\"{s}\"")).collect();
        let message = format!("Unsupported value: {value}: supported values: {}", supported.join(", "));
        self.push("FieldValueNotSupported", field, message);
    }

    pub fn duplicate(&mut self, field: impl Into<String>, value: &Value) {
        self.push("FieldValueDuplicate", field, format!("Duplicate value: {value}"));
    }

    pub fn forbidden(&mut self, field: impl Into<String>, detail: &str) {
        self.push("FieldValueForbidden", field, format!("Forbidden: {detail}"));
    }

    pub fn not_found(&mut self, field: impl Into<String>, value: &Value) {
        self.push("FieldValueNotFound", field, format!("Not found: {value}"));
    }

    pub fn too_long(&mut self, field: impl Into<String>, limit: usize) {
        self.push("FieldValueTooLong", field, format!("Too long: may not be more than {limit} bytes"));
    }

    pub fn too_many(&mut self, field: impl Into<String>, actual: usize, most: usize) {
        self.push("FieldValueTooMany", field, format!("Too many: {actual}: must have at most {most} items"));
    }

    /// The list may have so many items at most. Whether it has: of too many none needs a look.
    pub fn at_most(&mut self, most: usize, field: impl Into<String>, list: &Value) -> bool {
        let actual = list.as_array().map_or(0, Vec::len);
        if actual > most {
            self.too_many(field, actual, most);
        }
        actual <= most
    }

    /// The value, where present, must be one of these.
    pub fn one_of(&mut self, field: impl Into<String>, value: &Value, supported: &[&str]) {
        if let Some(text) = value.as_str()
            && !supported.contains(&text)
        {
            self.unsupported(field, value, supported);
        }
    }

    /// The number, where present, must not be negative.
    pub fn non_negative(&mut self, field: impl Into<String>, value: &Value) {
        if value.as_i64().is_some_and(|n| n < 0) {
            self.invalid(field, value, "must be greater than or equal to 0");
        }
    }

    /// The number, where present, must be a port.
    pub fn port(&mut self, field: impl Into<String>, value: &Value) {
        if value.as_i64().is_some_and(|n| !(1..=65535).contains(&n)) {
            self.invalid(field, value, "must be between 1 and 65535, inclusive");
        }
    }

    /// The value must not differ from the old one.
    pub fn immutable(&mut self, field: impl Into<String>, new: &Value, old: &Value) {
        if new != old {
            self.invalid(field, new, "field is immutable");
        }
    }
}

/// Which names a kind's objects may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// `a.b-c`, at most 253 characters.
    Subdomain,
    /// `a-b`, at most 63 characters.
    Label,
    /// As `Label`, beginning with a letter.
    Service,
    /// Whatever can be a part of a path.
    Path,
}

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SERVICE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// Whether a text is a DNS label.
pub fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let fits = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    !bytes.is_empty()
        && bytes.len() <= 63
        && bytes.iter().all(|b| fits(b) || *b == b'-')
        && bytes.first().is_some_and(fits)
        && bytes.last().is_some_and(fits)
}

/// Whether a text is a DNS subdomain.
pub fn is_subdomain(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|part| {
            let bytes = part.as_bytes();
            let fits = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
            bytes.iter().all(|b| fits(b) || *b == b'-')
                && bytes.first().is_some_and(fits)
                && bytes.last().is_some_and(fits)
        })
}

/// What is wrong with a name, by the rule of its kind.
pub fn name_problem(rule: NameRule, name: &str) -> Option<&'static str> {
    match rule {
        NameRule::Subdomain if name.len() > 253 => Some("must be no more than 253 characters"),
        NameRule::Subdomain => (!is_subdomain(name)).then_some(SUBDOMAIN),
        NameRule::Label | NameRule::Service if name.len() > 63 => Some("must be no more than 63 characters"),
        NameRule::Label => (!is_label(name)).then_some(LABEL),
        NameRule::Service => (!is_label(name) || name.as_bytes()[0].is_ascii_digit()).then_some(SERVICE),
        NameRule::Path if name == "." || name == ".." => Some("may not be '.' or '..'"),
        NameRule::Path if name.len() > 253 => Some("must be no more than 253 characters"),
        NameRule::Path => name.contains(['/', '%']).then_some("may not contain '/' or '%'"),
    }
}

fn is_qualified_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= 63
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

/// What is wrong with a label's or annotation's key.
pub fn key_problem(key: &str) -> Option<&'static str> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if prefix.is_some_and(|p| !is_subdomain(&p.to_ascii_lowercase()) || p.is_empty()) {
        return Some("prefix part must be a lowercase RFC 1123 subdomain");
    }
    (!is_qualified_part(name)).then_some(QUALIFIED)
}

/// What is wrong with a label's value.
pub fn label_value_problem(value: &str) -> Option<&'static str> {
    if value.len() > 63 {
        return Some("must be no more than 63 characters");
    }
    (!value.is_empty() && !is_qualified_part(value)).then_some(LABEL_VALUE)
}

/// Labels must have valid keys and values.
pub fn labels(labels: &Value, field: &str, errors: &mut Errors) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        if let Some(problem) = key_problem(key) {
            errors.invalid(field, &Value::from(key.as_str()), problem);
        }
        if let Some(problem) = value.as_str().and_then(label_value_problem) {
            errors.invalid(field, value, problem);
        }
    }
}

/// A label selector must be one that can be evaluated.
pub fn label_selector(selector: &Value, field: &str, errors: &mut Errors) {
    labels(&selector["matchLabels"], &format!("{field}.matchLabels"), errors);
    for (i, rule) in selector["matchExpressions"].as_array().into_iter().flatten().enumerate() {
        let at = format!("{field}.matchExpressions[{i}]");
        let values = rule["values"].as_array().map_or(0, Vec::len);
        match rule["operator"].as_str() {
            Some("In" | "NotIn") if values == 0 => {
                errors.required(format!("{at}.values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
            Some("Exists" | "DoesNotExist") if values > 0 => {
                errors.forbidden(
                    format!("{at}.values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                );
            }
            Some("In" | "NotIn" | "Exists" | "DoesNotExist") => {}
            _ => errors.invalid(format!("{at}.operator"), &rule["operator"], "not a valid selector operator"),
        }
        if let Some(problem) = key_problem(rule["key"].as_str().unwrap_or("")) {
            errors.invalid(format!("{at}.key"), &rule["key"], problem);
        }
    }
}

/// So many owners an object has at most: each is an entry of an index.
const MOST_OWNERS: usize = 1000;

/// The rules that the metadata of all kinds share; `at` is its path.
pub fn metadata(meta: &Value, at: &str, errors: &mut Errors) {
    labels(&meta["labels"], &format!("{at}.labels"), errors);
    let mut size = 0;
    for (key, value) in meta["annotations"].as_object().into_iter().flatten() {
        if let Some(problem) = key_problem(&key.to_ascii_lowercase()) {
            errors.invalid(format!("{at}.annotations"), &Value::from(key.as_str()), problem);
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > 256 * 1024 {
        errors.too_long(format!("{at}.annotations"), 256 * 1024);
    }
    for finalizer in meta["finalizers"].as_array().into_iter().flatten() {
        if let Some(problem) = finalizer.as_str().and_then(key_problem) {
            errors.invalid(format!("{at}.finalizers"), finalizer, problem);
        }
    }
    let owners = meta["ownerReferences"].as_array().map_or(0, Vec::len);
    if owners > MOST_OWNERS {
        let problem = format!("must have at most {MOST_OWNERS} items");
        return errors.invalid(format!("{at}.ownerReferences"), &owners.into(), &problem);
    }
    let mut controllers = 0;
    for (i, owner) in meta["ownerReferences"].as_array().into_iter().flatten().enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().is_none_or(str::is_empty) {
                errors.invalid(format!("{at}.ownerReferences[{i}].{field}"), &owner[field], "must not be empty");
            }
        }
        controllers += u32::from(owner["controller"] == true);
    }
    if controllers > 1 {
        errors.invalid(
            format!("{at}.ownerReferences"),
            &meta["ownerReferences"],
            "Only one reference can have Controller set to true",
        );
    }
}

/// A quantity of a resource must be one, and not negative.
pub fn quantity(field: impl Into<String>, value: &Value, errors: &mut Errors) {
    let text = value.as_str().unwrap_or("");
    if text.starts_with('-') {
        errors.invalid(field, value, "must be greater than or equal to 0");
    } else if model::quantity_milli(text).is_none() && model::quantity_bytes(text).is_none() {
        errors.invalid(
            field,
            value,
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_has_so_many_owners_at_most() {
        let problems = |owners: usize| {
            let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "u"});
            let mut errors = Errors::default();
            metadata(&json!({"ownerReferences": vec![owner; owners]}), "metadata", &mut errors);
            errors.len()
        };
        assert_eq!((problems(MOST_OWNERS), problems(MOST_OWNERS + 1)), (0, 1));
    }
}
