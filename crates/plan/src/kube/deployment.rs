//! Deployments: a ReplicaSet for each template that they had, and pods moved from the old to the new ones without
//! falling below what must be available.

use model::kube_event::{self, News};
use model::{Change, Entry, KubeObject, Resource, Snapshot, Time, Write};
use serde_json::{Value, json};

use super::replicaset::FAILURE;
use super::{New, all, controlled, map, number, seconds, set_status, suffix};

/// Which change of the template a ReplicaSet belongs to, counted up.
const REVISION: &str = "deployment.kubernetes.io/revision";
/// The revisions that a ReplicaSet had before it was rolled back to.
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
const HASH: &str = "pod-template-hash";

/// Makes and scales ReplicaSets, and counts their pods into each Deployment's status.
pub fn plan(snapshot: &Snapshot, now: Time) -> Vec<Change> {
    let deployments = all(snapshot, "apps", "deployments").filter(|d| !d.deleting());
    deployments.map(|deployment| one(snapshot, deployment, now)).filter(|change| !change.is_empty()).collect()
}

fn one(snapshot: &Snapshot, deployment: Entry<'_, KubeObject>, now: Time) -> Change {
    let sets: Vec<_> =
        controlled(snapshot, deployment.value, "apps", "replicasets").filter(|s| !s.deleting()).collect();
    let template = template(&deployment.body["spec"]["template"]);
    let current = sets.iter().copied().find(|set| self::template(&set.body["spec"]["template"]) == template);
    let mut change = Change::new();
    let paused = deployment.body["spec"]["paused"] == true;
    match current {
        None if !paused => create(&mut change, snapshot, deployment, &sets, now),
        None => {}
        Some(current) => {
            let old: Vec<_> = sets.iter().copied().filter(|s| s.row.key != current.row.key).collect();
            let behind = revision_of(current.value) < highest(&sets);
            if paused {
                scale_in_place(&mut change, deployment, &sets);
            } else if behind {
                // Rolled back: what was an old set is the newest revision now; the pods follow.
                let revision = highest(&sets) + 1;
                change.edit(current, |set| renumber(set, revision));
            } else {
                roll(&mut change, deployment, current, &old);
                forget(&mut change, deployment, &old);
            }
        }
    }
    let scaled = scalings(&change, snapshot);
    kube_event::tell(&mut change, snapshot, deployment.value, &scaled, now);
    let revision = current.map(|set| set.body["metadata"]["annotations"][REVISION].clone());
    status(&mut change, deployment, current, &sets, revision, now);
    change
}

/// What the change does to the sizes of ReplicaSets, in the controller's words.
fn scalings(change: &Change, snapshot: &Snapshot) -> Vec<News> {
    let replicas = |set: &KubeObject| number(&set.body["spec"]["replicas"], 1);
    let mut news = Vec::new();
    for write in &change.writes {
        let (object, before) = match write {
            Write::Create(object) => (object, 0),
            Write::Update { object, .. } => {
                let before = snapshot.at::<KubeObject>(&object.key());
                (object, before.map_or(0, |set| replicas(set.value)))
            }
            Write::Delete { .. } => continue,
        };
        let Some(set) = KubeObject::of(object).filter(|object| object.is("apps", "replicasets")) else { continue };
        let after = replicas(set);
        if after != before {
            let verb = if after > before { "up" } else { "down" };
            let message = format!("Scaled {verb} replica set {} from {before} to {after}", set.name);
            news.push(News::new("deployment-controller", "ScalingReplicaSet", message));
        }
    }
    news
}

/// The template without what ReplicaSets add to it.
fn template(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
        labels.remove(HASH);
    }
    if let Some(meta) = template["metadata"].as_object_mut() {
        meta.retain(|_, value| !value.is_null());
    }
    template
}

