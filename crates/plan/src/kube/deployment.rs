//! Deployments: a ReplicaSet for each template that they had, and pods moved from the old to the new ones without
//! falling below what must be available.

use jiff::SignedDuration;
use model::kube_event::{self, News};
use model::{Change, Entry, Key, KubeObject, Resource, Snapshot, Time, Write};
use serde_json::{Value, json};

use super::adopt::adopt;
use super::replicaset::FAILURE;
use super::{New, condition, controlled, keys, map, number, seconds, set_status, since, suffix, touched_by_parts};
use crate::planner::{EVENTS, Failed, Plan, Planner, Rows, Seen};

/// Which change of the template a ReplicaSet belongs to, counted up.
const REVISION: &str = "deployment.kubernetes.io/revision";
/// The revisions that a ReplicaSet had before it was rolled back to.
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
const HASH: &str = "pod-template-hash";
/// How many replicas the Deployment had when it last scaled a ReplicaSet, and how many there could be with its surge.
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MOST: &str = "deployment.kubernetes.io/max-replicas";
/// As whom it speaks in events.
const CONTROLLER: &str = "deployment-controller";

const DEPLOYMENTS: Rows = Rows::Objects("apps", "deployments");
const SETS: Rows = Rows::Objects("apps", "replicasets");

/// Makes and scales ReplicaSets, and counts their pods into each Deployment's status.
pub const PLANNER: Planner = Planner {
    name: "deployment",
    reads: &[DEPLOYMENTS, SETS],
    writes: &[DEPLOYMENTS, SETS, EVENTS],
    at_once: 64,
    items: |rows| keys(rows, "apps", "deployments"),
    touched: |rows, event, touched| touched_by_parts(rows, event, touched, ("Deployment", "apps", "deployments")),
    failed: Some(Failed { of: ("Deployment", "apps", "deployments"), tell: failed }),
    plan,
};

fn plan(seen: &Seen<'_>, items: &[Key], now: Time) -> Plan {
    let mut plan = Plan::default();
    let deployments = items.iter().filter_map(|key| seen.rows.at::<KubeObject>(key));
    for deployment in deployments.filter(|deployment| !deployment.deleting()) {
        let key = &deployment.row.key;
        plan.step(key, one(seen.rows, deployment, now));
        if let Some(deadline) = deadline(deployment.value).filter(|deadline| *deadline > now) {
            plan.again(key, deadline);
        }
    }
    plan
}

fn one(snapshot: &Snapshot, deployment: Entry<'_, KubeObject>, now: Time) -> Change {
    if let Some(change) = adopt(snapshot, deployment, "apps", "replicasets") {
        return change;
    }
    let sets: Vec<_> =
        controlled(snapshot, deployment.value, "apps", "replicasets").filter(|s| !s.deleting()).collect();
    let template = template(&deployment.body["spec"]["template"]);
    let current = sets.iter().copied().find(|set| self::template(&set.body["spec"]["template"]) == template);
    let old: Vec<_> =
        sets.iter().copied().filter(|s| current.is_none_or(|current| s.row.key != current.row.key)).collect();
    let mut change = Change::new();
    let mut made = Made::Nothing;
    match current {
        // Rolled back: what was an old set is the newest revision now; the pods follow.
        Some(current) if !paused(deployment.value) && revision_of(current.value) < highest(&sets) => {
            let revision = highest(&sets) + 1;
            change.edit(current, |set| renumber(set, revision));
        }
        _ if paused(deployment.value) || was_scaled(deployment.value, &sets) => {
            rescale(&mut change, deployment.value, current, &old);
        }
        None => made = create(&mut change, snapshot, deployment, &sets, now),
        Some(current) => {
            roll(&mut change, deployment, current, &old);
            forget(&mut change, deployment, &old);
        }
    }
    let scaled = scalings(&change, snapshot);
    kube_event::tell(&mut change, snapshot, deployment.value, &scaled, now);
    status(&mut change, deployment, current, &sets, &made, now);
    change
}

fn paused(deployment: &KubeObject) -> bool {
    deployment.body["spec"]["paused"] == true
}

/// Whether a ReplicaSet was made.
#[derive(PartialEq)]
enum Made {
    Nothing,
    /// Its name.
    Set(String),
    /// Its name is taken by what is not this Deployment's: the next try has another.
    Taken,
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
            news.push(News::new(CONTROLLER, "ScalingReplicaSet", message));
        }
    }
    news
}

