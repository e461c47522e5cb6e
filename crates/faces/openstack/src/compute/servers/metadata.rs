//! Metadata of servers.

use std::collections::BTreeMap;

use model::{Fault, Server};
use serde_json::{Value, json};

use super::{When, act, requests};
use crate::call::{Call, Reply};
use crate::compute::body::{Fields, texts};
use crate::compute::fault::missing;

const WHEN: When = When {
    vm_states: &["active", "paused", "suspended", "stopped", "building", "resized", "error"],
    tasks: &[],
    any_task: true,
    though_locked: false,
};

fn absent() -> Fault {
    missing("Metadata item was not found")
}

/// `GET /servers/{id}/metadata`
pub async fn index(call: Call) -> Result<Reply, Fault> {
    let view = call.view()?;
    let server = super::find(&view, call.param("id"))?;
    Ok(Reply::ok(json!({"metadata": server.metadata})))
}

/// `GET /servers/{id}/metadata/{key}`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    let view = call.view()?;
    let server = super::find(&view, call.param("id"))?;
    let key = call.param("key");
    let value = server.metadata.get(key).ok_or_else(absent)?;
    Ok(Reply::ok(json!({"meta": {key: value}})))
}

async fn change(
    call: &Call,
    edit: impl Fn(&mut BTreeMap<String, String>) -> Result<(), Fault>,
) -> Result<Server, Fault> {
    act(call, "", WHEN, |server, _| {
        edit(&mut server.metadata)?;
        requests::check_metadata(call, &server.metadata)
    })
    .await
}

fn read(body: &Value) -> Result<Vec<(String, String)>, Fault> {
    let fields = Fields::new("body", body)?;
    fields.only(&["metadata"])?;
    texts("metadata", fields.required("metadata")?)
}

/// `POST /servers/{id}/metadata`: adds and changes.
pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let items = read(&call.json().await?)?;
    let server = change(&call, |metadata| {
        metadata.extend(items.iter().cloned());
        Ok(())
    })
    .await?;
    Ok(Reply::ok(json!({"metadata": server.metadata})))
}

/// `PUT /servers/{id}/metadata`: replaces all.
pub async fn replace(mut call: Call) -> Result<Reply, Fault> {
    let items = read(&call.json().await?)?;
    let server = change(&call, |metadata| {
        *metadata = items.iter().cloned().collect();
        Ok(())
    })
    .await?;
    Ok(Reply::ok(json!({"metadata": server.metadata})))
}

/// `PUT /servers/{id}/metadata/{key}`
pub async fn update(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    let fields = Fields::new("body", &body)?;
    fields.only(&["meta"])?;
    let items = texts("meta", fields.required("meta")?)?;
    let [(key, value)] = items.as_slice() else {
        return Err(Fault::Invalid("Request body contains too many items".into()));
    };
    if key != call.param("key") {
        return Err(Fault::Invalid("Request body and URI mismatch".into()));
    }
    change(&call, |metadata| {
        metadata.insert(key.clone(), value.clone());
        Ok(())
    })
    .await?;
    Ok(Reply::ok(json!({"meta": {key: value}})))
}

/// `DELETE /servers/{id}/metadata/{key}`
pub async fn delete(call: Call) -> Result<Reply, Fault> {
    let key = call.param("key");
    change(&call, |metadata| metadata.remove(key).map(drop).ok_or_else(absent)).await?;
    Ok(Reply::empty(204))
}
