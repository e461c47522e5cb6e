//! Access rules of application credentials: a credential that has any is good for what they name and nothing else. They
//! are checked where a credential becomes a principal, so that a face cannot forget them: it has to say what is asked.

use model::{AppCredential, Fault};
use serde_json::Value;

use crate::{Gate, Principal};

/// What a credential is spent on.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The service's type in the catalog; `kubernetes` and `registry` for the faces that are not in it.
    pub service: &'a str,
    pub method: &'a str,
    /// Below the service's prefix (`/v2.1/servers`); whole for the faces that are not in the catalog.
    pub path: &'a str,
}

impl Gate {
    /// Whether the access rules of the caller's application credential, if there are any, allow a request.
    pub(crate) fn spend(&self, who: &Principal, asked: &Asked<'_>) -> Result<(), Fault> {
        let Some(id) = &who.app_credential_id else { return Ok(()) };
        let snapshot = self.store.snapshot();
        let credential = snapshot.get::<AppCredential>(id).ok_or_else(crate::token::unauthorized)?;
        let rules = &credential.access_rules;
        if rules.is_empty() || rules.iter().any(|rule| matches(rule, asked)) {
            return Ok(());
        }
        Err(Fault::Unauthorized(
            "The request is not authorized by the access rules of the application credential.".into(),
        ))
    }
}

fn matches(rule: &Value, asked: &Asked<'_>) -> bool {
    let is = |field: &str, value: &str| rule[field].as_str() == Some(value);
    is("service", asked.service)
        && is("method", asked.method)
        && rule["path"].as_str().is_some_and(|p| path_matches(p, asked.path))
}

/// `*` and `{name}` are one part of a path, `**` is any number of them.
fn path_matches(pattern: &str, path: &str) -> bool {
    fn parts(text: &str) -> Vec<&str> {
        text.trim_matches('/').split('/').collect()
    }
    fn all(pattern: &[&str], path: &[&str]) -> bool {
        match pattern.split_first() {
            None => path.is_empty(),
            // Each part of the pattern is tried at each place once: two `**` are as good as one.
            Some((&"**", rest)) if rest.first() == Some(&"**") => all(rest, path),
            Some((&"**", rest)) => (0..=path.len()).any(|n| all(rest, &path[n..])),
            Some((first, rest)) => path.split_first().is_some_and(|(part, tail)| {
                let any = *first == "*" || (first.starts_with('{') && first.ends_with('}'));
                (any || first == part) && all(rest, tail)
            }),
        }
    }
    // A pattern with many `**` would take long to refuse.
    parts(pattern).iter().filter(|p| **p == "**").count() <= 3 && all(&parts(pattern), &parts(path))
}

#[cfg(test)]
mod tests {
    use super::path_matches;

    #[test]
    fn patterns() {
        for (pattern, path) in [
            ("/v2.1/servers", "/v2.1/servers"),
            ("/v2.1/servers/*/ips", "/v2.1/servers/x/ips"),
            ("/v2.1/servers/{server_id}", "/v2.1/servers/x"),
            ("/v2.1/**", "/v2.1/servers/x/ips"),
            ("/**/ips", "/v2.1/servers/x/ips"),
        ] {
            assert!(path_matches(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("/v2.1/servers", "/v2.1/servers/x"),
            ("/v2.1/servers/*", "/v2.1/servers"),
            ("/v2.1/servers/*", "/v2.1/servers/x/ips"),
            ("/v2.1/*", "/v2.0/servers"),
        ] {
            assert!(!path_matches(pattern, path), "{pattern} {path}");
        }
    }
}
