//! What a URL asks for, and the options that its query carries.

use http::Method;

use crate::fault::{Failure, Result};
use std::sync::Arc;

use crate::kind::ApiResource;
use crate::known::Kinds;

/// What a path below `/clusters/{id}` names.
#[derive(Debug, PartialEq)]
pub enum Target<'a> {
    /// `/version`, `/healthz`, discovery and documents: the parts of the path.
    Document(Vec<&'a str>),
    Resource(ResourcePath<'a>),
}

/// A path to objects.
#[derive(Debug)]
pub struct ResourcePath<'a> {
    pub kind: Arc<ApiResource>,
    /// Empty: of all namespaces, or the kind has none.
    pub namespace: &'a str,
    /// Empty: the collection.
    pub name: &'a str,
    /// Empty: the object itself.
    pub subresource: &'a str,
    /// `/api/v1/watch/...`: the old way to ask for a watch.
    pub watch: bool,
}

impl PartialEq for ResourcePath<'_> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.kind, &other.kind)
            && (self.namespace, self.name, self.subresource, self.watch)
                == (other.namespace, other.name, other.subresource, other.watch)
    }
}

/// Reads a path in a cluster with these kinds. `None` if it leads nowhere.
pub fn target<'p>(kinds: &Kinds, path: &'p str) -> Option<Target<'p>> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').filter(|p| !p.is_empty()).collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
        _ => return Some(Target::Document(parts)),
    };
    let (watch, rest) = match rest {
        ["watch", rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let (namespace, rest) = match rest {
        // `namespaces/a` and `namespaces/a/status` are the namespace itself.
        ["namespaces", namespace, rest @ ..] if !matches!(rest, [] | ["status" | "finalize"]) => (*namespace, rest),
        rest => ("", rest),
    };
    let (plural, name, subresource) = match rest {
        [plural] => (*plural, "", ""),
        [plural, name] => (*plural, *name, ""),
        [plural, name, subresource] => (*plural, *name, *subresource),
        _ => return None,
    };
    let kind = kinds.find(group, version, plural)?.clone();
    // Objects with a namespace have their names within it; those without are not looked for in one.
    let place_fits = if kind.namespaced { !namespace.is_empty() || name.is_empty() } else { namespace.is_empty() };
    let subresource_fits =
        subresource.is_empty() || (subresource == "status" && kind.status) || kind.subresource(subresource).is_some();
    (place_fits && subresource_fits).then_some(Target::Resource(ResourcePath {
        kind,
        namespace,
        name,
        subresource,
        watch,
    }))
}

/// A decoded query.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

/// The most parameters of one query.
const MAX_PARAMETERS: usize = 1000;

impl Query {
    pub fn parse(query: &str) -> Result<Self> {
        let mut all = Vec::new();
        for part in query.split('&').filter(|p| !p.is_empty()) {
            if all.len() == MAX_PARAMETERS {
                return Err(Failure::bad_request("the query has too many parameters"));
            }
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            all.push((decode(name)?, decode(value)?));
        }
        Ok(Self(all))
    }

    /// The first value of a parameter; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// Every value of a parameter.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect()
    }

    pub fn flag(&self, name: &str) -> bool {
        self.0.iter().find(|(n, _)| n == name).is_some_and(|(_, v)| matches!(v.as_str(), "" | "1" | "true" | "True"))
    }

    pub fn number(&self, name: &str) -> Result<Option<u64>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let why = || Failure::bad_request(format!("invalid value for parameter {name}: {value:?} is not a number"));
        value.parse().map(Some).map_err(|_| why())
    }
}

