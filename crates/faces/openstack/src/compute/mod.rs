//! Nova 2.1 to 2.104: servers, flavors, key pairs and what is around them, as views of the store's rows.
//!
//! * [`servers`]: requests, views and verbs of servers; what a server *is* comes from `servers::status` alone
//! * [`flavors`], [`keypairs`], [`quotas`], [`server_groups`], [`hosts`], [`aggregates`], [`usage`]: one file each
//! * [`security_groups`], [`floating_ips`], [`networks`], [`images`], [`image_metadata`]: Nova's own views of Neutron's and
//!   Glance's rows, which ended with 2.35; [`old_hosts`], [`extensions`]: what ended since
//!
//! * [`shares`], [`migrations`], [`consoles`], [`volumes`]: what this cloud has none of, answered as Nova does that has
//!   none; [`gone`]: what Nova has not any more
//!
//! 2.101 changed what attaching a volume answers and 2.103 took away an alias of `/servers` for booting from volumes: there
//! is neither here in any version.

mod absent;
pub mod aggregates;
mod audit_log;
mod body;
mod consoles;
mod extensions;
mod external_events;
pub mod fault;
pub mod flavors;
mod floating_ips;
mod gone;
pub mod hosts;
mod image_metadata;
pub mod images;
pub mod keypairs;
pub mod keys;
mod migrations;
mod networks;
mod old_hosts;
mod queries;
pub mod quotas;
mod schema;
pub mod security_groups;
pub mod server_groups;
pub mod servers;
mod shares;
pub mod usage;
pub mod volumes;
pub mod wire;

use model::{Aggregate, Flavor, Keypair, Kind, Server, ServerGroup};

use crate::attrs::{Attr, Declared, Shown};
use crate::endpoint;
use crate::service::{Dialect, Endpoint, Micro, Microversions, PLAIN, Quotas, Service, Version, Versions};
use crate::versions;

/// The last version of Nova's views of other services' things.
const PROXY: (u16, u16) = (2, 35);

/// The compute service.
pub static SERVICE: Service = Service {
    name: "compute",
    project: "nova",
    prefix: "/compute",
    root: "/v2.1",
    versions: Versions {
        all: &[
            // What 2.1 was before it had microversions: the same, under another path, in version 2.1 alone.
            Version {
                micro: Micro::Without,
                updated: Some("2025-07-04T12:00:00Z"),
                media_type: Some("application/vnd.openstack.compute+json;version=2"),
                ..Version::new("v2.0", "DEPRECATED", "/v2/")
            },
            Version {
                micro: Micro::InForce,
                updated: Some("2013-07-23T11:33:21Z"),
                media_type: Some("application/vnd.openstack.compute+json;version=2.1"),
                ..Version::new("v2.1", "CURRENT", "/v2.1/")
            },
        ],
        described: true,
        ..PLAIN
    },
    microversions: Some(Microversions {
        name: "compute",
        legacy_header: Some("x-openstack-nova-api-version"),
        min: (2, 1),
        max: (2, 104),
        check_query: queries::check,
    }),
    kinds: &[
        Kind::Host,
        Kind::Aggregate,
        Kind::Flavor,
        Kind::Keypair,
        Kind::Server,
        Kind::Vm,
        Kind::ServerAction,
        Kind::ServerUsage,
        Kind::ServerGroup,
        Kind::QuotaClass,
    ],
    quotas: Quotas::Own,
    dialect: Dialect {
        error: fault::render,
        absent: crate::absent::not_built,
        request_id: Some("x-compute-request-id"),
        pages: wire::pages,
    },
    absent: absent::ABSENT,
    reach: |_| Ok(()),
    table,
};

fn table() -> Vec<Endpoint> {
    let tables = [server_rows(), flavor_rows(), host_rows(), other_rows(), proxy_rows(), gone_rows()];
    let mut endpoints: Vec<Endpoint> = tables.into_iter().flatten().collect();
    endpoints.extend(endpoints.iter().filter_map(old_path).collect::<Vec<_>>());
    endpoints.push(endpoint!(GET "/v2" Public versions::show));
    endpoints
}

