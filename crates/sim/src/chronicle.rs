//! What all commits have told of Jobs, their pods and CronJobs, in their order: rows of pods go, and with them how they ended, so
//! that what a Job counts can be compared only with what was seen. It believes no status that it can check.

use std::collections::{BTreeMap, BTreeSet};

use model::batch::Schedule;
use model::{Committed, Event, Index, KubeObject, Resource, Snapshot, Time};
use serde_json::Value;

use crate::now;

/// The label of Jobs whose containers never end by themselves.
pub const LASTING: &str = "lasting";

/// Everything that was heard, by uid.
#[derive(Default)]
pub struct Chronicle {
    jobs: BTreeMap<String, Job>,
    crons: BTreeMap<String, Cron>,
}

/// A Job, and what became of its pods.
#[derive(Default)]
struct Job {
    /// As it is, or as it was last.
    object: Option<KubeObject>,
    gone: bool,
    active: BTreeSet<String>,
    succeeded: BTreeSet<String>,
    failed: BTreeSet<String>,
    /// How often the containers of each pod were started again.
    restarts: BTreeMap<String, i64>,
}

#[derive(Default)]
struct Cron {
    object: Option<KubeObject>,
    gone: bool,
    /// For which moments there were Jobs, by the moments' names.
    ran: BTreeSet<String>,
}

impl Chronicle {
    /// Notes a commit; the error says what must not have been.
    pub fn hear(&mut self, commit: &Committed) -> Result<(), String> {
        let (mut begun, mut jobs) = (BTreeSet::new(), BTreeSet::new());
        for event in &commit.events {
            let Some(object) = either(event) else { continue };
            if object.is("batch", "jobs") {
                jobs.insert(object.uid().to_owned());
                self.hear_job(event)?;
            } else if object.is("batch", "cronjobs") {
                let cron = self.crons.entry(object.uid().to_owned()).or_default();
                (cron.object, cron.gone) = (Some(object.clone()), event.after.is_none());
            } else if let Some(owner) = owner(object, "Job") {
                jobs.insert(owner.clone());
                if self.hear_pod(event, &owner)? {
                    begun.insert(owner);
                }
            }
        }
        for uid in &jobs {
            self.counts(uid)?;
        }
        for uid in &begun {
            self.jobs.get(uid).map_or(Ok(()), may_begin)?;
        }
        if jobs.is_empty() {
            return Ok(());
        }
        self.crons().try_for_each(|(uid, object, _)| self.alone(uid, object))
    }

    fn hear_job(&mut self, event: &Event) -> Result<(), String> {
        let (before, after) = (before(event), after(event));
        let Some(object) = after.or(before) else { return Ok(()) };
        if let (Some(before), Some(after)) = (before, after)
            && let Some(end) = end(before)
            && (end != self::end(after).unwrap_or_default() || tally(before) != tally(after))
        {
            return Err(format!("Job {} was {end} with {:?}, and is not so any more", object.name, tally(before)));
        }
        if before.is_none()
            && let Some(cron) = owner(object, "CronJob").and_then(|uid| self.crons.get_mut(&uid))
        {
            cron.begins(object)?;
        }
        let job = self.jobs.entry(object.uid().to_owned()).or_default();
        (job.object, job.gone) = (Some(object.clone()), after.is_none());
        Ok(())
    }

    /// Whether the pod is new.
    fn hear_pod(&mut self, event: &Event, owner: &str) -> Result<bool, String> {
        let (before, after) = (before(event), after(event));
        let job = self.jobs.entry(owner.to_owned()).or_default();
        let Some(pod) = after else {
            job.active.retain(|uid| before.is_none_or(|pod| pod.uid() != uid));
            return Ok(false);
        };
        let uid = pod.uid().to_owned();
        let phase = |pod: &KubeObject| pod.body["status"]["phase"].as_str().unwrap_or_default().to_owned();
        if let Some(before) = before.filter(|before| before.pod_finished() && phase(before) != phase(pod)) {
            return Err(format!("pod {} had {}, and is {} now", pod.name, phase(before), phase(pod)));
        }
        match pod.deleting() || pod.pod_finished() {
            true => _ = job.active.remove(&uid),
            false => _ = job.active.insert(uid.clone()),
        }
        // One that its Job does not hold any more was counted before, or deleted by the Job itself.
        if pod.held() && phase(pod) == "Succeeded" {
            job.succeeded.insert(uid.clone());
        } else if pod.held() && (pod.deleting() || pod.pod_finished()) {
            job.failed.insert(uid.clone());
        }
        let containers = pod.body["status"]["containerStatuses"].as_array().into_iter().flatten();
        let restarts: i64 = containers.map(|container| number(&container["restartCount"])).sum();
        let most = job.restarts.entry(uid).or_default();
        *most = restarts.max(*most);
        Ok(before.is_none())
    }

