//! Endpoints of the catalog: the cloud's own, which are where the client reached it, and those that an administrator names,
//! also of the cloud's own services elsewhere.

use model::{CatalogEndpoint, CatalogRef, CatalogRegion, CatalogService, Change, Entry, Fault, Kind, Snapshot};

use super::attrs::{self, Attr, By, Given, Is, KeystoneResource, Unknown, field, ruled};
use super::catalog::{INTERFACES, filled, fixed, is_own_endpoint, list_with, own, service_ref, show_with};
use super::regions;
use super::wire::invalid;
use crate::call::{Call, Reply};
use crate::json::Json;

/// The longest URL that Keystone takes.
const LONGEST_URL: usize = 225;

impl KeystoneResource for CatalogEndpoint {
    const ONE: &'static str = "endpoint";
    const MANY: &'static str = "endpoints";
    const ATTRS: &'static [Attr<Self>] = &[
        field!(id),
        field!(interface: Is::Text).required().by(By::Text),
        field!(url: Is::Text).required(),
        field!(enabled: Is::Flag),
        ruled::<Self>("service_id", Is::Id(&[Kind::CatalogService]), |_, endpoint| endpoint.service.id().into())
            .required()
            .by(By::Text),
        ruled::<Self>("region_id", Is::IdOrNull(&[Kind::CatalogRegion]), |_, endpoint| region(endpoint)).by(By::Text),
        // As clients said of old; it is made if it is not there.
        ruled::<Self>("region", Is::Text, |_, endpoint| region(endpoint)),
    ];
    const UNKNOWN: Unknown<Self> = Unknown::Kept(|endpoint| &endpoint.extra, |endpoint| &mut endpoint.extra);

    fn path(&self) -> String {
        format!("endpoints/{}", self.id)
    }
}

fn region(endpoint: &CatalogEndpoint) -> Json<'_> {
    endpoint.region.as_ref().map(CatalogRef::id).into()
}

/// The cloud's own.
fn all_own(call: &Call) -> impl Iterator<Item = CatalogEndpoint> {
    own(call).flat_map(|service| {
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
    })
}

pub async fn index(call: Call) -> Result<Reply, Fault> {
    list_with(&call, all_own(&call))
}

pub async fn show(call: Call) -> Result<Reply, Fault> {
    show_with(&call, all_own(&call))
}

/// The service and the region must be there; a region given as `region`, as clients did of old, is made if it is not.
fn filled_in(
    call: &Call,
    snapshot: &Snapshot,
    given: &Given<CatalogEndpoint>,
    endpoint: CatalogEndpoint,
) -> Result<(CatalogEndpoint, Option<CatalogRegion>), Fault> {
    let mut endpoint = given.fill(endpoint)?;
    if !INTERFACES.contains(&endpoint.interface.as_str()) {
        return Err(invalid("interface", "it is not one of ['admin', 'internal', 'public']"));
    }
    if !is_url(&endpoint.url) {
        return Err(Fault::invalid(format!("Invalid URL of an endpoint: {}", short(&endpoint.url))));
    }
    if let Some(id) = given.text("service_id")? {
        endpoint.service = service_ref(&id);
        if matches!(endpoint.service, CatalogRef::Row(_)) && snapshot.get::<CatalogService>(&id).is_none() {
            return Err(invalid("service_id", &format!("there is no service {}", short(&id))));
        }
    }
    let region = place(call, snapshot, given, &mut endpoint)?;
    Ok((endpoint, region))
}

fn is_url(url: &str) -> bool {
    let scheme =
        |scheme: &str| !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c));
    let formed = url.split_once(':').is_some_and(|(front, rest)| scheme(front) && !rest.is_empty());
    formed && url.chars().count() <= LONGEST_URL && filled(url, |_| Some("")).is_some()
}

/// Puts an endpoint into the region that is asked for, which may have to be made.
fn place(
    call: &Call,
    snapshot: &Snapshot,
    given: &Given<CatalogEndpoint>,
    endpoint: &mut CatalogEndpoint,
) -> Result<Option<CatalogRegion>, Fault> {
    let (region, old) = (given.nullable("region_id")?, given.text("region")?);
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
    let given = Given::<CatalogEndpoint>::new(&mut call).await?;
    let id = gate::new_id();
    let made = call.cloud.store.transact(|snapshot| {
        let endpoint = CatalogEndpoint {
            id: id.clone(),
            service: CatalogRef::Row(String::new()),
            region: None,
            interface: String::new(),
            url: String::new(),
            enabled: true,
            extra: Default::default(),
        };
        let (endpoint, region) = filled_in(&call, snapshot, &given, endpoint)?;
        let mut change = Change::from(endpoint.clone());
        region.map(|region| change.create(region));
        Ok((change, endpoint))
    });
    Ok(attrs::reply(&call, 201, &made.await?))
}

fn changeable<'a>(call: &Call, snapshot: &'a Snapshot) -> Result<Entry<'a, CatalogEndpoint>, Fault> {
    let id = call.param("id");
    if is_own_endpoint(id) {
        return Err(fixed("endpoint", id));
    }
    attrs::find(snapshot, id)
}

/// `PATCH /v3/endpoints/{id}`
pub async fn update(mut call: Call) -> Result<Reply, Fault> {
    let given = Given::<CatalogEndpoint>::change(&mut call).await?;
    if given.text("id")?.is_some_and(|other| other != call.param("id")) {
        return Err(Fault::invalid("Cannot change endpoint ID".to_owned()));
    }
    let changed = call.cloud.store.transact(|snapshot| {
        let entry = changeable(&call, snapshot)?;
        let (endpoint, region) = filled_in(&call, snapshot, &given, entry.value.clone())?;
        let mut change = Change::new();
        change.update(entry, endpoint.clone());
        region.map(|region| change.create(region));
        Ok((change, endpoint))
    });
    Ok(attrs::reply(&call, 200, &changed.await?))
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
