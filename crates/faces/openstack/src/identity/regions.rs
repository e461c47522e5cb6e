//! Regions: the cloud's own, and those that an administrator names.

use model::{CatalogEndpoint, CatalogRef, CatalogRegion, Change, Entry, Fault, Kind, Snapshot};

use super::attrs::{self, Attr, By, Given, Is, KeystoneResource, Unknown, field, ruled};
use super::catalog::{fixed, list_with, region_ref, show_with};
use super::wire::invalid;
use crate::call::{Call, Reply};

impl KeystoneResource for CatalogRegion {
    const ONE: &'static str = "region";
    const MANY: &'static str = "regions";
    const ATTRS: &'static [Attr<Self>] = &[
        ruled::<Self>("id", Is::Text, |_, region| (&region.id).into()),
        field!(description: Is::TextOrNull)
            .put(|region, given| region.description = given.as_str().unwrap_or_default().to_owned()),
        ruled::<Self>("parent_region_id", Is::IdOrNull(&[Kind::CatalogRegion]), |_, region| {
            region.parent.as_ref().map(CatalogRef::id).into()
        })
        .by(By::Text),
    ];
    const UNKNOWN: Unknown<Self> = Unknown::Kept(|region| &region.extra, |region| &mut region.extra);

    fn path(&self) -> String {
        format!("regions/{}", self.id)
    }
}

/// The cloud's own.
fn own(call: &Call) -> CatalogRegion {
    CatalogRegion { id: call.cloud.region.clone(), ..CatalogRegion::default() }
}

/// A reference to a region that is there.
pub fn find(call: &Call, snapshot: &Snapshot, id: &str) -> Result<CatalogRef, Fault> {
    let found = region_ref(call, id);
    if matches!(found, CatalogRef::Row(_)) {
        attrs::find::<CatalogRegion>(snapshot, id)?;
    }
    Ok(found)
}

/// A region that is new, and nothing but a name.
pub fn named(call: &Call, id: &str) -> Result<CatalogRegion, Fault> {
    if id.is_empty() || id.chars().count() > 255 || id.chars().any(char::is_control) {
        return Err(invalid("id", "it is not of 1 to 255 printable characters"));
    }
    if region_ref(call, id) == CatalogRef::Own(id.to_owned()) {
        return Err(taken(id));
    }
    Ok(CatalogRegion { id: id.to_owned(), ..CatalogRegion::default() })
}

fn taken(id: &str) -> Fault {
    Fault::conflict(format!("Conflict occurred attempting to store region - Duplicate ID, {id}."))
}

pub async fn index(call: Call) -> Result<Reply, Fault> {
    list_with(&call, std::iter::once(own(&call)))
}

pub async fn show(call: Call) -> Result<Reply, Fault> {
    show_with(&call, std::iter::once(own(&call)))
}

/// `POST /v3/regions`: as the body calls it, or by an id of ours.
pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let given = Given::new(&mut call).await?;
    let id = given.text("id")?.filter(|id| !id.is_empty()).unwrap_or_else(gate::new_id);
    store(&call, &given, &id).await
}

/// `PUT /v3/regions/{id}`
pub async fn create_as(mut call: Call) -> Result<Reply, Fault> {
    let given = Given::new(&mut call).await?;
    let id = call.param("id").to_owned();
    if let Some(other) = given.text("id")?.filter(|other| *other != id) {
        return Err(Fault::invalid(format!("Conflicting region IDs specified: \"{id}\" != \"{other}\"")));
    }
    store(&call, &given, &id).await
}

async fn store(call: &Call, given: &Given<CatalogRegion>, id: &str) -> Result<Reply, Fault> {
    let made = call.cloud.store.transact(|snapshot| {
        let region = named(call, id)?;
        if snapshot.get::<CatalogRegion>(id).is_some() {
            return Err(taken(id));
        }
        let region = filled(call, snapshot, given, region)?;
        Ok((Change::from(region.clone()), region))
    });
    Ok(attrs::reply(call, 201, &made.await?))
}

fn filled(
    call: &Call,
    snapshot: &Snapshot,
    given: &Given<CatalogRegion>,
    region: CatalogRegion,
) -> Result<CatalogRegion, Fault> {
    let mut region = given.fill(region)?;
    if let Some(parent) = given.nullable("parent_region_id")? {
        region.parent = parent.map(|id| find(call, snapshot, &id)).transpose()?;
    }
    Ok(region)
}

/// `PATCH /v3/regions/{id}`
pub async fn update(mut call: Call) -> Result<Reply, Fault> {
    let given = Given::change(&mut call).await?;
    let changed = call.cloud.store.transact(|snapshot| {
        let entry = changeable(&call, snapshot)?;
        let region = filled(&call, snapshot, &given, entry.value.clone())?;
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
    Ok(attrs::reply(&call, 200, &changed.await?))
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
        CatalogRef::Row(_) => attrs::find(snapshot, id),
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
