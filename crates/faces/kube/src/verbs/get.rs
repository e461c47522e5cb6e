//! Get and list. A list is written straight from the rows into the reply.

use std::borrow::Cow;

use axum::body::Body;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::Response;
use model::{Entry, KubeObject, Revision, Snapshot};
use serde_json::{Value, json};

use crate::body::{self, Shown};
use crate::call::{Call, Form, revision, view};
use crate::fault::{Failure, Result};
use crate::selectors::{FieldSelector, LabelSelector};
use crate::table::{self, Include, TableRow};

/// `GET` of an object.
pub async fn get(call: &Call<'_>) -> Result<Response<Body>> {
    let snapshot = call.snapshot().await?;
    let entry = call.row(&snapshot)?;
    Ok(call.show(200, entry.value, entry.row.modified))
}

/// Which objects a list or watch is about.
#[derive(Clone, Debug)]
pub struct Selection {
    pub labels: LabelSelector,
    pub fields: FieldSelector,
    pub prefix: String,
    /// The name that the path gives.
    pub name: Option<String>,
}

impl Selection {
    pub fn read(call: &Call<'_>) -> Result<Self> {
        let (group, plural, _) = &call.kind().stored;
        let labels = LabelSelector::parse(call.query.get("labelSelector").unwrap_or(""))?;
        let fields = FieldSelector::parse(
            call.kind().namespaced,
            &call.kind().strategy.selectable(),
            call.query.get("fieldSelector").unwrap_or(""),
        )?;
        let name = (!call.path.name.is_empty()).then(|| call.path.name.to_owned());
        Ok(Self { labels, fields, prefix: KubeObject::prefix(group, plural, call.path.namespace), name })
    }

    pub fn matches(&self, object: &KubeObject) -> bool {
        self.name.as_ref().is_none_or(|name| *name == object.name)
            && self.labels.matches(&object.body["metadata"]["labels"])
            && self.fields.matches(&object.body)
    }

    fn is_all(&self) -> bool {
        self.name.is_none() && self.labels.is_empty() && self.fields.is_empty()
    }

    /// The objects, by name, beginning behind `after`.
    pub fn rows<'s>(
        &'s self,
        call: &Call<'_>,
        snapshot: &'s Snapshot,
        after: Option<&str>,
    ) -> impl Iterator<Item = Entry<'s, KubeObject>> {
        self.candidates(call, snapshot, after).filter(|entry| self.matches(entry.value))
    }

    /// What is looked through for them.
    fn candidates<'s>(
        &self,
        call: &Call<'_>,
        snapshot: &'s Snapshot,
        after: Option<&str>,
    ) -> impl Iterator<Item = Entry<'s, KubeObject>> + use<'s> {
        snapshot.names::<KubeObject>(&call.realm(), &self.prefix, after)
    }
}

/// Where a list goes on: the revision that it was begun at and the last name.
struct Continue {
    revision: Revision,
    after: String,
}

impl Continue {
    fn read(text: &str) -> Result<Self> {
        let bad = || Failure::bad_request("continue key is not valid: the token is not one of this server's");
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| bad())?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|_| bad())?;
        let after = value["after"].as_str().ok_or_else(bad)?.to_owned();
        Ok(Self { revision: value["rv"].as_u64().ok_or_else(bad)?, after })
    }

    fn write(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(json!({"rv": self.revision, "after": self.after}).to_string())
    }
}

/// `GET` of a collection.
pub async fn list(call: &Call<'_>) -> Result<Response<Body>> {
    let selection = Selection::read(call)?;
    let limit = call.query.number("limit")?.filter(|n| *n > 0).map(|n| n as usize);
    let (snapshot, after) = start(call).await?;
    let snapshot = call.seen(snapshot, None);
    let (page, meta) = page(call, &selection, &snapshot, after.as_deref(), limit).await;
    Ok(body::bytes_reply(200, "application/json", written(call, &page, &meta).await?.into()))
}

/// The objects of a list, and its metadata, which says where it goes on if it does.
async fn page<'s>(
    call: &Call<'_>,
    selection: &'s Selection,
    snapshot: &'s Snapshot,
    after: Option<&str>,
    limit: Option<usize>,
) -> (Vec<Entry<'s, KubeObject>>, Value) {
    let most = limit.map_or(usize::MAX, |limit| limit.saturating_add(1));
    let mut page: Vec<Entry<'_, KubeObject>> = Vec::new();
    let mut rest = 0;
    for (i, entry) in selection.candidates(call, snapshot, after).enumerate() {
        if i % LOOK == LOOK - 1 {
            tokio::task::yield_now().await;
        }
        match selection.matches(entry.value) {
            true if page.len() < most => page.push(entry),
            // Only lists of everything tell how much is left.
            true if selection.is_all() => rest += 1,
            true => break,
            false => {}
        }
    }
    let mut meta = json!({"resourceVersion": snapshot.revision().to_string()});
    if let Some(limit) = limit.filter(|limit| page.len() > *limit) {
        page.truncate(limit);
        let after = page.last().map_or(String::new(), |entry| entry.row.key.name.to_string());
        meta["continue"] = Continue { revision: snapshot.revision(), after }.write().into();
        if selection.is_all() {
            meta["remainingItemCount"] = (rest + 1).into();
        }
        call.kube.pools.pages.keep(&call.holder, snapshot);
    }
    (page, meta)
}