/// The template without what ReplicaSets add to it, in the form in which equal ones are equal.
fn template(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
        labels.remove(HASH);
    }
    if let Some(meta) = template["metadata"].as_object_mut() {
        meta.retain(|_, value| !value.is_null());
    }
    model::quantity::canonical_pod(&mut template["spec"]);
    template
}

/// Makes the ReplicaSet of the template.
fn create(
    change: &mut Change,
    snapshot: &Snapshot,
    deployment: Entry<'_, KubeObject>,
    sets: &[Entry<'_, KubeObject>],
    now: Time,
) -> Made {
    let spec = &deployment.body["spec"];
    let collisions = number(&deployment.body["status"]["collisionCount"], 0);
    let hash = format!(
        "{}{}",
        suffix(&format!("{}/{collisions}", spec["template"])),
        suffix(&format!("{}#{collisions}", spec["template"]))
    );
    let name = format!("{}-{hash}", deployment.name);
    let key = KubeObject::key_of(&deployment.cluster_id, "apps", "replicasets", &deployment.namespace, &name);
    if snapshot.row(&key).is_some() {
        return Made::Taken;
    }
    let mut template = spec["template"].clone();
    template["metadata"]["labels"][HASH] = json!(hash);
    let mut selector = spec["selector"].clone();
    selector["matchLabels"][HASH] = json!(hash);
    let mut annotations = map(&deployment.body["metadata"]["annotations"]);
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    let mut annotations = json!(annotations);
    annotations[REVISION] = json!((highest(sets) + 1).to_string());
    let replicas = number(&spec["replicas"], 1);
    annotations[DESIRED] = json!(replicas.to_string());
    annotations[MOST] = json!((replicas + surge(deployment.value)).to_string());
    let body = json!({
        "metadata": {"labels": template["metadata"]["labels"], "annotations": annotations},
        "spec": {
            "replicas": 0, "selector": selector, "template": template,
            "minReadySeconds": number(&spec["minReadySeconds"], 0),
        },
        "status": {"replicas": 0},
    });
    let new = New {
        owner: deployment.value,
        api_version: "apps/v1",
        kind: "ReplicaSet",
        resource: "replicasets",
        name: name.clone(),
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
    Made::Set(name)
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

/// Gives a set a size, and notes for which size of the Deployment it was.
fn scale(change: &mut Change, deployment: &KubeObject, set: Entry<'_, KubeObject>, replicas: i64) {
    let wanted = number(&deployment.body["spec"]["replicas"], 1);
    let (desired, most) = (json!(wanted.to_string()), json!((wanted + surge(deployment)).to_string()));
    let notes = &set.body["metadata"]["annotations"];
    let grows = replicas_of(set.value) != replicas;
    if !grows && notes[DESIRED] == desired && notes[MOST] == most {
        return;
    }
    change.edit(set, |set| {
        let notes = &mut set.body["metadata"]["annotations"];
        notes[DESIRED] = desired;
        notes[MOST] = most;
        if grows {
            set.body["spec"]["replicas"] = json!(replicas);
            let generation = number(&set.body["metadata"]["generation"], 0);
            set.body["metadata"]["generation"] = json!(generation + 1);
        }
    });
}

/// Whether the Deployment's own size changed since a set in use was last scaled.
fn was_scaled(deployment: &KubeObject, sets: &[Entry<'_, KubeObject>]) -> bool {
    let wanted = number(&deployment.body["spec"]["replicas"], 1).to_string();
    let differs = |set: &KubeObject| {
        set.body["metadata"]["annotations"][DESIRED].as_str().is_some_and(|desired| desired != wanted)
    };
    sets.iter().any(|set| replicas_of(set.value) > 0 && differs(set.value))
}

/// Follows a change of the Deployment's size without moving pods between templates: the only set in use takes all of it; in
/// the middle of a roll-out each takes its share.
fn rescale(
    change: &mut Change,
    deployment: &KubeObject,
    current: Option<Entry<'_, KubeObject>>,
    old: &[Entry<'_, KubeObject>],
) {
    let replicas = number(&deployment.body["spec"]["replicas"], 1);
    let mut active: Vec<_> = old.iter().copied().chain(current).filter(|set| replicas_of(set.value) > 0).collect();
    match active[..] {
        [] => {
            let latest = current.or_else(|| old.iter().copied().max_by_key(|set| set.row.created));
            latest.into_iter().for_each(|set| scale(change, deployment, set, replicas));
        }
        [only] => scale(change, deployment, only, replicas),
        _ if current.is_some_and(|set| replicas_of(set.value) == replicas && available_of(set.value) == replicas) => {
            old.iter().for_each(|set| scale(change, deployment, *set, 0));
        }
        _ if recreates(deployment) => {}
        _ => {
            let allowed = if replicas > 0 { replicas + surge(deployment) } else { 0 };
            let total: i64 = active.iter().map(|set| replicas_of(set.value)).sum();
            let more = allowed - total;
            // Equal ones: what grows is the newer, what shrinks the older.
            active.sort_by_key(|set| {
                let made = i64::try_from(set.row.created).unwrap_or(0);
                (std::cmp::Reverse(replicas_of(set.value)), if more > 0 { -made } else { made })
            });
            let mut added = 0;
            let mut sizes: Vec<i64> = Vec::with_capacity(active.len());
            for set in &active {
                let part = proportion(deployment, set.value, more, added);
                added += part;
                sizes.push(replicas_of(set.value) + part);
            }
            if let Some(first) = sizes.first_mut() {
                *first += more - added;
            }
            active.iter().zip(sizes).for_each(|(set, size)| scale(change, deployment, *set, size.max(0)));
        }
    }
}

/// What part of the replicas that come (or go) is a set's, when others have `added` already.
fn proportion(deployment: &KubeObject, set: &KubeObject, more: i64, added: i64) -> i64 {
    let (replicas, size) = (number(&deployment.body["spec"]["replicas"], 1), replicas_of(set));
    if size == 0 || more == added {
        return 0;
    }
    let noted = set.body["metadata"]["annotations"][MOST].as_str().and_then(|most| most.parse::<i64>().ok());
    let before = noted.filter(|most| *most > 0).unwrap_or(number(&deployment.body["status"]["replicas"], 0));
    let part = match (replicas, before) {
        (0, _) => -size,
        (_, 0) => 0,
        // To the nearest whole one.
        _ => (2 * size * (replicas + surge(deployment)) + before).div_euclid(2 * before) - size,
    };
    if more > 0 { part.min(more - added) } else { part.max(more - added) }
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
        old.iter().for_each(|set| scale(change, deployment.value, *set, 0));
        let left: i64 = old.iter().map(|s| number(&s.body["status"]["replicas"], 0)).sum();
        if left == 0 {
            scale(change, deployment.value, current, replicas);
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
    scale(change, deployment.value, current, grown);
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
        scale(change, deployment.value, *set, left);
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
    made: &Made,
    now: Time,
) {
    let replicas = number(&deployment.body["spec"]["replicas"], 1);
    let sum = |field: &str| -> i64 { sets.iter().map(|s| number(&s.body["status"][field], 0)).sum() };
    let updated = current.map_or(0, |set| number(&set.body["status"]["replicas"], 0));
    let (total, ready, available) = (sum("replicas"), sum("readyReplicas"), sum("availableReplicas"));
    let enough = available >= replicas - unavailable(deployment.value);
    let before = &deployment.body["status"];
    let mut status = json!({
        "observedGeneration": deployment.body["metadata"]["generation"],
        "replicas": total, "updatedReplicas": updated, "readyReplicas": ready, "availableReplicas": available,
        "unavailableReplicas": (replicas.max(total) - available).max(0),
        "collisionCount": number(&before["collisionCount"], 0) + i64::from(*made == Made::Taken),
    });
    if let Some(fields) = status.as_object_mut() {
        fields.retain(|_, value| *value != json!(0));
    }
    let availability = match enough {
        true => ("True", "MinimumReplicasAvailable", "Deployment has minimum availability."),
        false => ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability."),
    };
    let mut conditions = vec![make_condition(before, "Available", availability, false, now)];
    if let Some((state, reason, message, moved)) = progress(deployment.value, current, made, &status, now) {
        conditions.push(make_condition(before, "Progressing", (state, reason, &message), moved, now));
    }
    if let Some(failure) = current.and_then(|set| condition(&set.value.body["status"], FAILURE)) {
        let text = |field: &str| failure[field].as_str().unwrap_or("");
        let words = ("True", text("reason"), text("message"));
        conditions.push(make_condition(before, FAILURE, words, false, now));
    }
    status["conditions"] = json!(conditions);
    let revision = current.map(|set| set.body["metadata"]["annotations"][REVISION].clone());
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

/// No deadline.
const FOR_EVER: i64 = i32::MAX as i64;

/// How the roll-out goes: status, reason and message of the condition, and whether something moved. `None`: nobody asks.
fn progress(
    deployment: &KubeObject,
    current: Option<Entry<'_, KubeObject>>,
    made: &Made,
    status: &Value,
    now: Time,
) -> Option<(&'static str, &'static str, String, bool)> {
    if number(&deployment.body["spec"]["progressDeadlineSeconds"], 600) >= FOR_EVER {
        return None;
    }
    let before = &deployment.body["status"];
    let old = condition(before, "Progressing");
    let was = |reason: &str| old.is_some_and(|c| c["reason"] == reason);
    if paused(deployment) {
        return Some(("Unknown", "DeploymentPaused", "Deployment is paused".into(), false));
    }
    if was("DeploymentPaused") {
        return Some(("Unknown", "DeploymentResumed", "Deployment is resumed".into(), true));
    }
    let name = match (current, made) {
        (Some(set), _) => set.name.clone(),
        (None, Made::Set(name)) => {
            return Some(("True", "NewReplicaSetCreated", format!("Created new replica set \"{name}\""), true));
        }
        // What it says stays until there is a set.
        (None, _) => {
            let text = |field: &str| old.and_then(|c| c[field].as_str()).unwrap_or("").to_owned();
            let known = ["True", "False", "Unknown"].into_iter().find(|s| *s == text("status"));
            return Some((known.unwrap_or("Unknown"), "NewReplicaSetCreated", text("message"), false));
        }
    };
    let replicas = number(&deployment.body["spec"]["replicas"], 1);
    let count = |field: &str| number(&status[field], 0);
    let done =
        ["updatedReplicas", "replicas"].iter().all(|f| count(f) == replicas) && count("availableReplicas") >= replicas;
    let done = done || (was("NewReplicaSetAvailable") && count("replicas") == count("updatedReplicas"));
    if done {
        let message = format!("ReplicaSet \"{name}\" has successfully progressed.");
        return Some(("True", "NewReplicaSetAvailable", message, false));
    }
    let grew = |field: &str| count(field) > number(&before[field], 0);
    let old_pods = |status: &Value| number(&status["replicas"], 0) - number(&status["updatedReplicas"], 0);
    let moved = grew("updatedReplicas") || grew("readyReplicas") || grew("availableReplicas");
    let moved = moved || old_pods(status) < old_pods(before);
    if !moved && (was("ProgressDeadlineExceeded") || overdue(deployment, now)) {
        let message = format!("ReplicaSet \"{name}\" has timed out progressing.");
        return Some(("False", "ProgressDeadlineExceeded", message, false));
    }
    Some(("True", "ReplicaSetUpdated", format!("ReplicaSet \"{name}\" is progressing."), moved))
}

/// Says on a Deployment why it has no ReplicaSet for its template.
fn failed(
    change: &mut Change,
    snapshot: &Snapshot,
    deployment: Entry<'_, KubeObject>,
    (made, why): (&KubeObject, &str),
    now: Time,
) {
    let message = format!("Failed to create new replica set \"{}\": {why}", made.name);
    let news = News::new(CONTROLLER, "ReplicaSetCreateError", message.clone()).warning();
    kube_event::tell(change, snapshot, deployment.value, &[news], now);
    let before = &deployment.body["status"];
    let words = ("False", "ReplicaSetCreateError", message.as_str());
    let new = make_condition(before, "Progressing", words, false, now);
    if condition(before, "Progressing") == Some(&new) {
        return;
    }
    change.edit(deployment, |deployment| {
        let conditions = &mut deployment.body["status"]["conditions"];
        let mut rest = conditions.as_array().cloned().unwrap_or_default();
        rest.retain(|c| c["type"] != "Progressing");
        rest.push(new);
        *conditions = json!(rest);
    });
}

fn make_condition(
    before: &Value,
    kind: &str,
    (status, reason, message): (&str, &str, &str),
    moved: bool,
    now: Time,
) -> Value {
    let same = condition(before, kind).filter(|c| c["status"] == status && c["reason"] == reason && !moved);
    json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": since(before, kind, status, now),
        "lastUpdateTime": same.map_or(json!(seconds(now)), |c| c["lastUpdateTime"].clone()),
    })
}

/// From when on nothing will have moved for longer than the Deployment allows.
fn deadline(deployment: &KubeObject) -> Option<Time> {
    let deadline = number(&deployment.body["spec"]["progressDeadlineSeconds"], 600);
    let last = condition(&deployment.body["status"], "Progressing");
    let last = last.filter(|c| c["reason"] != "NewReplicaSetAvailable")?;
    let last = last["lastUpdateTime"].as_str()?.parse::<Time>().ok()?;
    last.checked_add(SignedDuration::from_secs(deadline.saturating_add(1))).ok()
}

fn overdue(deployment: &KubeObject, now: Time) -> bool {
    deadline(deployment).is_some_and(|deadline| now >= deadline)
}
