//! What the walks over the tables of endpoints have in common.
#![allow(dead_code, reason = "each walk uses its own part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use face_openstack::SERVICES;
use face_openstack::dispatch::Served;
use face_openstack::service::Endpoint;
use face_openstack::service::Service;
use model::Kind;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::common::Harness;
use crate::rows;

/// What a service's folder says for the walks, in `walk.json`: a new service brings its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Walk {
    /// Of what kind of row a part of a path is that follows such a part.
    names: BTreeMap<String, Kind>,
    /// Requests that give a project something of each kind, in this order.
    makes: Vec<Make>,
    /// Endpoints to which members send bodies of which nothing is declared, and why no id in these could be somebody else's.
    pub without_ids: BTreeMap<String, String>,
    /// The least that a creation takes, by its path, where more is needed than what is declared to be required. `#network` is the id
    /// of one of the caller's own.
    #[serde(default)]
    pub least: BTreeMap<String, Map<String, Value>>,
    /// How paths begin that lead to something special.
    #[serde(default)]
    paths: BTreeMap<String, String>,
    /// What is tried instead of a property alone: `subnet.subnetpool_id`. `$network` is the id that is tried.
    #[serde(default)]
    pub instead: BTreeMap<String, Map<String, Value>>,
    /// Properties whose ids are nobody's secret or are looked up elsewhere, and how so.
    #[serde(default)]
    pub untried: BTreeMap<String, String>,
    /// Requests with ids of which no declaration says: deeper in bodies, several at once.
    #[serde(default)]
    pub carries: Vec<Carries>,
    /// Lists that are filtered by ids.
    #[serde(default)]
    pub queries: Vec<String>,
    /// Why none of its bodies is tried.
    pub elsewhere: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Carries {
    pub method: String,
    /// Below the service's prefix.
    pub path: String,
    pub body: Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Make {
    /// Below the service's prefix.
    path: String,
    /// `admin`, or else a member of the project.
    #[serde(default)]
    by: String,
    /// `$network` is the id of the network that was made before.
    body: Value,
}

impl Walk {
    pub fn of(service: &Service) -> Self {
        let folder = service.prefix.trim_start_matches('/').replace('-', "_");
        let file = format!("{}/src/{folder}/walk.json", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file}: {e}"));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{file}: {e}"))
    }

    /// A path with ids of the caller's own in it.
    pub fn own(&self, path: &str) -> String {
        let mut path = path.to_owned();
        for (from, to) in &self.paths {
            path = path.replace(from, to);
        }
        let mut collection = "";
        let parts = path.split('/').map(|part| {
            let kind = part.starts_with('{').then(|| kind_of(collection)).flatten();
            collection = part;
            kind.map_or(part.to_owned(), |kind| format!("#{}", kind.as_str()))
        });
        parts.collect::<Vec<_>>().join("/")
    }

    /// The kinds of rows that paths name.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> {
        self.names.values().copied()
    }
}

fn walks() -> impl Iterator<Item = (&'static Service, Walk)> {
    SERVICES.iter().map(|service| (*service, Walk::of(service)))
}

static NAMES: LazyLock<BTreeMap<String, Kind>> = LazyLock::new(|| walks().flat_map(|(_, walk)| walk.names).collect());

/// The names under which resources stand in bodies.
pub static RESOURCES: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let mut names = BTreeSet::new();
    for (_, walk) in walks() {
        names.extend(walk.kinds().map(|kind| kind.as_str().replace('-', "_")));
        names.extend(walk.makes.iter().filter_map(|make| make.body.as_object()?.keys().next().cloned()));
    }
    names
});

/// What a part of a path in a collection names.
pub fn kind_of(collection: &str) -> Option<Kind> {
    NAMES.get(collection).copied()
}

/// Puts ids where they are named.
fn fill(value: &mut Value, ids: &BTreeMap<String, String>) {
    match value {
        Value::String(text) => {
            if let Some(id) = ids.get(text) {
                text.clone_from(id);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, ids)),
        Value::Object(fields) => fields.values_mut().for_each(|field| fill(field, ids)),
        _ => {}
    }
}

/// Something of each kind that a project can have.
pub async fn fill_project(cloud: &Harness) {
    let rows = rows::Rows::new(cloud).await;
    let mut ids = BTreeMap::from([
        ("$project".to_owned(), cloud.demo_project.clone()),
        ("$image".to_owned(), rows.image.clone()),
        ("$small".to_owned(), rows.small.clone()),
    ]);
    for (service, walk) in walks() {
        for make in walk.makes {
            let mut body = make.body;
            fill(&mut body, &ids);
            let token = if make.by == "admin" { &cloud.admin } else { &cloud.demo };
            let (_, _, answer) = cloud.ok("POST", &format!("{}{}", service.prefix, make.path), token, body).await;
            for (one, made) in answer.as_object().into_iter().flatten() {
                ids.extend(made["id"].as_str().map(|id| (format!("${one}"), id.to_owned())));
            }
        }
    }
    rows.place(cloud, &ids["$server"], "node1", model::VmPhase::Running).await;
}

/// The header that asks for a version in which the endpoint exists.
pub fn version_for(service: &Served, endpoint: &Endpoint) -> Vec<(&'static str, String)> {
    let Some(versions) = &service.microversions else { return Vec::new() };
    let (major, minor) = endpoint.since.max(versions.min).min(versions.max);
    vec![("openstack-api-version", format!("{} {major}.{minor}", versions.name))]
}
