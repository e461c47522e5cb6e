//! What Neutron says about itself: extensions (only those that are really here), agents, availability zones,
//! and how full networks are.

use std::collections::{BTreeSet, HashSet};

use gate::View;
use model::{Fault, Host, Index, Kind, Network, Port, Subnet};
use serde_json::{Map, Value, json};

use super::attrs::{Attr, Item, shown};
use super::cidr::{number, version};
use super::error::{NeutronError, not_found};
use super::list::{self, Listed};
use super::request::Request;
use super::resource::NeutronResource;
use super::resource::answer;
use crate::call::{Call, Reply};
use crate::json::Json;

/// Alias, name, what it brings, when it appeared.
const EXTENSIONS: &[(&str, &str, &str, &str)] = &[
    (
        "address-group",
        "Address group",
        "Security group rules refer to lists of addresses.",
        "2020-07-15T10:00:00-00:00",
    ),
    ("address-scope", "Address scope", "Pools of a scope do not overlap.", "2015-07-26T10:00:00-00:00"),
    ("agent", "agent", "Agents are listed.", "2013-02-03T10:00:00-00:00"),
    ("allowed-address-pairs", "Allowed Address Pairs", "Ports may use further addresses.", "2013-07-23T10:00:00-00:00"),
    (
        "auto-allocated-topology",
        "Auto Allocated Topology Services",
        "Projects get a network with a way out by asking for one.",
        "2016-01-01T00:00:00-00:00",
    ),
    ("availability_zone", "Availability Zone", "Availability zones are listed.", "2015-01-01T10:00:00-00:00"),
    ("binding", "Port Binding", "Ports show where they are plugged.", "2014-02-03T10:00:00-00:00"),
    ("dns-integration", "DNS Integration", "Ports and networks have DNS names.", "2015-08-15T18:00:00-00:00"),
    (
        "empty-string-filtering",
        "Empty String Filtering Extension",
        "Filters may be empty.",
        "2018-05-01T10:00:00-00:00",
    ),
    (
        "ext-gw-mode",
        "Neutron L3 Configurable external gateway mode",
        "SNAT of routers can be switched.",
        "2013-03-28T10:00:00-00:00",
    ),
    ("external-net", "Neutron external network", "Networks can be external.", "2013-01-14T10:00:00-00:00"),
    (
        "extra_dhcp_opt",
        "Neutron Extra DHCP options",
        "Ports have DHCP options of their own.",
        "2013-03-17T12:00:00-00:00",
    ),
    ("extraroute", "Neutron Extra Route", "Routers have further routes.", "2013-02-01T10:00:00-00:00"),
    (
        "extraroute-atomic",
        "Atomically add/remove extra routes",
        "Routes are added and removed one by one.",
        "2019-07-10T00:00:00+00:00",
    ),
    ("filter-validation", "Filter parameters validation", "Unknown filters are refused.", "2018-07-04T10:00:00-00:00"),
    (
        "fip-port-details",
        "Floating IP Port Details Extension",
        "Floating IPs show their ports.",
        "2018-04-09T10:00:00-00:00",
    ),
    (
        "expose-port-forwarding-in-fip",
        "Expose Port Forwarding in FIP",
        "Floating IPs show their port forwardings.",
        "2019-03-01T10:00:00-00:00",
    ),
    (
        "floating-ip-port-forwarding",
        "Floating IP Port Forwarding",
        "Ports of floating IPs lead to ports inside.",
        "2018-02-26T10:00:00-00:00",
    ),
    (
        "floating-ip-port-forwarding-description",
        "Floating IP Port Forwarding description",
        "Port forwardings have descriptions.",
        "2019-11-05T10:00:00-00:00",
    ),
    (
        "floating-ip-port-forwarding-detail",
        "Floating IP Port Forwarding detail",
        "Floating IPs show ids and ports of their port forwardings.",
        "2021-02-02T10:00:00-00:00",
    ),
    (
        "floating-ip-port-forwarding-port-ranges",
        "Floating IP Port Forwarding support port ranges",
        "Ranges of ports are forwarded.",
        "2020-07-01T10:00:00-00:00",
    ),
    (
        "floatingip-pools",
        "Floating IP Pools Extension",
        "Pools of floating IPs are listed.",
        "2018-03-21T10:00:00-00:00",
    ),
    (
        "ip-substring-filtering",
        "IP address substring filtering",
        "Ports are found by parts of addresses.",
        "2017-11-28T09:00:00-00:00",
    ),
    ("net-mtu", "Network MTU", "Networks have an MTU.", "2015-03-25T10:00:00-00:00"),
    ("net-mtu-writable", "Network MTU (writable)", "The MTU of networks can be set.", "2017-07-12T00:00:00-00:00"),
    ("network-ip-availability", "Network IP Availability", "How full networks are.", "2015-09-24T00:00:00-00:00"),
    ("pagination", "Pagination support", "Lists come in pages.", "2016-06-12T00:00:00-00:00"),
    ("port-security", "Port Security", "Port security can be switched.", "2012-07-23T10:00:00-00:00"),
    (
        "port-security-groups-filtering",
        "Port filtering on security groups",
        "Ports are found by security groups.",
        "2018-01-09T09:00:00-00:00",
    ),
    ("project-id", "project_id field enabled", "Projects are named project_id.", "2016-09-09T09:09:09-09:09"),
    ("provider", "Provider Network", "Administrators see how networks are built.", "2012-09-07T10:00:00-00:00"),
    ("qos", "Quality of Service", "Policies limit and mark what ports send and get.", "2015-06-08T10:00:00-00:00"),
    (
        "qos-bw-limit-direction",
        "Direction for QoS bandwidth limit rule",
        "Limits are of what is sent or of what comes.",
        "2017-04-10T10:00:00-00:00",
    ),
    ("qos-default", "QoS default policy", "A project's new networks have a policy.", "2017-04-10T10:00:00-00:00"),
    ("qos-fip", "Floating IP QoS", "Floating IPs have policies.", "2017-07-20T00:00:00-00:00"),
    (
        "qos-fip-network-policy",
        "QoS floating IP network policy",
        "Floating IPs show the policy of their network.",
        "2019-06-15T00:00:00-00:00",
    ),
    ("qos-gateway-ip", "Gateway IP QoS", "Ways out of routers have policies.", "2019-07-20T00:00:00-00:00"),
    (
        "qos-port-network-policy",
        "QoS port network policy",
        "Ports show the policy of their network.",
        "2019-06-15T00:00:00-00:00",
    ),
    (
        "qos-rule-type-details",
        "Details of QoS rule types",
        "Rule types show what they can be given.",
        "2017-06-22T10:00:00-00:00",
    ),
    ("qos-rule-type-filter", "Filter QoS rule types", "All rule types can be asked for.", "2022-04-15T10:00:00-00:00"),
    ("qos-rules-alias", "Alias for QoS rules", "Rules are found without their policy.", "2018-10-07T10:00:00-00:00"),
    (
        "quota-check-limit",
        "Quota limits are checked",
        "A limit below what is used is refused.",
        "2021-02-02T02:00:00-00:00",
    ),
    ("quota_details", "Quota details management support", "Quotas show their use.", "2017-02-10T10:00:00-00:00"),
    ("quotas", "Quota management support", "Projects have limits.", "2012-07-29T10:00:00-00:00"),
    (
        "rbac-address-group",
        "Add address_group type to RBAC",
        "Address groups are shared with projects.",
        "2021-01-31T00:00:00-00:00",
    ),
    (
        "rbac-address-scope",
        "Add address_scope type to RBAC",
        "Address scopes are shared with projects.",
        "2020-01-15T00:00:00-00:00",
    ),
    ("rbac-policies", "RBAC Policies", "Networks are shared with some projects.", "2015-06-17T12:15:12-00:00"),
    (
        "rbac-security-groups",
        "Add security_group type to network RBAC",
        "Security groups are shared with projects.",
        "2018-05-15T00:00:00-00:00",
    ),
    (
        "rbac-subnetpool",
        "Add subnetpool type to RBAC",
        "Subnet pools are shared with projects.",
        "2020-01-15T00:00:00-00:00",
    ),
    (
        "revision-if-match",
        "If-Match constraints based on revision_number",
        "Changes can ask for a revision.",
        "2016-12-11T00:00:00-00:00",
    ),
    ("router", "Neutron L3 Router", "Routers and floating IPs.", "2012-07-20T10:00:00-00:00"),
    ("security-group", "security-group", "Security groups and their rules.", "2012-10-05T10:00:00-00:00"),
    (
        "security-groups-normalized-cidr",
        "Normalized CIDR field for security group rules",
        "Rules show their CIDR in its normal form.",
        "2020-07-28T10:00:00-00:00",
    ),
    (
        "security-groups-rules-belongs-to-default-sg",
        "Security group rule belongs to the project's default security group",
        "Rules show whether they are the default group's.",
        "2023-05-23T10:00:00-00:00",
    ),
    (
        "security-groups-remote-address-group",
        "Remote address group id field for security group rules",
        "Rules let address groups in and out.",
        "2020-08-25T10:00:00-00:00",
    ),
    (
        "security-groups-shared-filtering",
        "Security group filtering on the shared field",
        "Security groups are found by whether they are shared.",
        "2021-10-15T09:00:00-00:00",
    ),
    ("service-type", "Neutron Service Type Management", "Service providers are listed.", "2013-01-20T00:00:00-00:00"),
    ("sorting", "Sorting support", "Lists are sorted as asked.", "2016-06-12T00:00:00-00:00"),
    (
        "standard-attr-description",
        "standard-attr-description",
        "Resources have descriptions.",
        "2016-02-10T10:00:00-00:00",
    ),
    ("standard-attr-revisions", "Resource revision numbers", "Resources have revisions.", "2016-04-11T10:00:00-00:00"),
    (
        "standard-attr-tag",
        "Tag support for resources with standard attribute: network, subnet, subnetpool, port, router, floatingip, security_group, trunk",
        "Resources have tags.",
        "2017-01-01T00:00:00-00:00",
    ),
    (
        "standard-attr-timestamp",
        "Resource timestamps",
        "Resources show when they were made and changed.",
        "2016-09-12T10:00:00-00:00",
    ),
    (
        "stateful-security-group",
        "Stateful security group",
        "Security groups can be stateless.",
        "2019-11-26T09:00:00-00:00",
    ),
    (
        "subnet-external-network",
        "Subnet belongs to an external network",
        "Subnets of external networks can be seen.",
        "2024-02-05T18:00:00-00:00",
    ),
    (
        "subnet-service-types",
        "Subnet service types",
        "Subnets can be kept for some device owners.",
        "2016-03-15T18:00:00-00:00",
    ),
    (
        "default-subnetpools",
        "Default Subnetpools",
        "A pool is the default of its IP version, and subnets can be cut from it.",
        "2016-02-18T18:00:00-00:00",
    ),
    ("subnet_allocation", "Subnet Allocation", "Subnets are cut from pools.", "2015-03-30T10:00:00-00:00"),
    ("tag-creation", "Tag creation extension", "Resources can be made with tags.", "2024-07-23T10:00:00-00:00"),
    ("trunk", "Trunk Extension", "Ports carry others by tags.", "2016-01-01T10:00:00-00:00"),
    ("trunk-details", "Trunk port details", "Ports show what they carry.", "2016-01-01T10:00:00-00:00"),
];

