//! ReplicaSets: as many pods of a template as asked for.

use model::kube_event::{self, News};
use model::{Change, Entry, Key, KubeObject, Snapshot, Time};
use serde_json::{Value, json};

use super::adopt::adopt;
use super::workload::{available, new_pods, pods_of, settled, told, victims, without_name};
use super::{condition, delete, holds, keys, number, seconds, set_status, touched_by_parts};
use crate::planner::{EVENTS, Failed, PODS, Plan, Planner, Rows, Seen};

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
    touched: |rows, event, touched| touched_by_parts(rows, event, touched, ("ReplicaSet", "apps", "replicasets")),
    failed: Some(Failed { of: ("ReplicaSet", "apps", "replicasets"), tell: failed }),
    plan,
};

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
    let pods = pods_of(snapshot, set.value);
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
        kube_event::tell(
            &mut change,
            snapshot,
            set.value,
            &told(CONTROLLER, "SuccessfulDelete", "Deleted pod", &gone),
            now,
        );
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
                    &told(CONTROLLER, "SuccessfulCreate", "Created pod", &names),
                    now,
                );
                for pod in pods {
                    change.create(pod);
                }
                claim(&mut change, set, status.clone());
            }
            Err(why) => {
                plan.waits(key);
                failed(&mut change, snapshot, set, (set.value, &why), now);
                return plan.step(key, change);
            }
        }
        plan.step(key, change);
    }
}

/// Says on a ReplicaSet why it has too few pods: an event, and the condition that Deployments pass on.
fn failed(
    change: &mut Change,
    snapshot: &Snapshot,
    set: Entry<'_, KubeObject>,
    (_, why): (&KubeObject, &str),
    now: Time,
) {
    let why = without_name(set.value, why);
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

#[cfg(test)]
mod tests {
    use model::{Resource, Write};

    use super::super::workload::TOLD;
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
        let container = |pod: &KubeObject| pod.body["spec"]["containers"][0].as_object().cloned().unwrap_or_default();
        assert!(container(pods[0]).shares(&container(pods[6])), "what they have in common is there once");
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
        assert_eq!(refused(&snapshot, &changes[0], &refusal, Time::UNIX_EPOCH), None, "a smaller one is to be tried");
        let said = refused(&snapshot, &changes[1], &refusal, Time::UNIX_EPOCH).unwrap();
        let events = created(&said[0], "events");
        let words = "is forbidden: exceeded quota: cores, requested: 0.1, used: 1, limited: 1";
        assert!(events[0].body["message"].as_str().is_some_and(|m| m.contains(words)), "{}", events[0].body);
        assert!(created(&said[1], "events").is_empty() && !said[1].is_empty(), "without room for an event");
        snapshot.apply(2, &said[0].writes);
        let changes = PLANNER.scan(&snapshot, Time::UNIX_EPOCH);
        assert_eq!(refused(&snapshot, &changes[1], &refusal, Time::UNIX_EPOCH), Some(vec![]), "nothing new to say");
    }
}
