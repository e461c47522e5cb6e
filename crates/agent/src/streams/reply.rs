//! What all requests to this host have in common: what they ask, of which pod, and how they are refused.

use axum::response::Response;
use http::StatusCode;

use crate::Agent;
use crate::pod::find;

pub type Reply = Result<Response, (StatusCode, String)>;

pub fn missing(text: impl Into<String>) -> (StatusCode, String) {
    (StatusCode::NOT_FOUND, text.into())
}

/// Decoded pairs of a query string; names may repeat.
pub fn pairs(query: Option<String>) -> Vec<(String, String)> {
    form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect()
}

/// A pod as the runtime has it.
pub async fn seen(agent: &Agent, uid: &str) -> Result<driver::SeenPod, (StatusCode, String)> {
    let seen = find::seen(agent, uid).await.map_err(|e| (StatusCode::SERVICE_UNAVAILABLE, e.to_string()))?;
    seen.ok_or_else(|| missing(format!("pod {uid} is not on this host")))
}
