//! Events of the Kubernetes API, written by planners and agents for people who ask what became of an object. They travel
//! in the commit that is made anyway where there is one, are counted instead of repeated, bounded for each object, and
//! removed after a while (`plan::kube::event`). Nothing is decided by them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Change, Entry, KubeObject, Realm, Snapshot, Time, derived_id, seconds};

/// The most events that are kept about one object; a new one takes the place of the oldest.
const MOST: usize = 30;
/// The same event is not counted more often than this.
const REPEAT_SECONDS: i64 = 20;

/// Something worth telling about an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct News {
    /// One word: `Scheduled`.
    pub reason: Cow<'static, str>,
    pub message: String,
    /// Something is not as it should be.
    pub warning: bool,
    /// Who says so: `deployment-controller`.
    pub component: Cow<'static, str>,
    /// The host where it happened; empty: none.
    pub host: String,
    /// The part that it is about: `spec.containers{web}`; empty: all.
    pub part: String,
}

impl News {
    /// Good news of a controller.
    pub fn new(
        component: impl Into<Cow<'static, str>>,
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        let (host, part) = (String::new(), String::new());
        let (component, reason) = (component.into(), reason.into());
        Self { reason, message: message.into(), warning: false, component, host, part }
    }

    pub fn warning(self) -> Self {
        Self { warning: true, ..self }
    }

    /// It is about a part of the object.
    pub fn about(self, part: String) -> Self {
        Self { part, ..self }
    }
}

/// Adds events about an object to a change. Each must be told once in a change.
pub fn tell(change: &mut Change, snapshot: &Snapshot, about: &KubeObject, all: &[News], now: Time) {
    if all.is_empty() {
        return;
    }
    let space = KubeObject::key_of(&about.cluster_id, "", "namespaces", "", place(about));
    if snapshot.at::<KubeObject>(&space).is_none_or(|space| space.deleting()) {
        return;
    }
    let realm = Realm::cluster(&about.cluster_id);
    let prefix = format!("{}{}.", KubeObject::prefix("", "events", place(about)), about.name);
    let mut known: Vec<Entry<'_, KubeObject>> = snapshot
        .names::<KubeObject>(&realm, &prefix, None)
        .filter(|event| event.body["involvedObject"]["uid"] == about.uid())
        .collect();
    known.sort_by_key(|event| event.row.modified);
    let mut spare = (known.len() + all.len()).saturating_sub(MOST);
    let mut oldest = known.iter().copied();
    for news in all {
        let name = name(about, news);
        match known.iter().find(|event| event.name == name) {
            Some(event) => count(change, *event, now),
            None => {
                change.create(event(about, name, news, now));
                while spare > 0
                    && let Some(old) = oldest.next()
                {
                    spare -= 1;
                    if !all.iter().any(|n| self::name(about, n) == old.name) {
                        change.delete(old);
                    }
                }
            }
        }
    }
}

/// Events about what has no namespace lie in `default`.
fn place(about: &KubeObject) -> &str {
    if about.namespace.is_empty() { "default" } else { &about.namespace }
}

fn name(about: &KubeObject, news: &News) -> String {
    let parts = [about.uid(), &*news.component, &*news.reason, &news.part, &news.message];
    let id = derived_id(&parts).replace('-', "");
    format!("{}.{}", about.name, id.get(..16).unwrap_or(&id))
}

fn count(change: &mut Change, event: Entry<'_, KubeObject>, now: Time) {
    let last = event.body["lastTimestamp"].as_str().and_then(|t| t.parse::<Time>().ok());
    if last.is_some_and(|last| now.as_second() - last.as_second() < REPEAT_SECONDS) {
        return;
    }
    change.edit(event, |event| {
        event.body["count"] = (event.body["count"].as_u64().unwrap_or(1) + 1).into();
        event.body["lastTimestamp"] = seconds(now).into();
    });
}