/// What is declared of the attributes of resources, for their documentation.
pub fn declared() -> Vec<(&'static str, Vec<Declared>)> {
    fn of<S: Shown>() -> (&'static str, Vec<Declared>) {
        (S::ONE, S::ATTRS.iter().map(Attr::declared).collect())
    }
    vec![of::<Server>(), of::<Flavor>(), of::<Keypair>(), of::<ServerGroup>(), of::<Aggregate>()]
}

/// The same row under `/v2/`, where clients without microversions look.
fn old_path(row: &Endpoint) -> Option<Endpoint> {
    let path = row.path.strip_prefix("/v2.1/").filter(|_| row.since <= (2, 1))?;
    let Endpoint { ref method, access, since, handler, ref bodies, .. } = *row;
    // Made once for the life of the process, as the literals are.
    let path: &'static str = format!("/v2/{path}").leak();
    let (method, bodies) = (method.clone(), bodies.clone());
    Some(Endpoint { method, path, access, since, until: (2, 1), handler, bodies })
}

fn server_rows() -> Vec<Endpoint> {
    use servers::{
        actions, create, diagnostics, interfaces, list, log, metadata, password, requests, tags, topology, update,
    };
    vec![
        endpoint!(GET "/v2.1/servers" Reader list::index),
        endpoint!(POST "/v2.1/servers" Member create::create)
            .takes([requests::BODY.declared(), requests::SERVER.declared()]),
        endpoint!(GET "/v2.1/servers/detail" Reader list::index_detail),
        endpoint!(GET "/v2.1/servers/{id}" Reader list::show),
        endpoint!(PUT "/v2.1/servers/{id}" Member update::update).takes([update::SERVER.declared()]),
        endpoint!(DELETE "/v2.1/servers/{id}" Member update::delete),
        endpoint!(POST "/v2.1/servers/{id}/action" Member actions::action).takes(actions::bodies()),
        endpoint!(GET "/v2.1/servers/{id}/metadata" Reader metadata::index),
        endpoint!(POST "/v2.1/servers/{id}/metadata" Member metadata::create),
        endpoint!(PUT "/v2.1/servers/{id}/metadata" Member metadata::replace),
        endpoint!(GET "/v2.1/servers/{id}/metadata/{key}" Reader metadata::show),
        endpoint!(PUT "/v2.1/servers/{id}/metadata/{key}" Member metadata::update),
        endpoint!(DELETE "/v2.1/servers/{id}/metadata/{key}" Member metadata::delete),
        endpoint!(GET "/v2.1/servers/{id}/tags" Reader tags::index, since (2, 26)),
        endpoint!(PUT "/v2.1/servers/{id}/tags" Member tags::replace, since (2, 26)),
        endpoint!(DELETE "/v2.1/servers/{id}/tags" Member tags::delete_all, since (2, 26)),
        endpoint!(GET "/v2.1/servers/{id}/tags/{tag}" Reader tags::show, since (2, 26)),
        endpoint!(PUT "/v2.1/servers/{id}/tags/{tag}" Member tags::create, since (2, 26)),
        endpoint!(DELETE "/v2.1/servers/{id}/tags/{tag}" Member tags::delete, since (2, 26)),
        endpoint!(GET "/v2.1/servers/{id}/ips" Reader interfaces::addresses),
        endpoint!(GET "/v2.1/servers/{id}/ips/{network}" Reader interfaces::addresses_of),
        endpoint!(GET "/v2.1/servers/{id}/os-interface" Reader interfaces::index),
        endpoint!(POST "/v2.1/servers/{id}/os-interface" Member interfaces::attach)
            .takes([interfaces::ATTACHMENT.declared()]),
        endpoint!(GET "/v2.1/servers/{id}/os-interface/{port}" Reader interfaces::show),
        endpoint!(DELETE "/v2.1/servers/{id}/os-interface/{port}" Member interfaces::detach),
        endpoint!(GET "/v2.1/servers/{id}/os-instance-actions" Reader log::index),
        endpoint!(GET "/v2.1/servers/{id}/os-instance-actions/{request}" Reader log::show),
        endpoint!(GET "/v2.1/servers/{id}/os-security-groups" Reader security_groups::list_of_server),
        endpoint!(GET "/v2.1/servers/{id}/os-volume_attachments" Reader volumes::index),
        endpoint!(POST "/v2.1/servers/{id}/os-volume_attachments" Member volumes::attach),
        endpoint!(GET "/v2.1/servers/{id}/os-volume_attachments/{volume}" Reader volumes::show),
        endpoint!(PUT "/v2.1/servers/{id}/os-volume_attachments/{volume}" Member volumes::attach),
        endpoint!(DELETE "/v2.1/servers/{id}/os-volume_attachments/{volume}" Member volumes::show),
        endpoint!(GET "/v2.1/servers/{id}/diagnostics" Admin diagnostics::show),
        endpoint!(GET "/v2.1/servers/{id}/os-server-password" Reader password::show),
        endpoint!(DELETE "/v2.1/servers/{id}/os-server-password" Member password::clear),
        endpoint!(GET "/v2.1/servers/{id}/topology" Reader topology::show, since (2, 78)),
        endpoint!(POST "/v2.1/servers/{id}/remote-consoles" Member consoles::create, since (2, 6)),
        endpoint!(GET "/v2.1/servers/{id}/shares" Reader shares::index, since (2, 97)),
        endpoint!(POST "/v2.1/servers/{id}/shares" Member shares::attach, since (2, 97)),
        endpoint!(GET "/v2.1/servers/{id}/shares/{share}" Reader shares::show, since (2, 97)),
        endpoint!(DELETE "/v2.1/servers/{id}/shares/{share}" Member shares::detach, since (2, 97)),
        endpoint!(GET "/v2.1/servers/{id}/migrations" Admin migrations::index_of_server, since (2, 23)),
        endpoint!(GET "/v2.1/servers/{id}/migrations/{migration}" Admin migrations::show, since (2, 23)),
        endpoint!(DELETE "/v2.1/servers/{id}/migrations/{migration}" Admin migrations::abort, since (2, 24)),
        endpoint!(POST "/v2.1/servers/{id}/migrations/{migration}/action" Admin migrations::act, since (2, 22)),
    ]
}

