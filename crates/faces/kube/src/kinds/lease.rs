//! Leases.

use k8s_openapi::api::coordination;
use serde_json::Value;

use crate::kind::{ApiResource, Given::Edit};
use crate::strategy::{Column, Strategy, age_column, column, name_column};
use crate::validate::Errors;

pub fn kind() -> ApiResource {
    ApiResource::of::<coordination::v1::Lease>(Lease).given(Edit).no_table("acted on by those who hold it")
}

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
