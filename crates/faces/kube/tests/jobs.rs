//! Jobs as the API takes them.

mod common;

use common::World;
use serde_json::{Value, json};

const MERGE: &str = "application/merge-patch+json";
const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";

fn job(name: &str, spec: Value) -> Value {
    let mut all =
        json!({"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}});
    for (field, value) in spec.as_object().unwrap() {
        all[field] = value.clone();
    }
    json!({"metadata": {"name": name}, "spec": all})
}

#[tokio::test]
async fn a_job_selects_its_own_pods() {
    let world = World::new().await;
    let (status, made) = world.post(JOBS, job("j", json!({}))).await;
    assert_eq!(status, 201, "{made}");
    let uid = &made["metadata"]["uid"];
    let labels = json!({
        "batch.kubernetes.io/controller-uid": uid, "controller-uid": uid,
        "batch.kubernetes.io/job-name": "j", "job-name": "j",
    });
    assert_eq!(made["spec"]["template"]["metadata"]["labels"], labels);
    assert_eq!(made["spec"]["selector"], json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}));
    let spec = &made["spec"];
    assert_eq!((&spec["completions"], &spec["parallelism"], &spec["backoffLimit"]), (&json!(1), &json!(1), &json!(6)));
    // Others' pods are not had by saying so.
    let stranger = json!({"selector": {"matchLabels": {"app": "other"}}});
    let (status, refused) = world.post(JOBS, job("k", stranger)).await;
    assert!(status == 422 && refused["message"].as_str().unwrap().contains("not auto-generated"), "{refused}");
    // A queue has no number of completions.
    let (_, queue) = world.post(JOBS, job("q", json!({"parallelism": 3}))).await;
    assert_eq!(queue["spec"]["completions"], Value::Null, "{queue}");
}

#[tokio::test]
async fn what_a_job_cannot_be_is_said() {
    let world = World::new().await;
    let template = json!({"spec": {"restartPolicy": "Always", "containers": [{"name": "c", "image": "i"}]}});
    for (spec, words) in [
        (json!({"template": template}), "supported values: \"OnFailure\", \"Never\""),
        (json!({"completionMode": "Indexed", "completions": 2}), "Jobs with indexes are not offered"),
        (json!({"backoffLimit": -1}), "must be greater than or equal to 0"),
        (json!({"podFailurePolicy": {"rules": []}}), "policies for single failures are not offered"),
    ] {
        let (status, refused) = world.post(JOBS, job("j", spec)).await;
        assert!(status == 422 && refused["message"].as_str().unwrap().contains(words), "{words}: {refused}");
    }
    assert_eq!(world.post(JOBS, job("j", json!({}))).await.0, 201);
    let path = format!("{JOBS}/j");
    for change in [json!({"completions": 5}), json!({"template": {"spec": {"terminationGracePeriodSeconds": 1}}})] {
        let (status, refused) = world.patch(&path, MERGE, json!({"spec": change})).await;
        assert!(status == 422 && refused["message"].as_str().unwrap().contains("field is immutable"), "{refused}");
    }
    assert_eq!(world.patch(&path, MERGE, json!({"spec": {"parallelism": 2, "suspend": true}})).await.0, 200);
}

const CRON_JOBS: &str = "/apis/batch/v1/namespaces/default/cronjobs";

fn cron(name: &str, spec: Value) -> Value {
    let mut all = json!({"schedule": "*/5 * * * *", "jobTemplate": {"spec": job("", json!({}))["spec"]}});
    for (field, value) in spec.as_object().unwrap() {
        all[field] = value.clone();
    }
    json!({"metadata": {"name": name}, "spec": all})
}

#[tokio::test]
async fn a_cron_job_holds_the_job_that_will_be() {
    let world = World::new().await;
    let (status, made) = world.post(CRON_JOBS, cron("c", json!({"timeZone": "Etc/UTC"}))).await;
    assert_eq!(status, 201, "{made}");
    let spec = &made["spec"];
    assert_eq!((&spec["concurrencyPolicy"], &spec["successfulJobsHistoryLimit"]), (&json!("Allow"), &json!(3)));
    let job = &spec["jobTemplate"]["spec"];
    assert_eq!((&job["backoffLimit"], &job["completions"]), (&json!(6), &json!(1)), "as a Job is filled in");
    assert_eq!(job["selector"], Value::Null);
    let long = "x".repeat(53);
    let always = json!({"spec": {"template": {"spec": {"restartPolicy": "Always", "containers": [{"name": "c", "image": "i"}]}}}});
    let mut selects = cron("", json!({}))["spec"]["jobTemplate"].clone();
    selects["spec"]["selector"] = json!({"matchLabels": {"app": "other"}});
    for (name, spec, words) in [
        ("d", json!({"schedule": "61 * * * *"}), "not between 0 and 59: 61"),
        ("d", json!({"schedule": "@every 5m"}), "@every 5m is not offered"),
        ("d", json!({"timeZone": "Europe/Vienna"}), "schedules are in UTC"),
        ("d", json!({"concurrencyPolicy": "Sometimes"}), "supported values: \"Allow\""),
        ("d", json!({"failedJobsHistoryLimit": -1}), "must be greater than or equal to 0"),
        ("d", json!({"jobTemplate": always}), "supported values: \"OnFailure\", \"Never\""),
        ("d", json!({"jobTemplate": selects}), "`selector` will be auto-generated"),
        (&long, json!({}), "must be no more than 52 characters"),
    ] {
        let (status, refused) = world.post(CRON_JOBS, cron(name, spec)).await;
        assert!(status == 422 && refused["message"].as_str().unwrap().contains(words), "{words}: {refused}");
    }
    // The template of what will be may change, and status is no part of it.
    let path = format!("{CRON_JOBS}/c");
    let change = json!({"spec": {"jobTemplate": {"spec": {"backoffLimit": 1}}}, "status": {"lastScheduleTime": "2026-01-01T00:00:00Z"}});
    let (status, changed) = world.patch(&path, MERGE, change).await;
    assert_eq!((status, &changed["metadata"]["generation"]), (200, &json!(2)), "{changed}");
    assert_eq!(changed["status"], json!({}));
}
