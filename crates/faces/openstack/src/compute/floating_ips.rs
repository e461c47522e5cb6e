//! Nova's own view of floating IPs, which ended with 2.35, and the two actions by which servers got them, which ended with
//! 2.43. The rows, and what can be done with them, are Neutron's.

use std::net::IpAddr;

use gate::View;
use model::{Entry, Fault, FloatingIp, Network, Port, Resource, Server, Snapshot};
use serde_json::{Value, json};

use super::body::{Fields, is_uuid};
use super::fault::missing;
use super::servers;
use crate::call::{Call, Reply};
use crate::network::floatingips;

fn find<'a>(view: &View<'a>, id: &str) -> Result<Entry<'a, FloatingIp>, Fault> {
    let absent = || missing(format!("Floating IP not found for ID {id}"));
    if !is_uuid(id) {
        return Err(absent());
    }
    view.own::<FloatingIp>(id).map_err(|_| absent())
}

/// The server that has a port.
fn server_of<'a>(snapshot: &'a Snapshot, port: &Port) -> Option<Entry<'a, Server>> {
    let holder = port.holder.as_ref()?;
    snapshot.at::<Server>(holder.key())
}

fn show(snapshot: &Snapshot, floating: &FloatingIp) -> Value {
    let network = snapshot.get::<Network>(&floating.network_id);
    let port = floating.port_id.as_deref().and_then(|id| snapshot.get::<Port>(id));
    let server = port.and_then(|port| server_of(snapshot, port.value));
    json!({
        "id": floating.id,
        "ip": floating.address,
        "pool": network.map_or(floating.network_id.as_str(), |network| network.value.name.as_str()),
        "fixed_ip": floating.fixed_ip,
        "instance_id": server.map(|server| server.value.id.as_str()),
    })
}

/// `GET /os-floating-ips`
pub async fn index(call: Call) -> Result<Reply, Fault> {
    let mut all: Vec<Entry<'_, FloatingIp>> = call.view()?.mine().collect();
    all.sort_by_key(|floating| floating.address);
    let all: Vec<Value> = all.iter().map(|floating| show(&call.snapshot, floating.value)).collect();
    Ok(Reply::ok(json!({"floating_ips": all})))
}

/// `GET /os-floating-ips/{id}`
pub async fn show_one(call: Call) -> Result<Reply, Fault> {
    let floating = find(&call.view()?, call.param("id"))?;
    Ok(Reply::ok(json!({"floating_ip": show(&call.snapshot, floating.value)})))
}

/// The external networks that the caller sees: the pools of floating IPs.
fn pools<'a>(view: &View<'a>) -> Vec<Entry<'a, Network>> {
    let mut pools: Vec<_> = view.all::<Network>().filter(|network| network.external).collect();
    pools.sort_by(|a, b| a.name.cmp(&b.name));
    pools
}

/// `GET /os-floating-ip-pools`
pub async fn pool_index(call: Call) -> Result<Reply, Fault> {
    let pools: Vec<Value> = pools(&call.view()?).iter().map(|network| json!({"name": network.name})).collect();
    Ok(Reply::ok(json!({"floating_ip_pools": pools})))
}

/// `POST /os-floating-ips`: from the pool that is named, or from the only one.
pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    let asked = body.get("pool").and_then(Value::as_str);
    let view = call.view()?;
    let fits = |network: &Entry<'_, Network>| asked.is_none_or(|name| network.name == name || network.id == name);
    let mut fitting = pools(&view).into_iter().filter(fits);
    let network = match (fitting.next(), fitting.next()) {
        (Some(network), None) => network,
        (Some(_), Some(_)) => {
            return Err(Fault::Conflict("Multiple floating IP pools fit: name one by its ID.".into()));
        }
        (None, _) => return Err(missing("Floating IP pool not found.")),
    };
    let project = view.who.project_id().unwrap_or("");
    let id = floatingips::allocate(&call, project, network.value).await?;
    let rows = call.cloud.store.snapshot();
    let floating = rows.get::<FloatingIp>(&id).ok_or_else(|| missing("The floating IP is gone already."))?;
    Ok(Reply::ok(json!({"floating_ip": show(&rows, floating.value)})))
}

/// `DELETE /os-floating-ips/{id}`
pub async fn delete(call: Call) -> Result<Reply, Fault> {
    let id = find(&call.view()?, call.param("id"))?.id.clone();
    floatingips::release(&call, &id).await?;
    Ok(Reply::empty(202))
}

/// The caller's floating IP with an address.
fn by_address<'a>(view: &View<'a>, fields: &Fields<'_>) -> Result<Entry<'a, FloatingIp>, Fault> {
    fields.required("address")?;
    let text = fields.text("address", 64)?.unwrap_or_default();
    let ip: Option<IpAddr> = text.parse().ok();
    let mut own = view.mine::<FloatingIp>();
    own.find(|floating| Some(floating.address) == ip).ok_or_else(|| missing(format!("floating IP {text} not found")))
}

/// Where a floating IP of a server leads: to the address that is asked for, or to the first of IPv4.
fn inner(call: &Call, server: &Server, floating: &FloatingIp, asked: Option<&str>) -> Result<(Port, IpAddr), Fault> {
    let asked: Option<IpAddr> = match asked {
        Some(text) => Some(text.parse().map_err(|_| Fault::Invalid(format!("{text} is not an address")))?),
        None => None,
    };
    for port in Port::of_server(&call.snapshot, server) {
        let mut ips = port.fixed_ips.iter().map(|fixed| fixed.ip);
        if let Some(ip) = ips.find(|ip| asked.map_or(ip.is_ipv4(), |asked| asked == *ip)) {
            return Ok((port.value.clone(), ip));
        }
    }
    Err(match asked {
        Some(_) => Fault::Invalid("Specified fixed address not assigned to instance".into()),
        None => Fault::Invalid(format!("Unable to associate floating IP {} to any fixed IPs", floating.address)),
    })
}

/// The action `addFloatingIp`, until 2.43
pub async fn add(call: &Call, value: &Value) -> Result<Reply, Fault> {
    let fields = Fields::new("addFloatingIp", value)?;
    fields.only(&["address", "fixed_address"])?;
    let view = call.view()?;
    let server = servers::find(&view, call.param("id"))?;
    let floating = by_address(&view, &fields)?;
    let (port, ip) = inner(call, server.value, floating.value, fields.text("fixed_address", 64)?)?;
    floatingips::lead(call, &floating.id, Some((&port, ip))).await.map_err(|fault| match fault {
        // Nova's word for an address that has one already.
        Fault::Conflict(why) => Fault::Invalid(why),
        other => other,
    })?;
    Ok(Reply::empty(202))
}

/// The action `removeFloatingIp`, until 2.43
pub async fn remove(call: &Call, value: &Value) -> Result<Reply, Fault> {
    let fields = Fields::new("removeFloatingIp", value)?;
    fields.only(&["address"])?;
    let view = call.view()?;
    let server = servers::find(&view, call.param("id"))?;
    let floating = by_address(&view, &fields)?;
    let port = floating.port_id.as_deref().and_then(|id| call.snapshot.get::<Port>(id));
    if !port.is_some_and(|port| port.value.is_of_server(&server.name())) {
        let message = format!("Floating IP {} is not associated with instance {}.", floating.address, server.id);
        return Err(Fault::Conflict(message));
    }
    floatingips::lead(call, &floating.id, None).await?;
    Ok(Reply::empty(202))
}
