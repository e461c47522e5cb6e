//! CronJobs: when their Jobs are made, and which of them stay.

use model::*;
use plan::kube::cronjob::PLANNER;
use serde_json::{Value, json};

/// A moment of a day in UTC.
fn at(clock: &str) -> Time {
    format!("2026-03-02T{clock}:00Z").parse().unwrap()
}

struct World(Snapshot);

impl World {
    /// A CronJob that was made at nine, each ten minutes.
    fn new(spec: Value) -> Self {
        let mut all = json!({"schedule": "*/10 * * * *", "jobTemplate": {
            "metadata": {"labels": {"app": "x"}},
            "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}}},
        }});
        for (field, value) in spec.as_object().unwrap() {
            all[field] = value.clone();
        }
        let body = json!({
            "apiVersion": "batch/v1", "kind": "CronJob", "spec": all, "status": {},
            "metadata": {"name": "cron", "uid": "u", "creationTimestamp": at("09:00").to_string()},
        });
        let mut change = Change::new();
        change.create(Cluster::new("c", &Network::new("net", "p", 1, at("09:00")), at("09:00")));
        let space = json!({"metadata": {"name": "n", "uid": "n"}});
        for (group, resource, namespace, name, body) in
            [("", "namespaces", "", "n", space), ("batch", "cronjobs", "n", "cron", body)]
        {
            let [group, resource, namespace, name] = [group, resource, namespace, name].map(str::to_owned);
            let (cluster_id, project_id) = ("c".into(), "p".into());
            change.create(KubeObject { cluster_id, project_id, group, resource, namespace, name, body });
        }
        let mut rows = Snapshot::default();
        rows.apply(1, &change.writes);
        Self(rows)
    }

    fn commit(&mut self, change: &Change) {
        self.0.prepare(change).unwrap();
        self.0.apply(self.0.revision() + 1, &change.writes);
    }

    /// Plans until nothing is left to do.
    fn plan(&mut self, clock: &str) {
        for _ in 0..10 {
            let changes = PLANNER.scan(&self.0, at(clock));
            if changes.is_empty() {
                return;
            }
            changes.iter().for_each(|change| self.commit(change));
        }
        panic!("it does not come to rest");
    }

    fn jobs(&self) -> Vec<String> {
        let prefix = KubeObject::prefix("batch", "jobs", "n");
        let jobs = self.0.names::<KubeObject>(&Realm::cluster("c"), &prefix, None);
        jobs.map(|job| job.name.clone()).collect()
    }

    fn edit(&mut self, resource: &str, name: &str, edit: impl FnOnce(&mut Value)) {
        let key = KubeObject::key_of("c", "batch", resource, "n", name);
        let mut change = Change::new();
        change.edit(self.0.at::<KubeObject>(&key).unwrap(), |object| edit(&mut object.body));
        self.commit(&change);
    }

    fn end(&mut self, job: &str, kind: &str, clock: &str) {
        let moment = at(clock).to_string();
        let condition = json!({"type": kind, "status": "True", "lastTransitionTime": moment});
        self.edit("jobs", job, |job| {
            job["status"] = json!({"startTime": moment, "conditions": [condition]});
            if kind == "Complete" {
                job["status"]["completionTime"] = json!(moment);
            }
        });
    }

    fn status(&self) -> Value {
        let key = KubeObject::key_of("c", "batch", "cronjobs", "n", "cron");
        self.0.at::<KubeObject>(&key).unwrap().body["status"].clone()
    }

    fn told(&self) -> Vec<String> {
        let events = self.0.all::<KubeObject>().filter(|object| object.is("", "events"));
        events.map(|event| event.body["reason"].as_str().unwrap().to_owned()).collect()
    }
}

fn name(clock: &str) -> String {
    format!("cron-{}", at(clock).as_second() / 60)
}

#[test]
fn a_job_is_made_for_each_moment_and_once() {
    let mut world = World::new(json!({}));
    world.plan("09:09");
    assert_eq!(world.jobs(), [""; 0], "it is not due");
    world.plan("09:10");
    world.plan("09:19");
    assert_eq!(world.jobs(), [name("09:10")]);
    assert_eq!(world.status()["lastScheduleTime"], at("09:10").to_string());
    assert_eq!(world.status()["active"][0]["name"], name("09:10"));
    let key = KubeObject::key_of("c", "batch", "jobs", "n", &name("09:10"));
    let job = world.0.at::<KubeObject>(&key).unwrap();
    assert_eq!(job.body["metadata"]["labels"], json!({"app": "x"}));
    assert_eq!(job.controller().unwrap()["name"], "cron");
    let own = json!({"batch.kubernetes.io/controller-uid": job.uid()});
    assert_eq!(job.body["spec"]["selector"], json!({"matchLabels": own}));
    assert_eq!(job.body["spec"]["template"]["metadata"]["labels"]["job-name"], name("09:10"));
    // What was missed is made up for once.
    world.plan("10:05");
    assert_eq!(world.jobs(), [name("09:10"), name("10:00")]);
    assert_eq!(world.told(), ["SuccessfulCreate"; 2]);
}

#[test]
fn nothing_begins_too_late_or_while_suspended() {
    let mut world = World::new(json!({"startingDeadlineSeconds": 60}));
    world.plan("09:15");
    assert_eq!(world.jobs(), [""; 0], "a minute had passed");
    world.edit("cronjobs", "cron", |cron| cron["spec"]["suspend"] = json!(true));
    world.plan("09:20");
    assert_eq!(world.jobs(), [""; 0]);
    world.edit("cronjobs", "cron", |cron| cron["spec"]["suspend"] = json!(false));
    world.plan("09:20");
    assert_eq!(world.jobs(), [name("09:20")]);
}

#[test]
fn one_that_runs_is_waited_for_or_replaced() {
    let mut forbids = World::new(json!({"concurrencyPolicy": "Forbid"}));
    forbids.plan("09:10");
    // The event is counted up as long as it is so.
    PLANNER.scan(&forbids.0, at("09:20")).iter().for_each(|change| forbids.commit(change));
    assert_eq!(forbids.jobs(), [name("09:10")]);
    assert!(forbids.told().contains(&"JobAlreadyActive".to_owned()));
    forbids.end(&name("09:10"), "Complete", "09:25");
    forbids.plan("09:25");
    assert_eq!(forbids.jobs(), [name("09:10"), name("09:20")], "as soon as the other is done");
    assert_eq!(forbids.status()["lastSuccessfulTime"], at("09:25").to_string());
    let mut replaces = World::new(json!({"concurrencyPolicy": "Replace"}));
    replaces.plan("09:10");
    replaces.plan("09:20");
    assert_eq!(replaces.jobs(), [name("09:20")]);
}

#[test]
fn so_many_that_ended_stay() {
    let mut world = World::new(json!({"successfulJobsHistoryLimit": 2, "failedJobsHistoryLimit": 0}));
    for (clock, kind) in
        [("09:10", "Complete"), ("09:20", "Complete"), ("09:30", "Failed"), ("09:40", "Complete"), ("09:50", "")]
    {
        world.plan(clock);
        if !kind.is_empty() {
            world.end(&name(clock), kind, clock);
        }
    }
    assert_eq!(world.jobs(), [name("09:20"), name("09:40"), name("09:50")]);
    assert_eq!(world.status()["active"].as_array().unwrap().len(), 1);
}
