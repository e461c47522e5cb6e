//! How a webhook is called. The connection is made by whoever runs this face ([`Hooks`]): where it may lead, that is the
//! whole cloud's to say, as for everything that a tenant lets the cloud open.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde_json::Value;

/// One call of a webhook.
#[derive(Clone, Debug)]
pub struct Hook {
    /// By HTTPS.
    pub url: String,
    /// Who signs its certificate, in PEM; none: whoever signs those of the Internet's servers.
    pub authorities: Option<Vec<u8>>,
    /// JSON.
    pub body: Bytes,
    /// For all of it.
    pub timeout: Duration,
    /// The most bytes of an answer.
    pub most: usize,
}

/// Sends what it is given by POST and gives the answer of one that succeeded. Else why not, in words that tell nothing of what
/// the cloud can reach.
pub trait Hooks: Send + Sync {
    fn call(&self, hook: Hook) -> Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send + '_>>;
}

/// The most bytes of an answer: it says yes or no.
const MOST: usize = 256 << 10;

/// How long a webhook may take.
pub fn timeout(hook: &Value) -> Duration {
    Duration::from_secs(hook["timeoutSeconds"].as_u64().unwrap_or(10).clamp(1, 30))
}

/// Asks one webhook, for as long as it says itself.
pub async fn ask(hooks: &Option<Arc<dyn Hooks>>, hook: &Value, body: &Value) -> Result<Value, String> {
    let Some(hooks) = hooks else { return Err("webhooks are not called from here".to_owned()) };
    let config = &hook["clientConfig"];
    let url = config["url"].as_str().ok_or("it has no URL")?.to_owned();
    let timeout = timeout(hook);
    let authorities = config["caBundle"].as_str().map(|text| BASE64_STANDARD.decode(text)).transpose();
    let authorities = authorities.map_err(|_| "its caBundle is not base64")?.filter(|bytes| !bytes.is_empty());
    let call = Hook { url, authorities, body: body.to_string().into(), timeout, most: MOST };
    let answer = match tokio::time::timeout(timeout, hooks.call(call)).await {
        Ok(answer) => answer?,
        Err(_) => return Err(format!("it did not answer within {} s", timeout.as_secs())),
    };
    let parsed = crate::body::parse(&answer).map_err(|_| "the answer is not JSON")?;
    Ok(parsed.value)
}
