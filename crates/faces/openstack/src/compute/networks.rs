//! Nova's own views of networks, which ended with 2.35. The rows are Neutron's, of which Nova knew little: what its own
//! networks of before had, these have as null.

use gate::View;
use model::{Entry, Fault, Network};
use serde_json::{Map, Value, json};

use super::fault::missing;
use crate::call::{Call, Reply};

/// What a network of Nova's once had, for all, and for administrators.
const FOR_ALL: [&str; 9] =
    ["cidr", "netmask", "gateway", "broadcast", "dns1", "dns2", "cidr_v6", "gateway_v6", "netmask_v6"];
const FOR_ADMINS: [&str; 22] = [
    "bridge",
    "bridge_interface",
    "created_at",
    "deleted",
    "deleted_at",
    "dhcp_server",
    "dhcp_start",
    "enable_dhcp",
    "host",
    "injected",
    "mtu",
    "multi_host",
    "priority",
    "project_id",
    "rxtx_base",
    "share_address",
    "updated_at",
    "uuid",
    "vlan",
    "vpn_private_address",
    "vpn_public_address",
    "vpn_public_port",
];

fn all<'a>(view: &View<'a>) -> Vec<Entry<'a, Network>> {
    let mut all: Vec<_> = view.all::<Network>().collect();
    all.sort_by(|a, b| a.id.cmp(&b.id));
    all
}

fn find<'a>(view: &View<'a>, id: &str) -> Result<Entry<'a, Network>, Fault> {
    view.get::<Network>(id).map_err(|_| missing("Network not found."))
}

fn full(view: &View<'_>, network: &Network) -> Value {
    let more = if view.who.is_admin() { &FOR_ADMINS[..] } else { &[] };
    let mut out: Map<String, Value> =
        FOR_ALL.iter().chain(more).map(|name| ((*name).to_owned(), Value::Null)).collect();
    out.insert("id".into(), json!(network.id));
    out.insert("label".into(), json!(network.name));
    Value::Object(out)
}

/// `GET /os-networks`
pub async fn index(call: Call) -> Result<Reply, Fault> {
    let view = call.view()?;
    Ok(Reply::ok(json!({"networks": all(&view).iter().map(|network| full(&view, network)).collect::<Vec<_>>()})))
}

/// `GET /os-networks/{id}`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    let view = call.view()?;
    Ok(Reply::ok(json!({"network": full(&view, find(&view, call.param("id"))?.value)})))
}

fn short(network: &Network) -> Value {
    json!({"id": network.id, "label": network.name, "cidr": "None"})
}

/// `GET /os-tenant-networks`
pub async fn tenant_index(call: Call) -> Result<Reply, Fault> {
    let networks: Vec<Value> = all(&call.view()?).iter().map(|network| short(network)).collect();
    Ok(Reply::ok(json!({"networks": networks})))
}

/// `GET /os-tenant-networks/{id}`
pub async fn tenant_show(call: Call) -> Result<Reply, Fault> {
    Ok(Reply::ok(json!({"network": short(find(&call.view()?, call.param("id"))?.value)})))
}
