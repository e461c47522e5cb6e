//! Placement 1.0 to 1.39: hosts and the claims on them, computed from rows. What takes room is decided by claims in the
//! store's commit, so of all this a client can write traits alone; the rest is refused as by a policy that lets nobody.

mod classes;
pub mod fault;
pub mod provider;
pub mod query;
pub mod traits;

use model::Fault;

use crate::call::{Call, Reply};
use crate::endpoint;
use crate::service::{Dialect, Endpoint, Micro, Microversions, PLAIN, Quotas, Service, Version, Versions};
use crate::versions;

/// The placement service.
pub static SERVICE: Service = Service {
    name: "placement",
    project: "placement",
    prefix: "/placement",
    root: "",
    versions: Versions {
        all: &[Version { path: None, micro: Micro::InForce, ..Version::new("v1.0", "CURRENT", "/") }],
        newest: "max_version",
        ..PLAIN
    },
    microversions: Some(Microversions {
        name: "placement",
        legacy_header: None,
        min: (1, 0),
        max: (1, 39),
        // Its handlers read their queries as a whole.
        check_query: |_, _| Ok(()),
    }),
    // It shows what hosts and servers take.
    kinds: &[],
    quotas: Quotas::Elsewhere,
    dialect: Dialect {
        error: fault::render,
        absent: crate::absent::not_built,
        request_id: None,
        // Its lists are whole.
        pages: |_| Vec::new(),
    },
    absent: &[],
    reach: |_| Ok(()),
    table,
};

fn table() -> Vec<Endpoint> {
    vec![
        endpoint!(GET "/" Public versions::index),
        endpoint!(GET "/resource_providers" Admin provider::index),
        endpoint!(POST "/resource_providers" Admin read_only),
        endpoint!(GET "/resource_providers/{id}" Admin provider::show),
        endpoint!(PUT "/resource_providers/{id}" Admin read_only),
        endpoint!(DELETE "/resource_providers/{id}" Admin read_only),
        endpoint!(GET "/resource_providers/{id}/inventories" Admin provider::inventories),
        endpoint!(POST "/resource_providers/{id}/inventories" Admin read_only),
        endpoint!(PUT "/resource_providers/{id}/inventories" Admin read_only),
        endpoint!(DELETE "/resource_providers/{id}/inventories" Admin read_only, since (1, 5)),
        endpoint!(GET "/resource_providers/{id}/inventories/{class}" Admin provider::inventory_of),
        endpoint!(PUT "/resource_providers/{id}/inventories/{class}" Admin read_only),
        endpoint!(DELETE "/resource_providers/{id}/inventories/{class}" Admin read_only),
        endpoint!(GET "/resource_providers/{id}/usages" Admin provider::usages),
        endpoint!(GET "/resource_providers/{id}/allocations" Admin provider::allocations_of),
        endpoint!(GET "/resource_providers/{id}/aggregates" Admin provider::aggregates_of, since (1, 1)),
        endpoint!(PUT "/resource_providers/{id}/aggregates" Admin read_only, since (1, 1)),
        endpoint!(GET "/resource_providers/{id}/traits" Admin traits::of_provider, since (1, 6)),
        endpoint!(PUT "/resource_providers/{id}/traits" Admin traits::replace, since (1, 6)),
        endpoint!(DELETE "/resource_providers/{id}/traits" Admin traits::clear, since (1, 6)),
        endpoint!(GET "/resource_classes" Admin classes::classes, since (1, 2)),
        endpoint!(POST "/resource_classes" Admin read_only, since (1, 2)),
        endpoint!(GET "/resource_classes/{name}" Admin classes::class, since (1, 2)),
        endpoint!(PUT "/resource_classes/{name}" Admin read_only, since (1, 2)),
        endpoint!(DELETE "/resource_classes/{name}" Admin read_only, since (1, 2)),
        endpoint!(GET "/traits" Admin traits::index, since (1, 6)),
        endpoint!(GET "/traits/{name}" Admin traits::show, since (1, 6)),
        endpoint!(PUT "/traits/{name}" Admin traits::create, since (1, 6)),
        endpoint!(DELETE "/traits/{name}" Admin traits::delete, since (1, 6)),
        endpoint!(GET "/allocation_candidates" Admin provider::candidates, since (1, 10)),
        endpoint!(POST "/allocations" Admin read_only, since (1, 13)),
        endpoint!(GET "/allocations/{consumer}" Admin provider::allocations),
        endpoint!(PUT "/allocations/{consumer}" Admin read_only),
        endpoint!(DELETE "/allocations/{consumer}" Admin read_only),
        endpoint!(GET "/usages" Admin provider::project_usages, since (1, 9)),
    ]
}

async fn read_only(_: Call) -> Result<Reply, Fault> {
    Err(Fault::Forbidden(
        "Placement is read-only in this cloud: inventories and allocations follow from hosts, servers and pods.".into(),
    ))
}