fn event(about: &KubeObject, name: String, news: &News, now: Time) -> KubeObject {
    let place = place(about);
    let mut involved = json!({
        "kind": about.body["kind"], "apiVersion": about.body["apiVersion"], "name": about.name, "uid": about.uid(),
    });
    if !about.namespace.is_empty() {
        involved["namespace"] = about.namespace.as_str().into();
    }
    if !news.part.is_empty() {
        involved["fieldPath"] = news.part.as_str().into();
    }
    let mut source = json!({"component": news.component});
    if !news.host.is_empty() {
        source["host"] = news.host.as_str().into();
    }
    let when = seconds(now);
    let body = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {
            "name": name, "namespace": place, "creationTimestamp": when,
            "uid": derived_id(&["event", about.uid(), &name, &when]),
        },
        "involvedObject": involved, "reason": news.reason, "message": clipped(&news.message), "source": source,
        "type": if news.warning { "Warning" } else { "Normal" }, "count": 1,
        "firstTimestamp": when, "lastTimestamp": when, "eventTime": Value::Null,
        "reportingComponent": news.component, "reportingInstance": news.host,
    });
    KubeObject {
        cluster_id: about.cluster_id.clone(),
        project_id: about.project_id.clone(),
        group: String::new(),
        resource: "events".into(),
        namespace: place.to_owned(),
        name,
        body,
    }
}

/// Messages have at most 1024 characters, as in the API.
fn clipped(message: &str) -> String {
    message.chars().take(1024).collect()
}

/// When an event was last told, for whoever removes old ones; `None` if it does not say.
pub fn last_told(event: &KubeObject) -> Option<Time> {
    let body = &event.body;
    let moments = [&body["series"]["lastObservedTime"], &body["lastTimestamp"], &body["eventTime"]];
    let created = &body["metadata"]["creationTimestamp"];
    moments.into_iter().chain([created]).filter_map(|t| t.as_str()?.parse().ok()).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(resource: &str, namespace: &str, name: &str) -> KubeObject {
        KubeObject {
            cluster_id: "c".into(),
            project_id: String::new(),
            group: String::new(),
            resource: resource.into(),
            namespace: namespace.into(),
            name: name.into(),
            body: json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"uid": format!("uid-{name}")}}),
        }
    }

    fn apply(snapshot: &mut Snapshot, change: &Change) {
        assert!(snapshot.prepare(change).is_ok());
        let revision = snapshot.revision() + 1;
        snapshot.apply(revision, &change.writes);
    }

    #[test]
    fn events_are_counted_and_bounded() {
        let (mut snapshot, pod) = (Snapshot::default(), object("pods", "n", "p"));
        let mut change = Change::new();
        change.create(object("namespaces", "", "n")).create(pod.clone());
        apply(&mut snapshot, &change);
        let at = |s: i64| Time::from_second(1_000_000 + s).expect("a moment");
        let write = |snapshot: &mut Snapshot, message: String, now: Time| -> bool {
            let mut change = Change::new();
            tell(&mut change, snapshot, &pod, &[News::new("test", "Tested", message)], now);
            apply(snapshot, &change);
            !change.is_empty()
        };
        assert!(write(&mut snapshot, "a".into(), at(0)));
        assert!(!write(&mut snapshot, "a".into(), at(1)), "told a moment ago");
        assert!(write(&mut snapshot, "a".into(), at(60)));
        let events = |snapshot: &Snapshot| -> Vec<KubeObject> {
            snapshot.all::<KubeObject>().filter(|o| o.resource == "events").map(|o| o.value.clone()).collect()
        };
        assert_eq!(events(&snapshot)[0].body["count"], 2);
        assert_eq!(last_told(&events(&snapshot)[0]), Some(at(60)));
        for n in 0..2 * MOST {
            assert!(write(&mut snapshot, format!("message {n}"), at(60)));
        }
        assert_eq!(events(&snapshot).len(), MOST);
        assert!(!events(&snapshot).iter().any(|e| e.body["message"] == "a"), "the oldest went");
    }
}
