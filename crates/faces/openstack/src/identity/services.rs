//! Services of the catalog: the cloud's own, and those of other programs that an administrator names.

use model::{CatalogEndpoint, CatalogRef, CatalogService, Change, Entry, Fault, Index, Snapshot};
use serde_json::json;

use super::attrs::{self, Attr, By, Given, Is, KeystoneResource, Unknown, field, ruled};
use super::catalog::{fixed, list_with, own, service_ref, show_with};
use super::wire::invalid;
use crate::call::{Call, Reply};
use crate::json::Json;

impl KeystoneResource for CatalogService {
    const ONE: &'static str = "service";
    const MANY: &'static str = "services";
    const ATTRS: &'static [Attr<Self>] = &[
        field!(id),
        field!("type" service_type: Is::Text).required().by(By::Text),
        field!(name: Is::Name(255)).by(By::Text),
        field!(enabled: Is::Flag),
        // Keystone has no place for it and keeps it as it keeps what it does not know.
        ruled::<Self>("description", Is::TextOrNull, |_, service| {
            service.extra.get("description").map_or(Json::Absent, Json::from)
        })
        .put(|service, given| _ = service.extra.insert("description".to_owned(), given.clone())),
    ];
    const UNKNOWN: Unknown<Self> = Unknown::Kept(|service| &service.extra, |service| &mut service.extra);

    fn path(&self) -> String {
        format!("services/{}", self.id)
    }
}

/// The cloud's own.
fn all_own(call: &Call) -> impl Iterator<Item = CatalogService> {
    own(call).map(|service| CatalogService {
        id: service.id.to_owned(),
        service_type: service.service_type.to_owned(),
        name: service.name.to_owned(),
        enabled: true,
        extra: [("description".to_owned(), json!(""))].into(),
    })
}

pub async fn index(call: Call) -> Result<Reply, Fault> {
    list_with(&call, all_own(&call))
}

pub async fn show(call: Call) -> Result<Reply, Fault> {
    show_with(&call, all_own(&call))
}

fn check(service: &CatalogService) -> Result<(), Fault> {
    match (1..=255).contains(&service.service_type.chars().count()) {
        true => Ok(()),
        false => Err(invalid("type", "it is not of 1 to 255 characters")),
    }
}

/// `POST /v3/services`
pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let given = Given::<CatalogService>::new(&mut call).await?;
    let service = given.fill(CatalogService { id: gate::new_id(), enabled: true, ..CatalogService::default() })?;
    check(&service)?;
    call.cloud.store.transact(|_| Ok((Change::from(service.clone()), ()))).await?;
    Ok(attrs::reply(&call, 201, &service))
}

fn changeable<'a>(call: &Call, snapshot: &'a Snapshot) -> Result<Entry<'a, CatalogService>, Fault> {
    let id = call.param("id");
    match service_ref(id) {
        CatalogRef::Own(_) => Err(fixed("service", id)),
        CatalogRef::Row(_) => attrs::find(snapshot, id),
    }
}

/// `PATCH /v3/services/{id}`
pub async fn update(mut call: Call) -> Result<Reply, Fault> {
    let given = Given::<CatalogService>::change(&mut call).await?;
    if given.text("id")?.is_some_and(|other| other != call.param("id")) {
        return Err(Fault::invalid("Cannot change service ID".to_owned()));
    }
    let changed = call.cloud.store.transact(|snapshot| {
        let entry = changeable(&call, snapshot)?;
        let service = given.fill(entry.value.clone())?;
        check(&service)?;
        let mut change = Change::new();
        change.update(entry, service.clone());
        Ok((change, service))
    });
    Ok(attrs::reply(&call, 200, &changed.await?))
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
