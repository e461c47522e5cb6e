//! Create.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use model::{Change, KubeObject, Object, Write};

use super::admit::{Owners, new_object};
use super::{Draft, Expected, Written, commit, contents, decode};
use crate::admission::Review;
use crate::body;
use crate::call::Call;
use crate::fault::Result;
use crate::request::WriteOptions;

/// How often another name is generated when the first is taken.
const NAMES: u32 = 8;

/// `POST` to a collection.
pub async fn create(call: &Call<'_>, bytes: Bytes) -> Result<Response<Body>> {
    let options = WriteOptions::read(&call.query, call.agent())?;
    let decoded = decode(&Expected::of(call.kind()), &call.headers, &bytes, options.validation)?;
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
        let change = creation(call, object.clone());
        Ok(Draft::new(call, snapshot, change, object.clone(), || Review::change(call, None, Some(&object))))
    };
    let (revision, object) = commit(call, &name, options.dry_run, plan).await?;
    Ok(Written { object, revision })
}

/// The change that makes an object, with what is made with it.
pub fn creation(call: &Call<'_>, object: Arc<KubeObject>) -> Change {
    let beside = call.kind().strategy.made_with(&object, call.cluster, call.now);
    let mut change = Change { writes: vec![Write::Create(Object::KubeObject(object))], expects: Vec::new() };
    change.writes.extend(beside.into_iter().map(|object| Write::Create(object.into())));
    contents::as_defined(call, &mut change);
    change
}
