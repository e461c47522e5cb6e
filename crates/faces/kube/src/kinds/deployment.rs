//! Deployments.

use k8s_openapi::api::{apps, autoscaling};
use serde_json::{Value, json};

use super::pod_validation::{self, default_template};
use crate::kind::{ApiResource, Given::View, SCALE, Treatment, done, schema};
use crate::strategy::{
    Column, Context, Result, Strategy, age_column, column, containers, count, default, images, name_column, object,
    selector, wide,
};
use crate::validate::{self, Errors};

const FIELDS: &[Treatment] = &[
    done(
        "DeploymentSpec",
        "minReadySeconds paused progressDeadlineSeconds replicas revisionHistoryLimit selector strategy template",
    ),
    done("DeploymentStrategy", "rollingUpdate type"),
    done("RollingUpdateDeployment", "maxSurge maxUnavailable"),
];

pub fn kind() -> ApiResource {
    ApiResource::of::<apps::v1::Deployment>(Deployment)
        .short("deploy")
        .given(View)
        .all()
        .status()
        .generation()
        .with(SCALE, &[schema::<autoscaling::v1::Scale>])
        .fields(FIELDS)
}

pub struct Deployment;

impl Strategy for Deployment {
    fn default(&self, deployment: &mut Value) {
        let spec = object(deployment, "spec");
        default(spec, "replicas", 1);
        default(spec, "revisionHistoryLimit", 10);
        default(spec, "progressDeadlineSeconds", 600);
        let strategy = object(spec, "strategy");
        default(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate" {
            let rolling = object(strategy, "rollingUpdate");
            default(rolling, "maxUnavailable", "25%");
            default(rolling, "maxSurge", "25%");
        }
        default_template(object(spec, "template"));
    }

    fn create(&self, deployment: &mut Value, _: &Context<'_>) -> Result<()> {
        deployment["status"] = json!({});
        Ok(())
    }

    fn validate(&self, deployment: &Value, errors: &mut Errors) {
        let spec = &deployment["spec"];
        for field in ["replicas", "minReadySeconds", "revisionHistoryLimit"] {
            errors.non_negative(format!("spec.{field}"), &spec[field]);
        }
        workload_selector(spec, errors);
        let strategy = &spec["strategy"];
        errors.one_of("spec.strategy.type", &strategy["type"], &["Recreate", "RollingUpdate"]);
        if strategy["type"] == "Recreate" && strategy["rollingUpdate"].is_object() {
            errors.forbidden("spec.strategy.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'");
        }
        for field in ["maxUnavailable", "maxSurge"] {
            amount(&strategy["rollingUpdate"][field], &format!("spec.strategy.rollingUpdate.{field}"), errors);
        }
        let none = |v: &Value| *v == 0 || *v == "0%";
        if none(&strategy["rollingUpdate"]["maxUnavailable"]) && none(&strategy["rollingUpdate"]["maxSurge"]) {
            let field = "spec.strategy.rollingUpdate.maxUnavailable";
            errors.invalid(field, &strategy["rollingUpdate"]["maxUnavailable"], "may not be 0 when `maxSurge` is 0");
        }
        if let (Some(deadline), ready) =
            (spec["progressDeadlineSeconds"].as_i64(), spec["minReadySeconds"].as_i64().unwrap_or(0))
            && deadline <= ready
        {
            errors.invalid(
                "spec.progressDeadlineSeconds",
                &spec["progressDeadlineSeconds"],
                "must be greater than minReadySeconds",
            );
        }
    }

    fn warnings(&self, deployment: &Value) -> Vec<String> {
        crate::strategy::template_warnings(&deployment["spec"]["template"])
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        errors.immutable("spec.selector", &new["spec"]["selector"], &old["spec"]["selector"]);
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name_column(),
            column("Ready", |deployment, _| {
                let of = |value: &Value| value.as_i64().unwrap_or(0);
                format!("{}/{}", of(&deployment["status"]["readyReplicas"]), of(&deployment["spec"]["replicas"])).into()
            }),
            count("Up-to-date", |deployment, _| deployment["status"]["updatedReplicas"].as_i64().unwrap_or(0).into()),
            count("Available", |deployment, _| deployment["status"]["availableReplicas"].as_i64().unwrap_or(0).into()),
            age_column(),
            wide("Containers", |deployment, _| containers(&deployment["spec"]["template"]["spec"]).into()),
            wide("Images", |deployment, _| images(&deployment["spec"]["template"]["spec"]).into()),
            wide("Selector", |deployment, _| selector(&deployment["spec"]["selector"]).into()),
        ]
    }
}

/// The selector must be there, select something, and match the template.
pub fn workload_selector(spec: &Value, errors: &mut Errors) {
    let labels = &spec["selector"];
    if !labels.is_object() {
        errors.required("spec.selector", "");
    } else {
        validate::label_selector(labels, "spec.selector", errors);
        if crate::strategy::size(&labels["matchLabels"]) + crate::strategy::size(&labels["matchExpressions"]) == 0 {
            errors.invalid("spec.selector", labels, "empty selector is invalid for deployment");
        }
    }
    pod_validation::template(&spec["template"], "spec.template", labels, errors);
}

/// A number that is not negative, or a percentage.
fn amount(value: &Value, at: &str, errors: &mut Errors) {
    match value {
        Value::String(text) => {
            let digits = text.strip_suffix('%').unwrap_or("");
            if digits.is_empty() || digits.len() > 6 || !digits.bytes().all(|b| b.is_ascii_digit()) {
                let detail = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
                errors.invalid(at, value, detail);
            }
        }
        _ => errors.non_negative(at, value),
    }
}