/// Resources whose collections the version document names.
const RESOURCES: &[(&str, &str)] =
    &[("network", "networks"), ("subnet", "subnets"), ("subnetpool", "subnetpools"), ("port", "ports")];

/// `GET /v2.0`
pub async fn resources(call: Call) -> Result<Reply, Fault> {
    let resources = RESOURCES.iter().map(|(one, many)| {
        let links = json!([{"rel": "self", "href": call.url(&format!("/v2.0/{many}"))}]);
        json!({"name": one, "collection": many, "links": links})
    });
    Ok(Reply::ok(json!({"resources": resources.collect::<Vec<_>>()})))
}

fn extension((alias, name, description, updated): &(&str, &str, &str, &str)) -> Map<String, Value> {
    let value = json!({"alias": alias, "name": name, "description": description, "updated": updated, "links": []});
    value.as_object().cloned().unwrap_or_default()
}

/// `GET /v2.0/extensions`
pub async fn extensions(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, false).await?;
        let mut all: Vec<_> = EXTENSIONS.iter().map(extension).collect();
        for one in &mut all {
            list::keep_fields(&request, one);
        }
        Ok(Reply::ok(json!({"extensions": all})))
    })
    .await
}

/// `GET /v2.0/extensions/{alias}`
pub async fn show_extension(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, false).await?;
        let alias = request.param("alias");
        match EXTENSIONS.iter().find(|one| one.0 == alias) {
            Some(one) => Ok(Reply::ok(json!({"extension": extension(one)}))),
            None => {
                let message = format!("Extension with alias {alias} does not exist");
                Err(NeutronError::missing("HTTPNotFound", message))
            }
        }
    })
    .await
}

