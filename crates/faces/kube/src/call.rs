//! A request that passed the gate, and the form in which it wants its answer.

use std::borrow::Cow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use http::{HeaderMap, Response, header};
use model::{Change, Cluster, KubeObject, Object, Realm, Resource, Revision, Row, Snapshot, Time, Write};
use serde_json::Value;

use crate::authz::{self, Attributes, Subject};
use crate::body::{self, Shown};
use crate::entrance::{Admitted, Entrance};
use crate::fault::{Failure, Result};
use crate::kind::ApiResource;
use crate::known::Kinds;
use crate::kube::Kube;
use crate::request::{Query, ResourcePath};
use crate::shares::{Held, Holder};
use crate::table;

/// In which form objects are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Object,
    /// `kubectl get`'s columns.
    Table,
    /// Metadata alone.
    Metadata,
}

impl Form {
    /// The first form of the header Accept that can be given.
    pub fn of(headers: &HeaderMap) -> Result<Self> {
        let Some(accept) = headers.get(header::ACCEPT) else { return Ok(Self::Object) };
        let accept = accept.to_str().unwrap_or("");
        for entry in accept.split(',') {
            let mut parts = entry.split(';').map(str::trim);
            let media = parts.next().unwrap_or("");
            if !matches!(media, "application/json" | "application/*" | "*/*" | "") {
                continue;
            }
            let parameters: Vec<(&str, &str)> = parts.filter_map(|p| p.split_once('=')).collect();
            let get = |name| parameters.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
            match get("as") {
                None => return Ok(Self::Object),
                Some("Table") if get("v") == Some("v1") => return Ok(Self::Table),
                Some("PartialObjectMetadata" | "PartialObjectMetadataList") if get("v") == Some("v1") => {
                    return Ok(Self::Metadata);
                }
                Some(_) => {}
            }
        }
        let message = "only the following media types are accepted: application/json, application/json;stream=watch";
        Err(Failure::new(406, "NotAcceptable", message))
    }
}

/// A request for objects that passed the gate.
pub struct Call<'a> {
    pub kube: &'a Kube,
    pub cluster: &'a Cluster,
    pub who: &'a Subject,
    /// Whose shares the request takes: the credential's own, whomever it acts as.
    pub holder: Holder,
    /// The cluster's, when the request came.
    pub kinds: Kinds,
    pub path: ResourcePath<'a>,
    pub verb: &'static str,
    pub query: Query,
    pub headers: HeaderMap,
    pub form: Form,
    pub now: Time,
    /// How it came in, to be gone through again when it had to wait.
    pub entrance: &'a Entrance,
    /// The share of a large request, while it is worked on.
    pub large: Mutex<Option<Held>>,
    /// What the client is to be told although all went well.
    pub told: Mutex<Vec<String>>,
}