fn flavor_rows() -> Vec<Endpoint> {
    vec![
        endpoint!(GET "/v2.1/flavors" Reader flavors::index),
        endpoint!(POST "/v2.1/flavors" Admin flavors::create).takes([flavors::NEW.declared()]),
        endpoint!(GET "/v2.1/flavors/detail" Reader flavors::index_detail),
        endpoint!(GET "/v2.1/flavors/{id}" Reader flavors::show),
        endpoint!(PUT "/v2.1/flavors/{id}" Admin flavors::update, since (2, 55)).takes([flavors::CHANGE.declared()]),
        endpoint!(DELETE "/v2.1/flavors/{id}" Admin flavors::delete),
        endpoint!(POST "/v2.1/flavors/{id}/action" Admin flavors::action)
            .takes([flavors::GRANT.declared(), flavors::REVOKE.declared()]),
        endpoint!(GET "/v2.1/flavors/{id}/os-flavor-access" Admin flavors::access),
        endpoint!(GET "/v2.1/flavors/{id}/os-extra_specs" Reader flavors::specs),
        endpoint!(POST "/v2.1/flavors/{id}/os-extra_specs" Admin flavors::create_specs),
        endpoint!(GET "/v2.1/flavors/{id}/os-extra_specs/{key}" Reader flavors::spec),
        endpoint!(PUT "/v2.1/flavors/{id}/os-extra_specs/{key}" Admin flavors::update_spec),
        endpoint!(DELETE "/v2.1/flavors/{id}/os-extra_specs/{key}" Admin flavors::delete_spec),
    ]
}

