//! What users do with Jobs and CronJobs, and how the containers of their pods come to their ends.

use jiff::SignedDuration;
use model::{Change, Entry, Index, KubeObject, Realm, Snapshot, Time};
use serde_json::{Value, json};

use crate::chronicle::{LASTING, owner};
use crate::rows::{CLUSTER, cron_job, job};
use crate::{World, now, pass};

/// The most Jobs that users keep: others need room and addresses, too.
const JOBS: usize = 3;
/// The most seconds that pass at once, so that hosts are not taken for silent.
const HOP: i64 = 10;
/// Within so many rounds a schedule that is due must have been run.
const PATIENCE: u32 = 5;

impl World {
    /// A user makes, changes or deletes Jobs and their pods.
    pub(crate) async fn batch(&mut self) -> &'static str {
        match self.chance.u8(0..12) {
            0..5 => self.create_job().await,
            5..7 => self.delete_job().await,
            7..9 => self.change_job().await,
            9..11 => self.delete_pod_of_job().await,
            _ => self.change_cron_job().await,
        }
    }

    async fn create_job(&mut self) -> &'static str {
        if self.jobs.len() >= JOBS {
            return self.delete_job().await;
        }
        let name = format!("job-{}", self.next());
        let spec = self.job_spec();
        if self.commit(&Change::from(job(&name, spec))).await {
            self.jobs.insert(name);
        }
        "create job"
    }

    fn job_spec(&mut self) -> Value {
        let mut spec = json!({
            "parallelism": self.chance.u32(1..3), "backoffLimit": self.chance.u32(0..3), "completions": self.chance.u32(1..4),
            "suspend": self.chance.u8(0..5) == 0,
        });
        let lasting = self.chance.u8(0..6) == 0;
        // Work that the pods share: one that succeeds has found that there is none left.
        if self.chance.u8(0..6) == 0 {
            spec["completions"] = Value::Null;
        }
        if self.chance.u8(0..if lasting { 2 } else { 10 }) == 0 {
            spec["activeDeadlineSeconds"] = json!(40);
        }
        if self.chance.u8(0..6) == 0 {
            spec["ttlSecondsAfterFinished"] = json!(5);
        }
        spec["template"] = self.template(lasting);
        spec
    }

    fn template(&mut self, lasting: bool) -> Value {
        let labels = if lasting { json!({LASTING: "true"}) } else { json!({}) };
        let policy = if self.chance.bool() { "Never" } else { "OnFailure" };
        json!({"metadata": {"labels": labels}, "spec": {
            "automountServiceAccountToken": false, "restartPolicy": policy, "terminationGracePeriodSeconds": 0,
            // In the way of nobody who asks for room.
            "containers": [{"name": "c", "image": "i", "resources": {}}],
        }})
    }

    /// A CronJob of each minute.
    pub(crate) async fn create_cron_job(&mut self) -> &'static str {
        let name = format!("cron-{}", self.next());
        let policy = ["Allow", "Forbid", "Replace"][self.chance.usize(0..3)];
        // Those that run at once would become ever more.
        let lasting = policy != "Allow" && self.chance.u8(0..3) == 0;
        let template = self.template(lasting);
        let mut spec = json!({
            "schedule": "* * * * *", "concurrencyPolicy": policy, "suspend": false,
            "successfulJobsHistoryLimit": self.chance.u32(0..2), "failedJobsHistoryLimit": self.chance.u32(0..2),
            "jobTemplate": {"spec": {
                "parallelism": 1, "completions": 1, "backoffLimit": self.chance.u32(0..2), "suspend": false, "template": template,
            }},
        });
        if self.chance.bool() {
            spec["startingDeadlineSeconds"] = json!(20);
        }
        self.commit(&Change::from(cron_job(&name, spec))).await;
        "create cron job"
    }

    async fn change_cron_job(&mut self) -> &'static str {
        let snapshot = self.some_snapshot();
        let Some(cron) = objects(&snapshot, "cronjobs").next() else { return self.create_cron_job().await };
        let mut change = Change::new();
        if self.chance.u8(0..6) == 0 {
            change.delete(cron);
        } else {
            change.edit(cron, |cron| cron.body["spec"]["suspend"] = json!(cron.body["spec"]["suspend"] != true));
        }
        self.commit(&change).await;
        "change cron job"
    }

    async fn delete_job(&mut self) -> &'static str {
        let snapshot = self.some_snapshot();
        let Some(job) = self.some_job(&snapshot).filter(|job| !job.deleting()) else { return "delete nothing" };
        let mut change = Change::new();
        if self.chance.bool() {
            change.delete(job);
        } else {
            // Its pods go first.
            change.edit(job, |job| {
                job.body["metadata"]["deletionTimestamp"] = json!(now().to_string());
                job.body["metadata"]["finalizers"] = json!(["foregroundDeletion"]);
            });
        }
        let name = job.name.clone();
        if self.commit(&change).await {
            self.jobs.remove(&name);
        }
        "delete job"
    }

    async fn change_job(&mut self) -> &'static str {
        let snapshot = self.some_snapshot();
        let Some(job) = self.some_job(&snapshot) else { return "change nothing" };
        let (halt, parallelism) = (self.chance.bool(), self.chance.u32(0..4));
        let mut change = Change::new();
        change.edit(job, |job| match halt {
            true => job.body["spec"]["suspend"] = json!(job.body["spec"]["suspend"] != true),
            false => job.body["spec"]["parallelism"] = json!(parallelism),
        });
        self.commit(&change).await;
        "change job"
    }

    /// As the API does it: what a Job holds stays until it is counted.
    async fn delete_pod_of_job(&mut self) -> &'static str {
        let snapshot = self.some_snapshot();
        let pods = snapshot.all::<KubeObject>().filter(|pod| pod.is_pod() && owner(pod.value, "Job").is_some());
        let pods: Vec<_> = pods.filter(|pod| !pod.deleting()).collect();
        if pods.is_empty() {
            return "delete nothing";
        }
        let pod = pods[self.chance.usize(0..pods.len())];
        let mut change = Change::new();
        if pod.held() || pod.body["spec"]["nodeName"].is_string() {
            change.edit(pod, |pod| {
                pod.body["metadata"]["deletionTimestamp"] = json!(now().to_string());
                pod.body["metadata"]["deletionGracePeriodSeconds"] = json!(0);
            });
        } else {
            change.delete(pod);
        }
        self.commit(&change).await;
        "delete a job's pod"
    }

    fn some_job<'a>(&mut self, snapshot: &'a Snapshot) -> Option<Entry<'a, KubeObject>> {
        let all: Vec<_> = objects(snapshot, "jobs").collect();
        (!all.is_empty()).then(|| all[self.chance.usize(0..all.len())])
    }

    /// Containers of Jobs come to their end: well, or not. One in so many does.
    pub(crate) fn end_containers(&mut self, one_in: u8) -> &'static str {
        let snapshot = self.store.snapshot();
        let ends = |uid: &str| {
            let mut pods = snapshot.find::<KubeObject>(Index::Name, uid).filter(|pod| pod.is_pod());
            let ends =
                |pod: &KubeObject| owner(pod, "Job").is_some() && pod.body["metadata"]["labels"][LASTING].is_null();
            pods.any(|pod| ends(pod.value))
        };
        for (_, machine) in &self.machines {
            for pod in machine.pods().iter().filter(|pod| ends(&pod.uid)) {
                for container in
                    pod.containers.iter().filter(|c| matches!(c.state, driver::ContainerState::Running { .. }))
                {
                    if self.chance.u8(0..one_in) == 0 {
                        let code = if self.chance.u8(0..3) == 0 { 1 } else { 0 };
                        machine.end_container(&container.id, code);
                    }
                }
            }
        }
        "containers end"
    }

    /// Suspends all CronJobs, so that a cloud can come to rest, or lets them go on.
    pub(crate) async fn suspend_cron_jobs(&mut self, suspend: bool) -> Result<(), String> {
        let snapshot = self.store.snapshot();
        let mut change = Change::new();
        for cron in objects(&snapshot, "cronjobs") {
            change.edit(cron, |cron| cron.body["spec"]["suspend"] = json!(suspend));
        }
        self.store.commit(&change).await.map_err(|why| format!("no CronJob can be suspended: {why}")).map(drop)
    }

    /// The next minute comes, and each CronJob must have run for it.
    pub(crate) async fn run_cron_jobs(&mut self) -> Result<(), String> {
        self.suspend_cron_jobs(false).await?;
        let minute =
            Time::from_second((now().as_second() / 60 + 1) * 60).map_err(|e| format!("no such minute: {e}"))?;
        loop {
            self.calm_round().await;
            let left = minute.duration_since(now());
            if left <= SignedDuration::ZERO {
                break;
            }
            pass(left.as_secs().min(HOP));
        }
        // One beside which no other may run may have to end first.
        for _ in 0..PATIENCE {
            if self.chronicle.has_run(minute).is_ok() {
                break;
            }
            pass(1);
            self.calm_round().await;
        }
        self.chronicle.has_run(minute)?;
        self.suspend_cron_jobs(true).await
    }
}

fn objects<'a>(snapshot: &'a Snapshot, resource: &str) -> impl Iterator<Item = Entry<'a, KubeObject>> + use<'a> {
    snapshot.names(&Realm::cluster(CLUSTER), &KubeObject::prefix("batch", resource, ""), None)
}