impl Call<'_> {
    pub fn kind(&self) -> &ApiResource {
        &self.path.kind
    }

    pub fn agent(&self) -> &str {
        self.headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or("")
    }

    pub fn realm(&self) -> Realm {
        Realm::cluster(&self.cluster.id)
    }

    /// All rows, as new as the client asks for: at a revision or later, whatever there is (`0`), or the newest.
    pub async fn rows(&self) -> Result<Snapshot> {
        match self.query.get("resourceVersion") {
            None => Ok(self.kube.store.fresh().await?),
            Some("0") => Ok(self.kube.store.snapshot()),
            Some(text) => self.kube.reach(revision(text)?).await,
        }
    }

    /// The same, as the call sees them.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        Ok(self.seen(self.rows().await?, Some(self.path.name).filter(|name| !name.is_empty())))
    }

    /// A snapshot with what the call's kind makes of other rows: that of one name, or all.
    pub fn seen(&self, snapshot: Snapshot, name: Option<&str>) -> Snapshot {
        let Some(derived) = self.kind().strategy.derived() else { return snapshot };
        let rows = (derived.rows)(&self.kube.store, &snapshot, self.cluster, name);
        snapshot.with(rows)
    }

    /// A change that was drafted from such a snapshot, as it is committed over the rows that are there.
    pub fn as_stored(&self, rows: &Snapshot, mut change: Change) -> Result<Change> {
        let Some(derived) = self.kind().strategy.derived() else { return Ok(change) };
        for write in &mut change.writes {
            let (key, makes) = (write.key(), matches!(write, Write::Create(_)));
            let (Write::Create(object) | Write::Update { object, .. }) = &*write else { continue };
            let Some(object) =
                KubeObject::of(object).filter(|object| object.is(&self.kind().group, &self.kind().plural))
            else {
                continue;
            };
            if makes && !(derived.free)(rows, self.cluster, &object.name) {
                return Err(Failure::exists(self.kind(), &object.name));
            }
            let body = (derived.said)(rows, &object.name, &object.body);
            let object = Object::from(KubeObject { body, ..object.clone() });
            *write = match rows.row(&key) {
                Some(row) => Write::Update { object, expected: row.modified },
                None => Write::Create(object),
            };
        }
        Ok(change)
    }

    /// The row of the object that the path names.
    pub fn row<'s>(&self, snapshot: &'s Snapshot) -> Result<model::Entry<'s, KubeObject>> {
        find(snapshot, self.cluster, self.kind(), self.path.namespace, self.path.name)
            .ok_or_else(|| Failure::not_found(self.kind(), self.path.name))
    }

    /// Whether the caller may do something else beside what the request's own check allowed.
    pub fn check(&self, snapshot: &Snapshot, what: &Attributes<'_>) -> Result<()> {
        authz::check(snapshot, self.cluster, self.who, what)
    }

    /// Whether what the call is about is allowed to whoever makes it.
    pub fn permitted(&self, cluster: &Cluster, who: &Subject) -> Result<()> {
        let kind = self.kind();
        let namespace = if kind.strategy.is_place() { self.path.name } else { self.path.namespace };
        let what = Attributes {
            verb: self.verb,
            group: &kind.group,
            resource: &kind.plural,
            subresource: self.path.subresource,
            namespace,
            name: self.path.name,
            path: "",
        };
        authz::check(&self.kube.store.snapshot(), cluster, who, &what)
    }

    /// The same, of somebody who may have lost what they had when they came.
    pub async fn still_permitted(&self) -> Result<()> {
        let Admitted { who, cluster, .. } = self.entrance.enter(self.kube, &self.cluster.id).await?;
        self.permitted(&cluster, &who)
    }

    /// Waits for others, without the share of a large request: it is for those who work.
    pub async fn waiting<T>(&self, others: impl Future<Output = T>) -> T {
        let held = locked(&self.large).take();
        let is_large = held.is_some();
        drop(held);
        let answer = others.await;
        if is_large {
            let held = self.kube.pools.large.take(&self.holder, 1).await;
            *locked(&self.large) = held;
        }
        answer
    }

    /// Warnings for the client.
    pub fn tell(&self, warnings: Vec<String>) {
        locked(&self.told).extend(warnings);
    }

    /// One object as a reply.
    pub fn show(&self, status: u16, object: &KubeObject, revision: Revision) -> Response<Body> {
        match self.form {
            Form::Object => {
                let shown = view(self.kind(), &object.body);
                body::json(status, &Shown { body: shown.as_ref(), revision })
            }
            Form::Table => body::json(status, &table::of_one(self, object, revision, true)),
            Form::Metadata => body::json(status, &table::partial(&object.body, revision)),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The object of a kind with this name.
pub fn find<'s>(
    snapshot: &'s Snapshot,
    cluster: &Cluster,
    kind: &ApiResource,
    namespace: &str,
    name: &str,
) -> Option<model::Entry<'s, KubeObject>> {
    snapshot.at(&KubeObject::key_of(&cluster.id, &kind.stored.0, &kind.stored.1, namespace, name))
}

/// A revision as clients write it.
pub fn revision(text: &str) -> Result<Revision> {
    text.parse().map_err(|_| Failure::bad_request(format!("Invalid value: {text:?}: invalid resource version")))
}

/// A stored body as a kind shows it: events have two forms, and custom kinds versions.
pub fn view<'a>(kind: &ApiResource, body: &'a Value) -> Cow<'a, Value> {
    kind.strategy.shown(body).map_or(Cow::Borrowed(body), Cow::Owned)
}

/// A body as a kind shows it, with its revision, to be changed.
pub fn editable(kind: &ApiResource, row: &Row, object: &KubeObject) -> Value {
    let mut body = view(kind, &object.body).into_owned();
    crate::meta::of(&mut body).insert("resourceVersion".to_owned(), row.modified.to_string().into());
    body
}
