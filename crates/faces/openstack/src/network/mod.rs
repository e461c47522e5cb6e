//! The network service: Neutron's v2.0 API.
//!
//! * [`resource`]: what all resources have in common; [`attrs`]: how their attributes are declared; [`list`]: how lists are cut,
//!   by [`filters`]
//! * [`request`]: a request and the plan of its change; [`body`]: what it sends; [`error`]: Neutron's errors
//! * one file a resource: [`networks`], [`subnets`], [`ports`], [`routers`] (their [`interfaces`]), [`floatingips`] (their [`port_forwardings`]),
//!   [`security_groups`], [`rules`], [`address_groups`], [`subnetpools`],
//!   [`address_scopes`], [`rbac_policies`], [`qos_policies`] (their [`qos_rules`]), [`trunks`], [`quotas`]; [`about`]: versions, extensions, agents
//! * [`addresses`]: which addresses a port gets; [`cidr`]: arithmetic of ranges
//!
//! What Neutron has beyond this (segments, flavors) is absent from the list of extensions
//! and from the table, so that clients learn it the way they learn it from a Neutron without those plugins.

mod about;
mod absent;
mod address_groups;
mod address_scopes;
mod addresses;
mod attrs;
pub mod auto_allocated;
mod body;
mod cidr;
mod error;
mod filters;
pub mod floatingips;
mod interfaces;
mod list;
mod networks;
mod port_forwardings;
mod ports;
mod qos_policies;
mod qos_rules;
mod quotas;
mod rbac_policies;
mod request;
mod resource;
mod routers;
mod rules;
mod security_groups;
mod sharing;
mod subnetpools;
mod subnets;
mod tags;
mod trunks;
mod uses;
mod words;

use model::{
    AddressGroup, AddressScope, FloatingIp, Kind, Network, Port, PortForwarding, QosPolicy, RbacPolicy, Router,
    SecurityGroup, SecurityGroupRule, Subnet, SubnetPool, Trunk,
};

pub use attrs::{Attr, Is, Set};
use resource::NeutronResource;

use crate::endpoint;
use crate::service::{Dialect, Endpoint, PLAIN, Quotas, Service, Version, Versions};
use crate::versions;

macro_rules! crud {
    ($type:ty, $method:ident, $path:expr, $access:ident, $module:ident :: $handler:ident) => {
        Endpoint {
            method: http::Method::$method,
            path: $path,
            access: crate::access::Access::$access,
            since: (0, 0),
            until: (u16::MAX, u16::MAX),
            handler: |call| Box::pin($module::$handler::<$type>(call)),
            bodies: Vec::new(),
        }
    };
}
/// The rows of one resource with everything that all resources have.
macro_rules! resource_rows {
    ($rows:ident, $type:ty, $many:literal) => {
        $rows.extend([
            crud!($type, GET, concat!("/v2.0/", $many), Reader, resource::list),
            crud!($type, POST, concat!("/v2.0/", $many), Member, resource::create),
            crud!($type, GET, concat!("/v2.0/", $many, "/{id}"), Reader, resource::show),
            crud!($type, PUT, concat!("/v2.0/", $many, "/{id}"), Member, resource::update),
            crud!($type, DELETE, concat!("/v2.0/", $many, "/{id}"), Member, resource::delete),
        ]);
    };
}

/// The rules of QoS policies of one sort.
macro_rules! qos_rule_rows {
    ($rows:ident, $type:ty, $many:literal) => {
        $rows.extend([
            crud!($type, GET, concat!("/v2.0/qos/policies/{policy}/", $many), Reader, qos_rules::list),
            crud!($type, POST, concat!("/v2.0/qos/policies/{policy}/", $many), Admin, qos_rules::create),
            crud!($type, GET, concat!("/v2.0/qos/policies/{policy}/", $many, "/{id}"), Reader, qos_rules::show_one),
            crud!($type, PUT, concat!("/v2.0/qos/policies/{policy}/", $many, "/{id}"), Admin, qos_rules::update),
            crud!($type, DELETE, concat!("/v2.0/qos/policies/{policy}/", $many, "/{id}"), Admin, qos_rules::delete),
            crud!($type, GET, concat!("/v2.0/qos/alias_", $many, "/{id}"), Reader, qos_rules::show_one),
            crud!($type, PUT, concat!("/v2.0/qos/alias_", $many, "/{id}"), Admin, qos_rules::update),
            crud!($type, DELETE, concat!("/v2.0/qos/alias_", $many, "/{id}"), Admin, qos_rules::delete),
        ]);
    };
}

