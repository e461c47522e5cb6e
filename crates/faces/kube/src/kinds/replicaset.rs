//! ReplicaSets.

use model::Time;
use serde_json::{Value, json};

use super::deployment::workload_selector;
use super::pod_validation::default_template;
use super::{Column, Context, Strategy, age, containers_and_images, count, default, name, object, selector, wide};
use crate::fault::Result;
use crate::validate::Errors;

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
        super::template_warnings(&set["spec"]["template"])
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        errors.immutable("spec.selector", &new["spec"]["selector"], &old["spec"]["selector"]);
    }

    fn selectable(&self) -> &'static [&'static str] {
        &["status.replicas"]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            super::NAME,
            count("Desired"),
            count("Current"),
            count("Ready"),
            super::AGE,
            wide("Containers"),
            wide("Images"),
            wide("Selector"),
        ];
        COLUMNS
    }

    fn cells(&self, set: &Value, now: Time) -> Vec<Value> {
        let (spec, status) = (&set["spec"], &set["status"]);
        let of = |value: &Value| Value::from(value.as_i64().unwrap_or(0));
        let (containers, images) = containers_and_images(&spec["template"]["spec"]);
        vec![
            name(set),
            of(&spec["replicas"]),
            of(&status["replicas"]),
            of(&status["readyReplicas"]),
            age(set, now),
            containers.into(),
            images.into(),
            selector(&spec["selector"]).into(),
        ]
    }
}
