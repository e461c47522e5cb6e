//! Events: one set of objects under two groups. They are stored in the core group's form; `events.k8s.io` is a view.

use k8s_openapi::api::{core, events};
use serde_json::{Map, Value};

use crate::kind::{
    ApiResource,
    Given::{Read, View},
};
use crate::strategy::{Column, Strategy, column, count, since, wide};
use crate::validate::{Errors, NameRule};

/// Why events have no table.
const SAID: &str = "said, not acted on";

pub fn kind() -> ApiResource {
    ApiResource::of::<core::v1::Event>(Event).short("ev").given(View).no_table(SAID)
}

pub fn new_kind() -> ApiResource {
    ApiResource::of::<events::v1::Event>(NewEvent).short("ev").stored("", "events", "v1").given(Read).no_table(SAID)
}

pub struct Event;

/// The same, as `events.k8s.io/v1`.
pub struct NewEvent;

/// Fields that have another name in the new form: core's, then the new one.
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// Fields that events are selected by.
const SELECTABLE: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

/// An event in the new form as the core form, or the other way round.
fn convert(event: &mut Value, to_core: bool) {
    let Some(map) = event.as_object_mut() else { return };
    for (core, new) in RENAMED {
        let (from, to) = if to_core { (new, core) } else { (core, new) };
        if let Some(value) = map.remove(*from) {
            map.insert((*to).to_owned(), value);
        }
    }
    let version = if to_core { "v1" } else { "events.k8s.io/v1" };
    map.insert("apiVersion".to_owned(), version.into());
}

impl Strategy for Event {
    fn name_rule(&self) -> NameRule {
        NameRule::Subdomain
    }

    fn default(&self, event: &mut Value) {
        if let Some(map) = event.as_object_mut() {
            for (field, value) in [
                ("source", Value::Object(Map::new())),
                ("reportingComponent", "".into()),
                ("reportingInstance", "".into()),
            ] {
                map.entry(field).or_insert(value);
            }
        }
    }

    fn validate(&self, event: &Value, errors: &mut Errors) {
        let involved = &event["involvedObject"];
        let place = involved["namespace"].as_str().unwrap_or("");
        let namespace = event["metadata"]["namespace"].as_str().unwrap_or("");
        let fits = if place.is_empty() { matches!(namespace, "default" | "kube-system") } else { place == namespace };
        if !fits {
            errors.invalid("involvedObject.namespace", &involved["namespace"], "does not match event.namespace");
        }
    }

    fn selectable(&self) -> Vec<&str> {
        SELECTABLE.to_vec()
    }

    fn columns(&self) -> Vec<Column> {
        columns()
    }
}

impl Strategy for NewEvent {
    fn default(&self, event: &mut Value) {
        Event.default(event);
    }

    fn validate(&self, event: &Value, errors: &mut Errors) {
        Event.validate(event, errors);
    }

    fn selectable(&self) -> Vec<&str> {
        SELECTABLE.to_vec()
    }

    fn shown(&self, body: &Value) -> Option<Value> {
        let mut shown = body.clone();
        convert(&mut shown, false);
        Some(shown)
    }

    fn store(&self, body: &mut Value) {
        convert(body, true);
    }

    fn columns(&self) -> Vec<Column> {
        columns()
    }
}

fn columns() -> Vec<Column> {
    vec![
        column("Last Seen", |event, now| since(last(event), now).into()),
        column("Type", |event, _| text(&event["type"]).into()),
        column("Reason", |event, _| text(&event["reason"]).into()),
        column("Object", |event, _| {
            let involved = &event["involvedObject"];
            format!("{}/{}", text(&involved["kind"]).to_lowercase(), text(&involved["name"])).into()
        }),
        wide("Subobject", |event, _| text(&event["involvedObject"]["fieldPath"]).into()),
        wide("Source", |event, _| source(event).into()),
        column("Message", |event, _| text(&event["message"]).trim().into()),
        wide("First Seen", |event, now| since(first(event), now).into()),
        Column {
            priority: 1,
            ..count("Count", |event, _| {
                event["series"]["count"].as_i64().or(event["count"].as_i64()).unwrap_or(1).into()
            })
        },
        wide("Name", |event, _| event["metadata"]["name"].clone()),
    ]
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

fn first(event: &Value) -> &Value {
    if event["firstTimestamp"].is_string() { &event["firstTimestamp"] } else { &event["eventTime"] }
}

fn last(event: &Value) -> &Value {
    let all = [&event["series"]["lastObservedTime"], &event["lastTimestamp"], first(event)];
    all.into_iter().find(|t| t.is_string()).unwrap_or(&Value::Null)
}

fn source(event: &Value) -> String {
    match (event["source"]["component"].as_str(), event["source"]["host"].as_str()) {
        (Some(component), Some(host)) if !host.is_empty() => format!("{component}, {host}"),
        (Some(component), _) => component.to_owned(),
        _ => text(&event["reportingComponent"]).to_owned(),
    }
}
