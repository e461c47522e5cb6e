//! CronJobs: a Job at each moment of a schedule, and the old ones removed.
//!
//! A Job's name is made of the moment for which it is, and the commit that makes it writes the CronJob's row: no moment has two.
//! What was missed is made up for once, with the last moment that was missed.

use jiff::SignedDuration;
use model::batch::{Schedule, select_own};
use model::kube_event::{self, News};
use model::{Change, Entry, Event, Key, KubeObject, Resource, Snapshot, Time};
use serde_json::{Value, json};

use super::job::ended;
use super::{New, condition, controlled, controller, delete, keys, number, seconds, set_status};
use crate::planner::{EVENTS, Failed, Plan, Planner, Rows, Seen, Touched, objects};

/// As whom it speaks in events.
const CONTROLLER: &str = "cronjob-controller";
/// The annotation that says for which moment a Job is.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

const CRON_JOBS: Rows = Rows::Objects("batch", "cronjobs");
const JOBS: Rows = Rows::Objects("batch", "jobs");

/// Makes Jobs when they are due, and removes the oldest of those that have ended.
pub const PLANNER: Planner = Planner {
    name: "cronjob",
    reads: &[CRON_JOBS, JOBS],
    writes: &[CRON_JOBS, JOBS, EVENTS],
    at_once: 64,
    items: |rows| keys(rows, "batch", "cronjobs"),
    touched,
    failed: Some(Failed { of: ("CronJob", "batch", "cronjobs"), tell: failed }),
    plan,
};

fn touched(_: &Snapshot, event: &Event, touched: &mut Touched) {
    for object in objects(event) {
        if object.is("batch", "cronjobs") {
            touched.item(event.key.clone());
        } else {
            touched.items(controller(object, "CronJob", "batch", "cronjobs"));
        }
    }
}

fn plan(seen: &Seen<'_>, items: &[Key], now: Time) -> Plan {
    let mut plan = Plan::default();
    for cron in items.iter().filter_map(|key| seen.rows.at::<KubeObject>(key)).filter(|cron| !cron.deleting()) {
        one(&mut plan, seen.rows, cron, now);
    }
    plan
}

fn one(plan: &mut Plan, snapshot: &Snapshot, cron: Entry<'_, KubeObject>, now: Time) {
    let jobs: Vec<_> = controlled(snapshot, cron.value, "batch", "jobs").filter(|job| !job.deleting()).collect();
    let (mut change, mut news) = (Change::new(), Vec::new());
    let mut status = cron.body["status"].clone();
    let succeeded = jobs.iter().filter_map(|job| job.body["status"]["completionTime"].as_str());
    let succeeded = succeeded.chain(status["lastSuccessfulTime"].as_str()).max().map(str::to_owned);
    if let Some(at) = succeeded {
        status["lastSuccessfulTime"] = json!(at);
    }
    clear(&mut change, &mut news, cron.value, &jobs, now);
    let mut active: Vec<_> = jobs.iter().copied().filter(|job| ended(job.value).is_none()).collect();
    if let Some(at) = due(plan, cron, now) {
        match cron.body["spec"]["concurrencyPolicy"].as_str() {
            Some("Forbid") if !active.is_empty() => {
                let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
                news.push(News::new(CONTROLLER, "JobAlreadyActive", message));
            }
            policy => {
                if policy == Some("Replace") {
                    for job in active.drain(..) {
                        delete(&mut change, job, now);
                        news.push(News::new(CONTROLLER, "SuccessfulDelete", format!("Deleted job {}", job.name)));
                    }
                }
                status["lastScheduleTime"] = json!(seconds(at));
                let job = new_job(cron.value, at, now);
                // Whoever made one of this name has done it.
                if snapshot.row(&job.key()).is_none() {
                    news.push(News::new(CONTROLLER, "SuccessfulCreate", format!("Created job {}", job.name)));
                    refer(&mut status, active.iter().map(|job| job.value).chain([&job]));
                    change.create(job);
                    change.edit(cron, |cron| cron.body["status"] = status);
                    kube_event::tell(&mut change, snapshot, cron.value, &news, now);
                    return plan.step(&cron.row.key, change);
                }
            }
        }
    }
    refer(&mut status, active.iter().map(|job| job.value));
    set_status(&mut change, cron, status);
    kube_event::tell(&mut change, snapshot, cron.value, &news, now);
    plan.step(&cron.row.key, change);
}