/// What is no row, but made for the answer.
type Described = Map<String, Value>;

macro_rules! key {
    ($name:literal) => {
        shown::<Described>($name, |_, value| value.get($name).map_or(Json::Absent, Json::from))
    };
}

/// A list of such.
fn listed(
    request: &Request,
    kind: Kind,
    many: &'static str,
    attrs: &'static [Attr<Described>],
    all: &[Described],
) -> Result<Reply, NeutronError> {
    let listed = Listed { kind, many, attrs };
    let view = View::new(&request.snapshot, &request.who);
    let items = all.iter().map(|value| {
        let id = value.get("id").and_then(Value::as_str).unwrap_or("");
        Item { id, revision: 0, value }
    });
    listed.reply(request, &view, &listed.filters(request)?, items)
}

const AGENT: &[Attr<Described>] = &[
    key!("id"),
    key!("agent_type"),
    key!("binary"),
    key!("host"),
    key!("admin_state_up"),
    key!("alive"),
    key!("heartbeat_timestamp"),
    key!("created_at"),
    key!("configurations"),
];

fn agent(request: &Request, host: &Host) -> Map<String, Value> {
    let parts: Map<String, Value> =
        host.status.parts.iter().map(|(part, problem)| (part.clone(), json!(problem))).collect();
    let value = json!({
        "id": host.id,
        "agent_type": "Braid agent",
        "binary": "braid",
        "host": host.name,
        "admin_state_up": host.enabled,
        "alive": host.is_up(),
        "heartbeat_timestamp": request.store.last_beat(&host.name).max(host.status.heartbeat).map(model::seconds),
        "created_at": model::seconds(host.created_at),
        "configurations": {"parts": parts},
    });
    value.as_object().cloned().unwrap_or_default()
}