fn create(
    change: &mut Change,
    snapshot: &Snapshot,
    deployment: Entry<'_, KubeObject>,
    sets: &[Entry<'_, KubeObject>],
    now: Time,
) {
    let spec = &deployment.body["spec"];
    let collisions = number(&deployment.body["status"]["collisionCount"], 0);
    let hash = format!(
        "{}{}",
        suffix(&format!("{}/{collisions}", spec["template"])),
        suffix(&format!("{}#{collisions}", spec["template"]))
    );
    let mut template = spec["template"].clone();
    template["metadata"]["labels"][HASH] = json!(hash);
    let mut selector = spec["selector"].clone();
    selector["matchLabels"][HASH] = json!(hash);
    let mut annotations = map(&deployment.body["metadata"]["annotations"]);
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    let mut annotations = json!(annotations);
    annotations[REVISION] = json!((highest(sets) + 1).to_string());
    let replicas = number(&spec["replicas"], 1);
    annotations["deployment.kubernetes.io/desired-replicas"] = json!(replicas.to_string());
    let body = json!({
        "metadata": {"labels": template["metadata"]["labels"], "annotations": annotations},
        "spec": {
            "replicas": 0, "selector": selector, "template": template,
            "minReadySeconds": number(&spec["minReadySeconds"], 0),
        },
        "status": {"replicas": 0},
    });
    let name = format!("{}-{hash}", deployment.name);
    let new = New {
        owner: deployment.value,
        api_version: "apps/v1",
        kind: "ReplicaSet",
        resource: "replicasets",
        name,
        salt: snapshot.revision().to_string(),
    };
    let mut set = new.object(body, now);
    if set.body["spec"]["minReadySeconds"] == 0
        && let Some(spec) = set.body["spec"].as_object_mut()
    {
        spec.remove("minReadySeconds");
    }
    // With nothing old in the way, the first step of the roll-out is taken right here.
    let total: i64 = sets.iter().map(|s| replicas_of(s)).sum();
    let first = if recreates(deployment.value) && total > 0 {
        0
    } else {
        (replicas + surge(deployment.value) - total).clamp(0, replicas)
    };
    set.body["spec"]["replicas"] = json!(first);
    change.create(set);
}

fn revision_of(set: &KubeObject) -> i64 {
    set.body["metadata"]["annotations"][REVISION].as_str().and_then(|r| r.parse().ok()).unwrap_or(0)
}

fn highest(sets: &[Entry<'_, KubeObject>]) -> i64 {
    sets.iter().map(|set| revision_of(set)).max().unwrap_or(0)
}

/// Gives a set a new revision and keeps note of those that it had.
fn renumber(set: &mut KubeObject, revision: i64) {
    let old = revision_of(set).to_string();
    let annotations = &mut set.body["metadata"]["annotations"];
    let history = match annotations[HISTORY].as_str() {
        Some(history) if !history.is_empty() => format!("{history},{old}"),
        _ => old,
    };
    annotations[HISTORY] = json!(history);
    annotations[REVISION] = json!(revision.to_string());
}

fn replicas_of(set: &KubeObject) -> i64 {
    number(&set.body["spec"]["replicas"], 1)
}

fn available_of(set: &KubeObject) -> i64 {
    number(&set.body["status"]["availableReplicas"], 0)
}

fn recreates(deployment: &KubeObject) -> bool {
    deployment.body["spec"]["strategy"]["type"] == "Recreate"
}

/// An absolute number or a percentage of the replicas.
fn share(value: &Value, replicas: i64, up: bool) -> i64 {
    match value {
        Value::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(25);
            let exact = percent * replicas;
            if up { (exact + 99).div_euclid(100) } else { exact.div_euclid(100) }
        }
        Value::Number(number) => number.as_i64().unwrap_or(0),
        _ => share(&json!("25%"), replicas, up),
    }
}

/// How many pods there may be beyond the replicas.
fn surge(deployment: &KubeObject) -> i64 {
    let replicas = number(&deployment.body["spec"]["replicas"], 1);
    share(&deployment.body["spec"]["strategy"]["rollingUpdate"]["maxSurge"], replicas, true)
}

/// How many pods may be missing; at least one if there may be none beyond.
fn unavailable(deployment: &KubeObject) -> i64 {
    let replicas = number(&deployment.body["spec"]["replicas"], 1);
    let share = share(&deployment.body["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"], replicas, false);
    if share == 0 && surge(deployment) == 0 { 1 } else { share.min(replicas) }
}

fn scale(change: &mut Change, set: Entry<'_, KubeObject>, replicas: i64) {
    if replicas_of(set.value) != replicas {
        change.edit(set, |set| {
            set.body["spec"]["replicas"] = json!(replicas);
            let generation = number(&set.body["metadata"]["generation"], 0);
            set.body["metadata"]["generation"] = json!(generation + 1);
        });
    }
}

/// One step of a roll-out: the new set grows as far as the surge allows, the old ones shrink as far as what is available
/// allows.
fn roll(
    change: &mut Change,
    deployment: Entry<'_, KubeObject>,
    current: Entry<'_, KubeObject>,
    old: &[Entry<'_, KubeObject>],
) {
    let replicas = number(&deployment.body["spec"]["replicas"], 1);
    let old_total: i64 = old.iter().map(|s| replicas_of(s)).sum();
    if recreates(deployment.value) {
        old.iter().for_each(|set| scale(change, *set, 0));
        let left: i64 = old.iter().map(|s| number(&s.body["status"]["replicas"], 0)).sum();
        if left == 0 {
            scale(change, current, replicas);
        }
        return;
    }
    let total = old_total + replicas_of(current.value);
    let room = replicas + surge(deployment.value) - total;
    let grown = if replicas_of(current.value) > replicas {
        replicas
    } else {
        (replicas_of(current.value) + room.max(0)).min(replicas)
    };
    scale(change, current, grown);
    if old_total == 0 {
        return;
    }
    let least = replicas - unavailable(deployment.value);
    let new_unavailable = replicas_of(current.value) - available_of(current.value);
    let mut budget = total - least - new_unavailable.max(0);
    // What is not available anyway goes first, then what the budget allows.
    for set in old {
        let dead = (replicas_of(set.value) - available_of(set.value)).max(0);
        let take = dead.min(budget.max(0));
        let mut left = replicas_of(set.value) - take;
        budget -= take;
        let spare: i64 = old.iter().chain([&current]).map(|s| available_of(s)).sum::<i64>() - least;
        let more = left.min(budget.max(0)).min(spare.max(0));
        left -= more;
        budget -= more;
        scale(change, *set, left);
    }
}

/// A paused Deployment still follows its number of replicas, with the set that has most.
fn scale_in_place(change: &mut Change, deployment: Entry<'_, KubeObject>, sets: &[Entry<'_, KubeObject>]) {
    let replicas = number(&deployment.body["spec"]["replicas"], 1);
    let total: i64 = sets.iter().map(|s| replicas_of(s)).sum();
    if let Some(largest) = sets.iter().max_by_key(|s| replicas_of(s))
        && total != replicas
    {
        scale(change, *largest, (replicas_of(largest) + replicas - total).max(0));
    }
}

/// Removes the oldest empty sets beyond the limit of the history.
fn forget(change: &mut Change, deployment: Entry<'_, KubeObject>, old: &[Entry<'_, KubeObject>]) {
    let limit = number(&deployment.body["spec"]["revisionHistoryLimit"], 10).max(0) as usize;
    let mut empty: Vec<_> =
        old.iter().filter(|s| replicas_of(s) == 0 && number(&s.body["status"]["replicas"], 0) == 0).copied().collect();
    empty.sort_by_key(|set| std::cmp::Reverse(set.row.created));
    for set in empty.into_iter().skip(limit) {
        change.delete(set);
    }
}