    /// No more was counted than was seen.
    fn counts(&self, uid: &str) -> Result<(), String> {
        let Some((job, object)) = self.jobs.get(uid).and_then(|job| Some((job, job.object.as_ref()?))) else {
            return Ok(());
        };
        let (counted, seen) = (tally(object), (job.succeeded.len() as i64, job.failed.len() as i64));
        match counted.0 > seen.0 || counted.1 > seen.1 {
            true => Err(format!("Job {} has counted {counted:?} pods, and {seen:?} have ended", object.name)),
            false => Ok(()),
        }
    }

    /// No two Jobs of a CronJob run at once that must not.
    fn alone(&self, uid: &str, object: &KubeObject) -> Result<(), String> {
        let policy = object.body["spec"]["concurrencyPolicy"].as_str().unwrap_or("Allow");
        let running = self.running(uid);
        match policy != "Allow" && running.len() > 1 {
            true => Err(format!("{running:?} of {} run at once, whose policy is {policy}", object.name)),
            false => Ok(()),
        }
    }

    /// The CronJobs that are there.
    fn crons(&self) -> impl Iterator<Item = (&str, &KubeObject, &Cron)> {
        let there = self.crons.iter().filter(|(_, cron)| !cron.gone);
        there.filter_map(|(uid, cron)| Some((uid.as_str(), cron.object.as_ref()?, cron)))
    }

    /// The Jobs of a CronJob that are there.
    fn jobs_of(&self, cron: &str) -> impl Iterator<Item = &KubeObject> {
        let there = self.jobs.values().filter(|job| !job.gone).filter_map(|job| job.object.as_ref());
        there.filter(move |job| owner(job, "CronJob").as_deref() == Some(cron))
    }

    /// The names of those of them that have not come to their end.
    fn running(&self, cron: &str) -> BTreeSet<&str> {
        self.jobs_of(cron).filter(|job| !over(job)).map(|job| job.name.as_str()).collect()
    }

    /// What must hold at rest. `stubborn` is a host on which nothing can be removed.
    pub fn at_rest(&self, rows: &Snapshot, accepted: &BTreeSet<String>, stubborn: Option<&str>) -> Result<(), String> {
        let stays = |pod: &KubeObject| stubborn.is_some() && pod.body["spec"]["nodeName"].as_str() == stubborn;
        for (uid, job) in &self.jobs {
            let Some(object) = &job.object else { return Err(format!("pods of the unknown Job {uid} are there")) };
            let name = &object.name;
            let pods = || rows.find::<KubeObject>(Index::Owner, uid).filter(|pod| pod.is_pod());
            if job.gone || object.deleting() {
                if let Some(pod) = pods().find(|pod| !(pod.deleting() && stays(pod.value))) {
                    return Err(format!("Job {name} was deleted, and its pod {} is there", pod.name));
                }
                if !job.gone && pods().next().is_none() {
                    return Err(format!("Job {name} was deleted, and is there"));
                }
                let expired = object.body["spec"]["ttlSecondsAfterFinished"].is_number() && end(object).is_some();
                if accepted.contains(name) && !expired {
                    return Err(format!("Job {name} is not there, and nobody deleted it"));
                }
                continue;
            }
            if object.controller().is_none() && !accepted.contains(name) {
                return Err(format!("Job {name} is there, and nobody wants it"));
            }
            let refused = |event: &KubeObject| {
                event.body["involvedObject"]["uid"] == *uid.as_str() && event.body["reason"] == "FailedCreate"
            };
            let told = rows.all::<KubeObject>().any(|object| object.is("", "events") && refused(object.value));
            job.rests(object, &pods().map(|pod| pod.value).collect::<Vec<_>>(), told)
                .map_err(|why| format!("Job {name} {why}: {}", object.body["status"]))?;
        }
        let missing =
            |name: &&String| !self.jobs.values().any(|job| job.object.as_ref().is_some_and(|o| o.name == **name));
        if let Some(name) = accepted.iter().find(missing) {
            return Err(format!("Job {name} was accepted, and never seen"));
        }
        self.crons().try_for_each(|(uid, object, _)| self.kept(uid, object))
    }

