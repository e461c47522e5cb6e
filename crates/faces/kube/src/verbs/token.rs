//! Tokens of service accounts.

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use jiff::SignedDuration;
use serde_json::json;

use super::{Expected, decode};
use crate::admission::{self, Review};
use crate::body;
use crate::call::Call;
use crate::denied::Cause;
use crate::fault::{Failure, Result};
use crate::meta;
use crate::request::WriteOptions;
use crate::strategy::items;

const SHORTEST: i64 = 600;
/// A day; longer wishes are cut, as the API allows.
const LONGEST: i64 = 86_400;

/// `POST serviceaccounts/{name}/token`.
pub async fn create(call: &Call<'_>, bytes: Bytes) -> Result<Response<Body>> {
    let options = WriteOptions::read(&call.query, call.agent())?;
    let definition = "io.k8s.api.authentication.v1.TokenRequest";
    let expected = Expected::named("authentication.k8s.io/v1", "TokenRequest", definition);
    let mut request = decode(&expected, &call.headers, &bytes, options.validation)?.object;
    let snapshot = call.snapshot().await?;
    let entry = call.row(&snapshot)?;
    let refuse = |field: &str, message: String| {
        let cause = Cause { reason: "FieldValueInvalid", message, field: field.to_owned() };
        Failure::invalid(call.kind(), call.path.name, vec![cause])
    };
    let seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or(3600);
    if seconds < SHORTEST {
        let message = format!("Invalid value: {seconds}: may not specify a duration less than 10 minutes");
        return Err(refuse("spec.expirationSeconds", message));
    }
    if let Some(other) = items(&request["spec"], "audiences").find(|a| *a != gate::ISSUER) {
        let message = format!("Invalid value: {other}: tokens are made for the audience {:?} only", gate::ISSUER);
        return Err(refuse("spec.audiences", message));
    }
    if request["spec"]["boundObjectRef"].is_object() {
        let message = "Invalid value: tokens cannot be bound to an object but the service account".to_owned();
        return Err(refuse("spec.boundObjectRef", message));
    }
    let asked = ("authentication.k8s.io", "v1", "TokenRequest");
    let review = Review::of(call, "CREATE", asked, request.clone(), serde_json::Value::Null);
    if admission::admit(call, &snapshot, &review, options.dry_run).await? {
        call.still_permitted().await?;
    }
    let end = call.now.checked_add(SignedDuration::from_secs(seconds.min(LONGEST))).unwrap_or(call.now);
    let token = call.kube.gate.service_account_token(
        &call.cluster.id,
        call.path.namespace,
        call.path.name,
        entry.value.uid(),
        end,
    )?;
    request["metadata"] =
        json!({"name": call.path.name, "namespace": call.path.namespace, "creationTimestamp": meta::stamp(call.now)});
    request["spec"]["audiences"] = json!([gate::ISSUER]);
    request["spec"]["expirationSeconds"] = seconds.min(LONGEST).into();
    request["status"] = json!({"token": token, "expirationTimestamp": meta::stamp(end)});
    Ok(body::json(201, &request))
}