/// The last moment of the schedule for which there was no Job yet, if it may still begin; the next one is noted.
fn due(plan: &mut Plan, cron: Entry<'_, KubeObject>, now: Time) -> Option<Time> {
    let spec = &cron.body["spec"];
    if spec["suspend"] == true {
        return None;
    }
    let schedule = Schedule::parse(spec["schedule"].as_str()?).ok()?;
    schedule.after(now).into_iter().for_each(|next| plan.again(&cron.row.key, next));
    let moment = |value: &Value| value.as_str()?.parse::<Time>().ok();
    let begun = moment(&cron.body["status"]["lastScheduleTime"]);
    let since = begun.or_else(|| moment(&cron.body["metadata"]["creationTimestamp"]))?;
    let deadline = spec["startingDeadlineSeconds"].as_i64().map(SignedDuration::from_secs);
    let latest = deadline.and_then(|deadline| now.checked_sub(deadline).ok());
    schedule.last(latest.map_or(since, |latest| latest.max(since)), now)
}

fn new_job(cron: &KubeObject, at: Time, now: Time) -> KubeObject {
    let template = &cron.body["spec"]["jobTemplate"];
    let mut meta = json!({"annotations": template["metadata"]["annotations"]});
    if template["metadata"]["labels"].is_object() {
        meta["labels"] = template["metadata"]["labels"].clone();
    }
    meta["annotations"][SCHEDULED] = json!(seconds(at));
    let body = json!({"metadata": meta, "spec": template["spec"], "status": {}});
    let name = format!("{}-{}", cron.name, at.as_second() / 60);
    let salt = at.as_second().to_string();
    let new = New { owner: cron, api_version: "batch/v1", kind: "Job", resource: "jobs", name, salt };
    let mut job = new.object(body, now);
    select_own(&mut job.body);
    job
}

/// Removes the oldest Jobs that have ended: so many that succeeded stay, and so many that failed.
fn clear(change: &mut Change, news: &mut Vec<News>, cron: &KubeObject, jobs: &[Entry<'_, KubeObject>], now: Time) {
    for (end, field, kept) in [("Complete", "successfulJobsHistoryLimit", 3), ("Failed", "failedJobsHistoryLimit", 1)] {
        let is_end = |job: &KubeObject| condition(&job.body["status"], end).is_some_and(|c| c["status"] == "True");
        let mut those: Vec<_> = jobs.iter().copied().filter(|job| is_end(job.value)).collect();
        those.sort_by_key(|job| (job.body["status"]["startTime"].as_str().map(str::to_owned), job.name.clone()));
        let kept = number(&cron.body["spec"][field], kept).max(0) as usize;
        for job in those.iter().take(those.len().saturating_sub(kept)) {
            delete(change, *job, now);
            news.push(News::new(CONTROLLER, "SuccessfulDelete", format!("Deleted job {}", job.name)));
        }
    }
}

/// Writes which Jobs have not ended.
fn refer<'a>(status: &mut Value, active: impl Iterator<Item = &'a KubeObject>) {
    let mut active: Vec<_> = active.collect();
    active.sort_by(|a, b| a.name.cmp(&b.name));
    let reference = |job: &KubeObject| {
        let (name, namespace) = (&job.name, &job.namespace);
        json!({"apiVersion": "batch/v1", "kind": "Job", "name": name, "namespace": namespace, "uid": job.uid()})
    };
    let active: Vec<Value> = active.into_iter().map(reference).collect();
    match active.is_empty() {
        true => _ = status.as_object_mut().map(|fields| fields.remove("active")),
        false => status["active"] = json!(active),
    }
}

fn failed(
    change: &mut Change,
    snapshot: &Snapshot,
    cron: Entry<'_, KubeObject>,
    (_, why): (&KubeObject, &str),
    now: Time,
) {
    let news = News::new(CONTROLLER, "FailedCreate", format!("Error creating job: {why}")).warning();
    kube_event::tell(change, snapshot, cron.value, &[news], now);
}
