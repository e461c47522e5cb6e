//! Leases.

use model::Time;
use serde_json::Value;

use super::{Column, Strategy, age, column, name};
use crate::validate::Errors;

pub struct Lease;

impl Strategy for Lease {
    fn validate(&self, lease: &Value, errors: &mut Errors) {
        for (field, least) in [("leaseDurationSeconds", 1), ("leaseTransitions", 0)] {
            let value = &lease["spec"][field];
            if value.as_i64().is_some_and(|n| n < least) {
                let detail = if least == 1 { "must be greater than 0" } else { "must be greater than or equal to 0" };
                errors.invalid(format!("spec.{field}"), value, detail);
            }
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[super::NAME, column("Holder"), super::AGE];
        COLUMNS
    }

    fn cells(&self, lease: &Value, now: Time) -> Vec<Value> {
        vec![name(lease), lease["spec"]["holderIdentity"].as_str().unwrap_or("").into(), age(lease, now)]
    }
}
