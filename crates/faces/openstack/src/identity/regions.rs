//! Regions: the cloud's own, and those that an administrator names.

use model::{CatalogEndpoint, CatalogRef, CatalogRegion, Change, Entry, Fault, Snapshot};
use serde_json::{Value, json};

use super::catalog::{filtered, fixed, one, region_ref, with_extra};
use super::wire::{Fields, base, get, invalid, list};
use crate::call::{Call, Reply};

const KNOWN: [&str; 4] = ["id", "description", "parent_region_id", "links"];

fn view(call: &Call, region: &CatalogRegion) -> Value {
    let links = json!({"self": format!("{}/regions/{}", base(call), region.id)});
    let parent = region.parent.as_ref().map(CatalogRef::id);
    let known = json!({"id": region.id, "description": region.description, "parent_region_id": parent, "links": links});
    with_extra(&region.extra, known)
}

fn all(call: &Call) -> Vec<Value> {
    let own = CatalogRegion {
        id: call.cloud.region.clone(),
        description: String::new(),
        parent: None,
        extra: Default::default(),
    };
    let added = call.snapshot.all::<CatalogRegion>().filter(|region| region.id != own.id);
    let added: Vec<Value> = added.map(|region| view(call, &region)).collect();
    [vec![view(call, &own)], added].concat()
}

/// A reference to a region that is there.
pub fn find(call: &Call, snapshot: &Snapshot, id: &str) -> Result<CatalogRef, Fault> {
    let found = region_ref(call, id);
    if matches!(found, CatalogRef::Row(_)) {
        get::<CatalogRegion>(snapshot, id).map_err(|_| no_region(id))?;
    }
    Ok(found)
}

fn no_region(id: &str) -> Fault {
    Fault::NotFound { what: "region".into(), id: id.to_owned() }
}

/// A region that is new, and nothing but a name.
pub fn named(call: &Call, id: &str) -> Result<CatalogRegion, Fault> {
    if id.is_empty() || id.chars().count() > 255 || id.chars().any(char::is_control) {
        return Err(invalid("id", "it is not of 1 to 255 printable characters"));
    }
    if region_ref(call, id) == CatalogRef::Own(id.to_owned()) {
        return Err(taken(id));
    }
    Ok(CatalogRegion { id: id.to_owned(), description: String::new(), parent: None, extra: Default::default() })
}

fn taken(id: &str) -> Fault {
    Fault::conflict(format!("Conflict occurred attempting to store region - Duplicate ID, {id}."))
}

pub async fn index(call: Call) -> Result<Reply, Fault> {
    let items = filtered(&call, all(&call), &["parent_region_id"]);
    Ok(list(&call, "regions", items))
}

pub async fn show(call: Call) -> Result<Reply, Fault> {
    one(&call, "region", all(&call))
}

/// `POST /v3/regions`: as the body calls it, or by an id of ours.
pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let fields = Fields::read(&mut call, "region").await?;
    let id = fields.text("id")?.filter(|id| !id.is_empty()).unwrap_or_else(gate::new_id);
    store(&call, &fields, &id).await
}

/// `PUT /v3/regions/{id}`
pub async fn create_as(mut call: Call) -> Result<Reply, Fault> {
    let fields = Fields::read(&mut call, "region").await?;
    let id = call.param("id").to_owned();
    if let Some(other) = fields.text("id")?.filter(|other| *other != id) {
        return Err(Fault::invalid(format!("Conflicting region IDs specified: \"{id}\" != \"{other}\"")));
    }
    store(&call, &fields, &id).await
}

async fn store(call: &Call, fields: &Fields, id: &str) -> Result<Reply, Fault> {
    let made = call.cloud.store.transact(|snapshot| {
        let mut region = named(call, id)?;
        if snapshot.get::<CatalogRegion>(id).is_some() {
            return Err(taken(id));
        }
        apply(call, snapshot, fields, &mut region)?;
        Ok((Change::from(region.clone()), region))
    });
    Ok(Reply::json(201, &json!({"region": view(call, &made.await?)})))
}

fn apply(call: &Call, snapshot: &Snapshot, fields: &Fields, region: &mut CatalogRegion) -> Result<(), Fault> {
    if let Some(description) = fields.nullable("description")? {
        region.description = description.unwrap_or_default();
    }
    if let Some(parent) = fields.nullable("parent_region_id")? {
        region.parent = parent.map(|id| find(call, snapshot, &id)).transpose()?;
    }
    region.extra.extend(fields.extra(&KNOWN));
    Ok(())
}

/// `PATCH /v3/regions/{id}`
pub async fn update(mut call: Call) -> Result<Reply, Fault> {
    let fields = Fields::read(&mut call, "region").await?;
    let id = call.param("id");
    if fields.text("id")?.is_some_and(|other| other != id) {
        return Err(Fault::invalid("Cannot change region ID".to_owned()));
    }
    let changed = call.cloud.store.transact(|snapshot| {
        let entry = changeable(&call, snapshot)?;
        let mut region = entry.value.clone();
        apply(&call, snapshot, &fields, &mut region)?;
        let mut change = Change::new();
        // Above it nothing may change meanwhile, or two changes together would close a circle.
        for above in above(snapshot, region.parent.as_ref()) {
            if above.id == region.id {
                let parent = region.parent.as_ref().map_or("", CatalogRef::id);
                return Err(Fault::invalid(format!(
                    "The specified parent region {parent} would create a circular region hierarchy."
                )));
            }
            change.expect(above);
        }
        change.update(entry, region.clone());
        Ok((change, region))
    });
    let region = changed.await?;
    Ok(Reply::ok(json!({"region": view(&call, &region)})))
}

/// A parent, its parent, and so on.
fn above<'a>(
    snapshot: &'a Snapshot,
    parent: Option<&'a CatalogRef>,
) -> impl Iterator<Item = Entry<'a, CatalogRegion>> + use<'a> {
    let find = |parent: Option<&'a CatalogRef>| snapshot.get::<CatalogRegion>(parent?.id());
    std::iter::successors(find(parent), move |region| find(region.value.parent.as_ref()))
}

fn changeable<'a>(call: &Call, snapshot: &'a Snapshot) -> Result<Entry<'a, CatalogRegion>, Fault> {
    let id = call.param("id");
    match region_ref(call, id) {
        CatalogRef::Own(_) => Err(fixed("region", id)),
        CatalogRef::Row(_) => get(snapshot, id).map_err(|_| no_region(id)),
    }
}

/// `DELETE /v3/regions/{id}`: those below it go with it, unless there are endpoints in one of them.
pub async fn delete(call: Call) -> Result<Reply, Fault> {
    let deleted = call.cloud.store.transact(|snapshot| {
        let region = changeable(&call, snapshot)?;
        let below = |candidate: &Entry<'_, CatalogRegion>| {
            above(snapshot, candidate.value.parent.as_ref()).any(|above| above.id == region.id)
        };
        let gone: Vec<_> =
            std::iter::once(region).chain(snapshot.all::<CatalogRegion>().filter(|other| below(other))).collect();
        let used = |endpoint: &CatalogEndpoint| {
            endpoint.region.as_ref().is_some_and(|used| gone.iter().any(|region| region.id == used.id()))
        };
        if snapshot.all::<CatalogEndpoint>().any(|endpoint| used(&endpoint)) {
            return Err(Fault::Forbidden(format!(
                "Unable to delete region {} because it or its child regions have associated endpoints.",
                region.id
            )));
        }
        let mut change = Change::new();
        for region in gone {
            change.delete(region);
        }
        Ok((change, ()))
    });
    deleted.await?;
    Ok(Reply::empty(204))
}