/// The rows that a list shows: the newest, those of a revision, or those that an earlier page began with.
async fn start(call: &Call<'_>) -> Result<(Snapshot, Option<String>)> {
    let asked = call.query.get("resourceVersion");
    let rule = call.query.get("resourceVersionMatch");
    if let Some(token) = call.query.get("continue") {
        if asked.is_some_and(|rv| rv != "0") {
            return Err(Failure::bad_request("specifying resource version is not allowed when using continue"));
        }
        let token = Continue::read(token)?;
        let snapshot = call.kube.pools.pages.at(token.revision, &call.kube.store).ok_or_else(|| {
            Failure::expired("The provided continue parameter is too old to display a consistent list result. You must start a new list without the continue parameter.")
        })?;
        return Ok((snapshot, Some(token.after)));
    }
    match (rule, asked) {
        (Some(_), None) => {
            Err(Failure::bad_request("resourceVersionMatch is forbidden unless resourceVersion is provided"))
        }
        (Some("Exact"), Some(text)) => {
            let wanted = revision(text)?;
            if wanted == 0 {
                return Err(Failure::bad_request(
                    "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
                ));
            }
            let newest = call.kube.reach(wanted).await?;
            let exact = if newest.revision() == wanted {
                Some(newest)
            } else {
                call.kube.pools.pages.at(wanted, &call.kube.store)
            };
            let old = || Failure::expired(format!("The resourceVersion for the provided list is too old: {wanted}"));
            Ok((exact.ok_or_else(old)?, None))
        }
        (None | Some("NotOlderThan"), _) => Ok((call.rows().await?, None)),
        (Some(other), _) => Err(Failure::bad_request(format!("resourceVersionMatch: Unsupported value: {other:?}"))),
    }
}

/// How many bytes are written before others get their turn: they take some milliseconds.
pub const TURN: usize = 256 << 10;

/// By the length of so many objects the length of a list is guessed.
const SAMPLE: usize = 16;
/// The most bytes for which room is taken before they are there.
const MOST_AT_ONCE: usize = 16 << 20;

/// How many objects are looked at before others get their turn.
const LOOK: usize = 1024;

async fn written(call: &Call<'_>, page: &[Entry<'_, KubeObject>], meta: &Value) -> Result<Vec<u8>> {
    let (kind, written) = (call.kind(), &call.kube.pools.written);
    let mut out = Vec::with_capacity(256 + page.len() * 512);
    let (head, tail) = match call.form {
        Form::Object => (json!({"kind": kind.list, "apiVersion": kind.api_version(), "metadata": meta}), "items"),
        Form::Metadata => {
            (json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": meta}), "items")
        }
        Form::Table => {
            let columns = table::columns(&kind.columns);
            (
                json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta, "columnDefinitions": columns}),
                "rows",
            )
        }
    };
    let fail = |e: serde_json::Error| {
        tracing::error!("a list could not be written: {e}");
        Failure::new(500, "InternalError", "Internal error occurred")
    };
    serde_json::to_writer(&mut out, &head).map_err(fail)?;
    out.pop();
    out.extend_from_slice(format!(",\"{tail}\":[").as_bytes());
    let include = Include::of(call);
    let mut turn = TURN;
    for (i, entry) in page.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        if out.len() >= turn {
            turn = out.len() + TURN;
            tokio::task::yield_now().await;
        }
        if i == SAMPLE {
            // The first need not be like the rest.
            out.reserve((out.len() / SAMPLE).saturating_mul(page.len() - SAMPLE).min(MOST_AT_ONCE));
        }
        let revision = entry.row.modified;
        let metadata = || written.metadata(entry.row, &table::partial(&entry.value.body, revision));
        match call.form {
            Form::Object => match view(kind, &entry.value.body) {
                Cow::Borrowed(body) => written.of(entry.row, body).map(|bytes| out.extend_from_slice(&bytes)),
                Cow::Owned(body) => serde_json::to_writer(&mut out, &Shown { body: &body, revision }),
            },
            Form::Metadata => metadata().map(|bytes| out.extend_from_slice(&bytes)),
            Form::Table => {
                let row = TableRow { object: entry.value, revision, columns: &kind.columns, include, now: call.now };
                row.write(&mut out, metadata)
            }
        }
        .map_err(fail)?;
    }
    out.extend_from_slice(b"]}");
    Ok(out)
}
