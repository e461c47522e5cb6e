//! Lists: a repository's tags, what refers to a manifest, the repositories that somebody sees. By pages of at most a
//! thousand; what comes next stands in a Link.

use std::collections::BTreeSet;

use axum::response::Response;
use gate::Principal;
use http::{Uri, header};
use model::{OciManifest, OciTag, Project, Realm, Snapshot};
use serde_json::{Value, json};

use crate::refusal::{Refusal, Result};
use crate::{Call, Registry, json, number, put, query};

/// The longest page.
const MOST: usize = 1000;
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What a request asks to see of an ordered list.
struct Page {
    most: usize,
    last: Option<String>,
}

impl Page {
    fn of(uri: &Uri) -> Result<Self> {
        let most = match query(uri, "n") {
            None => MOST,
            Some(text) => match number(&text).and_then(|n| usize::try_from(n).ok()) {
                Some(n) => n.min(MOST),
                None => {
                    let message = format!("n is {text:?}, which is no number of entries");
                    return Err(Refusal::bad("PAGINATION_NUMBER_INVALID", message));
                }
            },
        };
        Ok(Self { most, last: query(uri, "last") })
    }

    /// The page's part of a list in order, and where the next begins, if there is more.
    fn cut(&self, list: impl Iterator<Item = String>) -> (Vec<String>, Option<String>) {
        let mut rest = list.filter(|name| self.last.as_ref().is_none_or(|last| name > last));
        let page: Vec<String> = rest.by_ref().take(self.most).collect();
        let next = page.last().cloned().filter(|_| rest.next().is_some());
        (page, next)
    }

    fn link(&self, response: &mut Response, path: &str, filter: Option<(&str, &str)>, next: Option<String>) {
        if let Some(next) = next {
            let rest = form_urlencoded::Serializer::new(String::new())
                .extend_pairs(filter)
                .append_pair("n", &self.most.to_string())
                .append_pair("last", &next)
                .finish();
            put(response.headers_mut(), header::LINK, &format!("<{path}?{rest}>; rel=\"next\""));
        }
    }
}

impl Registry {
    pub(crate) fn tags(&self, call: &Call) -> Result<Response> {
        if !call.request.method.is_safe() {
            return Err(call.unsupported());
        }
        let page = Page::of(&call.request.uri)?;
        if !self.has_manifests(&call.repository) && !self.has_blobs(&call.repository) {
            return Err(Refusal::unknown("NAME_UNKNOWN", &call.repository.asked));
        }
        let snapshot = self.store.snapshot();
        let prefix = format!("{}:", call.repository.name);
        let after = page.last.as_ref().map(|last| format!("{prefix}{last}"));
        let tags = snapshot.names::<OciTag>(&call.realm(), &prefix, after.as_deref()).map(|t| t.tag.clone());
        let (tags, next) = page.cut(tags);
        let mut response = json(&json!({"name": call.repository.asked, "tags": tags}), "application/json");
        page.link(&mut response, &format!("/v2/{}/tags/list", call.repository.asked), None, next);
        Ok(response)
    }

    /// What is about a manifest, whether that is there or not.
    pub(crate) fn referrers(&self, call: &Call, digest: &str) -> Result<Response> {
        if !call.request.method.is_safe() {
            return Err(call.unsupported());
        }
        crate::digest::algorithm(digest)?;
        let page = Page::of(&call.request.uri)?;
        let kind = call.query("artifactType").filter(|kind| !kind.is_empty());
        let snapshot = self.store.snapshot();
        let prefix = format!("{}@", call.repository.name);
        let all = snapshot
            .names::<OciManifest>(&call.realm(), &prefix, None)
            .filter(|m| m.subject.as_deref() == Some(digest) && (kind.is_none() || m.artifact_type == kind));
        let (digests, next) = page.cut(all.map(|m| m.digest.clone()));
        let manifests = digests.iter().filter_map(|digest| {
            let key = model::Key::new(model::Kind::OciManifest, call.realm(), format!("{prefix}{digest}"));
            snapshot.at::<OciManifest>(&key).map(|row| descriptor(row.value))
        });
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests.collect::<Vec<_>>()});
        let mut response = json(&index, INDEX);
        let filter = kind.as_deref().map(|kind| ("artifactType", kind));
        if let Some((name, _)) = filter {
            put(response.headers_mut(), header::HeaderName::from_static("oci-filters-applied"), name);
        }
        page.link(&mut response, &format!("/v2/{}/referrers/{digest}", call.repository.asked), filter, next);
        Ok(response)
    }

    /// The repositories that somebody sees.
    pub(crate) fn catalog(&self, uri: &Uri, who: Option<&Principal>) -> Result<Response> {
        let page = Page::of(uri)?;
        let snapshot = self.store.snapshot();
        let projects: Vec<String> = if who.is_some_and(Principal::is_admin) {
            snapshot.all::<Project>().map(|project| project.id.clone()).collect()
        } else {
            let own = who.filter(|who| who.is_reader()).and_then(Principal::project_id);
            own.map(str::to_owned).into_iter().collect()
        };
        // The cloud's own are no project's.
        let owners = std::iter::once(String::new()).chain(projects);
        let names: BTreeSet<String> = owners
            .flat_map(|owner| {
                let all = repositories(&snapshot, &owner);
                all.map(|name| self.shown(&name, &owner)).collect::<Vec<_>>()
            })
            .collect();
        let (names, next) = page.cut(names.into_iter());
        let mut response = json(&json!({"repositories": names}), "application/json");
        page.link(&mut response, "/v2/_catalog", None, next);
        Ok(response)
    }
}

/// The repositories of a project, each found by one look: not all of their manifests are gone through.
fn repositories<'a>(snapshot: &'a Snapshot, project: &str) -> impl Iterator<Item = String> + use<'a> {
    let realm = Realm::project(project);
    let mut after: Option<String> = None;
    std::iter::from_fn(move || {
        let name = snapshot.names::<OciManifest>(&realm, "", after.as_deref()).next()?.repository.clone();
        // Behind all of its digests.
        after = Some(format!("{name}@~"));
        Some(name)
    })
}

fn descriptor(manifest: &OciManifest) -> Value {
    let mut shown = json!({"mediaType": manifest.media_type, "digest": manifest.digest, "size": manifest.size});
    if let Some(kind) = &manifest.artifact_type {
        shown["artifactType"] = kind.as_str().into();
    }
    if !manifest.annotations.is_empty() {
        shown["annotations"] = json!(manifest.annotations);
    }
    shown
}
