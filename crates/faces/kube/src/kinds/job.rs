//! Jobs.

use k8s_openapi::api::batch;
use model::batch::{NAMES, UIDS, select_own};
use serde_json::{Value, json};

use super::pod_validation::{self, default_template};
use crate::kind::{ApiResource, Given::View, Treatment};
use crate::strategy::{
    Column, Context, Result, Strategy, age_column, column, containers, default, duration, entry, images, name_column,
    object, selector, wide,
};
use crate::validate::{self, Errors};

const NO_INDEX: &str = "Jobs with indexes are not offered";

const FIELDS: &[Treatment] = &[Treatment {
    of: "JobSpec",
    done: "activeDeadlineSeconds backoffLimit completions manualSelector parallelism selector suspend template ttlSecondsAfterFinished",
    policed: "",
    idle: &[],
    refused: &[
        ("backoffLimitPerIndex", &[], NO_INDEX),
        ("completionMode", &["\"NonIndexed\""], NO_INDEX),
        ("managedBy", &["\"kubernetes.io/job-controller\""], "there is no other controller for Jobs"),
        ("maxFailedIndexes", &[], NO_INDEX),
        ("podFailurePolicy", &[], "policies for single failures are not offered"),
        ("podReplacementPolicy", &["\"TerminatingOrFailed\""], "a pod that is being deleted is replaced at once"),
        ("successPolicy", &[], NO_INDEX),
    ],
}];

pub fn kind() -> ApiResource {
    ApiResource::of::<batch::v1::Job>(Job).given(View).all().status().generation().fields(FIELDS)
}

pub struct Job;

impl Strategy for Job {
    fn default(&self, job: &mut Value) {
        default_spec(object(job, "spec"));
    }

    fn create(&self, job: &mut Value, _: &Context<'_>) -> Result<()> {
        job["status"] = json!({});
        if job["spec"]["manualSelector"] != true {
            select_own(job);
        }
        Ok(())
    }

    fn validate(&self, job: &Value, errors: &mut Errors) {
        let spec = &job["spec"];
        if spec["selector"].is_object() {
            validate::label_selector(&spec["selector"], "spec.selector", errors);
        } else {
            errors.required("spec.selector", "");
        }
        if spec["manualSelector"] != true {
            generated(job, errors);
        }
        validate_spec(spec, "spec", errors);
    }

    fn warnings(&self, job: &Value) -> Vec<String> {
        crate::strategy::template_warnings(&job["spec"]["template"])
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        for field in ["completions", "selector", "completionMode", "podReplacementPolicy"] {
            errors.immutable(format!("spec.{field}"), &new["spec"][field], &old["spec"][field]);
        }
        let (new_template, mut old_template) = (&new["spec"]["template"], old["spec"]["template"].clone());
        if old["spec"]["suspend"] == true && old["status"]["startTime"].is_null() {
            direct(&mut old_template, new_template);
        }
        errors.immutable("spec.template", new_template, &old_template);
    }

    fn preserves_parts(&self) -> Option<&'static str> {
        Some(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or \
             set propagationPolicy=Orphan to suppress this warning",
        )
    }

    fn selectable(&self) -> Vec<&str> {
        vec!["status.successful"]
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name_column(),
            column("Status", |job, _| state(job).into()),
            column("Completions", |job, _| completions(job).into()),
            column("Duration", |job, now| lasted(job, now).into()),
            age_column(),
            wide("Containers", |job, _| containers(&job["spec"]["template"]["spec"]).into()),
            wide("Images", |job, _| images(&job["spec"]["template"]["spec"]).into()),
            wide("Selector", |job, _| selector(&job["spec"]["selector"]).into()),
        ]
    }
}

/// Fills in what a Job leaves out.
pub fn default_spec(spec: &mut Value) {
    // One pod, unless pods find out together that there is no work left.
    if spec["completions"].is_null() && spec["parallelism"].is_null() {
        default(spec, "completions", 1);
    }
    default(spec, "parallelism", 1);
    default(spec, "backoffLimit", 6);
    default(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    default(spec, "podReplacementPolicy", "TerminatingOrFailed");
    default_template(object(spec, "template"));
}

/// What may still be said of the pods of a Job that has not begun: where they shall be, labels and annotations.
fn direct(template: &mut Value, said: &Value) {
    let take = |to: &mut Value, from: &Value, field: &str| match &from[field] {
        Value::Null => _ = to.as_object_mut().map(|to| to.remove(field)),
        value => entry(to, field).clone_from(value),
    };
    for field in ["labels", "annotations"] {
        take(object(template, "metadata"), &said["metadata"], field);
    }
    let (spec, said) = (object(template, "spec"), &said["spec"]);
    for field in ["nodeSelector", "tolerations", "schedulingGates"] {
        take(spec, said, field);
    }
    if spec["affinity"].is_object() || said["affinity"].is_object() {
        take(object(spec, "affinity"), &said["affinity"], "nodeAffinity");
    }
    if said["affinity"].is_null() && spec["affinity"] == json!({}) {
        take(spec, said, "affinity");
    }
}

/// The rules that a Job keeps, and one that is to be.
pub fn validate_spec(spec: &Value, at: &str, errors: &mut Errors) {
    for field in ["parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"] {
        errors.non_negative(format!("{at}.{field}"), &spec[field]);
    }
    pod_validation::template_of_job(&spec["template"], &format!("{at}.template"), &spec["selector"], errors);
}

/// Labels and selector that the server makes are not somebody else's.
fn generated(job: &Value, errors: &mut Errors) {
    let labels = &job["spec"]["template"]["metadata"]["labels"];
    let (uid, name) = (&job["metadata"]["uid"], &job["metadata"]["name"]);
    for (key, wanted) in UIDS.map(|key| (key, uid)).into_iter().chain(NAMES.map(|key| (key, name))) {
        if labels[key] != *wanted {
            let detail = format!("must be '{}'", wanted.as_str().unwrap_or_default());
            errors.invalid(format!("spec.template.metadata.labels[{key}]"), &labels[key], &detail);
        }
    }
    let by_uid = UIDS.iter().any(|key| job["spec"]["selector"]["matchLabels"][*key] == *uid);
    if !by_uid {
        errors.invalid("spec.selector", &job["spec"]["selector"], "`selector` not auto-generated");
    }
}

fn holds(job: &Value, kind: &str) -> bool {
    crate::strategy::items(&job["status"], "conditions").any(|c| c["type"] == kind && c["status"] == "True")
}

/// kubectl's word for how a Job stands.
fn state(job: &Value) -> &'static str {
    let words = [
        ("Complete", "Complete"),
        ("Failed", "Failed"),
        ("Suspended", "Suspended"),
        ("FailureTarget", "FailureTarget"),
        ("SuccessCriteriaMet", "SuccessCriteriaMet"),
    ];
    match words.into_iter().find(|(kind, _)| holds(job, kind)) {
        _ if !job["metadata"]["deletionTimestamp"].is_null() => "Terminating",
        Some((_, word)) => word,
        None => "Running",
    }
}

fn completions(job: &Value) -> String {
    let succeeded = job["status"]["succeeded"].as_i64().unwrap_or(0);
    match (job["spec"]["completions"].as_i64(), job["spec"]["parallelism"].as_i64().unwrap_or(0)) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn lasted(job: &Value, now: model::Time) -> String {
    let moment = |field: &str| job["status"][field].as_str()?.parse::<model::Time>().ok();
    let Some(begun) = moment("startTime") else { return String::new() };
    duration(moment("completionTime").unwrap_or(now).as_second() - begun.as_second())
}
