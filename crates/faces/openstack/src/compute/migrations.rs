//! Migrations. No server goes from one host to another here, resized or not, so that every list of them is empty and
//! nothing that names one finds it.

use model::Fault;
use serde_json::json;

use super::body::Fields;
use super::fault::missing;
use super::servers::find;
use crate::call::{Call, Reply};
use crate::lists::parse_time;

/// `GET /os-migrations`
pub async fn index(call: Call) -> Result<Reply, Fault> {
    let moment = |name: &str| match call.query(name) {
        Some(text) if call.version >= (2, 59) => parse_time(text).map(Some).ok_or_else(|| {
            Fault::Invalid(format!("Invalid input for query parameters {name}. Value: {text}. It is not a 'date-time'"))
        }),
        _ => Ok(None),
    };
    let (since, before) = (moment("changes-since")?, moment("changes-before")?);
    if since.zip(before).is_some_and(|(since, before)| before < since) {
        return Err(Fault::Invalid("The value of changes-since must be less than or equal to changes-before.".into()));
    }
    if let Some(marker) = call.query("marker").filter(|_| call.version >= (2, 59)) {
        return Err(Fault::Invalid(format!("Marker {marker} could not be found.")));
    }
    Ok(Reply::ok(json!({"migrations": []})))
}

/// `GET /servers/{id}/migrations`
pub async fn index_of_server(call: Call) -> Result<Reply, Fault> {
    find(&call.view()?, call.param("id"))?;
    Ok(Reply::ok(json!({"migrations": []})))
}

/// `GET /servers/{id}/migrations/{migration}`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    let id = call.param("id");
    find(&call.view()?, id)?;
    let migration = call.param("migration");
    Err(missing(format!("In-progress live migration {migration} is not found for server {id}.")))
}

/// `DELETE /servers/{id}/migrations/{migration}`
pub async fn abort(call: Call) -> Result<Reply, Fault> {
    let id = call.param("id");
    find(&call.view()?, id)?;
    Err(missing(format!("Migration {} not found for instance {id}", call.param("migration"))))
}

/// `POST /servers/{id}/migrations/{migration}/action`
pub async fn act(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    let id = call.param("id");
    find(&call.view()?, id)?;
    let fields = Fields::new("body", &body)?;
    fields.only(&["force_complete"])?;
    fields.required("force_complete")?;
    Err(Fault::Invalid(format!("Migration {} not found for instance {id}", call.param("migration"))))
}
