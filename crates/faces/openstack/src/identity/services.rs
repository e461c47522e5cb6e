//! Services of the catalog: the cloud's own, and those of other programs that an administrator names.

use model::{CatalogEndpoint, CatalogRef, CatalogService, Change, Entry, Fault, Index, Snapshot};
use serde_json::{Value, json};

use super::catalog::{filtered, fixed, one, own, service_ref, with_extra};
use super::wire::{Fields, base, get, invalid, list, missing};
use crate::call::{Call, Reply};

const KNOWN: [&str; 5] = ["id", "type", "name", "enabled", "links"];

fn view(call: &Call, service: &CatalogService) -> Value {
    let links = json!({"self": format!("{}/services/{}", base(call), service.id)});
    let known = json!({
        "id": service.id, "type": service.service_type, "name": service.name, "enabled": service.enabled, "links": links,
    });
    with_extra(&service.extra, known)
}

fn all(call: &Call) -> Vec<Value> {
    let own = own(call).map(|service| CatalogService {
        id: service.id.to_owned(),
        service_type: service.service_type.to_owned(),
        name: service.name.to_owned(),
        enabled: true,
        extra: [("description".to_owned(), json!(""))].into(),
    });
    let added = call.snapshot.all::<CatalogService>().map(|service| view(call, &service));
    own.map(|service| view(call, &service)).chain(added).collect()
}

pub async fn index(call: Call) -> Result<Reply, Fault> {
    let items = filtered(&call, all(&call), &["type", "name"]);
    Ok(list(&call, "services", items))
}

pub async fn show(call: Call) -> Result<Reply, Fault> {
    one(&call, "service", all(&call))
}

fn apply(fields: &Fields, service: &mut CatalogService) -> Result<(), Fault> {
    if let Some(service_type) = fields.text("type")? {
        if !(1..=255).contains(&service_type.chars().count()) {
            return Err(invalid("type", "it is not of 1 to 255 characters"));
        }
        service.service_type = service_type;
    }
    if let Some(name) = fields.name()? {
        service.name = name;
    }
    if let Some(enabled) = fields.flag("enabled")? {
        service.enabled = enabled;
    }
    fields.nullable("description")?;
    service.extra.extend(fields.extra(&KNOWN));
    Ok(())
}

/// `POST /v3/services`
pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let fields = Fields::read(&mut call, "service").await?;
    if fields.get("type").is_none() {
        return Err(missing("type"));
    }
    let mut service = CatalogService {
        id: gate::new_id(),
        service_type: String::new(),
        name: String::new(),
        enabled: true,
        extra: Default::default(),
    };
    apply(&fields, &mut service)?;
    call.cloud.store.transact(|_| Ok((Change::from(service.clone()), ()))).await?;
    Ok(Reply::json(201, &json!({"service": view(&call, &service)})))
}

fn changeable<'a>(call: &Call, snapshot: &'a Snapshot) -> Result<Entry<'a, CatalogService>, Fault> {
    let id = call.param("id");
    match service_ref(id) {
        CatalogRef::Own(_) => Err(fixed("service", id)),
        CatalogRef::Row(_) => {
            get(snapshot, id).map_err(|_| Fault::NotFound { what: "service".into(), id: id.to_owned() })
        }
    }
}

/// `PATCH /v3/services/{id}`
pub async fn update(mut call: Call) -> Result<Reply, Fault> {
    let fields = Fields::read(&mut call, "service").await?;
    if fields.text("id")?.is_some_and(|other| other != call.param("id")) {
        return Err(Fault::invalid("Cannot change service ID".to_owned()));
    }
    let changed = call.cloud.store.transact(|snapshot| {
        let entry = changeable(&call, snapshot)?;
        let mut service = entry.value.clone();
        apply(&fields, &mut service)?;
        let mut change = Change::new();
        change.update(entry, service.clone());
        Ok((change, service))
    });
    let service = changed.await?;
    Ok(Reply::ok(json!({"service": view(&call, &service)})))
}

/// `DELETE /v3/services/{id}`: its endpoints go with it.
pub async fn delete(call: Call) -> Result<Reply, Fault> {
    let deleted = call.cloud.store.transact(|snapshot| {
        let entry = changeable(&call, snapshot)?;
        let mut change = Change::new();
        for endpoint in snapshot.find::<CatalogEndpoint>(Index::Owner, &entry.id) {
            change.delete(endpoint);
        }
        change.delete(entry);
        Ok((change, ()))
    });
    deleted.await?;
    Ok(Reply::empty(204))
}
