//! What Nova had once and took away in all versions: it still answers, that it is gone for good.

use model::Fault;

use crate::call::{Call, Reply};

/// Any request to it.
pub async fn gone(call: Call) -> Result<Reply, Fault> {
    let name = |part: &&str| part.starts_with("os-") || *part == "consoles";
    let path = call.uri.split('?').next().unwrap_or("");
    let name = path.split('/').find(name).unwrap_or("resource");
    Err(Fault::Expired(format!("The resource {name} is no longer available. No forwarding address is given.")))
}
