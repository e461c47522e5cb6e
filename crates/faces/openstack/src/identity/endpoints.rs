//! Endpoints of the catalog: the cloud's own, which are where the client reached it, and those that an administrator names,
//! also of the cloud's own services elsewhere.

use model::{CatalogEndpoint, CatalogRef, CatalogRegion, CatalogService, Change, Entry, Fault, Snapshot};
use serde_json::{Value, json};

use super::catalog::{INTERFACES, filled, filtered, fixed, is_own_endpoint, one, own, service_ref, with_extra};
use super::regions;
use super::wire::{Fields, base, get, invalid, list, missing};
use crate::call::{Call, Reply};

const KNOWN: [&str; 8] = ["id", "interface", "url", "enabled", "service_id", "region_id", "region", "links"];

/// The longest URL that Keystone takes.
const LONGEST_URL: usize = 225;

fn view(call: &Call, endpoint: &CatalogEndpoint) -> Value {
    let links = json!({"self": format!("{}/endpoints/{}", base(call), endpoint.id)});
    let region = endpoint.region.as_ref().map(CatalogRef::id);
    let known = json!({
        "id": endpoint.id, "interface": endpoint.interface, "url": endpoint.url, "enabled": endpoint.enabled,
        "service_id": endpoint.service.id(), "region_id": region, "region": region, "links": links,
    });
    with_extra(&endpoint.extra, known)
}

fn all(call: &Call) -> Vec<Value> {
    let own = own(call).flat_map(|service| {
        let of_service = service.endpoints.into_iter().map(move |endpoint| CatalogEndpoint {
            id: endpoint.id.to_owned(),
            service: service_ref(service.id),
            region: endpoint.region.map(|region| CatalogRef::Own(region.to_owned())),
            interface: endpoint.interface.to_owned(),
            url: endpoint.url,
            enabled: true,
            extra: Default::default(),
        });
        of_service.collect::<Vec<_>>()
    });
    let added = call.snapshot.all::<CatalogEndpoint>().map(|endpoint| view(call, &endpoint));
    own.map(|endpoint| view(call, &endpoint)).chain(added).collect()
}

pub async fn index(call: Call) -> Result<Reply, Fault> {
    let items = filtered(&call, all(&call), &["interface", "service_id", "region_id"]);
    Ok(list(&call, "endpoints", items))
}

pub async fn show(call: Call) -> Result<Reply, Fault> {
    one(&call, "endpoint", all(&call))
}

/// The service and the region must be there; a region given as `region`, as clients did of old, is made if it is not.
fn apply(
    call: &Call,
    snapshot: &Snapshot,
    fields: &Fields,
    endpoint: &mut CatalogEndpoint,
) -> Result<Option<CatalogRegion>, Fault> {
    if let Some(interface) = fields.text("interface")? {
        if !INTERFACES.contains(&interface.as_str()) {
            return Err(invalid("interface", "it is not one of ['admin', 'internal', 'public']"));
        }
        endpoint.interface = interface;
    }
    if let Some(url) = fields.text("url")? {
        let scheme =
            |scheme: &str| !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c));
        let formed = url.split_once(':').is_some_and(|(front, rest)| scheme(front) && !rest.is_empty());
        if !formed || url.chars().count() > LONGEST_URL || filled(&url, |_| Some("")).is_none() {
            return Err(Fault::invalid(format!("Invalid URL of an endpoint: {}", short(&url))));
        }
        endpoint.url = url;
    }
    if let Some(enabled) = fields.flag("enabled")? {
        endpoint.enabled = enabled;
    }
    if let Some(id) = fields.text("service_id")? {
        endpoint.service = service_ref(&id);
        if matches!(endpoint.service, CatalogRef::Row(_)) && snapshot.get::<CatalogService>(&id).is_none() {
            return Err(invalid("service_id", &format!("there is no service {}", short(&id))));
        }
    }
    endpoint.extra.extend(fields.extra(&KNOWN));
    let (region, old) = (fields.nullable("region_id")?, fields.text("region")?);
    match (region, old) {
        (Some(Some(id)), _) => {
            let found = regions::find(call, snapshot, &id);
            endpoint.region =
                Some(found.map_err(|_| invalid("region_id", &format!("there is no region {}", short(&id))))?);
            Ok(None)
        }
        (_, Some(id)) => match regions::find(call, snapshot, &id) {
            Ok(found) => {
                endpoint.region = Some(found);
                Ok(None)
            }
            Err(_) => {
                endpoint.region = Some(CatalogRef::Row(id.clone()));
                regions::named(call, &id).map(Some)
            }
        },
        (Some(None), None) => {
            endpoint.region = None;
            Ok(None)
        }
        (None, None) => Ok(None),
    }
}

fn short(text: &str) -> String {
    text.chars().take(300).collect()
}

/// `POST /v3/endpoints`
pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let fields = Fields::read(&mut call, "endpoint").await?;
    for field in ["interface", "service_id", "url"] {
        fields.text(field)?.ok_or_else(|| missing(field))?;
    }
    let id = gate::new_id();
    let made = call.cloud.store.transact(|snapshot| {
        let mut endpoint = CatalogEndpoint {
            id: id.clone(),
            service: CatalogRef::Row(String::new()),
            region: None,
            interface: String::new(),
            url: String::new(),
            enabled: true,
            extra: Default::default(),
        };
        let region = apply(&call, snapshot, &fields, &mut endpoint)?;
        let mut change = Change::from(endpoint.clone());
        region.map(|region| change.create(region));
        Ok((change, endpoint))
    });
    let endpoint = made.await?;
    Ok(Reply::json(201, &json!({"endpoint": view(&call, &endpoint)})))
}

fn changeable<'a>(call: &Call, snapshot: &'a Snapshot) -> Result<Entry<'a, CatalogEndpoint>, Fault> {
    let id = call.param("id");
    if is_own_endpoint(id) {
        return Err(fixed("endpoint", id));
    }
    get(snapshot, id).map_err(|_| Fault::NotFound { what: "endpoint".into(), id: id.to_owned() })
}

/// `PATCH /v3/endpoints/{id}`
pub async fn update(mut call: Call) -> Result<Reply, Fault> {
    let fields = Fields::read(&mut call, "endpoint").await?;
    if fields.text("id")?.is_some_and(|other| other != call.param("id")) {
        return Err(Fault::invalid("Cannot change endpoint ID".to_owned()));
    }
    let changed = call.cloud.store.transact(|snapshot| {
        let entry = changeable(&call, snapshot)?;
        let mut endpoint = entry.value.clone();
        let region = apply(&call, snapshot, &fields, &mut endpoint)?;
        let mut change = Change::new();
        change.update(entry, endpoint.clone());
        region.map(|region| change.create(region));
        Ok((change, endpoint))
    });
    let endpoint = changed.await?;
    Ok(Reply::ok(json!({"endpoint": view(&call, &endpoint)})))
}

/// `DELETE /v3/endpoints/{id}`
pub async fn delete(call: Call) -> Result<Reply, Fault> {
    let deleted = call.cloud.store.transact(|snapshot| {
        let mut change = Change::new();
        change.delete(changeable(&call, snapshot)?);
        Ok((change, ()))
    });
    deleted.await?;
    Ok(Reply::empty(204))
}