fn host_rows() -> Vec<Endpoint> {
    vec![
        endpoint!(GET "/v2.1/os-hypervisors" Admin hosts::hypervisor_index),
        endpoint!(GET "/v2.1/os-hypervisors/detail" Admin hosts::hypervisor_detail),
        endpoint!(GET "/v2.1/os-hypervisors/statistics" Admin hosts::statistics, until (2, 87)),
        endpoint!(GET "/v2.1/os-hypervisors/{id}" Admin hosts::hypervisor_show),
        endpoint!(GET "/v2.1/os-hypervisors/{id}/uptime" Admin hosts::hypervisor_uptime, until (2, 87)),
        endpoint!(GET "/v2.1/os-hypervisors/{id}/search" Admin hosts::hypervisor_search, until (2, 52)),
        endpoint!(GET "/v2.1/os-hypervisors/{id}/servers" Admin hosts::hypervisor_servers, until (2, 52)),
        endpoint!(GET "/v2.1/os-hosts" Admin old_hosts::index, until (2, 42)),
        endpoint!(GET "/v2.1/os-hosts/{host}" Admin old_hosts::show, until (2, 42)),
        endpoint!(PUT "/v2.1/os-hosts/{host}" Admin old_hosts::update, until (2, 42)),
        endpoint!(GET "/v2.1/os-hosts/{host}/startup" Admin old_hosts::power, until (2, 42)),
        endpoint!(GET "/v2.1/os-hosts/{host}/shutdown" Admin old_hosts::power, until (2, 42)),
        endpoint!(GET "/v2.1/os-hosts/{host}/reboot" Admin old_hosts::power, until (2, 42)),
        endpoint!(GET "/v2.1/os-instance_usage_audit_log" Admin audit_log::index),
        endpoint!(GET "/v2.1/os-instance_usage_audit_log/{before}" Admin audit_log::show),
        endpoint!(POST "/v2.1/os-server-external-events" Admin external_events::create),
        endpoint!(GET "/v2.1/os-services" Admin hosts::services),
        endpoint!(PUT "/v2.1/os-services/{id}" Admin hosts::update_service),
        endpoint!(DELETE "/v2.1/os-services/{id}" Admin hosts::delete_service),
        endpoint!(GET "/v2.1/os-migrations" Admin migrations::index),
        endpoint!(GET "/v2.1/os-console-auth-tokens/{token}" Admin consoles::token),
        endpoint!(GET "/v2.1/os-availability-zone" Reader hosts::zone_index),
        endpoint!(GET "/v2.1/os-availability-zone/detail" Admin hosts::zone_detail),
        endpoint!(GET "/v2.1/os-aggregates" Admin aggregates::index),
        endpoint!(POST "/v2.1/os-aggregates" Admin aggregates::create).takes([aggregates::NEW.declared()]),
        endpoint!(GET "/v2.1/os-aggregates/{id}" Admin aggregates::get),
        endpoint!(PUT "/v2.1/os-aggregates/{id}" Admin aggregates::update).takes([aggregates::CHANGE.declared()]),
        endpoint!(DELETE "/v2.1/os-aggregates/{id}" Admin aggregates::delete),
        endpoint!(POST "/v2.1/os-aggregates/{id}/action" Admin aggregates::action),
        endpoint!(POST "/v2.1/os-aggregates/{id}/images" Admin aggregates::cache_images, since (2, 81)),
    ]
}

