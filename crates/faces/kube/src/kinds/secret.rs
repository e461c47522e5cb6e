//! Secrets.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use model::Time;
use serde_json::{Map, Value};

use super::{Column, Strategy, age, column, configmap, count, default, name, size};
use crate::validate::Errors;

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

    fn selectable(&self) -> &'static [&'static str] {
        &["type"]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[super::NAME, column("Type"), count("Data"), super::AGE];
        COLUMNS
    }

    fn cells(&self, secret: &Value, now: Time) -> Vec<Value> {
        vec![name(secret), secret["type"].clone(), size(&secret["data"]).into(), age(secret, now)]
    }
}
