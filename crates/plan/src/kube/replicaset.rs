//! ReplicaSets: as many pods of a template as asked for.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use jiff::SignedDuration;
use model::kube_event::{self, News};
use model::{Change, Entry, Event, Index, Key, KubeObject, Snapshot, Time};
use serde_json::{Value, json};

use super::adopt::adopt;
use super::{
    New, condition, controlled, controller, delete, holds, keys, number, seconds, selecting, set_status, suffix,
};
use crate::planner::{EVENTS, PODS, Plan, Planner, Rows, Seen, Touched, objects};

/// As whom it speaks in events.
const CONTROLLER: &str = "replicaset-controller";
/// The condition of a ReplicaSet that cannot make its pods.
pub(crate) const FAILURE: &str = "ReplicaFailure";

/// The most pods that one commit makes or removes.
const BATCH: usize = 100;

const SETS: Rows = Rows::Objects("apps", "replicasets");
const ACCOUNTS: Rows = Rows::Objects("", "serviceaccounts");

/// Makes and removes pods, and counts them into each ReplicaSet's status.
pub const PLANNER: Planner = Planner {
    name: "replicaset",
    reads: &[SETS, PODS, ACCOUNTS],
    writes: &[SETS, PODS, EVENTS],
    at_once: 64,
    items: |rows| keys(rows, "apps", "replicasets"),
    touched,
    plan,
};

fn touched(rows: &Snapshot, event: &Event, touched: &mut Touched) {
    for object in objects(event) {
        if object.is("apps", "replicasets") {
            touched.item(event.key.clone());
        } else if object.is("", "serviceaccounts") {
            touched.waiting();
        } else if object.controller().is_none() {
            touched.items(selecting(rows, object, "apps", "replicasets"));
        } else {
            touched.items(controller(object, "ReplicaSet", "apps", "replicasets"));
        }
    }
}

fn plan(seen: &Seen<'_>, items: &[Key], now: Time) -> Plan {
    let mut plan = Plan::default();
    for set in items.iter().filter_map(|key| seen.rows.at::<KubeObject>(key)) {
        one(&mut plan, seen.rows, set, now);
    }
    plan
}

fn one(plan: &mut Plan, snapshot: &Snapshot, set: Entry<'_, KubeObject>, now: Time) {
    let key = &set.row.key;
    if let Some(change) = adopt(snapshot, set, "", "pods") {
        return plan.step(key, change);
    }
    let pods: Vec<_> =
        controlled(snapshot, set.value, "", "pods").filter(|pod| !pod.deleting() && !pod.pod_finished()).collect();
    let wanted = number(&set.body["spec"]["replicas"], 1).max(0) as usize;
    let status = status(set.value, &pods, now);
    let settle = number(&set.body["spec"]["minReadySeconds"], 0);
    let settled = pods.iter().filter_map(|pod| settled(pod.value, settle)).filter(|at| *at > now).min();
    settled.into_iter().for_each(|at| plan.again(key, at));
    if set.deleting() || pods.len() == wanted {
        let mut change = Change::new();
        set_status(&mut change, set, status);
        return plan.step(key, change);
    }
    if pods.len() > wanted {
        let mut change = Change::new();
        let count = (pods.len() - wanted).min(BATCH);
        let gone = victims(snapshot, set.value, pods, count, now);
        gone.iter().for_each(|pod| delete(&mut change, *pod, now));
        let gone: Vec<&str> = gone.iter().map(|pod| pod.value.name.as_str()).collect();
        kube_event::tell(&mut change, snapshot, set.value, &told("SuccessfulDelete", "Deleted pod", &gone), now);
        claim(&mut change, set, status);
        return plan.step(key, change);
    }
    // If the batch is refused, because a quota has room for fewer, one at a time goes as far as it can.
    let missing = (wanted - pods.len()).min(BATCH);
    for count in if missing == 1 { vec![1] } else { vec![missing, 1] } {
        let mut change = Change::new();
        match new_pods(snapshot, set.value, count, now) {
            Ok(pods) => {
                let names: Vec<&str> = pods.iter().map(|pod| pod.name.as_str()).collect();
                kube_event::tell(
                    &mut change,
                    snapshot,
                    set.value,
                    &told("SuccessfulCreate", "Created pod", &names),
                    now,
                );
                for pod in pods {
                    change.create(pod);
                }
                claim(&mut change, set, status.clone());
            }
            Err(why) => {
                plan.waits(key);
                failed(&mut change, snapshot, set, &why, now);
                return plan.step(key, change);
            }
        }
        plan.step(key, change);
    }
}

