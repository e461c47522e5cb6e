//! `/v2/metadefs/namespaces`: the namespaces themselves. One can be made with all that is in it.

use std::collections::HashSet;

use gate::{Ref, View};
use model::{Change, Fault, MetadefNamespace, Project, Snapshot, free_place};
use serde_json::{Map, Value, json};

use super::body::{self, Attributes, LONGEST_DESCRIPTION, LONGEST_NAME};
use super::pages::Paging;
use super::parts::{check_bounds, check_unprotected, find, of_path};
use super::{definitions, objects, properties, resource_types, tags};
use crate::call::{Call, Reply, escape};
use crate::image::fault::missing;
use crate::image::view::time;

const SCHEMA: &str = "namespace";

/// What a namespace says of itself.
const OWN: [&str; 6] = ["namespace", "display_name", "description", "visibility", "protected", "owner"];
/// What is in one.
const PARTS: [&str; 4] = ["resource_type_associations", "objects", "properties", "tags"];

/// Glance's own limits of a page.
const DEFAULT_LIMIT: usize = 25;
const MAX_LIMIT: usize = 1000;

const SORT_KEYS: [&str; 8] =
    ["created_at", "updated_at", "namespace", "display_name", "description", "visibility", "protected", "owner"];

fn href(name: &str) -> String {
    format!("/v2/metadefs/namespaces/{name}")
}

fn visibility(namespace: &MetadefNamespace) -> &'static str {
    if namespace.public { "public" } else { "private" }
}

/// Without what is in it.
fn own_view(namespace: &MetadefNamespace) -> Map<String, Value> {
    let optional = [("display_name", &namespace.display_name), ("description", &namespace.description)];
    let mut shown: Map<String, Value> =
        optional.into_iter().filter_map(|(name, text)| Some((name.to_owned(), json!(text.as_ref()?)))).collect();
    let rest = [
        ("namespace", json!(namespace.name)),
        ("visibility", json!(visibility(namespace))),
        ("protected", json!(namespace.protected)),
        ("owner", json!(namespace.project_id)),
        ("created_at", json!(time(namespace.created_at))),
        ("updated_at", json!(time(namespace.updated_at))),
        ("self", json!(href(&namespace.name))),
        ("schema", json!("/v2/schemas/metadefs/namespace")),
    ];
    shown.extend(rest.map(|(name, value)| (name.to_owned(), value)));
    shown
}

/// With its resource types, if there are any: as it stands in a list.
fn brief(namespace: &MetadefNamespace) -> Map<String, Value> {
    let mut shown = own_view(namespace);
    if !namespace.resource_types.is_empty() {
        shown.insert("resource_type_associations".into(), json!(resource_types::views(namespace)));
    }
    shown
}

/// With all that is in it; names of properties as they are on things before whose properties `prefix` stands.
fn whole(namespace: &MetadefNamespace, prefix: &str) -> Value {
    let mut shown = brief(namespace);
    if !namespace.objects.is_empty() {
        let objects =
            namespace.objects.iter().map(|(name, object)| objects::view(&namespace.name, name, object, prefix));
        shown.insert("objects".into(), objects.collect());
    }
    if !namespace.properties.is_empty() {
        shown.insert("properties".into(), properties::by_name(&namespace.properties, prefix));
    }
    if !namespace.tags.is_empty() {
        let tags = namespace.tags.keys().map(|name| json!({"name": name}));
        shown.insert("tags".into(), tags.collect());
    }
    Value::Object(shown)
}