/// `GET /v2.0/agents`: each host has one agent, which does everything there. Others than administrators see none.
pub async fn agents(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, false).await?;
        let hosts = request.snapshot.all::<Host>().filter(|_| request.who.is_admin());
        let all: Vec<_> = hosts.map(|host| agent(&request, host.value)).collect();
        listed(&request, Kind::Host, "agents", AGENT, &all)
    })
    .await
}

/// `GET /v2.0/agents/{id}`
pub async fn show_agent(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, false).await?;
        Ok(Reply::ok(json!({"agent": agent(&request, host_of(&request)?)})))
    })
    .await
}

/// `PUT /v2.0/agents/{id}`: what changes nothing is taken. An agent cannot be stopped apart from its host.
pub async fn update_agent(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, true).await?;
        let host = host_of(&request)?;
        let shown = agent(&request, host);
        let given = request.body["agent"]
            .as_object()
            .ok_or_else(|| NeutronError::http_bad("Unable to find 'agent' in request body"))?;
        match given.iter().find(|(name, value)| shown.get(*name) != Some(value)) {
            None => Ok(Reply::ok(json!({"agent": shown}))),
            Some((name, _)) => {
                Err(Fault::NotImplemented(format!("Changing {name} of an agent is not supported by this cloud."))
                    .into())
            }
        }
    })
    .await
}

/// `DELETE /v2.0/agents/{id}`
pub async fn delete_agent(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, false).await?;
        host_of(&request)?;
        Err(Fault::NotImplemented("An agent goes with its host, which this cloud does not give up.".into()).into())
    })
    .await
}

/// The host whose agent the path names.
fn host_of(request: &Request) -> Result<&Host, NeutronError> {
    let id = request.param("id");
    let host = request.snapshot.all::<Host>().find(|host| host.value.id == id);
    host.map(|host| host.value).ok_or_else(|| not_found(Kind::Host, id))
}

/// `GET /v2.0/availability_zones`: one zone, as long as some host works in it.
pub async fn zones(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, false).await?;
        let state = if request.snapshot.all::<Host>().any(|h| h.value.enabled) { "available" } else { "unavailable" };
        let zones = ["network", "router"].map(|resource| {
            let zone = json!({"name": model::ZONE, "resource": resource, "state": state});
            zone.as_object().cloned().unwrap_or_default()
        });
        const ZONE: &[Attr<Described>] = &[key!("name"), key!("resource"), key!("state")];
        listed(&request, Kind::Host, "availability_zones", ZONE, &zones)
    })
    .await
}