/// So many pods by name; more are told as one.
const TOLD: usize = 5;

fn told(reason: &'static str, what: &str, names: &[&str]) -> Vec<News> {
    let (each, rest) = names.split_at(if names.len() > TOLD { TOLD - 1 } else { names.len() });
    let mut news: Vec<News> =
        each.iter().map(|name| News::new(CONTROLLER, reason, format!("{what}: {name}"))).collect();
    if let Some(last) = rest.last() {
        let message = format!("{what}s: {} more, the last of them {last}", rest.len());
        news.push(News::new(CONTROLLER, reason, message));
    }
    news
}

/// Says on a ReplicaSet why it has too few pods: an event, and the condition that Deployments pass on.
pub(super) fn failed(change: &mut Change, snapshot: &Snapshot, set: Entry<'_, KubeObject>, why: &str, now: Time) {
    // The generated name of the pod that was refused is another each time, and is not news.
    let stem = format!("{}-", set.name);
    let why: String =
        match why.split_once(&format!("\"{stem}")).and_then(|(a, rest)| Some((a, rest.split_once('"')?.1))) {
            Some((before, after)) => format!("{before}\"{stem}\"{after}"),
            None => why.to_owned(),
        };
    let news = News::new(CONTROLLER, "FailedCreate", format!("Error creating: {why}")).warning();
    kube_event::tell(change, snapshot, set.value, &[news], now);
    if condition(&set.body["status"], FAILURE).is_some_and(|c| c["message"] == why.as_str()) {
        return;
    }
    let condition = json!([{
        "type": FAILURE, "status": "True", "reason": "FailedCreate", "message": why,
        "lastTransitionTime": seconds(now),
    }]);
    change.edit(set, |set| set.body["status"]["conditions"] = condition);
}

/// Writes the ReplicaSet's row whatever its status says: two plans from one snapshot exclude each other.
fn claim(change: &mut Change, set: Entry<'_, KubeObject>, status: Value) {
    change.edit(set, |set| set.body["status"] = status);
}

fn status(set: &KubeObject, pods: &[Entry<'_, KubeObject>], now: Time) -> Value {
    let ready = pods.iter().filter(|pod| holds(pod.value, "Ready")).count();
    let settle = number(&set.body["spec"]["minReadySeconds"], 0);
    let available = pods.iter().filter(|pod| available(pod.value, settle, now)).count();
    let labels = &set.body["spec"]["template"]["metadata"]["labels"];
    let labelled =
        pods.iter().filter(|pod| super::matches(&json!({"matchLabels": labels}), &pod.body["metadata"]["labels"]));
    let mut status = json!({
        "replicas": pods.len(),
        "fullyLabeledReplicas": labelled.count(),
        "readyReplicas": ready,
        "availableReplicas": available,
        "observedGeneration": set.body["metadata"]["generation"],
    });
    // What went wrong stays until there are as many as wanted.
    let wanted = number(&set.body["spec"]["replicas"], 1).max(0) as usize;
    if pods.len() < wanted && set.body["status"]["conditions"].is_array() {
        status["conditions"] = set.body["status"]["conditions"].clone();
    }
    // Go leaves out zeroes; clients compare objects.
    if let Some(fields) = status.as_object_mut() {
        fields.retain(|name, value| name == "replicas" || *value != json!(0));
    }
    status
}

/// Ready for as long as the template demands.
pub(crate) fn available(pod: &KubeObject, settle: i64, now: Time) -> bool {
    if !holds(pod, "Ready") {
        return false;
    }
    settle == 0 || settled(pod, settle).is_some_and(|at| now >= at)
}

/// From when on a pod that is ready will have been so for long enough.
fn settled(pod: &KubeObject, settle: i64) -> Option<Time> {
    ready_since(pod)?.checked_add(SignedDuration::from_secs(settle)).ok()
}

fn ready_since(pod: &KubeObject) -> Option<Time> {
    condition(&pod.body["status"], "Ready")?["lastTransitionTime"].as_str()?.parse().ok()
}

/// Which pods go first. In the controller's own order: those without a host, then by phase, those that are not ready, the
/// cheapest to delete, those that share a host with most of their kind, those that became ready last, those that were
/// started again most often, the youngest. Ages count by their order of magnitude.
fn victims<'s>(
    snapshot: &'s Snapshot,
    set: &KubeObject,
    mut pods: Vec<Entry<'s, KubeObject>>,
    count: usize,
    now: Time,
) -> Vec<Entry<'s, KubeObject>> {
    let crowd = crowd(snapshot, set, &pods);
    pods.sort_by_cached_key(|pod| {
        let host = pod.body["spec"]["nodeName"].as_str();
        let phase = match pod.body["status"]["phase"].as_str() {
            None | Some("Pending") => 0,
            Some("Running") => 2,
            _ => 1,
        };
        let neighbours = host.and_then(|host| crowd.get(host)).copied().unwrap_or(0);
        let ready = holds(pod.value, "Ready");
        let since = ready.then(|| ready_since(pod.value)).flatten();
        let restarts: i64 = statuses(pod.value).map(|c| number(&c["restartCount"], 0)).max().unwrap_or(0);
        let made = pod.body["metadata"]["creationTimestamp"].as_str().and_then(|t| t.parse().ok());
        (
            (host.is_some(), phase, ready, deletion_cost(pod.value), Reverse(neighbours)),
            (magnitude(since, now), Reverse(restarts), magnitude(made, now)),
            pod.uid().to_owned(),
        )
    });
    pods.truncate(count);
    pods
}

