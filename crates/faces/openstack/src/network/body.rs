//! The attributes that a request sends, checked against what the resource declares. From the declaration come Neutron's
//! errors for whatever does not fit.

use std::net::IpAddr;

use gate::Ref;
use model::Resource;
use serde_json::{Map, Value};

use super::attrs::{Attr, Is, Set};
use super::cidr::Cidr;
use super::error::NeutronError;
use super::words;

/// A request's attributes after they were checked. Ids of rows are apart from texts, so that one that a stranger sent
/// gets nowhere but by way of what its sender sees.
pub struct Attributes {
    values: Map<String, Value>,
    references: Map<String, Value>,
}

impl Attributes {
    /// Checks the attributes of a creation.
    pub fn post<T>(attrs: &[Attr<T>], one: &str, given: &Value, admin: bool) -> Result<Self, NeutronError> {
        let given = object(one, given)?;
        if let Some(attr) = attrs.iter().find(|a| a.required && !given.contains_key(a.name)) {
            return Err(NeutronError::http_bad(format!(
                "Failed to parse request. Required attribute '{}' not specified",
                attr.name
            )));
        }
        Self::check(attrs, one, given, admin, "create")
    }

    /// Checks the attributes of an update.
    pub fn put<T>(attrs: &[Attr<T>], one: &str, given: &Value, admin: bool) -> Result<Self, NeutronError> {
        Self::check(attrs, one, object(one, given)?, admin, "update")
    }

    fn check<T>(
        attrs: &[Attr<T>],
        one: &str,
        given: &Map<String, Value>,
        admin: bool,
        verb: &str,
    ) -> Result<Self, NeutronError> {
        let named = |name: &str| attrs.iter().find(|attr| attr.name == name);
        let strangers: Vec<&str> = given.keys().map(String::as_str).filter(|name| named(name).is_none()).collect();
        if !strangers.is_empty() {
            return Err(NeutronError::http_bad(format!("Unrecognized attribute(s) '{}'", strangers.join(", "))));
        }
        let (mut checked, mut references) = (Map::new(), Map::new());
        for (name, value) in given {
            let Some(attr) = named(name) else { continue };
            match (verb, attr.set) {
                ("create", Set::Post | Set::PostPut) | ("update", Set::Put | Set::PostPut) => {}
                ("create", _) => {
                    return Err(NeutronError::http_bad(format!("Attribute '{name}' not allowed in POST")));
                }
                _ => return Err(NeutronError::http_bad(format!("Cannot update read-only attribute {name}"))),
            }
            // As Neutron's policies do: what would be so anyway is not asked for.
            if attr.admin_sets && !admin && verb == "create" && is_default(attr.is, value) {
                continue;
            }
            if attr.admin_sets && !admin {
                return Err(NeutronError::policy(&format!("(rule:{verb}_{one} and rule:{verb}_{one}:{name})")));
            }
            let into = if attr.is.refers_to().is_empty() { &mut checked } else { &mut references };
            into.insert(name.clone(), fit(attr, value)?);
        }
        match (checked.get("project_id"), checked.get("tenant_id")) {
            (Some(a), Some(b)) if a != b => {
                return Err(NeutronError::http_bad("'project_id' and 'tenant_id' do not match"));
            }
            _ => {}
        }
        Ok(Self { values: checked, references })
    }

