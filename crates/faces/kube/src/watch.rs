//! Watch: what is there, if asked for, then every change in order, as lines of JSON.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::Response;
use model::{Cluster, Committed, Event, Fault, Key, Kind, KubeObject, Realm, Resource, Revision, Row, Time};
use serde::Serialize;
use serde_json::json;
use store::{Interest, Watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

use crate::authz::{self, Attributes};
use crate::body::{self, Shown};
use crate::call::{Call, Form, revision, view};
use crate::entrance::{Admitted, Entrance};
use crate::fault::{Failure, Result};
use crate::kind::ApiResource;
use crate::kube::Kube;
use crate::past::Past;
use crate::shares::{Held, Holder};
use crate::strategy::Column;
use crate::table::{self, Include, OneRow, TableRow};
use crate::verbs::get::{Selection, TURN};

/// How often a quiet watch says how far it is, and whether its credential is still good is looked at.
const TICK: Duration = Duration::from_secs(30);

/// How long a watch lasts that does not say.
const DEFAULT_SECONDS: u64 = 1800;

/// The annotation that ends the objects that were there.
const INITIAL_END: &str = "k8s.io/initial-events-end";

struct Stream {
    kube: Kube,
    entrance: Entrance,
    kind: Arc<ApiResource>,
    cluster_id: String,
    namespace: String,
    name: String,
    realm: Realm,
    form: Form,
    include: Include,
    selection: Selection,
    bookmarks: bool,
    /// The columns were told.
    told: bool,
    watch: Watch,
    /// Of a kind that is made of other rows: these as they were.
    past: Option<Past>,
    /// What was there at the beginning and has not been told yet, and the bookmark that ends it.
    initial: Initial,
    initial_end: Option<Revision>,
    /// A commit and how many of its events have been told.
    current: Option<(Arc<Committed>, usize)>,
    /// What is to be sent, each with its events.
    ready: VecDeque<Bytes>,
    holder: Holder,
    /// The room that the bytes take which the client has not taken yet.
    held: Option<Held>,
    tick: Interval,
    end: Instant,
    finished: bool,
    _seat: Held,
}

/// A watch of a collection or an object.
pub async fn watch(call: &Call<'_>) -> Result<Response<Body>> {
    let selection = Selection::read(call)?;
    let seat = call
        .kube
        .pools
        .watches
        .try_take(&call.holder)
        .ok_or_else(|| Failure::too_many("too many watches are open; close some first".to_owned()))?;
    let asked = call.query.get("resourceVersion").unwrap_or("");
    let bookmarks = call.query.flag("allowWatchBookmarks");
    let initial = initial_events(call, asked)?;
    let snapshot = call.snapshot().await?;
    let from = if initial { snapshot.revision() } else { revision(asked)? };
    let seconds = call.query.number("timeoutSeconds")?.filter(|s| *s > 0).unwrap_or(DEFAULT_SECONDS).min(86_400);
    let interest = match call.kind().strategy.derived() {
        Some(derived) => Interest::Concern(derived.news),
        None => Interest::Rows { kind: Kind::KubeObject, realm: Some(call.realm()), prefix: selection.prefix.clone() },
    };
    let derived = call.kind().strategy.derived();
    let past = |watch| {
        let past = derived.map(|derived| Past::new(&call.kube.store, derived.news, call.realm(), from)).transpose()?;
        Ok((watch, past))
    };
    let (watch, past) = match call.kube.store.watch_part(from, interest).and_then(past) {
        Ok(both) => both,
        Err(fault) => return Ok(response(stream::iter([Ok(failed(&expired(fault)))]))),
    };
    let mut tick = interval_at(Instant::now() + TICK, TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let initial_end = (initial && bookmarks && call.query.flag("sendInitialEvents")).then_some(from);
    let initial = match initial {
        true => Initial::of(selection.rows(call, &snapshot, None).map(|entry| entry.row.clone()).collect()),
        false => Initial::of(VecDeque::new()),
    };
    let state = Stream {
        kube: call.kube.clone(),
        entrance: call.entrance.clone(),
        kind: call.path.kind.clone(),
        cluster_id: call.cluster.id.clone(),
        namespace: call.path.namespace.to_owned(),
        name: call.path.name.to_owned(),
        realm: call.realm(),
        form: call.form,
        include: Include::of(call),
        selection,
        bookmarks,
        told: false,
        watch,
        past,
        initial,
        initial_end,
        current: None,
        ready: VecDeque::new(),
        holder: call.holder.clone(),
        held: None,
        tick,
        end: Instant::now() + Duration::from_secs(seconds),
        finished: false,
        _seat: seat,
    };
    Ok(response(stream::unfold(state, |mut state| async move {
        let bytes = state.next().await?;
        Some((Ok::<_, std::convert::Infallible>(bytes), state))
    })))
}

/// Whether the objects that are there come first.
fn initial_events(call: &Call<'_>, asked: &str) -> Result<bool> {
    let invalid = |why: &str| Failure::new(422, "Invalid", format!("ListOptions.meta.k8s.io \"\" is invalid: {why}"));
    let rule = call.query.get("resourceVersionMatch");
    match call.query.get("sendInitialEvents") {
        Some(_) if rule != Some("NotOlderThan") => Err(invalid(
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        )),
        Some("true") => Ok(true),
        Some(_) => Ok(false),
        None if rule.is_some() => Err(invalid(
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        )),
        None => Ok(matches!(asked, "" | "0")),
    }
}

fn response<S>(stream: S) -> Response<Body>
where
    S: futures_util::Stream<Item = std::result::Result<Bytes, std::convert::Infallible>> + Send + 'static,
{
    let mut response = body::bytes_reply(200, "application/json", Bytes::new());
    *response.body_mut() = Body::from_stream(stream);
    response
}

fn expired(fault: Fault) -> Failure {
    match fault {
        Fault::Expired(why) => Failure::expired(format!("too old resource version: {why}")),
        other => other.into(),
    }
}

fn failed(failure: &Failure) -> Bytes {
    line("ERROR", &failure.body())
}

#[derive(Serialize)]
struct Line<'a, T> {
    r#type: &'a str,
    object: &'a T,
}

/// The line of an object that is written already.
fn line_of(r#type: &str, object: &[u8]) -> Bytes {
    let head = format!("{{\"type\":\"{type}\",\"object\":");
    [head.as_bytes(), object, b"}\n"].concat().into()
}

fn line(r#type: &str, object: &impl Serialize) -> Bytes {
    let mut out = Vec::with_capacity(512);
    if let Err(e) = serde_json::to_writer(&mut out, &Line { r#type, object }) {
        tracing::error!("an event could not be written: {e}");
        return Bytes::new();
    }
    out.push(b'\n');
    out.into()
}

/// How long a client may take for nothing of what was there at the beginning: rows are kept in memory for it, though they
/// may have changed since.
const PATIENCE: Duration = Duration::from_secs(60);

/// The rows that were there when a watch began and have not been told. `None`: the client took too long.
#[derive(Clone)]
struct Initial(Arc<Mutex<Option<VecDeque<Arc<Row>>>>>);

impl Initial {
    fn of(rows: VecDeque<Arc<Row>>) -> Self {
        let initial = Self(Arc::new(Mutex::new(Some(rows))));
        if initial.left() > 0 {
            tokio::spawn(give_up(Arc::downgrade(&initial.0)));
        }
        initial
    }

    fn with<T>(&self, act: impl FnOnce(&mut Option<VecDeque<Arc<Row>>>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn left(&self) -> usize {
        self.with(|rows| rows.as_ref().map_or(0, VecDeque::len))
    }

    fn given_up(&self) -> bool {
        self.with(|rows| rows.is_none())
    }

    /// As many rows as make about so many bytes, at least one if there is one.
    fn next(&self, bytes: usize) -> Vec<Arc<Row>> {
        self.with(|rows| {
            let (mut some, mut sum) = (Vec::new(), 0);
            while let Some(row) = rows.as_mut().filter(|_| sum < bytes).and_then(VecDeque::pop_front) {
                sum += object(&row).map_or(0, |object| model::json_size(&object.body));
                some.push(row);
            }
            some
        })
    }
}

/// Lets go of the rows of a watch whose client takes none.
async fn give_up(rows: std::sync::Weak<Mutex<Option<VecDeque<Arc<Row>>>>>) {
    let mut before = usize::MAX;
    loop {
        tokio::time::sleep(PATIENCE).await;
        let Some(initial) = rows.upgrade().map(Initial) else { return };
        let left = initial.left();
        if left == 0 {
            return;
        }
        if left == before {
            initial.with(|rows| *rows = None);
            return;
        }
        before = left;
    }
}

impl Stream {
    /// The next bytes for the client; `None` ends the watch. It is asked for when the client took what it got before.
    async fn next(&mut self) -> Option<Bytes> {
        self.held = None;
        loop {
            if !self.ready.is_empty() {
                return Some(self.take());
            }
            if self.finished {
                return None;
            }
            match self.more().await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(fault) => {
                    self.fail(fault);
                    continue;
                }
            }
            tokio::select! {
                changed = self.watch.changed() => if let Err(fault) = changed {
                    self.fail(fault);
                },
                _ = self.tick.tick() => {
                    if !self.still_allowed().await {
                        return None;
                    }
                    if self.bookmarks {
                        let seen = self.watch.seen();
                        self.bookmark(seen, false);
                    }
                }
                _ = sleep_until(self.end) => {
                    self.finished = true;
                    if self.bookmarks {
                        let seen = self.watch.seen();
                        self.bookmark(seen, false);
                    }
                }
            }
        }
    }

    fn fail(&mut self, fault: Fault) {
        self.finished = true;
        self.ready.push_back(failed(&expired(fault)));
    }

    /// Makes a piece of what there is to tell ready; false if there is nothing. Others get their turn in between, and no more
    /// is made than the client takes.
    async fn more(&mut self) -> std::result::Result<bool, Fault> {
        if self.current.is_none() && self.initial.left() == 0 {
            if self.initial.given_up() {
                return Err(Fault::Expired("what was there was not read in time".to_owned()));
            }
            if let Some(revision) = self.initial_end.take() {
                self.bookmark(revision, true);
                return Ok(true);
            }
            let commit = self.watch.next_now()?;
            if let Some(past) = &mut self.past {
                if commit.is_none() {
                    past.forget();
                }
                // Now, since what was not looked at may be forgotten by the next time.
                past.newest()?;
            }
            let Some(commit) = commit else { return Ok(false) };
            self.current = Some((commit, 0));
        }
        if self.held.is_none() {
            self.held = self.kube.pools.ready.take(&self.holder, TURN >> 10).await;
        }
        if let Some((commit, told)) = self.current.take() {
            if told > 0 {
                tokio::task::yield_now().await;
            }
            self.commit(commit, told)?;
            return Ok(true);
        }
        tokio::task::yield_now().await;
        for row in self.initial.next(TURN) {
            self.event("ADDED", &row, row.modified);
        }
        Ok(true)
    }

    /// Everything that is ready, in one piece.
    fn take(&mut self) -> Bytes {
        if self.ready.len() == 1 {
            return self.ready.pop_front().unwrap_or_default();
        }
        let mut all = Vec::with_capacity(self.ready.iter().map(Bytes::len).sum());
        self.ready.drain(..).for_each(|bytes| all.extend_from_slice(&bytes));
        all.into()
    }

    /// Tells a commit's events, beginning behind those that were told; what is too much is told the next time.
    fn commit(&mut self, commit: Arc<Committed>, told: usize) -> std::result::Result<(), Fault> {
        let mut made = 0;
        for (i, event) in commit.events.iter().enumerate().skip(told) {
            if made >= TURN {
                self.current = Some((commit.clone(), i));
                return Ok(());
            }
            let Some([before, after]) = self.rows(event)? else { continue };
            let ours = |row: &&Row| object(row).is_some_and(|object| self.selection.matches(object));
            let (before, after) = (before.as_deref().filter(ours), after.as_deref().filter(ours));
            made += match (before, after) {
                (None, None) => 0,
                (None, Some(new)) => self.event("ADDED", new, commit.revision),
                (Some(_), Some(new)) => self.event("MODIFIED", new, commit.revision),
                // What left the selection is told as it was, what was deleted too.
                (Some(old), None) => self.event("DELETED", old, commit.revision),
            };
        }
        Ok(())
    }

    /// The row that an event is about, as it was and as it is, if that may be one that is watched.
    fn rows(&mut self, event: &Event) -> std::result::Result<Option<[Option<Arc<Row>>; 2]>, Fault> {
        let ours = |key: &Key| {
            key.kind == Kind::KubeObject && key.realm == self.realm && key.name.starts_with(&self.selection.prefix)
        };
        let (Some(derived), Some(past)) = (self.kind.strategy.derived(), &mut self.past) else {
            return Ok(ours(&event.key).then(|| [event.before.clone(), event.after.clone()]));
        };
        let newest = past.newest()?;
        let Some(cluster) = newest.get::<Cluster>(&self.cluster_id) else { return Ok(None) };
        let told = (derived.told)(&self.kube.store, cluster.value, event, &|key| past.row(&newest, key));
        past.pass(event);
        Ok(told.map(|turn| turn.map(|row| row.map(Arc::new))))
    }

    /// Makes an event ready; how many bytes it has.
    fn event(&mut self, r#type: &str, row: &Row, revision: Revision) -> usize {
        let Some(object) = object(row) else { return 0 };
        let bytes = match self.form {
            Form::Object => match view(&self.kind, &object.body) {
                Cow::Borrowed(body) if revision == row.modified => match self.kube.pools.written.of(row, body) {
                    Ok(bytes) => line_of(r#type, &bytes),
                    Err(_) => line(r#type, &Shown { body, revision }),
                },
                body => line(r#type, &Shown { body: &body, revision }),
            },
            Form::Metadata => {
                let shown = table::partial(&object.body, revision);
                let written = || self.kube.pools.written.metadata(row, &shown).ok();
                let written = (revision == row.modified).then(written).flatten();
                let anew = || line(r#type, &shown);
                written.map_or_else(anew, |bytes| line_of(r#type, &bytes))
            }
            Form::Table => {
                let told = std::mem::replace(&mut self.told, true);
                let columns = &self.kind.columns;
                let row = TableRow { object, revision, columns, include: self.include, now: Time::now() };
                line(r#type, &OneRow::new(row, !told))
            }
        };
        let length = bytes.len();
        self.ready.push_back(bytes);
        length
    }

    fn bookmark(&mut self, revision: Revision, initial_end: bool) {
        let mut meta = json!({"resourceVersion": revision.to_string()});
        if initial_end {
            meta["annotations"] = json!({INITIAL_END: "true"});
        }
        let object = match self.form {
            Form::Table => {
                let columns: &[Column] = if self.told { &[] } else { &self.kind.columns };
                let columns = table::columns(columns);
                self.told = true;
                let row = json!({"cells": [], "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta}});
                json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": revision.to_string()},
                    "columnDefinitions": columns, "rows": if initial_end { json!([row]) } else { json!([]) }})
            }
            Form::Metadata => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta})
            }
            Form::Object => json!({"kind": self.kind.kind, "apiVersion": self.kind.api_version(), "metadata": meta}),
        };
        self.ready.push_back(line("BOOKMARK", &object));
    }

    /// Whether the credential is good, whoever came in may still speak in that name, and that one still watch; what was revoked ends within a tick.
    async fn still_allowed(&mut self) -> bool {
        let Ok(Admitted { who, cluster, .. }) = self.entrance.enter(&self.kube, &self.cluster_id).await else {
            return false;
        };
        // A kind of the cluster's own may be another one now, or gone.
        let kinds = self.kube.kinds(&cluster);
        match kinds.find(&self.kind.group, &self.kind.version, &self.kind.plural) {
            Some(kind) => self.kind = kind.clone(),
            None => return false,
        }
        let what = Attributes {
            verb: "watch",
            group: &self.kind.group,
            resource: &self.kind.plural,
            namespace: &self.namespace,
            name: &self.name,
            ..Attributes::default()
        };
        authz::allowed(&self.kube.store.snapshot(), &cluster, &who, &what)
    }
}

fn object(row: &Row) -> Option<&KubeObject> {
    KubeObject::of(&row.object)
}