macro_rules! tagged {
    ($rows:ident, $type:ty, $many:literal) => {
        tagged!($rows, $type, $many, Member)
    };
    ($rows:ident, $type:ty, $many:literal, $writes:ident) => {
        $rows.extend([
            crud!($type, GET, concat!("/v2.0/", $many, "/{id}/tags"), Reader, tags::list),
            crud!($type, PUT, concat!("/v2.0/", $many, "/{id}/tags"), $writes, tags::replace),
            crud!($type, POST, concat!("/v2.0/", $many, "/{id}/tags"), $writes, tags::add_all),
            crud!($type, DELETE, concat!("/v2.0/", $many, "/{id}/tags"), $writes, tags::clear),
            crud!($type, GET, concat!("/v2.0/", $many, "/{id}/tags/{tag}"), Reader, tags::show),
            crud!($type, PUT, concat!("/v2.0/", $many, "/{id}/tags/{tag}"), $writes, tags::add),
            crud!($type, DELETE, concat!("/v2.0/", $many, "/{id}/tags/{tag}"), $writes, tags::remove),
        ]);
    };
}

/// A resource as it is declared.
pub struct Declared {
    /// `network`
    pub one: &'static str,
    /// Of its list, below the service's prefix.
    pub path: &'static str,
    pub attrs: Vec<Attr<()>>,
}

/// All resources: for their documentation, and for tests that try every attribute.
pub fn declared() -> Vec<Declared> {
    fn of<T: NeutronResource>(path: &'static str) -> Declared {
        Declared { one: T::ONE, path, attrs: T::ATTRS.iter().map(Attr::declared).collect() }
    }
    vec![
        of::<Network>("/v2.0/networks"),
        of::<Subnet>("/v2.0/subnets"),
        of::<SubnetPool>("/v2.0/subnetpools"),
        of::<AddressScope>("/v2.0/address-scopes"),
        of::<Port>("/v2.0/ports"),
        of::<Trunk>("/v2.0/trunks"),
        of::<Router>("/v2.0/routers"),
        of::<FloatingIp>("/v2.0/floatingips"),
        of::<PortForwarding>("/v2.0/floatingips/{floatingip}/port_forwardings"),
        of::<SecurityGroup>("/v2.0/security-groups"),
        of::<SecurityGroupRule>("/v2.0/security-group-rules"),
        of::<AddressGroup>("/v2.0/address-groups"),
        of::<RbacPolicy>("/v2.0/rbac-policies"),
        of::<QosPolicy>("/v2.0/qos/policies"),
    ]
}

/// The network service.
pub static SERVICE: Service = Service {
    name: "network",
    project: "neutron",
    prefix: "/network",
    root: "",
    versions: Versions { all: &[Version::new("v2.0", "CURRENT", "/v2.0/")], ..PLAIN },
    microversions: None,
    kinds: &[
        Kind::Network,
        Kind::Subnet,
        Kind::SubnetPool,
        Kind::AddressScope,
        Kind::Port,
        Kind::Router,
        Kind::FloatingIp,
        Kind::PortForwarding,
        Kind::SecurityGroup,
        Kind::SecurityGroupRule,
        Kind::AddressGroup,
        Kind::QosPolicy,
        Kind::Trunk,
        Kind::RbacPolicy,
    ],
    // Neutron's quotas name whatever its plugins register.
    quotas: Quotas::All,
    dialect: Dialect { error: error::render, absent: error::not_loaded, request_id: None, pages: list::pages },
    absent: absent::ABSENT,
    reach: |_| Ok(()),
    table,
};