    /// No attribute was given.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.references.is_empty()
    }

    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name) || self.references.contains_key(name)
    }

    /// The row that is named; null and nothing are the same.
    pub fn reference<T: Resource>(&self, name: &str) -> Option<Ref<T>> {
        self.reference_or_null(name).flatten()
    }

    /// The row that is named; `Some(None)` if null was given.
    pub fn reference_or_null<T: Resource>(&self, name: &str) -> Option<Option<Ref<T>>> {
        self.references.get(name).map(|value| value.as_str().map(Ref::sent))
    }

    /// The row that the request must name.
    pub fn required_reference<T: Resource>(&self, name: &str) -> Result<Ref<T>, NeutronError> {
        let missing =
            || NeutronError::http_bad(format!("Failed to parse request. Required attribute '{name}' not specified"));
        self.reference(name).ok_or_else(missing)
    }

    /// The rows that are named, if the list was given.
    pub fn references<T: Resource>(&self, name: &str) -> Option<Vec<Ref<T>>> {
        let list = self.references.get(name)?.as_array();
        Some(list.into_iter().flatten().filter_map(Value::as_str).map(Ref::sent).collect())
    }

    pub fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// The string, if one was given.
    pub fn text(&self, name: &str) -> Option<String> {
        self.values.get(name).and_then(Value::as_str).map(str::to_owned)
    }

    pub fn bool(&self, name: &str) -> Option<bool> {
        self.values.get(name).and_then(Value::as_bool)
    }

    pub fn int(&self, name: &str) -> Option<i64> {
        self.values.get(name).and_then(Value::as_i64)
    }

    pub fn texts(&self, name: &str) -> Option<Vec<String>> {
        let list = self.values.get(name)?;
        Some(list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// The address; `Some(None)` if null was given.
    pub fn ip(&self, name: &str) -> Option<Option<IpAddr>> {
        self.values.get(name).map(|v| v.as_str().and_then(|t| t.parse().ok()))
    }

    pub fn ips(&self, name: &str) -> Option<Vec<IpAddr>> {
        Some(self.texts(name)?.iter().filter_map(|t| t.parse().ok()).collect())
    }

    /// The project that the client names.
    pub fn project(&self) -> Option<String> {
        self.text("project_id").or_else(|| self.text("tenant_id"))
    }
}

/// The value that an administrator's attribute has unless somebody sets it.
fn is_default(is: Is, value: &Value) -> bool {
    match is {
        Is::Bool => boolean(value) == Some(false),
        Is::ObjectOrNull => value.is_null() || value.as_object().is_some_and(Map::is_empty),
        Is::Text(_) | Is::TextOrNull(_) => value == "",
        _ => false,
    }
}

fn object<'a>(one: &str, given: &'a Value) -> Result<&'a Map<String, Value>, NeutronError> {
    given.as_object().ok_or_else(|| NeutronError::http_bad(format!("Unable to find '{one}' in request body")))
}

/// How Python prints a value in Neutron's sentences.
pub fn shown_value(value: &Value) -> String {
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::String(text) => text.chars().take(200).collect(),
        other => other.to_string().chars().take(200).collect(),
    }
}

/// The value in the attribute's form.
fn fit<T>(attr: &Attr<T>, value: &Value) -> Result<Value, NeutronError> {
    fit_value(attr.is, value).map_err(|reason| NeutronError::attribute(attr.name, reason))
}

pub fn fit_value(is: Is, value: &Value) -> Result<Value, String> {
    let shown = || shown_value(value);
    let same = || value.clone();
    match is {
        Is::Any => Ok(same()),
        Is::TextOrNull(_) if value.is_null() => Ok(Value::Null),
        Is::Text(max) | Is::TextOrNull(max) => match value {
            Value::String(text) if text.chars().count() > max => {
                Err(format!("'{}' exceeds maximum length of {max}.", shown()))
            }
            Value::String(text) if text.contains('\0') => Err("a null byte is not allowed.".into()),
            Value::String(_) => Ok(same()),
            _ => Err(format!("'{}' is not a valid string.", shown())),
        },
        Is::Bool => {
            boolean(value).map(Value::Bool).ok_or_else(|| format!("'{}' cannot be converted to boolean.", shown()))
        }
        Is::Int(min, max) => {
            let number = value.as_i64().or_else(|| value.as_str().and_then(|t| t.trim().parse().ok()));
            let number = number.ok_or_else(|| format!("'{}' is not an integer.", shown()))?;
            if number < min {
                return Err(format!("'{number}' is too small - must be at least '{min}'."));
            }
            if number > max {
                return Err(format!("'{number}' is too large - must be no larger than '{max}'."));
            }
            Ok(Value::from(number))
        }
        Is::UuidOrNull(_) | Is::IdOrNull(_) | Is::IpOrNull | Is::OneOfOrNull(_) | Is::ObjectOrNull
            if value.is_null() =>
        {
            Ok(Value::Null)
        }
        Is::Uuid(_) | Is::UuidOrNull(_) => match value.as_str() {
            Some(text) if is_uuid(text) => Ok(same()),
            _ => Err(format!("'{}' is not a valid UUID.", shown())),
        },
        Is::Id(_) | Is::IdOrNull(_) => fit_value(Is::Text(36), value),
        Is::UuidList(kinds) => each(value, |item| fit_value(Is::Uuid(kinds), item)),
        Is::IpOrNull => match value.as_str().and_then(|t| t.parse::<IpAddr>().ok()) {
            Some(ip) => Ok(Value::from(ip.to_string())),
            None => Err(format!("'{}' is not a valid IP address.", shown())),
        },
        Is::IpList => each(value, |item| match item.as_str().and_then(|t| t.parse::<IpAddr>().ok()) {
            Some(ip) => Ok(Value::from(ip.to_string())),
            None => Err(format!("'{}' is not a valid nameserver.", shown_value(item))),
        }),
        Is::Mac => match value.as_str().and_then(mac) {
            Some(mac) => Ok(Value::from(mac)),
            None => Err(format!("'{}' is not a valid MAC address.", shown())),
        },
        Is::Cidr => match value.as_str().and_then(|t| Cidr::parse(t).ok()) {
            Some(cidr) => Ok(Value::from(cidr.to_string())),
            None => Err(format!("'{}' is not a valid IP subnet.", shown())),
        },
        Is::OneOf(values) | Is::OneOfOrNull(values) => match value.as_str() {
            Some(text) if values.contains(&text) => Ok(same()),
            _ => Err(format!("'{}' is not in {}.", shown(), python_list(values.iter().copied()))),
        },
        Is::TextList => each(value, |item| fit_value(Is::Text(255), item)),
        Is::Tags => words::fit_tags(fit_value(Is::TextList, value)?),
        Is::Domain => match fit_value(Is::Text(255), value)? {
            Value::String(name) if !words::is_domain(&name) => Err(format!("'{name}' not a valid PQDN or FQDN.")),
            name => Ok(name),
        },
        Is::ObjectOrNull => match value {
            Value::Object(_) => Ok(same()),
            _ => Err(format!("'{}' is not a dictionary.", shown())),
        },
        Is::ObjectList => each(value, |item| match item {
            Value::Object(_) => Ok(item.clone()),
            _ => Err(format!("'{}' is not a dictionary.", shown_value(item))),
        }),
    }
}

