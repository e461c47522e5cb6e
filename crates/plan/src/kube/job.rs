//! Jobs: pods that run to their end, until enough have succeeded or too many failed.
//!
//! Each pod is held by a finalizer until it is counted; the count and the letting go are one commit, so that no end is lost or
//! counted twice, and the list of uncounted pods that Kubernetes keeps in the status is not needed. A pod that is deleted counts
//! as failed at once.

use jiff::SignedDuration;
use model::kube_event::{self, News};
use model::{Change, Entry, Event, Index, Key, KubeObject, Snapshot, Time};
use serde_json::{Value, json};

use super::adopt::adopt;
use super::workload::{new_pods, told, victims, without_name};
use super::{
    condition, controlled, controller, delete, delete_without, holds, keys, number, release, seconds, set_status,
    touched_by_parts,
};
use crate::planner::{EVENTS, Failed, PODS, Plan, Planner, Rows, Seen, Touched, objects};

/// As whom it speaks in events.
const CONTROLLER: &str = "job-controller";
/// What holds a pod until it is counted.
const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// The most pods that one commit makes, counts or removes.
const BATCH: usize = 100;
/// After a failure the next pod waits so many seconds, after each further one twice as long, up to the longest.
const WAIT_SECONDS: i64 = 10;
const LONGEST_WAIT_SECONDS: i64 = 600;

const JOBS: Rows = Rows::Objects("batch", "jobs");
const ACCOUNTS: Rows = Rows::Objects("", "serviceaccounts");

/// Makes, counts and removes the pods of Jobs, and Jobs whose time is over. An item is a Job, or a pod whose Job is gone.
pub const PLANNER: Planner = Planner {
    name: "job",
    reads: &[JOBS, PODS, ACCOUNTS],
    writes: &[JOBS, PODS, EVENTS],
    at_once: 64,
    items,
    touched,
    failed: Some(Failed { of: ("Job", "batch", "jobs"), tell: failed }),
    plan,
};

fn items(rows: &Snapshot) -> Vec<Key> {
    let left = super::all(rows, "", "pods").filter(|pod| is_left(rows, pod.value)).map(|pod| pod.row.key.clone());
    keys(rows, "batch", "jobs").into_iter().chain(left).collect()
}

/// A pod that is held for a Job which is gone.
fn is_left(rows: &Snapshot, pod: &KubeObject) -> bool {
    let job = || controller(pod, "Job", "batch", "jobs").and_then(|key| rows.at::<KubeObject>(&key));
    let own = |job: Entry<'_, KubeObject>| pod.controller().is_some_and(|owner| owner["uid"] == job.uid());
    held(pod) && !job().is_some_and(own)
}

fn touched(rows: &Snapshot, event: &Event, touched: &mut Touched) {
    touched_by_parts(rows, event, touched, ("Job", "batch", "jobs"));
    for object in objects(event) {
        if object.is_pod() && is_left(rows, object) {
            touched.item(event.key.clone());
        } else if object.is("batch", "jobs") && event.after.is_none() {
            touched.items(rows.find::<KubeObject>(Index::Owner, object.uid()).map(|pod| pod.row.key.clone()));
        }
    }
}

fn plan(seen: &Seen<'_>, items: &[Key], now: Time) -> Plan {
    let mut plan = Plan::default();
    for item in items.iter().filter_map(|key| seen.rows.at::<KubeObject>(key)) {
        if item.is("batch", "jobs") {
            one(&mut plan, seen.rows, item, now);
        } else if item.is_pod() && is_left(seen.rows, item.value) {
            let mut change = Change::new();
            release(&mut change, item, TRACKING);
            plan.step(&item.row.key, change);
        }
    }
    plan
}