/// Takes percent signs and plus signs out of a part of a URL.
pub fn decode(text: &str) -> Result<String> {
    let bad = || Failure::bad_request(format!("invalid URL escape in {text:?}"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(b) = rest.next() {
        match b {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digit = |b: Option<u8>| b.and_then(|b| (b as char).to_digit(16));
                let (high, low) = (digit(rest.next()).ok_or_else(bad)?, digit(rest.next()).ok_or_else(bad)?);
                bytes.push((high * 16 + low) as u8);
            }
            b => bytes.push(b),
        }
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

/// What happens with fields that a kind does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

/// Options of writes.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    pub dry_run: bool,
    pub manager: String,
    pub validation: FieldValidation,
    pub force: bool,
}

impl WriteOptions {
    /// Reads the query; `agent` is the client's User-Agent, which names the manager that did not name itself.
    pub fn read(query: &Query, agent: &str) -> Result<Self> {
        let dry_run = match query.get("dryRun") {
            None => false,
            Some("All") => true,
            Some(other) => {
                let message = format!("dryRun: Unsupported value: {other:?}: supported values: \"All\"");
                return Err(Failure::new(422, "Invalid", message));
            }
        };
        let validation = match query.get("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                let message = format!(
                    "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
                );
                return Err(Failure::new(422, "Invalid", message));
            }
        };
        let manager = match query.get("fieldManager") {
            Some(name) if name.len() > 128 || name.chars().any(|c| c.is_control()) => {
                return Err(Failure::new(
                    422,
                    "Invalid",
                    "fieldManager: Invalid value: may not be more than 128 bytes of printable text",
                ));
            }
            Some(name) => name.to_owned(),
            None => agent.split('/').next().unwrap_or("").chars().take(128).collect(),
        };
        let manager = if manager.is_empty() { "unknown".to_owned() } else { manager };
        Ok(Self { dry_run, manager, validation, force: query.flag("force") })
    }
}

/// The verb of a request, as authorisation names it.
pub fn verb(method: &Method, path: &ResourcePath<'_>, query: &Query) -> Option<&'static str> {
    let collection = path.name.is_empty();
    Some(match *method {
        Method::GET | Method::HEAD if path.watch || query.flag("watch") => "watch",
        Method::GET | Method::HEAD if collection => "list",
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT if !collection => "update",
        Method::PATCH if !collection => "patch",
        Method::DELETE if collection => "deletecollection",
        Method::DELETE => "delete",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Option<(String, &str, &str, &str)> {
        match target(&Kinds::built_in(), text)? {
            Target::Resource(p) => Some((p.kind.plural.clone(), p.namespace, p.name, p.subresource)),
            Target::Document(_) => None,
        }
    }

    #[test]
    fn paths() {
        for (text, expected) in [
            ("/api/v1/pods", ("pods", "", "", "")),
            ("/api/v1/namespaces", ("namespaces", "", "", "")),
            ("/api/v1/namespaces/a", ("namespaces", "", "a", "")),
            ("/api/v1/namespaces/a/finalize", ("namespaces", "", "a", "finalize")),
            ("/api/v1/namespaces/a/pods/b/log", ("pods", "a", "b", "log")),
            ("/apis/apps/v1/namespaces/a/deployments/b/scale", ("deployments", "a", "b", "scale")),
            ("/api/v1/watch/namespaces/a/pods", ("pods", "a", "", "")),
        ] {
            let (plural, namespace, name, subresource) = expected;
            assert_eq!(path(text), Some((plural.to_owned(), namespace, name, subresource)), "{text}");
        }
        for text in [
            "/api/v1/pods/b",
            "/api/v1/nonsense",
            "/apis/apps/v2/deployments",
            "/api/v1/namespaces/a/nodes/b",
            "/api/v1/nodes/n/scale",
        ] {
            assert_eq!(path(text), None, "{text}");
        }
        assert_eq!(target(&Kinds::built_in(), "/apis/apps/v1"), Some(Target::Document(vec!["apis", "apps", "v1"])));
    }

    #[test]
    fn queries() {
        let query = Query::parse("labelSelector=a%3Db%2Cc&watch&limit=5&x=a+b").unwrap();
        assert_eq!(query.get("labelSelector"), Some("a=b,c"));
        assert!(query.flag("watch") && !query.flag("force"));
        assert_eq!(query.number("limit"), Ok(Some(5)));
        assert_eq!(query.get("x"), Some("a b"));
        assert!(Query::parse("a=%zz").is_err());
    }
}