/// The most items that any list in a request may have.
const MAX_ITEMS: usize = 1000;

fn each(value: &Value, item: impl Fn(&Value) -> Result<Value, String>) -> Result<Value, String> {
    match value {
        Value::Null => Ok(Value::Array(Vec::new())),
        Value::Array(items) if items.len() > MAX_ITEMS => Err(format!("lists have at most {MAX_ITEMS} items.")),
        Value::Array(items) => {
            let items = items.iter().map(item).collect::<Result<Vec<_>, _>>()?;
            let mut seen = std::collections::HashSet::new();
            for value in &items {
                if value.is_string() && !seen.insert(value.to_string()) {
                    return Err(format!("Duplicate items in the list: '{}'", shown_value(value)));
                }
            }
            Ok(Value::Array(items))
        }
        other => Err(format!("'{}' is not a list.", shown_value(other))),
    }
}

/// `['a', 'b']`
pub fn python_list<'a>(items: impl Iterator<Item = &'a str>) -> String {
    format!("[{}]", items.map(|i| format!("'{i}'")).collect::<Vec<_>>().join(", "))
}

/// What Neutron takes for a truth value.
pub fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        Value::Number(n) if n.as_u64() == Some(1) => Some(true),
        Value::Number(n) if n.as_u64() == Some(0) => Some(false),
        Value::String(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "t" | "yes" | "y" | "on" => Some(true),
            "false" | "0" | "f" | "no" | "n" | "off" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// Ids as Neutron takes them: with or without hyphens.
pub fn is_uuid(text: &str) -> bool {
    text.len() <= 36 && uuid::Uuid::try_parse(text).is_ok()
}

/// A unicast MAC address, lower case with colons.
pub fn mac(text: &str) -> Option<String> {
    // `fa:16:3e:…`, `fa-16-3e-…`, `fa16.3e…`, `fa163e…`
    let separators = text.bytes().filter(|b| b":-.".contains(b)).count();
    let digits: String = text.chars().filter(|c| !":-.".contains(*c)).map(|c| c.to_ascii_lowercase()).collect();
    let whole = digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_hexdigit()) && matches!(separators, 0 | 2 | 5);
    let pairs: Vec<&str> = (0..6).filter(|_| whole).map(|n| &digits[2 * n..2 * n + 2]).collect();
    (whole && digits != "000000000000").then(|| pairs.join(":"))
}
