//! Create.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use model::{Change, KubeObject, Object, Write};

use super::admit::{Owners, new_object};
use super::{Written, commit, decode};
use crate::body;
use crate::call::Call;
use crate::fault::Result;
use crate::request::WriteOptions;

/// How often another name is generated when the first is taken.
const NAMES: u32 = 8;

/// `POST` to a collection.
pub async fn create(call: &Call<'_>, bytes: Bytes) -> Result<Response<Body>> {
    let options = WriteOptions::read(&call.query, call.agent())?;
    let decoded = decode(call.kind(), &call.headers, &bytes, options.validation)?;
    let generated = crate::meta::text(&decoded.object, "name").is_empty();
    let mut tries = 0;
    let written = loop {
        let result = insert(call, &options, &decoded.object).await;
        tries += 1;
        match result {
            Err(taken) if generated && taken.reason() == "AlreadyExists" && tries < NAMES => {}
            other => break other?,
        }
    };
    let mut response = call.show(201, &written.object, written.revision);
    body::warn(&mut response, &decoded.warnings);
    body::warn(&mut response, &call.kind().strategy.warnings(&written.object.body));
    Ok(response)
}

async fn insert(call: &Call<'_>, options: &WriteOptions, object: &serde_json::Value) -> Result<Written> {
    let name = crate::meta::text(object, "name").to_owned();
    let plan = |snapshot: &model::Snapshot| {
        let object = Arc::new(new_object(call, snapshot, object.clone(), &Owners::Track(&options.manager))?);
        let mut change = creation(object.clone());
        if object.is("", "namespaces") {
            // Pods run as it from the first moment on.
            change.writes.extend(
                crate::rows::default_account(call.cluster, &object.name, call.now).map(|a| Write::Create(a.into())),
            );
        }
        Ok((change, object))
    };
    let (revision, object) = commit(call.kube, call.kind(), &name, options.dry_run, plan).await?;
    Ok(Written { object, revision })
}

/// The change that makes an object.
pub fn creation(object: Arc<KubeObject>) -> Change {
    Change { writes: vec![Write::Create(Object::KubeObject(object))], expects: Vec::new() }
}
