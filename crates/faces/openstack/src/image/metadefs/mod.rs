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