fn status(
    change: &mut Change,
    deployment: Entry<'_, KubeObject>,
    current: Option<Entry<'_, KubeObject>>,
    sets: &[Entry<'_, KubeObject>],
    revision: Option<Value>,
    now: Time,
) {
    let replicas = number(&deployment.body["spec"]["replicas"], 1);
    let sum = |field: &str| -> i64 { sets.iter().map(|s| number(&s.body["status"][field], 0)).sum() };
    let updated = current.map_or(0, |set| number(&set.body["status"]["replicas"], 0));
    let (total, ready, available) = (sum("replicas"), sum("readyReplicas"), sum("availableReplicas"));
    let missing = (replicas.max(total) - available).max(0);
    let done = updated == replicas && available >= replicas && total == replicas;
    let enough = available >= replicas - unavailable(deployment.value);
    let before = &deployment.body["status"];
    let mut status = json!({
        "observedGeneration": deployment.body["metadata"]["generation"],
        "replicas": total, "updatedReplicas": updated, "readyReplicas": ready, "availableReplicas": available,
        "unavailableReplicas": missing,
    });
    if let Some(fields) = status.as_object_mut() {
        fields.retain(|_, value| *value != json!(0));
    }
    let progress = match done {
        true => ("True", "NewReplicaSetAvailable", "the new ReplicaSet has all its pods"),
        false if overdue(deployment.value, now) && before["updatedReplicas"] == status["updatedReplicas"] => {
            ("False", "ProgressDeadlineExceeded", "the roll-out has not moved for longer than its deadline")
        }
        false => ("True", "ReplicaSetUpdated", "pods are being replaced"),
    };
    let availability = match enough {
        true => ("True", "MinimumReplicasAvailable", "Deployment has minimum availability."),
        false => ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability."),
    };
    let moved =
        ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"].iter().any(|f| before[*f] != status[*f]);
    status["conditions"] = json!([
        make_condition(before, "Available", availability, false, now),
        make_condition(before, "Progressing", progress, moved, now),
    ]);
    let failure = current.and_then(|set| old_condition(&set.value.body["status"], FAILURE));
    if let (Some(failure), Some(conditions)) = (failure, status["conditions"].as_array_mut()) {
        let text = |field: &str| failure[field].as_str().unwrap_or("");
        let words = ("True", text("reason"), text("message"));
        conditions.push(make_condition(before, FAILURE, words, false, now));
    }
    let annotated = revision.filter(|r| r.is_string() && deployment.body["metadata"]["annotations"][REVISION] != *r);
    match annotated {
        Some(revision) => {
            change.edit(deployment, |deployment| {
                deployment.body["metadata"]["annotations"][REVISION] = revision;
                deployment.body["status"] = status;
            });
        }
        None => set_status(change, deployment, status),
    }
}

fn old_condition<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    status["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == kind)
}

fn make_condition(
    before: &Value,
    kind: &str,
    (status, reason, message): (&str, &str, &str),
    moved: bool,
    now: Time,
) -> Value {
    let old = old_condition(before, kind);
    let same = old.filter(|c| c["status"] == status);
    let since = same.map_or(json!(seconds(now)), |c| c["lastTransitionTime"].clone());
    let updated =
        same.filter(|c| c["reason"] == reason && !moved).map_or(json!(seconds(now)), |c| c["lastUpdateTime"].clone());
    json!({
        "type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since,
        "lastUpdateTime": updated,
    })
}

/// Nothing has moved for longer than the Deployment allows.
fn overdue(deployment: &KubeObject, now: Time) -> bool {
    let deadline = number(&deployment.body["spec"]["progressDeadlineSeconds"], 600);
    let last = old_condition(&deployment.body["status"], "Progressing");
    let last = last.filter(|c| c["reason"] != "NewReplicaSetAvailable");
    let last = last.and_then(|c| c["lastUpdateTime"].as_str()?.parse::<Time>().ok());
    last.is_some_and(|last| now.duration_since(last).as_secs() > deadline)
}
