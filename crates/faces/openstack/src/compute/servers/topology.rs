//! `GET /servers/{id}/topology` (2.78): the NUMA nodes of a guest. No guest has any here, whose machines are refused where a
//! flavor or an image asks for some.

use model::Fault;
use serde_json::{Value, json};

use crate::call::{Call, Reply};

/// `GET /servers/{id}/topology`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    super::find(&call.view()?, call.param("id"))?;
    Ok(Reply::ok(json!({"nodes": [], "pagesize_kb": Value::Null})))
}
