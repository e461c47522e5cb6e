//! Namespaces. A deleted one stays, terminating, until `spec.finalizers` is empty; what is in it is removed by a planner.

use model::Time;
use serde_json::{Value, json};

use super::{Column, Context, Strategy, age, column, name, object};
use crate::fault::Result;
use crate::validate::NameRule;

pub struct Namespace;

impl Strategy for Namespace {
    fn name_rule(&self) -> NameRule {
        NameRule::Label
    }

    fn default(&self, namespace: &mut Value) {
        let name = namespace["metadata"]["name"].clone();
        if name.is_string() {
            object(object(namespace, "metadata"), "labels")["kubernetes.io/metadata.name"] = name;
        }
    }

    fn create(&self, namespace: &mut Value, _: &Context<'_>) -> Result<()> {
        namespace["spec"] = json!({"finalizers": ["kubernetes"]});
        namespace["status"] = json!({"phase": "Active"});
        Ok(())
    }

    fn update(&self, new: &mut Value, old: &Value, _: &Context<'_>) -> Result<()> {
        new["spec"] = old["spec"].clone();
        Ok(())
    }

    fn selectable(&self) -> &'static [&'static str] {
        &["status.phase"]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[super::NAME, column("Status"), super::AGE];
        COLUMNS
    }

    fn cells(&self, namespace: &Value, now: Time) -> Vec<Value> {
        vec![name(namespace), namespace["status"]["phase"].clone(), age(namespace, now)]
    }
}