fn table() -> Vec<Endpoint> {
    let mut rows = vec![
        endpoint!(GET "/" Public versions::index),
        endpoint!(GET "/v2.0" Token about::resources),
        endpoint!(GET "/v2.0/extensions" Token about::extensions),
        endpoint!(GET "/v2.0/extensions/{alias}" Token about::show_extension),
        endpoint!(GET "/v2.0/agents" Reader about::agents),
        endpoint!(GET "/v2.0/agents/{id}" Admin about::show_agent),
        endpoint!(PUT "/v2.0/agents/{id}" Admin about::update_agent),
        endpoint!(DELETE "/v2.0/agents/{id}" Admin about::delete_agent),
        endpoint!(GET "/v2.0/auto-allocated-topology/{project}" Reader auto_allocated::show),
        endpoint!(DELETE "/v2.0/auto-allocated-topology/{project}" Member auto_allocated::delete),
        endpoint!(GET "/v2.0/availability_zones" Reader about::zones),
        endpoint!(GET "/v2.0/service-providers" Reader about::providers),
        endpoint!(GET "/v2.0/floatingip_pools" Reader about::pools),
        endpoint!(GET "/v2.0/floatingip-pools" Reader about::pools),
        endpoint!(GET "/v2.0/network-ip-availabilities" Admin about::availabilities),
        endpoint!(GET "/v2.0/network-ip-availabilities/{id}" Admin about::show_availability),
        endpoint!(GET "/v2.0/quotas" Admin quotas::list),
        endpoint!(GET "/v2.0/quotas/tenant" Reader quotas::whose),
        endpoint!(GET "/v2.0/quotas/project" Reader quotas::whose),
        endpoint!(GET "/v2.0/quotas/{project}" Reader quotas::show),
        endpoint!(PUT "/v2.0/quotas/{project}" Admin quotas::update),
        endpoint!(DELETE "/v2.0/quotas/{project}" Admin quotas::reset),
        endpoint!(GET "/v2.0/quotas/{project}/default" Reader quotas::default),
        endpoint!(GET "/v2.0/quotas/{project}/default.json" Reader quotas::default),
        endpoint!(GET "/v2.0/quotas/{project}/details" Reader quotas::details),
        endpoint!(GET "/v2.0/quotas/{project}/details.json" Reader quotas::details),
        endpoint!(GET "/v2.0/floatingips/{id}/port_forwardings" Reader port_forwardings::list),
        endpoint!(POST "/v2.0/floatingips/{id}/port_forwardings" Member port_forwardings::create),
        endpoint!(GET "/v2.0/floatingips/{id}/port_forwardings/{forwarding}" Reader port_forwardings::show_one),
        endpoint!(PUT "/v2.0/floatingips/{id}/port_forwardings/{forwarding}" Member port_forwardings::update),
        endpoint!(DELETE "/v2.0/floatingips/{id}/port_forwardings/{forwarding}" Member port_forwardings::delete),
        endpoint!(PUT "/v2.0/routers/{id}/add_router_interface" Member interfaces::add),
        endpoint!(PUT "/v2.0/routers/{id}/remove_router_interface" Member interfaces::remove),
        endpoint!(PUT "/v2.0/address-groups/{id}/add_addresses" Member address_groups::add),
        endpoint!(PUT "/v2.0/address-groups/{id}/remove_addresses" Member address_groups::remove),
        endpoint!(GET "/v2.0/trunks/{id}/get_subports" Reader trunks::subports),
        endpoint!(PUT "/v2.0/trunks/{id}/add_subports" Member trunks::add),
        endpoint!(PUT "/v2.0/trunks/{id}/remove_subports" Member trunks::remove),
        endpoint!(PUT "/v2.0/routers/{id}/add_extraroutes" Member interfaces::add_routes),
        endpoint!(PUT "/v2.0/routers/{id}/remove_extraroutes" Member interfaces::remove_routes),
    ];
    resource_rows!(rows, Network, "networks");
    resource_rows!(rows, Subnet, "subnets");
    resource_rows!(rows, SubnetPool, "subnetpools");
    resource_rows!(rows, Port, "ports");
    resource_rows!(rows, Router, "routers");
    resource_rows!(rows, FloatingIp, "floatingips");
    resource_rows!(rows, SecurityGroup, "security-groups");
    resource_rows!(rows, SecurityGroupRule, "security-group-rules");
    resource_rows!(rows, AddressGroup, "address-groups");
    resource_rows!(rows, AddressScope, "address-scopes");
    resource_rows!(rows, RbacPolicy, "rbac-policies");
    resource_rows!(rows, Trunk, "trunks");
    rows.extend([
        crud!(QosPolicy, GET, "/v2.0/qos/policies", Reader, resource::list),
        crud!(QosPolicy, POST, "/v2.0/qos/policies", Admin, resource::create),
        crud!(QosPolicy, GET, "/v2.0/qos/policies/{id}", Reader, resource::show),
        crud!(QosPolicy, PUT, "/v2.0/qos/policies/{id}", Admin, resource::update),
        crud!(QosPolicy, DELETE, "/v2.0/qos/policies/{id}", Admin, resource::delete),
        endpoint!(GET "/v2.0/qos/rule-types" Reader qos_policies::rule_types),
        endpoint!(GET "/v2.0/qos/rule-types/{type}" Admin qos_policies::rule_type),
    ]);
    qos_rule_rows!(rows, qos_rules::BandwidthLimit, "bandwidth_limit_rules");
    qos_rule_rows!(rows, qos_rules::DscpMarking, "dscp_marking_rules");
    tagged!(rows, Network, "networks");
    tagged!(rows, Subnet, "subnets");
    tagged!(rows, SubnetPool, "subnetpools");
    tagged!(rows, Port, "ports");
    tagged!(rows, Router, "routers");
    tagged!(rows, FloatingIp, "floatingips");
    tagged!(rows, SecurityGroup, "security-groups");
    tagged!(rows, Trunk, "trunks");
    tagged!(rows, QosPolicy, "policies", Admin);
    // Names of what is in braces differ.
    let same = |a: &str, b: &str| {
        a.split('/').count() == b.split('/').count()
            && a.split('/').zip(b.split('/')).all(|(a, b)| a == b || (a.starts_with('{') && b.starts_with('{')))
    };
    for Declared { one, path, attrs } in declared() {
        for row in &mut rows {
            match row.method {
                http::Method::POST if same(row.path, path) => row.bodies = vec![attrs::body(one, &attrs, true)],
                http::Method::PUT if same(row.path, &format!("{path}/{{id}}")) => {
                    row.bodies = vec![attrs::body(one, &attrs, false)];
                }
                _ => {}
            }
        }
    }
    rows
}