fn one(plan: &mut Plan, snapshot: &Snapshot, job: Entry<'_, KubeObject>, now: Time) {
    let key = &job.row.key;
    if let Some(change) = adopt(snapshot, job, "", "pods") {
        return plan.step(key, change);
    }
    let pods: Vec<Entry<'_, KubeObject>> = controlled(snapshot, job.value, "", "pods").collect();
    let mut change = Change::new();
    if job.deleting() || ended(job.value).is_some() {
        wind_up(&mut change, job, &pods, now);
        if let Some(end) = ended(job.value).filter(|_| change.is_empty() && !job.deleting()) {
            expire(plan, &mut change, job, end, now);
        }
        return plan.step(key, change);
    }
    let mut status = job.body["status"].clone();
    count(&mut change, &mut status, &pods);
    let active: Vec<_> = pods.iter().copied().filter(|pod| !pod.deleting() && !pod.pod_finished()).collect();
    let mut tally = Tally::of(&status, active.len());
    begin(&mut status, job.value, now);
    let end = verdict(job.value, &status, &tally, &active, now);
    if let Some((kind, reason, message)) = end {
        active.iter().take(BATCH).for_each(|pod| delete_without(&mut change, *pod, TRACKING, now));
        finish(&mut status, kind, reason, &message, now);
        let news = News::new(CONTROLLER, if kind == "Complete" { "Completed" } else { reason }, message);
        let news = if kind == "Complete" { news } else { news.warning() };
        kube_event::tell(&mut change, snapshot, job.value, &[news], now);
        tally.active = 0;
    } else {
        let wanted = wanted(job.value, &tally);
        if active.len() > wanted {
            shrink(&mut change, snapshot, job.value, active, wanted, now);
            tally.active = wanted;
        } else if wanted > active.len() && change.is_empty() {
            match pause(&pods, &tally).filter(|until| *until > now) {
                Some(until) => plan.again(key, until),
                None => return grow(plan, snapshot, job, status, (&pods, tally, wanted - active.len()), now),
            }
        }
        deadline(job.value, &status).filter(|at| *at > now).into_iter().for_each(|at| plan.again(key, at));
    }
    tally.write(&mut status, &pods);
    match change.is_empty() {
        true => set_status(&mut change, job, status),
        // Whatever it says: two plans from one snapshot exclude each other.
        false => _ = change.edit(job, |job| job.body["status"] = status),
    }
    plan.step(key, change);
}

/// Lets go of the pods of a Job that has come to its end, or is being deleted; those that still run are deleted with its end.
fn wind_up(change: &mut Change, job: Entry<'_, KubeObject>, pods: &[Entry<'_, KubeObject>], now: Time) {
    let runs = |pod: &KubeObject| !job.deleting() && !pod.deleting() && !pod.pod_finished();
    for pod in pods.iter().filter(|pod| held(pod.value) || runs(pod.value)).take(BATCH) {
        match runs(pod.value) {
            true => delete_without(change, *pod, TRACKING, now),
            false => release(change, *pod, TRACKING),
        }
    }
    let mut status = job.body["status"].clone();
    if !job.deleting() {
        let tally = Tally::of(&status, 0);
        tally.write(&mut status, pods);
        set_status(change, job, status);
    }
}

fn held(pod: &KubeObject) -> bool {
    pod.body["metadata"]["finalizers"].as_array().is_some_and(|all| all.iter().any(|name| name == TRACKING))
}

