//! CronJobs.

use k8s_openapi::api::batch;
use model::batch::Schedule;
use serde_json::{Value, json};

use super::job;
use crate::kind::{ApiResource, Given::View, Treatment, done};
use crate::strategy::{
    Column, Context, Result, Strategy, age_column, column, containers, count, default, images, name_column, object,
    selector, since, size, wide,
};
use crate::validate::{self, Errors};

/// A Job's name has eleven more characters.
const LONGEST_NAME: usize = 52;

const FIELDS: &[Treatment] = &[
    Treatment {
        of: "CronJobSpec",
        done: "concurrencyPolicy failedJobsHistoryLimit jobTemplate schedule startingDeadlineSeconds successfulJobsHistoryLimit suspend",
        policed: "",
        idle: &[],
        refused: &[("timeZone", &["\"UTC\"", "\"Etc/UTC\""], "schedules are in UTC; other time zones are not offered")],
    },
    done("JobTemplateSpec", "metadata spec"),
];

pub fn kind() -> ApiResource {
    ApiResource::of::<batch::v1::CronJob>(CronJob).short("cj").given(View).all().status().generation().fields(FIELDS)
}

pub struct CronJob;

impl Strategy for CronJob {
    fn default(&self, cron: &mut Value) {
        let spec = object(cron, "spec");
        default(spec, "concurrencyPolicy", "Allow");
        default(spec, "suspend", false);
        default(spec, "successfulJobsHistoryLimit", 3);
        default(spec, "failedJobsHistoryLimit", 1);
        let template = object(spec, "jobTemplate");
        object(template, "metadata");
        job::default_spec(object(template, "spec"));
    }

    fn create(&self, cron: &mut Value, _: &Context<'_>) -> Result<()> {
        cron["status"] = json!({});
        Ok(())
    }

    fn validate(&self, cron: &Value, errors: &mut Errors) {
        let (spec, name) = (&cron["spec"], &cron["metadata"]["name"]);
        if name.as_str().is_some_and(|name| name.len() > LONGEST_NAME) {
            errors.invalid("metadata.name", name, &format!("must be no more than {LONGEST_NAME} characters"));
        }
        match spec["schedule"].as_str().filter(|text| !text.is_empty()) {
            None => errors.required("spec.schedule", ""),
            Some(text) => {
                if let Err(why) = Schedule::parse(text) {
                    errors.invalid("spec.schedule", &spec["schedule"], &why);
                }
            }
        }
        errors.one_of("spec.concurrencyPolicy", &spec["concurrencyPolicy"], &["Allow", "Forbid", "Replace"]);
        for field in ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
            errors.non_negative(format!("spec.{field}"), &spec[field]);
        }
        let template = &spec["jobTemplate"];
        validate::metadata(&template["metadata"], "spec.jobTemplate.metadata", errors);
        if template["spec"]["selector"].is_object() {
            errors.invalid(
                "spec.jobTemplate.spec.selector",
                &template["spec"]["selector"],
                "`selector` will be auto-generated",
            );
        }
        if template["spec"]["manualSelector"] == true {
            errors.unsupported("spec.jobTemplate.spec.manualSelector", &json!(true), &["nil", "false"]);
        }
        job::validate_spec(&template["spec"], "spec.jobTemplate.spec", errors);
    }

    fn warnings(&self, cron: &Value) -> Vec<String> {
        crate::strategy::template_warnings(&cron["spec"]["jobTemplate"]["spec"]["template"])
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name_column(),
            column("Schedule", |cron, _| cron["spec"]["schedule"].clone()),
            column("Timezone", |cron, _| cron["spec"]["timeZone"].as_str().unwrap_or("<none>").into()),
            column("Suspend", |cron, _| if cron["spec"]["suspend"] == true { "True" } else { "False" }.into()),
            count("Active", |cron, _| size(&cron["status"]["active"]).into()),
            column("Last Schedule", |cron, now| match &cron["status"]["lastScheduleTime"] {
                Value::Null => "<none>".into(),
                at => since(at, now).into(),
            }),
            age_column(),
            wide("Containers", |cron, _| containers(pod(cron)).into()),
            wide("Images", |cron, _| images(pod(cron)).into()),
            wide("Selector", |cron, _| selector(&cron["spec"]["jobTemplate"]["spec"]["selector"]).into()),
        ]
    }
}

/// The specification of the pods that come of it.
fn pod(cron: &Value) -> &Value {
    &cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]
}