/// `GET /v2/metadefs/namespaces`
pub async fn index(call: Call) -> Result<Reply, Fault> {
    let page = Paging::of(&call, &SORT_KEYS, &["visibility", "resource_types"], 0)?;
    let page = page.bounded(DEFAULT_LIMIT, MAX_LIMIT);
    let shown = match call.query("visibility").filter(|text| !text.is_empty()) {
        None => None,
        Some(text @ ("public" | "private")) => Some(text),
        Some(other) => return Err(Fault::Invalid(format!("Invalid visibility value: {other}"))),
    };
    let types: Option<HashSet<&str>> = call.query("resource_types").map(|list| list.split(',').collect());
    let view = View::new(&call.snapshot, call.who()?);
    let wanted = |namespace: &MetadefNamespace| {
        shown.is_none_or(|shown| shown == visibility(namespace))
            && types
                .as_ref()
                .is_none_or(|types| namespace.resource_types.keys().any(|name| types.contains(name.as_str())))
    };
    let all = view.all::<MetadefNamespace>().map(|entry| entry.value).filter(|namespace| wanted(namespace)).collect();
    let key = |namespace: &&MetadefNamespace| {
        let key = match page.key {
            "created_at" => namespace.created_at.into(),
            "updated_at" => namespace.updated_at.into(),
            "display_name" => namespace.display_name.as_deref().unwrap_or_default().into(),
            "description" => namespace.description.as_deref().unwrap_or_default().into(),
            "visibility" => visibility(namespace).into(),
            "protected" => if namespace.protected { "1" } else { "0" }.into(),
            "owner" => namespace.project_id.as_str().into(),
            _ => namespace.name.as_str().into(),
        };
        (key, namespace.created_at, namespace.name.clone())
    };
    let found = page.cut(all, key, |name| missing(format!("Metadata definition namespace={name} was not found.")))?;
    let pairs = call.query.iter().filter(|(name, _)| name != "marker");
    let mut query: Vec<String> = pairs.map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
    let link = |query: &[String]| match query {
        [] => "/v2/metadefs/namespaces".to_owned(),
        query => format!("/v2/metadefs/namespaces?{}", query.join("&")),
    };
    let shown: Vec<_> = found.iter().map(|namespace| brief(namespace)).collect();
    let mut answer = json!({"namespaces": shown, "first": link(&query), "schema": "/v2/schemas/metadefs/namespaces"});
    if let Some(last) = found.last().filter(|_| Some(found.len()) == page.limit) {
        query.push(format!("marker={}", escape(&last.name)));
        answer["next"] = json!(link(&query));
    }
    Ok(Reply::ok(answer))
}

/// `GET /v2/metadefs/namespaces/{namespace}`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    if let Some((name, _)) = call.query.iter().find(|(name, _)| name != "resource_type") {
        return Err(Fault::Invalid(format!("There is no parameter '{name}' for a namespace.")));
    }
    let namespace = of_path(&call)?;
    let kind = call.query("resource_type").and_then(|name| namespace.resource_types.get(name));
    let prefix = kind.and_then(|kind| kind.prefix.as_deref()).unwrap_or_default();
    Ok(Reply::ok(whole(&namespace, prefix)))
}

/// What a namespace shall say of itself.
struct Wanted {
    name: String,
    display_name: Option<String>,
    description: Option<String>,
    public: Option<bool>,
    protected: Option<bool>,
    owner: Option<Ref<Project>>,
}

impl Wanted {
    fn of(body: &Attributes<'_>) -> Result<Self, Fault> {
        let public = match body.text("visibility", LONGEST_NAME)?.as_deref() {
            None => None,
            Some("private") => Some(false),
            Some("public") => Some(true),
            Some(_) => return Err(body.wrong("visibility", "one of ['public', 'private']")),
        };
        Ok(Self {
            name: body.name("namespace")?,
            display_name: body.text("display_name", LONGEST_NAME)?,
            description: body.text("description", LONGEST_DESCRIPTION)?,
            public,
            protected: body.flag("protected")?,
            owner: body.text("owner", 255)?.map(|id| Ref::sent(&id)),
        })
    }

    /// The project that is named as the owner.
    fn owner(&self, call: &Call, snapshot: &Snapshot) -> Result<Option<String>, Fault> {
        let Some(owner) = &self.owner else { return Ok(None) };
        let project = View::new(snapshot, call.who()?).refer(owner);
        project
            .map(|project| Some(project.id.clone()))
            .map_err(|_| Fault::Invalid(format!("There is no project {} to own the namespace.", owner.named())))
    }
}

