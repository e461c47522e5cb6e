//! Leases.

use serde_json::Value;

use super::{Column, Strategy, age_column, column, name_column};
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

    fn columns(&self) -> Vec<Column> {
        let holder = column("Holder", |lease, _| lease["spec"]["holderIdentity"].as_str().unwrap_or("").into());
        vec![name_column(), holder, age_column()]
    }
}