/// `GET /v2.0/service-providers`
pub async fn providers(_call: Call) -> Result<Reply, Fault> {
    Ok(Reply::ok(json!({"service_providers": []})))
}

/// `GET /v2.0/floatingip_pools`
pub async fn pools(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, false).await?;
        let view = View::new(&request.snapshot, &request.who);
        let external = |s: &Subnet| view.snapshot.get::<Network>(&s.network_id).is_some_and(|n| n.value.external);
        let seen = view.snapshot.all::<Subnet>().map(|s| s.value).filter(|s| Subnet::sees(&view, s));
        let pools = seen.filter(|s| s.base.is_ipv4() && external(s)).map(|s| {
            json!({
                "subnet_id": s.id,
                "subnet_name": s.name,
                "project_id": s.project_id,
                "tenant_id": s.project_id,
                "network_id": s.network_id,
                "cidr": s.cidr(),
            })
        });
        Ok(Reply::ok(json!({"floatingip_pools": pools.collect::<Vec<_>>()})))
    })
    .await
}

const AVAILABILITY: &[Attr<Described>] = &[
    key!("network_id"),
    key!("network_name"),
    key!("project_id"),
    key!("tenant_id"),
    key!("total_ips"),
    key!("used_ips"),
    key!("subnet_ip_availability"),
    key!("ip_version"),
];

fn availability(request: &Request, network: &Network, wanted: Option<u8>) -> Option<Map<String, Value>> {
    let ports = || request.snapshot.find::<Port>(Index::Network, &network.id);
    let subnets = request.snapshot.find::<Subnet>(Index::Network, &network.id).map(|s| s.value);
    let subnets: Vec<&Subnet> = subnets.filter(|s| wanted.is_none_or(|v| v == version(s.base))).collect();
    if wanted.is_some() && subnets.is_empty() {
        return None;
    }
    let (mut total, mut used) = (0u128, 0u128);
    let mut shown = Vec::with_capacity(subnets.len());
    for subnet in subnets {
        let size: u128 =
            subnet.pools.iter().map(|(a, b)| (number(*b) - number(*a)).saturating_add(1)).fold(0, u128::saturating_add);
        let taken: HashSet<_> =
            ports().flat_map(|p| p.value.fixed_ips.iter().filter(|f| f.subnet_id == subnet.id).map(|f| f.ip)).collect();
        total = total.saturating_add(size);
        used += taken.len() as u128;
        shown.push(json!({
            "subnet_id": subnet.id,
            "subnet_name": subnet.name,
            "cidr": subnet.cidr(),
            "ip_version": version(subnet.base),
            "total_ips": clipped(size),
            "used_ips": taken.len(),
        }));
    }
    let value = json!({
        "network_id": network.id,
        "network_name": network.name,
        "project_id": network.project_id,
        "tenant_id": network.project_id,
        "total_ips": clipped(total),
        "used_ips": clipped(used),
        "subnet_ip_availability": shown,
    });
    value.as_object().cloned()
}

/// JSON numbers here have 64 bits; nobody uses up more addresses than that.
fn clipped(count: u128) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// `GET /v2.0/network-ip-availabilities`
pub async fn availabilities(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let mut request = Request::read(call, false).await?;
        let wanted: BTreeSet<u8> = request.queries("ip_version").filter_map(|v| v.parse().ok()).collect();
        request.query.retain(|(name, _)| name != "ip_version");
        let wanted = wanted.into_iter().next();
        let networks: Vec<&Network> = request.snapshot.all::<Network>().map(|n| n.value).collect();
        let mut items: Vec<_> = networks.into_iter().filter_map(|n| availability(&request, n, wanted)).collect();
        items.sort_by(|a, b| a["network_id"].as_str().cmp(&b["network_id"].as_str()));
        listed(&request, Kind::Network, "network_ip_availabilities", AVAILABILITY, &items)
    })
    .await
}

/// `GET /v2.0/network-ip-availabilities/{id}`
pub async fn show_availability(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, false).await?;
        let id = request.param("id");
        let network = request.snapshot.get::<Network>(id).ok_or_else(|| not_found(Kind::Network, id))?;
        let shown = availability(&request, network.value, None);
        Ok(Reply::ok(json!({"network_ip_availability": shown})))
    })
    .await
}