    /// Of the Jobs of a CronJob that have ended no more are kept than it says, and it names those that run.
    fn kept(&self, uid: &str, object: &KubeObject) -> Result<(), String> {
        for (kind, limit) in [("Complete", "successfulJobsHistoryLimit"), ("Failed", "failedJobsHistoryLimit")] {
            let (most, kept) =
                (number(&object.body["spec"][limit]), self.jobs_of(uid).filter(|job| end(job) == Some(kind)).count());
            if kept as i64 > most {
                return Err(format!("{} keeps {kept} Jobs that are {kind}, and should keep {most}", object.name));
            }
        }
        let named = object.body["status"]["active"].as_array().into_iter().flatten();
        let named: BTreeSet<_> = named.filter_map(|job| job["name"].as_str()).collect();
        let running = self.running(uid);
        match named == running {
            true => Ok(()),
            false => Err(format!("{} says that {named:?} run, and {running:?} do", object.name)),
        }
    }

    /// A moment of its schedule has passed: each CronJob has run, or another of its Jobs runs beside which it must not.
    pub fn has_run(&self, moment: Time) -> Result<(), String> {
        for (uid, object, cron) in self.crons() {
            let forbidden = object.body["spec"]["concurrencyPolicy"] == "Forbid" && !self.running(uid).is_empty();
            if !cron.ran.contains(&model::seconds(moment)) && !forbidden {
                return Err(format!("{} has not run at {moment}: {}", object.name, object.body["status"]));
            }
        }
        Ok(())
    }
}

impl Cron {
    /// It makes a Job: for a moment of its schedule, for which there was none, and not too late.
    fn begins(&mut self, job: &KubeObject) -> Result<(), String> {
        let Some(object) = &self.object else { return Ok(()) };
        let name = job.body["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"].as_str();
        let moment: Option<Time> = name.and_then(|moment| moment.parse().ok());
        let (Some(name), Some(moment)) = (name, moment) else {
            return Err(format!("Job {} does not say for which moment it is", job.name));
        };
        // When it was decided: the commit may have waited.
        let decided: Option<Time> =
            job.body["metadata"]["creationTimestamp"].as_str().and_then(|moment| moment.parse().ok());
        let decided = decided.ok_or_else(|| format!("Job {} does not say when it was made", job.name))?;
        let words = format!("{} made the Job {} at {decided}", object.name, job.name);
        let schedule = Schedule::parse(object.body["spec"]["schedule"].as_str().unwrap_or_default())?;
        let before = Time::from_second(moment.as_second() - 1).ok().and_then(|before| schedule.after(before));
        if before != Some(moment) || moment > decided || decided > now() {
            return Err(format!("{words}, for {name}, which is not of its schedule"));
        }
        let late = decided.as_second() - moment.as_second();
        if object.body["spec"]["startingDeadlineSeconds"].as_i64().is_some_and(|most| late > most) {
            return Err(format!("{words}, {late} seconds late"));
        }
        if object.body["spec"]["suspend"] == true {
            return Err(format!("{words}, and is suspended"));
        }
        match self.ran.insert(name.to_owned()) {
            true => Ok(()),
            false => Err(format!("{words}, for {name}, for which there was one")),
        }
    }
}

/// A Job has made a pod, and it may.
fn may_begin(job: &Job) -> Result<(), String> {
    let Some(object) = job.object.as_ref().filter(|_| !job.gone) else {
        return Err("a Job that does not exist has made a pod".into());
    };
    let spec = &object.body["spec"];
    let (name, active) = (&object.name, job.active.len() as i64);
    if over(object) || suspended(object) {
        return Err(format!("Job {name} has made a pod, and should not run: {}", object.body["status"]));
    }
    if active > number(&spec["parallelism"]) {
        return Err(format!("Job {name} runs {active} pods, and should run {} at once", spec["parallelism"]));
    }
    let done = active + tally(object).0;
    match spec["completions"].as_i64().is_some_and(|completions| done > completions) {
        true => Err(format!("Job {name} has {done} pods, and needs {} to succeed", spec["completions"])),
        false => Ok(()),
    }
}

