//! ConfigMaps.

use k8s_openapi::api::core;
use serde_json::Value;

use crate::kind::{ApiResource, Given::View};
use crate::strategy::{Column, Strategy, age_column, count, name_column, size};
use crate::validate::Errors;

/// The most bytes that a ConfigMap or Secret may hold.
pub const MAX_BYTES: usize = 1 << 20;

pub fn kind() -> ApiResource {
    ApiResource::of::<core::v1::ConfigMap>(ConfigMap).short("cm").given(View).no_table("data")
}

pub struct ConfigMap;

impl Strategy for ConfigMap {
    fn validate(&self, map: &Value, errors: &mut Errors) {
        keys(map, &["data", "binaryData"], errors);
        for key in map["binaryData"].as_object().into_iter().flat_map(|m| m.keys()) {
            if map["data"].get(key).is_some() {
                let detail = "duplicate of key present in binaryData";
                errors.invalid(format!("data[{key}]"), &Value::from(key.as_str()), detail);
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        immutable(new, old, &["data", "binaryData"], errors);
    }

    fn columns(&self) -> Vec<Column> {
        let data = count("Data", |map, _| (size(&map["data"]) + size(&map["binaryData"])).into());
        vec![name_column(), data, age_column()]
    }
}

/// Keys must be file names, and all values together must not be too large.
pub fn keys(object: &Value, fields: &[&str], errors: &mut Errors) {
    let mut bytes = 0;
    for field in fields {
        for (key, value) in object[*field].as_object().into_iter().flatten() {
            let fits = !key.is_empty()
                && key.len() <= 253
                && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
                && key != "."
                && !key.starts_with("..");
            if !fits {
                let detail = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
                errors.invalid(format!("{field}[{key}]"), &Value::from(key.as_str()), detail);
            }
            bytes += value.as_str().map_or(0, str::len);
        }
    }
    if bytes > MAX_BYTES {
        errors.too_long("", MAX_BYTES);
    }
}

/// What is marked immutable stays so and keeps its content.
pub fn immutable(new: &Value, old: &Value, fields: &[&str], errors: &mut Errors) {
    if old["immutable"] != true {
        return;
    }
    if new["immutable"] != true {
        errors.forbidden("immutable", "field is immutable when `immutable` is set");
    }
    for field in fields {
        if new[*field] != old[*field] {
            errors.forbidden(*field, "field is immutable when `immutable` is set");
        }
    }
}