fn statuses(pod: &KubeObject) -> impl Iterator<Item = &Value> {
    pod.body["status"]["containerStatuses"].as_array().into_iter().flatten()
}

/// How many pods of this set, and of the others of its owner, stand on each host.
fn crowd<'s>(snapshot: &'s Snapshot, set: &KubeObject, pods: &[Entry<'s, KubeObject>]) -> BTreeMap<&'s str, usize> {
    let owner = set.controller().and_then(|owner| owner["uid"].as_str()).unwrap_or("");
    let siblings = snapshot.find::<KubeObject>(Index::Owner, owner);
    let siblings =
        siblings.filter(|s| s.is("apps", "replicasets") && s.cluster_id == set.cluster_id && s.uid() != set.uid());
    let others = siblings.flat_map(|s| controlled(snapshot, s.value, "", "pods"));
    let mut crowd = BTreeMap::new();
    for pod in pods.iter().copied().chain(others.filter(|pod| !pod.deleting() && !pod.pod_finished())) {
        pod.value.body["spec"]["nodeName"].as_str().into_iter().for_each(|host| *crowd.entry(host).or_default() += 1);
    }
    crowd
}

/// What it costs to delete a pod, as somebody says who knows.
fn deletion_cost(pod: &KubeObject) -> i32 {
    let cost = &pod.body["metadata"]["annotations"]["controller.kubernetes.io/pod-deletion-cost"];
    cost.as_str().and_then(|cost| cost.parse().ok()).unwrap_or(0)
}

/// The order of magnitude of an age, to the base of two; the young come first.
fn magnitude(since: Option<Time>, now: Time) -> u32 {
    let age = since.map_or(0, |since| now.duration_since(since).as_nanos());
    u128::try_from(age).ok().and_then(u128::checked_ilog2).unwrap_or(0)
}

/// Pods of the template, as the API would let them in; or why it would not.
fn new_pods(snapshot: &Snapshot, set: &KubeObject, count: usize, now: Time) -> Result<Vec<KubeObject>, String> {
    let template = &set.body["spec"]["template"];
    let account =
        KubeObject::key_of(&set.cluster_id, "", "serviceaccounts", &set.namespace, model::pod::account_name(template));
    let account = snapshot.at::<KubeObject>(&account).map(|row| &row.value.body);
    let mut pods = Vec::with_capacity(count);
    let mut attempt = 0u64;
    while pods.len() < count {
        let salt = format!("{}.{attempt}", snapshot.revision());
        attempt += 1;
        let stem: String = set.name.chars().take(57).collect();
        let name = format!("{stem}-{}", suffix(&format!("{}/{salt}", set.uid())));
        let key = KubeObject::key_of(&set.cluster_id, "", "pods", &set.namespace, &name);
        if snapshot.row(&key).is_some() || pods.iter().any(|p: &KubeObject| p.name == name) {
            continue;
        }
        let mut meta = json!({"labels": template["metadata"]["labels"], "generateName": format!("{stem}-")});
        if template["metadata"]["annotations"].is_object() {
            meta["annotations"] = template["metadata"]["annotations"].clone();
        }
        let body = json!({"metadata": meta, "spec": template["spec"]});
        let new = New { owner: set, api_version: "v1", kind: "Pod", resource: "pods", name, salt };
        let mut pod = new.object(body, now);
        let volume = suffix(&format!("{}/token", pod.uid()));
        model::pod::admit(&mut pod.body, account, &volume)
            .map_err(|why| format!("pods \"{}\" is forbidden: {why}", pod.name))?;
        pods.push(pod);
    }
    Ok(pods)
}

#[cfg(test)]
mod tests {
    use model::{Resource, Write};

    use super::*;

    fn object(group: &str, resource: &str, namespace: &str, name: &str, body: Value) -> KubeObject {
        let mut body = body;
        body["metadata"]["name"] = json!(name);
        body["metadata"]["uid"] = json!(format!("uid-{resource}-{name}"));
        KubeObject {
            cluster_id: "c".into(),
            project_id: "p".into(),
            group: group.into(),
            resource: resource.into(),
            namespace: namespace.into(),
            name: name.into(),
            body,
        }
    }

    fn with_set(container: Value) -> Snapshot {
        let mut change = Change::new();
        let range = std::net::Ipv4Addr::new(10, 96, 0, 0).into();
        change.create(model::Cluster {
            name: "c".into(),
            service_base: range,
            ..model::Cluster::new("c", &model::Network::new("net", "p", 1, Time::UNIX_EPOCH), Time::UNIX_EPOCH)
        });
        change.create(object("", "namespaces", "", "n", json!({})));
        change.create(object("", "serviceaccounts", "n", "default", json!({})));
        let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}});
        let spec = json!({"replicas": 7, "selector": {"matchLabels": {"a": "b"}}, "template": template});
        let set = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "spec": spec});
        change.create(object("apps", "replicasets", "n", "web", set));
        let mut snapshot = Snapshot::default();
        snapshot.apply(1, &change.writes);
        snapshot
    }

    fn created<'a>(change: &'a Change, resource: &str) -> Vec<&'a KubeObject> {
        let created = change.writes.iter().filter_map(|write| match write {
            Write::Create(object) => KubeObject::of(object),
            _ => None,
        });
        created.filter(|object| object.resource == resource).collect()
    }

    #[test]
    fn pods_are_as_the_api_lets_them_in_and_are_told() {
        let changes = PLANNER.scan(&with_set(json!({"name": "c"})), Time::UNIX_EPOCH);
        let pods = created(&changes[0], "pods");
        assert_eq!(pods.len(), 7);
        assert_eq!(pods[0].body["spec"]["serviceAccountName"], "default");
        assert!(pods[0].body["spec"]["volumes"][0]["name"].as_str().is_some_and(|n| n.starts_with("kube-api-access-")));
        let events = created(&changes[0], "events");
        assert_eq!(events.len(), TOLD, "the rest is told as one");
        assert_eq!(created(&changes[1], "pods").len(), 1, "one alone, should all be too many");
    }

    #[test]
    fn what_no_pod_may_have_is_said_on_the_set() {
        let snapshot = with_set(json!({"name": "c", "securityContext": {"privileged": true}}));
        let changes = PLANNER.scan(&snapshot, Time::UNIX_EPOCH);
        let events = created(&changes[0], "events");
        let message = events[0].body["message"].as_str().unwrap_or("");
        assert!(message.starts_with("Error creating: pods \"web-\" is forbidden: violates PodSecurity"), "{message}");
        let set = changes[0].writes.iter().find_map(|write| match write {
            Write::Update { object, .. } => KubeObject::of(object),
            _ => None,
        });
        assert_eq!(set.map(|set| &set.body["status"]["conditions"][0]["reason"]), Some(&json!("FailedCreate")));
        assert!(created(&changes[0], "pods").is_empty());
    }

    #[test]
    fn a_quotas_refusal_is_said_once() {
        use crate::kube::refused::refused;
        let mut snapshot = with_set(json!({"name": "c"}));
        let changes = PLANNER.scan(&snapshot, Time::UNIX_EPOCH);
        let refusal = model::Refused::Exceeded { pool: "quota/p/cores".into(), asked: 100, used: 1000, limit: 1000 };
        assert_eq!(refused(&snapshot, &changes[0], &refusal, Time::UNIX_EPOCH), [], "a smaller one is to be tried");
        let said = refused(&snapshot, &changes[1], &refusal, Time::UNIX_EPOCH);
        let events = created(&said[0], "events");
        let words = "is forbidden: exceeded quota: cores, requested: 0.1, used: 1, limited: 1";
        assert!(events[0].body["message"].as_str().is_some_and(|m| m.contains(words)), "{}", events[0].body);
        assert!(created(&said[1], "events").is_empty() && !said[1].is_empty(), "without room for an event");
        snapshot.apply(2, &said[0].writes);
        let changes = PLANNER.scan(&snapshot, Time::UNIX_EPOCH);
        assert_eq!(refused(&snapshot, &changes[1], &refusal, Time::UNIX_EPOCH), [], "nothing new to say");
    }
}