impl Job {
    /// It has ended as it should, is suspended, or has what runs or says why it does not.
    /// `told`: it says that it could not make a pod.
    fn rests(&self, object: &KubeObject, pods: &[&KubeObject], told: bool) -> Result<(), String> {
        let (spec, status) = (&object.body["spec"], &object.body["status"]);
        let (succeeded, failed) = tally(object);
        let seen = (self.succeeded.len() as i64, self.failed.len() as i64);
        if (succeeded, failed) != seen {
            return Err(format!("has counted {:?} pods, and {seen:?} have ended", (succeeded, failed)));
        }
        let active: Vec<_> = pods.iter().filter(|pod| !pod.deleting() && !pod.pod_finished()).collect();
        if number(&status["active"]) != active.len() as i64 {
            return Err(format!("has {} pods that run", active.len()));
        }
        if let Some(pod) = pods.iter().find(|pod| pod.pod_finished() && pod.held()) {
            return Err(format!("does not let go of the pod {}", pod.name));
        }
        let limit = number(&spec["backoffLimit"]);
        let restarts: i64 = match spec["template"]["spec"]["restartPolicy"] == "OnFailure" {
            true => self.restarts.values().sum(),
            false => 0,
        };
        let too_often = failed > limit || restarts > 0 && restarts >= limit;
        let too_long = deadline(object).is_some_and(|at| at <= now());
        let enough = match spec["completions"].as_i64() {
            Some(completions) => succeeded == completions,
            None => succeeded > 0 && active.is_empty(),
        };
        match end(object) {
            Some(_) if !active.is_empty() => Err("has ended, and pods run".into()),
            Some(_) if number(&spec["ttlSecondsAfterFinished"]) > 0 => Err("should be gone since it has ended".into()),
            Some("Complete") if enough => Ok(()),
            Some("Complete") => Err("is Complete without enough pods".into()),
            Some(_) => match reason(object) {
                "BackoffLimitExceeded" if too_often => Ok(()),
                "DeadlineExceeded" if too_long => Ok(()),
                reason => Err(format!("has failed for no reason, which is {reason}")),
            },
            None if suspended(object) => match active.is_empty() {
                true => Ok(()),
                false => Err("is suspended, and pods run".into()),
            },
            None if enough => Err("is not Complete".into()),
            None if failed > limit || too_long => Err("is not Failed".into()),
            None => {
                let parallelism = number(&spec["parallelism"]);
                let wanted = match spec["completions"].as_i64() {
                    Some(completions) => parallelism.min(completions - succeeded),
                    None if succeeded > 0 => active.len() as i64,
                    None => parallelism,
                };
                if active.len() as i64 != wanted && !(told && (active.len() as i64) < wanted) {
                    return Err(format!("should run {wanted} pods"));
                }
                match active.iter().find(|pod| !may_stay(pod)) {
                    Some(pod) => {
                        Err(format!("waits for the pod {}, which does not end: {}", pod.name, pod.body["status"]))
                    }
                    None => Ok(()),
                }
            }
        }
    }
}

/// A pod of a Job that does not end, or waits and says for what.
fn may_stay(pod: &KubeObject) -> bool {
    let status = &pod.body["status"];
    let lasting = pod.body["metadata"]["labels"][LASTING].is_string();
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let mut conditions = conditions.filter(|c| c["type"] == "PodScheduled" && c["status"] == "False");
    match status["phase"].as_str() {
        Some("Running") => lasting,
        _ if status["message"].as_str().is_some_and(|words| !words.is_empty()) => true,
        _ => conditions.any(|c| c["message"].as_str().is_some_and(|words| !words.is_empty())),
    }
}

fn either(event: &Event) -> Option<&KubeObject> {
    after(event).or(before(event))
}

fn before(event: &Event) -> Option<&KubeObject> {
    event.before.as_ref().and_then(|row| KubeObject::of(&row.object))
}

fn after(event: &Event) -> Option<&KubeObject> {
    event.after.as_ref().and_then(|row| KubeObject::of(&row.object))
}

/// The uid of what controls an object, if it is of this kind.
pub fn owner(object: &KubeObject, kind: &str) -> Option<String> {
    let reference = object.controller().filter(|reference| reference["kind"] == kind)?;
    reference["uid"].as_str().map(str::to_owned)
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

/// How many pods a Job says have succeeded, and how many have failed.
fn tally(job: &KubeObject) -> (i64, i64) {
    let status = &job.body["status"];
    (number(&status["succeeded"]), number(&status["failed"]))
}

/// How a Job says that it has ended.
fn end(job: &KubeObject) -> Option<&'static str> {
    let conditions = job.body["status"]["conditions"].as_array();
    let holds =
        |kind: &&str| conditions.is_some_and(|all| all.iter().any(|c| c["type"] == **kind && c["status"] == "True"));
    ["Complete", "Failed"].into_iter().find(holds)
}

fn reason(job: &KubeObject) -> &str {
    let mut conditions = job.body["status"]["conditions"].as_array().into_iter().flatten();
    conditions.find(|c| c["type"] == "Failed").and_then(|c| c["reason"].as_str()).unwrap_or_default()
}

fn over(job: &KubeObject) -> bool {
    job.deleting() || end(job).is_some()
}

fn suspended(job: &KubeObject) -> bool {
    job.body["spec"]["suspend"] == true
}

/// Until when a Job may be active.
fn deadline(job: &KubeObject) -> Option<Time> {
    let begun: Time = job.body["status"]["startTime"].as_str()?.parse().ok()?;
    Time::from_second(begun.as_second() + job.body["spec"]["activeDeadlineSeconds"].as_i64()?).ok()
}
