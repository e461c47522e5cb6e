//! Jobs as the API takes them.

mod common;

use common::World;
use http::Method;
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

/// Where the pods of a Job shall be may be said until it begins, what they do may not.
#[tokio::test]
async fn a_job_that_has_not_begun_is_directed() {
    let world = World::new().await;
    assert_eq!(world.post(JOBS, job("j", json!({"suspend": true}))).await.0, 201);
    let path = format!("{JOBS}/j");
    let of_hosts = json!({"key": "k", "operator": "Exists"});
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchExpressions": [of_hosts]}]}}});
    let of_pods = json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}});
    for (metadata, spec, status) in [
        (json!({}), json!({"containers": [{"name": "c", "image": "other"}]}), 422),
        (json!({}), json!({"terminationGracePeriodSeconds": 1}), 422),
        (json!({}), json!({"affinity": of_pods}), 422),
        (json!({"labels": {"a": "b"}, "annotations": {"c": "d"}}), json!({"nodeSelector": {"zone": "a"}}), 200),
        (json!({}), json!({"affinity": affinity, "tolerations": [{"operator": "Exists"}]}), 200),
        (json!({"annotations": null}), json!({"affinity": null, "tolerations": null}), 200),
    ] {
        let change = json!({"spec": {"template": {"metadata": metadata, "spec": spec}}});
        let (found, body) = world.patch(&path, MERGE, change.clone()).await;
        assert_eq!(found, status, "{change}: {body}");
    }
    assert_eq!(world.patch(&path, MERGE, json!({"spec": {"suspend": false}})).await.0, 200);
    let late = json!({"spec": {"template": {"spec": {"nodeSelector": null}}}});
    assert_eq!(world.patch(&path, MERGE, late).await.0, 422);
}

/// A deletion that does not say what becomes of the pods leaves them, with a warning; upstream's `batch/v1` does.
#[tokio::test]
async fn a_deletion_says_what_becomes_of_the_pods() {
    let world = World::new().await;
    let path = format!("{JOBS}/j");
    let body = |policy: &str| json!({"propagationPolicy": policy});
    let orphan = json!(["orphan"]);
    for (said, finalizers, warns) in [
        (Value::Null, &orphan, true),
        (body("Orphan"), &orphan, false),
        (body("Foreground"), &json!(["foregroundDeletion"]), false),
        (body("Background"), &Value::Null, false),
    ] {
        assert_eq!(world.post(JOBS, job("j", json!({}))).await.0, 201);
        let request = world.request(Method::DELETE, &path, "application/json", &said);
        let (_, headers, _) = world.raw(request).await;
        assert_eq!(headers.contains_key("warning"), warns, "{said}");
        let (status, left) = world.get(&path).await;
        match finalizers {
            Value::Null => assert_eq!(status, 404, "{said}: {left}"),
            _ => assert_eq!(&left["metadata"]["finalizers"], finalizers, "{said}: {left}"),
        }
        world.patch(&path, MERGE, json!({"metadata": {"finalizers": null}})).await;
    }
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