/// Counts the pods that have ended into the status, and lets go of them.
fn count(change: &mut Change, status: &mut Value, pods: &[Entry<'_, KubeObject>]) {
    let ended = pods.iter().filter(|pod| held(pod.value) && (pod.deleting() || pod.pod_finished()));
    for pod in ended.take(BATCH) {
        let field = if pod.body["status"]["phase"] == "Succeeded" { "succeeded" } else { "failed" };
        status[field] = json!(number(&status[field], 0) + 1);
        release(change, *pod, TRACKING);
    }
}

/// How a Job stands.
#[derive(Clone, Copy)]
struct Tally {
    active: usize,
    succeeded: i64,
    failed: i64,
}

impl Tally {
    fn of(status: &Value, active: usize) -> Self {
        Self { active, succeeded: number(&status["succeeded"], 0), failed: number(&status["failed"], 0) }
    }

    fn write(&self, status: &mut Value, pods: &[Entry<'_, KubeObject>]) {
        let lives = |pod: &&Entry<'_, KubeObject>| !pod.deleting() && !pod.pod_finished() && holds(pod.value, "Ready");
        let ready = if self.active == 0 { 0 } else { pods.iter().filter(lives).count() };
        let going = pods.iter().filter(|pod| pod.deleting() && !pod.pod_finished()).count();
        let Some(fields) = status.as_object_mut() else { return };
        fields.remove("active");
        if self.active > 0 {
            fields.insert("active".into(), json!(self.active));
        }
        fields.insert("ready".into(), json!(ready));
        fields.insert("terminating".into(), json!(going));
        fields.insert("uncountedTerminatedPods".into(), json!({}));
    }
}

/// When the Job came to its end.
pub(super) fn ended(job: &KubeObject) -> Option<Time> {
    let end = ["Complete", "Failed"]
        .into_iter()
        .find_map(|kind| condition(&job.body["status"], kind).filter(|condition| condition["status"] == "True"))?;
    end["lastTransitionTime"].as_str()?.parse().ok()
}

/// Deletes a Job that shall not outlive its end for longer.
fn expire(plan: &mut Plan, change: &mut Change, job: Entry<'_, KubeObject>, end: Time, now: Time) {
    let Some(kept) = job.body["spec"]["ttlSecondsAfterFinished"].as_i64() else { return };
    match end.checked_add(SignedDuration::from_secs(kept)) {
        Ok(at) if at > now => plan.again(&job.row.key, at),
        Ok(_) => delete(change, job, now),
        Err(_) => {}
    }
}

fn suspended(job: &KubeObject) -> bool {
    job.body["spec"]["suspend"] == true
}

/// When the Job began, and whether it is halted.
fn begin(status: &mut Value, job: &KubeObject, now: Time) {
    let halted = condition(status, "Suspended").is_some_and(|condition| condition["status"] == "True");
    if suspended(job) {
        if !halted {
            put_condition(status, "Suspended", "True", "JobSuspended", "Job suspended", now);
        }
        if let Some(fields) = status.as_object_mut() {
            fields.remove("startTime");
        }
        return;
    }
    if halted {
        put_condition(status, "Suspended", "False", "JobResumed", "Job resumed", now);
    }
    if !status["startTime"].is_string() {
        status["startTime"] = json!(seconds(now));
    }
}

fn put_condition(status: &mut Value, kind: &str, state: &str, reason: &str, message: &str, now: Time) {
    let mut all = status["conditions"].as_array().cloned().unwrap_or_default();
    all.retain(|condition| condition["type"] != kind);
    all.push(json!({
        "type": kind, "status": state, "reason": reason, "message": message,
        "lastProbeTime": seconds(now), "lastTransitionTime": seconds(now),
    }));
    status["conditions"] = json!(all);
}

fn finish(status: &mut Value, kind: &str, reason: &str, message: &str, now: Time) {
    let first = if kind == "Complete" { "SuccessCriteriaMet" } else { "FailureTarget" };
    for kind in [first, kind] {
        put_condition(status, kind, "True", reason, message, now);
    }
    if kind == "Complete" {
        status["completionTime"] = json!(seconds(now));
    }
}

/// Whether the Job has come to its end: the condition, its reason and its message.
fn verdict(
    job: &KubeObject,
    status: &Value,
    tally: &Tally,
    active: &[Entry<'_, KubeObject>],
    now: Time,
) -> Option<(&'static str, &'static str, String)> {
    let spec = &job.body["spec"];
    let limit = number(&spec["backoffLimit"], 6);
    let on_failure = spec["template"]["spec"]["restartPolicy"] == "OnFailure";
    let restarts: i64 = active.iter().filter(|_| on_failure).map(|pod| restarts(pod.value)).sum();
    if tally.failed > limit || (on_failure && restarts > 0 && restarts >= limit) {
        let message = "Job has reached the specified backoff limit";
        return Some(("Failed", "BackoffLimitExceeded", message.into()));
    }
    if deadline(job, status).is_some_and(|at| now >= at) {
        return Some(("Failed", "DeadlineExceeded", "Job was active longer than specified deadline".into()));
    }
    let done = match spec["completions"].as_i64() {
        Some(completions) => tally.succeeded >= completions,
        None => tally.succeeded > 0 && tally.active == 0,
    };
    done.then(|| ("Complete", "CompletionsReached", "Reached expected number of succeeded pods".into()))
}

fn restarts(pod: &KubeObject) -> i64 {
    let lists = ["initContainerStatuses", "containerStatuses"].into_iter();
    let all = lists.flat_map(|list| pod.body["status"][list].as_array().into_iter().flatten());
    all.map(|container| number(&container["restartCount"], 0)).sum()
}

/// When the Job has been active for as long as it may be.
fn deadline(job: &KubeObject, status: &Value) -> Option<Time> {
    let most = job.body["spec"]["activeDeadlineSeconds"].as_i64()?;
    let begun = status["startTime"].as_str()?.parse::<Time>().ok()?;
    begun.checked_add(SignedDuration::from_secs(most)).ok()
}

/// How many pods shall be active.
fn wanted(job: &KubeObject, tally: &Tally) -> usize {
    let spec = &job.body["spec"];
    let parallelism = number(&spec["parallelism"], 1).max(0);
    let wanted = match spec["completions"].as_i64() {
        _ if suspended(job) => 0,
        Some(completions) => parallelism.min(completions - tally.succeeded),
        // One has found that there is no work left: those that are active come to their end.
        None if tally.succeeded > 0 => tally.active as i64,
        None => parallelism,
    };
    wanted.max(0) as usize
}

/// Until when the next pod waits, after a failure.
fn pause(pods: &[Entry<'_, KubeObject>], tally: &Tally) -> Option<Time> {
    let failed = pods.iter().filter(|pod| pod.body["status"]["phase"] == "Failed");
    let ends = failed.flat_map(|pod| {
        let all = pod.value.body["status"]["containerStatuses"].as_array().into_iter().flatten();
        all.filter_map(|c| c["state"]["terminated"]["finishedAt"].as_str()?.parse::<Time>().ok())
    });
    let times = u32::try_from(tally.failed.max(1) - 1).unwrap_or(u32::MAX);
    let wait = WAIT_SECONDS.saturating_mul(2_i64.saturating_pow(times)).min(LONGEST_WAIT_SECONDS);
    ends.max()?.checked_add(SignedDuration::from_secs(wait)).ok()
}

fn shrink(
    change: &mut Change,
    snapshot: &Snapshot,
    job: &KubeObject,
    active: Vec<Entry<'_, KubeObject>>,
    wanted: usize,
    now: Time,
) {
    let count = (active.len() - wanted).min(BATCH);
    let gone = victims(snapshot, job, active, count, now);
    for pod in &gone {
        // It is not counted: nobody wants to know how it would have ended.
        delete_without(change, *pod, TRACKING, now);
    }
    let names: Vec<&str> = gone.iter().map(|pod| pod.value.name.as_str()).collect();
    kube_event::tell(change, snapshot, job, &told(CONTROLLER, "SuccessfulDelete", "Deleted pod", &names), now);
}

/// Makes the pods that are missing. If they are refused, because a quota has room for fewer, one at a time goes as far as it can.
fn grow(
    plan: &mut Plan,
    snapshot: &Snapshot,
    job: Entry<'_, KubeObject>,
    status: Value,
    (pods, tally, missing): (&[Entry<'_, KubeObject>], Tally, usize),
    now: Time,
) {
    let key = &job.row.key;
    deadline(job.value, &status).into_iter().for_each(|at| plan.again(key, at));
    let counts = [missing.min(BATCH), 1];
    for count in &counts[..if missing == 1 { 1 } else { 2 }] {
        let mut change = Change::new();
        let new = match new_pods(snapshot, job.value, *count, now) {
            Ok(new) => new,
            Err(why) => {
                plan.waits(key);
                failed(&mut change, snapshot, job, (job.value, &why), now);
                return plan.step(key, change);
            }
        };
        let names: Vec<&str> = new.iter().map(|pod| pod.name.as_str()).collect();
        kube_event::tell(
            &mut change,
            snapshot,
            job.value,
            &told(CONTROLLER, "SuccessfulCreate", "Created pod", &names),
            now,
        );
        for mut pod in new {
            pod.body["metadata"]["finalizers"] = json!([TRACKING]);
            change.create(pod);
        }
        let mut status = status.clone();
        Tally { active: tally.active + count, ..tally }.write(&mut status, pods);
        // Whatever it says: two plans from one snapshot exclude each other.
        change.edit(job, |job| job.body["status"] = status);
        plan.step(key, change);
    }
}

/// Says why a Job gets no pod.
fn failed(
    change: &mut Change,
    snapshot: &Snapshot,
    job: Entry<'_, KubeObject>,
    (_, why): (&KubeObject, &str),
    now: Time,
) {
    let why = without_name(job.value, why);
    let news = News::new(CONTROLLER, "FailedCreate", format!("Error creating: {why}")).warning();
    kube_event::tell(change, snapshot, job.value, &[news], now);
}

#[cfg(test)]
mod tests {
    use model::{Cluster, Network, Refused};

    use super::*;
    use crate::kube::refused::refused;

    #[test]
    fn a_quotas_refusal_is_told_once() {
        let now = Time::UNIX_EPOCH;
        let object = |group: &str, resource: &str, namespace: &str, name: &str, mut body: Value| {
            body["metadata"]["uid"] = json!(name);
            body["metadata"]["name"] = json!(name);
            let (cluster_id, project_id) = ("c".into(), "p".into());
            let [group, resource, namespace, name] = [group, resource, namespace, name].map(str::to_owned);
            KubeObject { cluster_id, project_id, group, resource, namespace, name, body }
        };
        let long = "a".repeat(60);
        let mut change = Change::new();
        change.create(Cluster::new("c", &Network::new("net", "p", 1, now), now));
        change.create(object("", "namespaces", "", "n", json!({})));
        change.create(object("", "serviceaccounts", "n", "default", json!({})));
        let spec = json!({"completions": 1, "template": {"spec": {"containers": [{"name": "c"}]}}});
        let job = json!({"apiVersion": "batch/v1", "kind": "Job", "spec": spec, "status": {}});
        change.create(object("batch", "jobs", "n", &long, job));
        let mut rows = Snapshot::default();
        rows.apply(1, &change.writes);
        let refusal = Refused::Exceeded { pool: "quota/p/cores".into(), asked: 100, used: 1000, limit: 1000 };
        let mut say = |revision| {
            let plan = PLANNER.scan(&rows, now);
            let said = refused(&rows, &plan[0], &refusal, now)?;
            said.first().inspect(|said| _ = rows.apply(revision, &said.writes));
            Some(said.len())
        };
        assert_eq!((say(2), say(3)), (Some(1), Some(0)), "the next pod has another name, and that is no news");
    }
}
