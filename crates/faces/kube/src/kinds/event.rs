//! Events: one set of objects under two groups. They are stored in the core group's form; `events.k8s.io` is a view.

use model::Time;
use serde_json::{Map, Value};

use super::{Column, Strategy, column, count, since, wide};
use crate::validate::{Errors, NameRule};

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

/// An event in the new form as the core form, or the other way round.
pub fn convert(event: &mut Value, to_core: bool) {
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

    fn selectable(&self) -> &'static [&'static str] {
        &[
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
        ]
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, event: &Value, now: Time) -> Vec<Value> {
        cells(event, now)
    }
}

impl Strategy for NewEvent {
    fn default(&self, event: &mut Value) {
        Event.default(event);
    }

    fn validate(&self, event: &Value, errors: &mut Errors) {
        Event.validate(event, errors);
    }

    fn selectable(&self) -> &'static [&'static str] {
        Event.selectable()
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, event: &Value, now: Time) -> Vec<Value> {
        cells(event, now)
    }
}

const COLUMNS: &[Column] = &[
    column("Last Seen"),
    column("Type"),
    column("Reason"),
    column("Object"),
    wide("Subobject"),
    wide("Source"),
    column("Message"),
    wide("First Seen"),
    Column { wide: true, ..count("Count") },
    wide("Name"),
];

fn cells(event: &Value, now: Time) -> Vec<Value> {
    let involved = &event["involvedObject"];
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let first = if event["firstTimestamp"].is_string() { &event["firstTimestamp"] } else { &event["eventTime"] };
    let last =
        [&event["series"]["lastObservedTime"], &event["lastTimestamp"], first].into_iter().find(|t| t.is_string());
    let source = match (event["source"]["component"].as_str(), event["source"]["host"].as_str()) {
        (Some(component), Some(host)) if !host.is_empty() => format!("{component}, {host}"),
        (Some(component), _) => component.to_owned(),
        _ => text(&event["reportingComponent"]),
    };
    let number = event["series"]["count"].as_i64().or(event["count"].as_i64()).unwrap_or(1);
    vec![
        since(last.unwrap_or(&Value::Null), now).into(),
        text(&event["type"]).into(),
        text(&event["reason"]).into(),
        format!("{}/{}", text(&involved["kind"]).to_lowercase(), text(&involved["name"])).into(),
        text(&involved["fieldPath"]).into(),
        source.into(),
        text(&event["message"]).trim().to_owned().into(),
        since(first, now).into(),
        number.into(),
        event["metadata"]["name"].clone(),
    ]
}
