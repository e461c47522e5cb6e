//! Secrets.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::api::core;
use serde_json::{Map, Value};

use super::configmap;
use crate::kind::{ApiResource, Given::Edit};
use crate::strategy::{Column, Strategy, age_column, column, count, default, name_column, size};
use crate::validate::Errors;

pub fn kind() -> ApiResource {
    ApiResource::of::<core::v1::Secret>(Secret).given(Edit).no_table("data")
}

pub struct Secret;

impl Strategy for Secret {
    fn default(&self, secret: &mut Value) {
        default(secret, "type", "Opaque");
        let text = secret.as_object_mut().and_then(|s| s.remove("stringData"));
        if let Some(Value::Object(text)) = text {
            if !secret["data"].is_object() {
                secret["data"] = Value::Object(Map::new());
            }
            for (key, value) in text {
                secret["data"][key] = BASE64_STANDARD.encode(value.as_str().unwrap_or("")).into();
            }
        }
    }

    fn validate(&self, secret: &Value, errors: &mut Errors) {
        configmap::keys(secret, &["data"], errors);
        let required: &[&str] = match secret["type"].as_str() {
            Some("kubernetes.io/tls") => &["tls.crt", "tls.key"],
            Some("kubernetes.io/dockerconfigjson") => &[".dockerconfigjson"],
            Some("kubernetes.io/dockercfg") => &[".dockercfg"],
            Some("kubernetes.io/ssh-auth") => &["ssh-privatekey"],
            _ => &[],
        };
        for key in required {
            if secret["data"][*key].is_null() {
                errors.required(format!("data[{key}]"), "");
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        errors.immutable("type", &new["type"], &old["type"]);
        configmap::immutable(new, old, &["data"], errors);
    }

    fn selectable(&self) -> Vec<&str> {
        vec!["type"]
    }

    fn columns(&self) -> Vec<Column> {
        let data = count("Data", |secret, _| size(&secret["data"]).into());
        vec![name_column(), column("Type", |secret, _| secret["type"].clone()), data, age_column()]
    }
}