fn other_rows() -> Vec<Endpoint> {
    vec![
        endpoint!(GET "/" Public versions::index),
        endpoint!(GET "/v2.1" Public versions::show),
        endpoint!(GET "/v2.1/extensions" Token extensions::index),
        endpoint!(GET "/v2.1/extensions/{alias}" Token extensions::show),
        endpoint!(GET "/v2.1/os-keypairs" Token keypairs::index),
        endpoint!(POST "/v2.1/os-keypairs" Token keypairs::create).takes([keypairs::KEYPAIR.declared()]),
        endpoint!(GET "/v2.1/os-keypairs/{name}" Token keypairs::show),
        endpoint!(DELETE "/v2.1/os-keypairs/{name}" Token keypairs::delete),
        endpoint!(GET "/v2.1/limits" Reader quotas::limits),
        endpoint!(GET "/v2.1/os-quota-sets/{id}" Reader quotas::show),
        endpoint!(PUT "/v2.1/os-quota-sets/{id}" Admin quotas::update),
        endpoint!(DELETE "/v2.1/os-quota-sets/{id}" Admin quotas::delete),
        endpoint!(GET "/v2.1/os-quota-sets/{id}/defaults" Token quotas::defaults),
        endpoint!(GET "/v2.1/os-quota-sets/{id}/detail" Reader quotas::detail),
        endpoint!(GET "/v2.1/os-quota-class-sets/{id}" Admin quotas::show_class),
        endpoint!(PUT "/v2.1/os-quota-class-sets/{id}" Admin quotas::update_class),
        endpoint!(GET "/v2.1/os-simple-tenant-usage" Admin usage::index),
        endpoint!(GET "/v2.1/os-simple-tenant-usage/{project}" Reader usage::show),
        endpoint!(GET "/v2.1/os-server-groups" Reader server_groups::index),
        endpoint!(POST "/v2.1/os-server-groups" Member server_groups::create).takes([server_groups::GROUP.declared()]),
        endpoint!(GET "/v2.1/os-server-groups/{id}" Reader server_groups::show),
        endpoint!(DELETE "/v2.1/os-server-groups/{id}" Member server_groups::delete),
    ]
}

/// All that was taken away. Whoever has a token is told so.
fn gone_rows() -> Vec<Endpoint> {
    use gone::gone;
    vec![
        endpoint!(GET "/v2.1/os-agents" Token gone),
        endpoint!(POST "/v2.1/os-agents" Token gone),
        endpoint!(PUT "/v2.1/os-agents/{id}" Token gone),
        endpoint!(DELETE "/v2.1/os-agents/{id}" Token gone),
        endpoint!(GET "/v2.1/os-cells" Token gone),
        endpoint!(POST "/v2.1/os-cells" Token gone),
        endpoint!(GET "/v2.1/os-cells/{id}" Token gone),
        endpoint!(PUT "/v2.1/os-cells/{id}" Token gone),
        endpoint!(DELETE "/v2.1/os-cells/{id}" Token gone),
        endpoint!(GET "/v2.1/os-cells/{id}/capacities" Token gone),
        endpoint!(POST "/v2.1/os-certificates" Token gone),
        endpoint!(GET "/v2.1/os-certificates/{id}" Token gone),
        endpoint!(GET "/v2.1/os-cloudpipe" Token gone),
        endpoint!(POST "/v2.1/os-cloudpipe" Token gone),
        endpoint!(PUT "/v2.1/os-cloudpipe/{id}" Token gone),
        endpoint!(GET "/v2.1/os-fixed-ips/{id}" Token gone),
        endpoint!(POST "/v2.1/os-fixed-ips/{id}/action" Token gone),
        endpoint!(GET "/v2.1/os-floating-ip-dns" Token gone),
        endpoint!(GET "/v2.1/os-floating-ip-dns/{id}" Token gone),
        endpoint!(PUT "/v2.1/os-floating-ip-dns/{id}" Token gone),
        endpoint!(DELETE "/v2.1/os-floating-ip-dns/{id}" Token gone),
        endpoint!(GET "/v2.1/os-floating-ip-dns/{id}/entries/{entry}" Token gone),
        endpoint!(PUT "/v2.1/os-floating-ip-dns/{id}/entries/{entry}" Token gone),
        endpoint!(DELETE "/v2.1/os-floating-ip-dns/{id}/entries/{entry}" Token gone),
        endpoint!(GET "/v2.1/os-floating-ips-bulk" Token gone),
        endpoint!(POST "/v2.1/os-floating-ips-bulk" Token gone),
        endpoint!(GET "/v2.1/os-floating-ips-bulk/{id}" Token gone),
        endpoint!(PUT "/v2.1/os-floating-ips-bulk/{id}" Token gone),
        endpoint!(GET "/v2.1/os-fping" Token gone),
        endpoint!(GET "/v2.1/os-fping/{id}" Token gone),
        endpoint!(GET "/v2.1/os-security-group-default-rules" Token gone),
        endpoint!(POST "/v2.1/os-security-group-default-rules" Token gone),
        endpoint!(GET "/v2.1/os-security-group-default-rules/{id}" Token gone),
        endpoint!(DELETE "/v2.1/os-security-group-default-rules/{id}" Token gone),
        endpoint!(GET "/v2.1/servers/{id}/consoles" Token gone),
        endpoint!(POST "/v2.1/servers/{id}/consoles" Token gone),
        endpoint!(GET "/v2.1/servers/{id}/consoles/{console}" Token gone),
        endpoint!(DELETE "/v2.1/servers/{id}/consoles/{console}" Token gone),
        endpoint!(GET "/v2.1/servers/{id}/os-virtual-interfaces" Token gone),
    ]
}

