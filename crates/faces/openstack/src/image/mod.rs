//! The image service: Glance v2 over the image rows and the blob store.
//!
//! An upload changes nothing until all its bytes are durable; the row then becomes `active` in one commit. So an upload
//! that dies, with its client or with this process, leaves the image `queued` as it was, and is never seen as `saving`: a
//! state that nobody could end was refused. Only images made from servers are `saving`; their host ends that. One that is
//! `importing` says in its row what is fetched; whoever fetches ends that, after a restart too ([`imports`]). Bytes that
//! lost a race to be the image's are swept like those of deleted images.
//!
//! Not built, and so absent: several stores, locations, the cache. The version that is announced is the last before them.
//!
//! * [`access`]: who sees and changes an image; [`list`], [`create`], [`patch`], [`data`], [`imports`], [`tasks`],
//!   [`actions`], [`members`]: what is asked; [`attributes`]: what an image may say; [`view`], [`schemas`], [`fault`]: what is answered
//! * [`metadefs`]: the catalog of properties

mod absent;
pub mod access;
mod actions;
mod attributes;
mod attrs;
mod create;
pub mod data;
mod discovery;
mod fault;
pub mod imports;
pub mod inspect;
mod list;
mod members;
mod metadefs;
mod patch;
mod schemas;
mod tasks;
pub mod uploads;
mod view;

pub use attributes::check_size;
pub use create::remove;
pub use patch::change_properties;

use std::collections::HashSet;

use model::{Kind, Object, Snapshot, Source};

use crate::endpoint;
use crate::service::{Dialect, Endpoint, PLAIN, Quotas, Service, Version, Versions};
use crate::versions;

/// The blobs that images and manifests of the registry need, for [`blob::Blobs::sweep`].
pub fn needed_blobs(snapshot: &Snapshot) -> HashSet<String> {
    snapshot.rows().flat_map(|row| blobs_of(&row.object)).collect()
}

/// Names of the blobs that a row needs.
pub fn blobs_of(row: &Object) -> Vec<String> {
    let of_source = |source: &Source| {
        [Some(source.blob.clone()), source.kernel.clone(), source.initrd.clone()].into_iter().flatten().collect()
    };
    match row {
        Object::Image(image) => {
            image.blob.iter().chain(image.staged.as_ref().map(|staged| &staged.blob)).cloned().collect()
        }
        Object::Server(server) => server.rescue.as_ref().map_or_else(Vec::new, of_source),
        Object::Vm(vm) => vm.source.as_ref().map_or_else(Vec::new, of_source),
        Object::OciBlob(blob) => vec![blob.file().to_owned()],
        // Of old, what a manifest refers to was all that was known; since then its blobs are rows that name their files.
        Object::OciManifest(manifest) if manifest.blobs.is_empty() => {
            let digests = std::iter::once(&manifest.digest).chain(&manifest.refers);
            digests.filter_map(|digest| digest.strip_prefix("sha256:").map(str::to_owned)).collect()
        }
        _ => Vec::new(),
    }
}

/// The image service.
pub static SERVICE: Service = Service {
    name: "image",
    project: "glance",
    prefix: "/image",
    root: "",
    // The newest is the last before parts of Glance that are not built: several stores, the cache, locations.
    versions: Versions {
        all: &[
            Version::new("v2.9", "CURRENT", "/v2/"),
            Version::new("v2.7", "SUPPORTED", "/v2/"),
            Version::new("v2.6", "SUPPORTED", "/v2/"),
            Version::new("v2.5", "SUPPORTED", "/v2/"),
            Version::new("v2.4", "SUPPORTED", "/v2/"),
            Version::new("v2.3", "SUPPORTED", "/v2/"),
            Version::new("v2.2", "SUPPORTED", "/v2/"),
            Version::new("v2.1", "SUPPORTED", "/v2/"),
            Version::new("v2.0", "SUPPORTED", "/v2/"),
        ],
        status: 300,
        ..PLAIN
    },
    microversions: None,
    kinds: &[Kind::Image, Kind::Task, Kind::MetadefNamespace],
    quotas: Quotas::Elsewhere,
    dialect: Dialect { error: fault::render, absent: crate::absent::not_built, request_id: None, pages: list::pages },
    absent: absent::ABSENT,
    reach: |_| Ok(()),
    table: || endpoints().into_iter().chain(metadefs::endpoints()).collect(),
};

fn endpoints() -> Vec<Endpoint> {
    vec![
        endpoint!(GET "/" Public versions::index),
        endpoint!(GET "/versions" Public versions::list),
        endpoint!(GET "/v2/info/import" Reader discovery::import_methods),
        endpoint!(GET "/v2/info/stores" Reader discovery::stores),
        endpoint!(GET "/v2/info/stores/detail" Admin discovery::stores_detail),
        endpoint!(GET "/v2/schemas/{name}" Reader schemas::show),
        endpoint!(GET "/v2/images" Reader list::index),
        endpoint!(POST "/v2/images" Member create::create),
        endpoint!(DELETE "/v2/images" Member create::delete_nothing),
        endpoint!(GET "/v2/images/{image_id}" Reader create::show),
        endpoint!(PATCH "/v2/images/{image_id}" Member patch::update),
        endpoint!(DELETE "/v2/images/{image_id}" Member create::delete),
        endpoint!(PUT "/v2/images/{image_id}/file" Member data::upload),
        endpoint!(GET "/v2/images/{image_id}/file" Member data::download),
        endpoint!(GET "/v2/images/{image_id}/tasks" Reader tasks::of_image),
        endpoint!(PUT "/v2/images/{image_id}/stage" Member data::stage),
        endpoint!(POST "/v2/images/{image_id}/import" Member imports::import),
        endpoint!(GET "/v2/tasks" Admin tasks::index),
        endpoint!(POST "/v2/tasks" Admin tasks::create),
        endpoint!(GET "/v2/tasks/{task_id}" Admin tasks::show),
        endpoint!(POST "/v2/images/{image_id}/actions/deactivate" Member actions::deactivate),
        endpoint!(POST "/v2/images/{image_id}/actions/reactivate" Member actions::reactivate),
        endpoint!(PUT "/v2/images/{image_id}/tags/{tag}" Member actions::add_tag),
        endpoint!(DELETE "/v2/images/{image_id}/tags/{tag}" Member actions::remove_tag),
        endpoint!(GET "/v2/images/{image_id}/members" Reader members::index),
        endpoint!(POST "/v2/images/{image_id}/members" Member members::create),
        endpoint!(GET "/v2/images/{image_id}/members/{member_id}" Reader members::show),
        endpoint!(PUT "/v2/images/{image_id}/members/{member_id}" Member members::update),
        endpoint!(DELETE "/v2/images/{image_id}/members/{member_id}" Member members::delete),
    ]
}
