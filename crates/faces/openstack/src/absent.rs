//! What the real services have and this cloud has not: paths at which it says by name what is missing, since "check your
//! spelling" sends people to look for a mistake of theirs. Each service lists its own.

use model::Fault;

use crate::service::Service;

/// How a path that nobody serves is refused.
pub fn refusal(service: &Service, path: &str) -> Fault {
    match service.absent.iter().find(|(pattern, _)| leads(pattern, path)) {
        Some((_, what)) => (service.dialect.absent)(what),
        None => Fault::NotFound { what: "resource".into(), id: path.to_owned() },
    }
}

/// The refusal of most services.
pub fn not_built(what: &str) -> Fault {
    Fault::NotImplemented(format!("{what} is not built in this cloud."))
}

fn leads(pattern: &str, path: &str) -> bool {
    let mut parts = path.split('/');
    pattern.split('/').all(|wanted| parts.next().is_some_and(|part| wanted == "*" || wanted == part))
}