/// `POST /v2/metadefs/namespaces`
pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let sent = body::read(&mut call).await?;
    let body = Attributes::of(SCHEMA, &sent, &[OWN.as_slice(), PARTS.as_slice()].concat())?;
    let wanted = Wanted::of(&body)?;
    let mut namespace = MetadefNamespace {
        project_id: match wanted.owner(&call, &call.snapshot)? {
            Some(owner) => owner,
            None => call.who()?.project()?.to_owned(),
        },
        name: wanted.name,
        display_name: wanted.display_name,
        description: wanted.description,
        public: wanted.public.unwrap_or(false),
        protected: wanted.protected.unwrap_or(false),
        resource_types: Default::default(),
        objects: Default::default(),
        properties: definitions::all(&body)?.collect::<Result<_, _>>()?,
        tags: Default::default(),
        place: 0,
        created_at: call.now,
        updated_at: call.now,
    };
    for value in body.list("resource_type_associations")? {
        resource_types::add(&mut namespace, value, call.now)?;
    }
    for value in body.list("objects")? {
        objects::add(&mut namespace, value, call.now)?;
    }
    for value in body.list("tags")? {
        tags::add(&mut namespace, &tags::name_of(value)?, call.now)?;
    }
    check_bounds(&namespace)?;
    let created = call.cloud.store.transact(|snapshot| {
        check_free(snapshot, &namespace.name)?;
        let taken = snapshot.all::<MetadefNamespace>().map(|other| other.place);
        let place = free_place(taken, MetadefNamespace::MOST).ok_or_else(|| {
            let most = MetadefNamespace::MOST;
            Fault::TooLarge(format!("There are {most} metadata definition namespaces, the most there may be."))
        })?;
        Ok((Change::from(MetadefNamespace { place, ..namespace.clone() }), ()))
    });
    created.await?;
    let location = call.url(&href(&namespace.name));
    Ok(Reply::json(201, &whole(&namespace, "")).with("location", &location))
}

/// Names are those of the whole cloud, so one that the caller does not see is taken, too.
fn check_free(snapshot: &Snapshot, name: &str) -> Result<(), Fault> {
    match snapshot.get::<MetadefNamespace>(name) {
        Some(_) => Err(Fault::Conflict(format!("The metadata definition namespace={name} already exists."))),
        None => Ok(()),
    }
}

/// `PUT /v2/metadefs/namespaces/{namespace}`: texts that are not said are taken away. Of owner, visibility
/// and protection the client says only what it changes: who unlocks a namespace for a moment hides it from nobody.
pub async fn update(mut call: Call) -> Result<Reply, Fault> {
    let sent = body::read(&mut call).await?;
    if let Some(part) = PARTS.iter().find(|part| sent.get(**part).is_some()) {
        return Err(Fault::Invalid(format!("'{part}' of a namespace is changed by requests of its own, not with it.")));
    }
    let wanted = Wanted::of(&Attributes::of(SCHEMA, &sent, &OWN)?)?;
    let updated = call.cloud.store.transact(|snapshot| {
        let entry = find(snapshot, call.who()?, call.param("namespace"))?;
        if wanted.name != entry.name {
            check_free(snapshot, &wanted.name)?;
        }
        let namespace = MetadefNamespace {
            project_id: wanted.owner(&call, snapshot)?.unwrap_or_else(|| entry.project_id.clone()),
            name: wanted.name.clone(),
            display_name: wanted.display_name.clone(),
            description: wanted.description.clone(),
            public: wanted.public.unwrap_or(entry.public),
            protected: wanted.protected.unwrap_or(entry.protected),
            updated_at: call.now,
            ..entry.value.clone()
        };
        check_bounds(&namespace)?;
        let mut change = Change::new();
        if (&namespace.name, &namespace.project_id) == (&entry.name, &entry.project_id) {
            change.update(entry, namespace.clone());
        } else {
            change.delete(entry).create(namespace.clone());
        }
        Ok((change, namespace))
    });
    Ok(Reply::ok(Value::Object(own_view(&updated.await?))))
}

/// `DELETE /v2/metadefs/namespaces/{namespace}`
pub async fn delete(call: Call) -> Result<Reply, Fault> {
    let deleted = call.cloud.store.transact(|snapshot| {
        let entry = find(snapshot, call.who()?, call.param("namespace"))?;
        check_unprotected(entry.value, "namespace", &entry.name)?;
        let mut change = Change::new();
        change.delete(entry);
        Ok((change, ()))
    });
    deleted.await?;
    Ok(Reply::empty(204))
}
