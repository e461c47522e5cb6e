//! `/v2/metadefs`: Glance's catalog of the keys that can be set on things, for people and their tools. Administrators write
//! it, whoever reads images reads it. What a namespace says nothing in the cloud acts on, so nothing else looks here.
//!
//! A new cloud has no namespaces: Glance's own come from files that its operator loads, and each of those files is the body
//! of one `POST /v2/metadefs/namespaces` here. The resource types that a cloud of this sort has are known from the start.
//!
//! Unlike Glance, whatever a body or query holds that would be left out of account is refused: parts of a namespace in its
//! `PUT`, filters that there are none of.
//!
//! * [`namespaces`], [`objects`], [`properties`], [`tags`], [`resource_types`]: what is asked
//! * [`parts`]: what they have in common; [`body`], [`definitions`], [`pages`]: how it is read; [`schemas`]: what may be said

mod body;
mod definitions;
mod namespaces;
mod objects;
mod pages;
mod parts;
mod properties;
mod resource_types;
pub mod schemas;
mod tags;

use gate::{Principal, View};
use model::{Change, Entry, Fault, MetadefNamespace, Snapshot};

use super::fault::missing;
use crate::call::Call;
use crate::endpoint;
use crate::service::Endpoint;

/// The endpoints, for the table of the service.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        endpoint!(GET "/v2/schemas/metadefs/{name}" Reader schemas::show),
        endpoint!(GET "/v2/metadefs/resource_types" Reader resource_types::index),
        endpoint!(GET "/v2/metadefs/namespaces" Reader namespaces::index),
        endpoint!(POST "/v2/metadefs/namespaces" Admin namespaces::create),
        endpoint!(GET "/v2/metadefs/namespaces/{namespace}" Reader namespaces::show),
        endpoint!(PUT "/v2/metadefs/namespaces/{namespace}" Admin namespaces::update),
        endpoint!(DELETE "/v2/metadefs/namespaces/{namespace}" Admin namespaces::delete),
        endpoint!(GET "/v2/metadefs/namespaces/{namespace}/resource_types" Reader resource_types::of_namespace),
        endpoint!(POST "/v2/metadefs/namespaces/{namespace}/resource_types" Admin resource_types::create),
        endpoint!(DELETE "/v2/metadefs/namespaces/{namespace}/resource_types/{name}" Admin resource_types::delete),
        endpoint!(GET "/v2/metadefs/namespaces/{namespace}/properties" Reader properties::index),
        endpoint!(POST "/v2/metadefs/namespaces/{namespace}/properties" Admin properties::create),
        endpoint!(DELETE "/v2/metadefs/namespaces/{namespace}/properties" Admin properties::delete_all),
        endpoint!(GET "/v2/metadefs/namespaces/{namespace}/properties/{name}" Reader properties::show),
        endpoint!(PUT "/v2/metadefs/namespaces/{namespace}/properties/{name}" Admin properties::update),
        endpoint!(DELETE "/v2/metadefs/namespaces/{namespace}/properties/{name}" Admin properties::delete),
        endpoint!(GET "/v2/metadefs/namespaces/{namespace}/objects" Reader objects::index),
        endpoint!(POST "/v2/metadefs/namespaces/{namespace}/objects" Admin objects::create),
        endpoint!(DELETE "/v2/metadefs/namespaces/{namespace}/objects" Admin objects::delete_all),
        endpoint!(GET "/v2/metadefs/namespaces/{namespace}/objects/{name}" Reader objects::show),
        endpoint!(PUT "/v2/metadefs/namespaces/{namespace}/objects/{name}" Admin objects::update),
        endpoint!(DELETE "/v2/metadefs/namespaces/{namespace}/objects/{name}" Admin objects::delete),
        endpoint!(GET "/v2/metadefs/namespaces/{namespace}/tags" Reader tags::index),
        endpoint!(POST "/v2/metadefs/namespaces/{namespace}/tags" Admin tags::create_all),
        endpoint!(DELETE "/v2/metadefs/namespaces/{namespace}/tags" Admin tags::delete_all),
        endpoint!(GET "/v2/metadefs/namespaces/{namespace}/tags/{name}" Reader tags::show),
        endpoint!(POST "/v2/metadefs/namespaces/{namespace}/tags/{name}" Admin tags::create),
        endpoint!(PUT "/v2/metadefs/namespaces/{namespace}/tags/{name}" Admin tags::update),
        endpoint!(DELETE "/v2/metadefs/namespaces/{namespace}/tags/{name}" Admin tags::delete),
    ]
}

/// The namespace with this name if the caller may know of it; else it does not exist.
fn find<'a>(snapshot: &'a Snapshot, who: &'a Principal, name: &str) -> Result<Entry<'a, MetadefNamespace>, Fault> {
    let found = View::new(snapshot, who).get::<MetadefNamespace>(name);
    found.map_err(|_| missing(format!("Metadata definition namespace={name} was not found.")))
}

/// The namespace of the path.
fn of_path<'a>(call: &'a Call) -> Result<Entry<'a, MetadefNamespace>, Fault> {
    find(&call.snapshot, call.who()?, call.param("namespace"))
}

/// Changes what is in the namespace of the path; what `change` answers is given back.
async fn edit<T>(call: &Call, change: impl Fn(&mut MetadefNamespace) -> Result<T, Fault>) -> Result<T, Fault> {
    let (who, name) = (call.who()?, call.param("namespace"));
    call.cloud
        .store
        .transact(|snapshot| {
            let entry = find(snapshot, who, name)?;
            let mut namespace = entry.value.clone();
            let answer = change(&mut namespace)?;
            check_bounds(&namespace)?;
            let mut commit = Change::new();
            commit.update(entry, namespace);
            Ok((commit, answer))
        })
        .await
}

/// Refuses a namespace that holds too much.
fn check_bounds(namespace: &MetadefNamespace) -> Result<(), Fault> {
    let over = |what: &str, attempted: usize, maximum: usize| {
        Fault::TooLarge(format!(
            "The limit has been exceeded on the number of allowed metadata definition {what}. Attempted: {attempted}, \
             Maximum: {maximum}"
        ))
    };
    let counts = [
        ("objects", namespace.objects.len()),
        ("properties", namespace.properties.len()),
        ("tags", namespace.tags.len()),
        ("resource types", namespace.resource_types.len()),
    ];
    if let Some((what, count)) = counts.into_iter().find(|(_, count)| *count > MetadefNamespace::MOST_WITHIN) {
        return Err(over(what, count, MetadefNamespace::MOST_WITHIN));
    }
    let size = serde_json::to_vec(namespace).map_or(usize::MAX, |bytes| bytes.len());
    if size > MetadefNamespace::LARGEST {
        return Err(over("bytes in one namespace", size, MetadefNamespace::LARGEST));
    }
    Ok(())
}

/// Refuses to delete something of a protected namespace.
fn check_unprotected(namespace: &MetadefNamespace, what: &str, name: &str) -> Result<(), Fault> {
    match namespace.protected {
        true => Err(Fault::Forbidden(format!("Metadata definition {what} {name} is protected and cannot be deleted."))),
        false => Ok(()),
    }
}
