//! ReplicaSets.

use k8s_openapi::api::apps;
use serde_json::{Value, json};

use super::deployment::workload_selector;
use super::pod_validation::default_template;
use crate::kind::{ApiResource, Given::View, SCALE, Treatment, done};
use crate::strategy::{
    Column, Context, Result, Strategy, age_column, containers, count, default, images, name_column, object, selector,
    wide,
};
use crate::validate::Errors;

const FIELDS: &[Treatment] = &[done("ReplicaSetSpec", "minReadySeconds replicas selector template")];

pub fn kind() -> ApiResource {
    ApiResource::of::<apps::v1::ReplicaSet>(ReplicaSet)
        .short("rs")
        .given(View)
        .all()
        .status()
        .generation()
        .with(SCALE, &[])
        .fields(FIELDS)
}

pub struct ReplicaSet;

impl Strategy for ReplicaSet {
    fn default(&self, set: &mut Value) {
        let spec = object(set, "spec");
        default(spec, "replicas", 1);
        default_template(object(spec, "template"));
    }

    fn create(&self, set: &mut Value, _: &Context<'_>) -> Result<()> {
        set["status"] = json!({"replicas": 0});
        Ok(())
    }

    fn validate(&self, set: &Value, errors: &mut Errors) {
        let spec = &set["spec"];
        for field in ["replicas", "minReadySeconds"] {
            errors.non_negative(format!("spec.{field}"), &spec[field]);
        }
        workload_selector(spec, errors);
    }

    fn warnings(&self, set: &Value) -> Vec<String> {
        crate::strategy::template_warnings(&set["spec"]["template"])
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        errors.immutable("spec.selector", &new["spec"]["selector"], &old["spec"]["selector"]);
    }

    fn selectable(&self) -> Vec<&str> {
        vec!["status.replicas"]
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name_column(),
            count("Desired", |set, _| set["spec"]["replicas"].as_i64().unwrap_or(0).into()),
            count("Current", |set, _| set["status"]["replicas"].as_i64().unwrap_or(0).into()),
            count("Ready", |set, _| set["status"]["readyReplicas"].as_i64().unwrap_or(0).into()),
            age_column(),
            wide("Containers", |set, _| containers(&set["spec"]["template"]["spec"]).into()),
            wide("Images", |set, _| images(&set["spec"]["template"]["spec"]).into()),
            wide("Selector", |set, _| selector(&set["spec"]["selector"]).into()),
        ]
    }
}