fn proxy_rows() -> Vec<Endpoint> {
    vec![
        endpoint!(GET "/v2.1/os-security-groups" Reader security_groups::index, until PROXY),
        endpoint!(POST "/v2.1/os-security-groups" Member security_groups::create, until PROXY),
        endpoint!(GET "/v2.1/os-security-groups/{id}" Reader security_groups::show, until PROXY),
        endpoint!(PUT "/v2.1/os-security-groups/{id}" Member security_groups::update, until PROXY),
        endpoint!(DELETE "/v2.1/os-security-groups/{id}" Member security_groups::delete, until PROXY),
        endpoint!(POST "/v2.1/os-security-group-rules" Member security_groups::create_rule, until PROXY),
        endpoint!(DELETE "/v2.1/os-security-group-rules/{id}" Member security_groups::delete_rule, until PROXY),
        endpoint!(GET "/v2.1/images" Reader images::index, until PROXY),
        endpoint!(GET "/v2.1/images/detail" Reader images::index_detail, until PROXY),
        endpoint!(GET "/v2.1/images/{id}" Reader images::show, until PROXY),
        endpoint!(DELETE "/v2.1/images/{id}" Member images::delete, until PROXY),
        endpoint!(GET "/v2.1/images/{id}/metadata" Reader image_metadata::index, until (2, 38)),
        endpoint!(POST "/v2.1/images/{id}/metadata" Member image_metadata::create, until (2, 38)),
        endpoint!(PUT "/v2.1/images/{id}/metadata" Member image_metadata::replace, until (2, 38)),
        endpoint!(GET "/v2.1/images/{id}/metadata/{key}" Reader image_metadata::show, until (2, 38)),
        endpoint!(PUT "/v2.1/images/{id}/metadata/{key}" Member image_metadata::update, until (2, 38)),
        endpoint!(DELETE "/v2.1/images/{id}/metadata/{key}" Member image_metadata::delete, until (2, 38)),
        endpoint!(GET "/v2.1/os-floating-ips" Reader floating_ips::index, until PROXY),
        endpoint!(POST "/v2.1/os-floating-ips" Member floating_ips::create, until PROXY),
        endpoint!(GET "/v2.1/os-floating-ips/{id}" Reader floating_ips::show_one, until PROXY),
        endpoint!(DELETE "/v2.1/os-floating-ips/{id}" Member floating_ips::delete, until PROXY),
        endpoint!(GET "/v2.1/os-floating-ip-pools" Reader floating_ips::pool_index, until PROXY),
        endpoint!(GET "/v2.1/os-networks" Reader networks::index, until PROXY),
        endpoint!(GET "/v2.1/os-networks/{id}" Reader networks::show, until PROXY),
        endpoint!(GET "/v2.1/os-tenant-networks" Reader networks::tenant_index, until PROXY),
        endpoint!(GET "/v2.1/os-tenant-networks/{id}" Reader networks::tenant_show, until PROXY),
    ]
}
