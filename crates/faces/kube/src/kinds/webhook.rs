//! ValidatingWebhookConfigurations: who is asked before something is written.

use std::collections::HashSet;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::api::admissionregistration;
use model::{KubeObject, Realm};
use serde_json::{Value, json};

use crate::denied::Denied;
use crate::kind::{ApiResource, Given::Nobody, WHOLE};
use crate::strategy::{
    Column, Context, Result, Strategy, age_column, count, default, items, items_mut, name_column, size,
};
use crate::validate::{self, Errors, is_subdomain};

pub fn kind() -> ApiResource {
    ApiResource::of::<admissionregistration::v1::ValidatingWebhookConfiguration>(ValidatingWebhookConfiguration)
        .generation()
        .given(Nobody(WHOLE))
        .no_table("its strategy refuses what is not done")
}

pub struct ValidatingWebhookConfiguration;

/// The most configurations of a cluster, and webhooks of one: every write that they are about is shown to each of them.
const MOST_CONFIGURATIONS: usize = 50;
const MOST: usize = 16;
/// The most rules of a webhook, and entries of a list in one: every write is compared with them.
const MOST_RULES: usize = 32;
const MOST_ENTRIES: usize = 128;

impl Strategy for ValidatingWebhookConfiguration {
    fn default(&self, configuration: &mut Value) {
        for hook in items_mut(configuration, "webhooks") {
            default(hook, "failurePolicy", "Fail");
            default(hook, "matchPolicy", "Equivalent");
            default(hook, "namespaceSelector", json!({}));
            default(hook, "objectSelector", json!({}));
            default(hook, "timeoutSeconds", 10);
            for rule in items_mut(hook, "rules") {
                default(rule, "scope", "*");
            }
        }
    }

    fn create(&self, _: &mut Value, context: &Context<'_>) -> Result<()> {
        let prefix = KubeObject::prefix("admissionregistration.k8s.io", "validatingwebhookconfigurations", "");
        let all = context.snapshot.names::<KubeObject>(&Realm::cluster(&context.cluster.id), &prefix, None);
        match all.count() < MOST_CONFIGURATIONS {
            true => Ok(()),
            false => Err(Denied::Forbidden(format!("a cluster may have {MOST_CONFIGURATIONS} of them"))),
        }
    }

    fn validate(&self, configuration: &Value, errors: &mut Errors) {
        let mut names = HashSet::new();
        if items(configuration, "webhooks").len() > MOST {
            errors.forbidden("webhooks", &format!("a configuration may have {MOST} webhooks"));
            return;
        }
        for (i, hook) in items(configuration, "webhooks").enumerate() {
            let at = format!("webhooks[{i}]");
            let name = hook["name"].as_str().unwrap_or("");
            if !is_subdomain(name) || name.split('.').count() < 3 {
                let why = "should be a domain with at least three segments separated by dots";
                errors.invalid(format!("{at}.name"), &hook["name"], why);
            }
            if !names.insert(name) {
                errors.duplicate(format!("{at}.name"), &hook["name"]);
            }
            webhook(hook, &at, errors);
        }
    }

    fn is_another(&self, new: &Value, old: &Value) -> bool {
        new["webhooks"] != old["webhooks"]
    }

    fn columns(&self) -> Vec<Column> {
        let hooks = count("Webhooks", |configuration, _| size(&configuration["webhooks"]).into());
        vec![name_column(), hooks, age_column()]
    }
}

fn webhook(hook: &Value, at: &str, errors: &mut Errors) {
    for (field, known) in [
        ("failurePolicy", &["Fail", "Ignore"]),
        ("matchPolicy", &["Equivalent", "Exact"]),
        ("sideEffects", &["None", "NoneOnDryRun"]),
    ] {
        if !hook[field].as_str().is_some_and(|text| known.contains(&text)) {
            errors.unsupported(format!("{at}.{field}"), &hook[field], known);
        }
    }
    if !items(hook, "admissionReviewVersions").any(|version| version == "v1") {
        let why = "must include v1, the one version that is spoken here";
        errors.invalid(format!("{at}.admissionReviewVersions"), &hook["admissionReviewVersions"], why);
    }
    if !hook["timeoutSeconds"].as_i64().is_some_and(|seconds| (1..=30).contains(&seconds)) {
        let why = "the timeout value must be between 1 and 30 seconds";
        errors.invalid(format!("{at}.timeoutSeconds"), &hook["timeoutSeconds"], why);
    }
    if size(&hook["matchConditions"]) > 0 {
        let why = "conditions in CEL are not evaluated here: say it by rules and selectors";
        errors.forbidden(format!("{at}.matchConditions"), why);
    }
    for selector in ["namespaceSelector", "objectSelector"] {
        validate::label_selector(&hook[selector], &format!("{at}.{selector}"), errors);
    }
    if !errors.at_most(MOST_RULES, format!("{at}.rules"), &hook["rules"]) {
        return;
    }
    for (i, rule) in items(hook, "rules").enumerate() {
        rules(rule, &format!("{at}.rules[{i}]"), errors);
    }
    client(&hook["clientConfig"], &format!("{at}.clientConfig"), errors);
}

fn rules(rule: &Value, at: &str, errors: &mut Errors) {
    for field in ["operations", "apiGroups", "apiVersions", "resources"] {
        if items(rule, field).len() == 0 {
            errors.required(format!("{at}.{field}"), "");
        }
        errors.at_most(MOST_ENTRIES, format!("{at}.{field}"), &rule[field]);
    }
    for (i, operation) in items(rule, "operations").enumerate() {
        errors.one_of(format!("{at}.operations[{i}]"), operation, &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"]);
    }
    errors.one_of(format!("{at}.scope"), &rule["scope"], &["*", "Cluster", "Namespaced"]);
}

fn client(config: &Value, at: &str, errors: &mut Errors) {
    if config["service"].is_object() {
        let why =
            "services of the cluster are not called: they are in its own network; name a URL that the Internet has";
        errors.forbidden(format!("{at}.service"), why);
        return;
    }
    let url = &config["url"];
    match url.as_str() {
        None | Some("") => errors.required(format!("{at}.url"), "exactly one of url or service is required"),
        Some(text) if !text.starts_with("https://") => {
            errors.invalid(format!("{at}.url"), url, "'https' is the only allowed URL scheme");
        }
        Some(text) if text.contains(['@', '#', '?']) => {
            let why = "user information, query parameters and fragments are not permitted in the URL";
            errors.invalid(format!("{at}.url"), url, why);
        }
        Some(_) => {}
    }
    let bundle = config["caBundle"].as_str().unwrap_or("");
    let pem = BASE64_STANDARD.decode(bundle).unwrap_or_default();
    if !bundle.is_empty() && !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----") {
        errors.invalid(format!("{at}.caBundle"), &"(not shown)".into(), "unable to load root certificates: not in PEM");
    }
}
