//! What a path asks for, and whose repository it is.
//!
//! A repository whose first part is the id or (in the domain Default) the name of a project is that project's; it is kept
//! by the id, so that it is found by both, and after the project got another name. All others are the cloud's own, which
//! everybody may pull and administrators push. To whoever may not read a project's repositories, a repository of that
//! name is one of the cloud's own that is not there: nothing tells them whether there is such a project.

use gate::Principal;
use http::StatusCode;
use model::{Index, OciBlob, OciManifest, Project, Realm, Snapshot};

use crate::Registry;
use crate::refusal::{Refusal, Result};

/// What a path below `/v2` asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    Base,
    Token,
    Catalog,
    /// A repository, as the client calls it.
    Repository(String, Verb),
}

/// Of a repository.
#[derive(Debug, PartialEq, Eq)]
pub enum Verb {
    Manifest(String),
    Blob(String),
    /// The upload's id; empty: a new one.
    Upload(String),
    Tags,
    Referrers(String),
}

impl Route {
    /// Of a path without its first part, `/v2`.
    pub fn of(path: &str) -> Option<Self> {
        let parts: Vec<&str> = match path {
            "" => Vec::new(),
            path => path.strip_prefix('/')?.split('/').collect(),
        };
        let repository = |name: &[&str], verb: Verb| (!name.is_empty()).then(|| Self::Repository(name.join("/"), verb));
        match parts.as_slice() {
            [] | [""] => Some(Self::Base),
            ["token"] => Some(Self::Token),
            ["_catalog"] => Some(Self::Catalog),
            [name @ .., "tags", "list"] => repository(name, Verb::Tags),
            [name @ .., "manifests", reference] => repository(name, Verb::Manifest((*reference).to_owned())),
            [name @ .., "referrers", digest] => repository(name, Verb::Referrers((*digest).to_owned())),
            [name @ .., "blobs", "uploads"] => repository(name, Verb::Upload(String::new())),
            [name @ .., "blobs", "uploads", id] => repository(name, Verb::Upload((*id).to_owned())),
            [name @ .., "blobs", digest] => repository(name, Verb::Blob((*digest).to_owned())),
            _ => None,
        }
    }
}

/// A repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// As the client calls it.
    pub asked: String,
    /// As the rows call it.
    pub name: String,
    /// The project that owns it; empty: the cloud.
    pub project: String,
}

impl Registry {
    /// The repository of a name, as somebody sees it.
    pub(crate) fn repository(&self, asked: &str, who: Option<&Principal>) -> Result<Repository> {
        if asked.len() > 255 || !asked.split('/').all(is_component) {
            // Nobody learns of names before they logged in.
            return Err(match who {
                None => Refusal::log_in(),
                Some(_) => Refusal::bad("NAME_INVALID", format!("{asked:?} is not the name of a repository")),
            });
        }
        let owned = asked.split_once('/').and_then(|(first, rest)| Some((self.project(first)?, rest)));
        Ok(match owned.filter(|(project, _)| may_read(who, project)) {
            Some((project, rest)) => Repository { asked: asked.to_owned(), name: format!("{project}/{rest}"), project },
            None => Repository { asked: asked.to_owned(), name: asked.to_owned(), project: String::new() },
        })
    }

    fn project(&self, first: &str) -> Option<String> {
        project(&self.store.snapshot(), first)
    }

    /// Whether a request may be made to a repository that its maker sees.
    pub(crate) fn permit(&self, repository: &Repository, who: Option<&Principal>, write: bool) -> Result<()> {
        let scope = || format!("repository:{}:{}", repository.asked, if write { "pull,push" } else { "pull" });
        let Some(who) = who else {
            let public = !write && repository.project.is_empty() && self.has_manifests(repository);
            return if public { Ok(()) } else { Err(Refusal { scope: Some(scope()), ..Refusal::log_in() }) };
        };
        let own = !repository.project.is_empty() && who.is_member();
        if write && !own && !who.is_admin() {
            return Err(Refusal::new(StatusCode::FORBIDDEN, "DENIED", "you may not push to this repository"));
        }
        Ok(())
    }

    pub(crate) fn has_manifests(&self, repository: &Repository) -> bool {
        let prefix = format!("{}@", repository.name);
        let realm = Realm::project(&repository.project);
        self.store.snapshot().names::<OciManifest>(&realm, &prefix, None).next().is_some()
    }

    /// Whether something is there yet that came through a repository: it may have been emptied a moment ago.
    pub(crate) fn has_blobs(&self, repository: &Repository) -> bool {
        let snapshot = self.store.snapshot();
        snapshot
            .within::<OciBlob>(&Realm::project(&repository.project))
            .any(|blob| blob.repository.as_ref() == Some(&repository.name))
    }

    /// What somebody would call a repository that they see.
    pub(crate) fn shown(&self, name: &str, project: &str) -> String {
        let snapshot = self.store.snapshot();
        let (Some(owner), Some((_, rest))) = (snapshot.get::<Project>(project), name.split_once('/')) else {
            return name.to_owned();
        };
        let by_name = self.project(&owner.name).is_some_and(|id| id == project) && is_component(&owner.name);
        if by_name { format!("{}/{rest}", owner.name) } else { name.to_owned() }
    }
}

/// The id of the project that the first part of a name names.
fn project(snapshot: &Snapshot, first: &str) -> Option<String> {
    if let Some(project) = snapshot.get::<Project>(first) {
        return Some(project.id.clone());
    }
    let name = format!("{}/{first}", model::DEFAULT_DOMAIN);
    snapshot.find::<Project>(Index::Name, &name).next().map(|project| project.id.clone())
}

/// Whether a repository is the cloud's own or a project's: whether what runs in the project may have its images.
pub fn is_readable(snapshot: &Snapshot, repository: &str, of: &str) -> bool {
    let owner = repository.split_once('/').and_then(|(first, _)| project(snapshot, first));
    owner.is_none_or(|owner| owner == of)
}

/// Whether somebody may read a project's repositories.
pub fn may_read(who: Option<&Principal>, project: &str) -> bool {
    who.is_some_and(|who| who.is_admin() || (who.project_id() == Some(project) && who.is_reader()))
}

/// Whether a text is a part of a name: letters and digits, divided by one of `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let ends = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    let divider = |part: &[u8]| matches!(part, b"." | b"_" | b"__") || part.iter().all(|b| *b == b'-');
    ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(b))
        && bytes.split(|b| b.is_ascii_lowercase() || b.is_ascii_digit()).all(|part| part.is_empty() || divider(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let repository = |name: &str, verb| Some(Route::Repository(name.into(), verb));
        for (path, route) in [
            ("", Some(Route::Base)),
            ("/", Some(Route::Base)),
            ("/_catalog", Some(Route::Catalog)),
            ("/token", Some(Route::Token)),
            ("/tiny/manifests/latest", repository("tiny", Verb::Manifest("latest".into()))),
            ("/v2ray/x/manifests/1", repository("v2ray/x", Verb::Manifest("1".into()))),
            ("/demo/web/blobs/uploads/", repository("demo/web", Verb::Upload(String::new()))),
            ("/demo/web/blobs/uploads", repository("demo/web", Verb::Upload(String::new()))),
            ("/demo/web/blobs/uploads/1", repository("demo/web", Verb::Upload("1".into()))),
            ("/demo/tags/list/tags/list", repository("demo/tags/list", Verb::Tags)),
            ("/demo/web/referrers/sha256:1", repository("demo/web", Verb::Referrers("sha256:1".into()))),
            ("/demo/web/tags/other", None),
            ("/manifests/latest", None),
            ("ray/x/manifests/1", None),
            ("/tiny", None),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }

    #[test]
    fn components() {
        for good in ["a", "a1", "a-b", "a--b", "a_b", "a__b", "a.b", "0"] {
            assert!(is_component(good), "{good}");
        }
        for bad in ["", "..", "A", "a..b", "a___b", "-a", "a-", "a._b", "a b", "a:b", "ä"] {
            assert!(!is_component(bad), "{bad}");
        }
    }
}
