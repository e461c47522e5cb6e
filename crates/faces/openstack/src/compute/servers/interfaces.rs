//! A server's addresses and interfaces. Attaching claims the address and makes the port in the request's own transaction;
//! the host plugs it in afterwards.

use gate::Ref;
use model::{
    Change, Fault, FixedIp, FloatingIp, Holder, Index, Kind, NicRequest, Port, PortStatus, Subnet, Trunk,
    default_security_group, free_address,
};
use model::{Network, Realm, SecurityGroup, Server};
use serde_json::{Value, json};

use super::requests::port_of;
use super::{Subject, When, act, networks, view};
use crate::call::{Call, Reply};
use crate::compute::body::Fields;
use crate::compute::fault::missing;
use crate::compute::schema::{Is, Schema, property};
use crate::json::Json;

/// `GET /servers/{id}/ips`
pub async fn addresses(call: Call) -> Result<Reply, Fault> {
    let view = call.view()?;
    let server = super::find(&view, call.param("id"))?;
    Ok(Reply::ok(json!({"addresses": view::addresses(&call.snapshot, &server, false)})))
}

/// `GET /servers/{id}/ips/{network}`
pub async fn addresses_of(call: Call) -> Result<Reply, Fault> {
    let view = call.view()?;
    let server = super::find(&view, call.param("id"))?;
    let network = call.param("network");
    let all = view::addresses(&call.snapshot, &server, false);
    match all.field(network) {
        Json::Absent => Err(missing("Instance is not a member of specified network")),
        list => Ok(Reply::ok(Json::Object(vec![(network, list.clone())]))),
    }
}

fn show_interface(call: &Call, server: &Server, port: &Port) -> Value {
    let fixed: Vec<Value> =
        port.fixed_ips.iter().map(|fixed| json!({"subnet_id": fixed.subnet_id, "ip_address": fixed.ip})).collect();
    let mut out = json!({
        "port_id": port.id, "net_id": port.network_id, "mac_addr": port.mac, "fixed_ips": fixed,
        "port_state": if port.status == PortStatus::Active { "ACTIVE" } else { "DOWN" },
    });
    if call.version >= (2, 70) {
        let nic = server.nics.iter().find(|nic| nic.port_id.as_ref() == Some(&port.id));
        out["tag"] = json!(nic.and_then(|nic| nic.tag.clone()));
    }
    out
}

/// `GET /servers/{id}/os-interface`
pub async fn index(call: Call) -> Result<Reply, Fault> {
    let view = call.view()?;
    let server = super::find(&view, call.param("id"))?;
    let ports = view::ports(&call.snapshot, &server);
    let ports: Vec<Value> = ports.into_iter().map(|port| show_interface(&call, &server, port)).collect();
    Ok(Reply::ok(json!({"interfaceAttachments": ports})))
}

/// `GET /servers/{id}/os-interface/{port}`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    let view = call.view()?;
    let (id, port_id) = (call.param("id"), call.param("port"));
    let server = super::find(&view, id)?;
    let port = call.snapshot.get::<Port>(port_id).filter(|port| port.is_of_server(&server.id));
    let port = port.ok_or_else(|| missing(format!("Instance {id} does not have port with id {port_id}")))?;
    Ok(Reply::ok(json!({"interfaceAttachment": show_interface(&call, &server, &port)})))
}

const WHEN: When =
    When { vm_states: &["active", "paused", "stopped"], tasks: &[], any_task: false, though_locked: false };

/// What to attach.
/// What is attached.
pub const ATTACHMENT: Schema = Schema {
    name: "interfaceAttachment",
    properties: &[
        property("port_id", Is::Uuid).refers_to(&[(Kind::Port, r#""$""#)]),
        property("net_id", Is::Uuid).refers_to(&[(Kind::Network, r#""$""#)]),
        property("fixed_ips", Is::Any),
        property("tag", Is::Text(60)).since(2, 49),
    ],
};

struct Attach {
    port: Option<Ref<Port>>,
    network: Option<Ref<Network>>,
    fixed_ip: Option<String>,
    tag: Option<String>,
}

fn read(call: &Call, body: &Value) -> Result<Attach, Fault> {
    let none = serde_json::Map::new();
    let map = match body.get("interfaceAttachment") {
        Some(Value::Null) | None => &none,
        Some(value) => Fields::new("interfaceAttachment", value)?.map,
    };
    let fields = Fields { name: "interfaceAttachment", map };
    let given = ATTACHMENT.take(call.version, &fields)?;
    let fixed_ip = match given.get("fixed_ips").map(|list| (list, list.as_array().map(Vec::as_slice))) {
        None => None,
        Some((_, Some([one]))) => {
            let fixed = Fields::new("fixed_ips", one)?;
            fixed.only(&["ip_address"])?;
            fixed.required("ip_address")?;
            fixed.text("ip_address", 64)?.map(str::to_owned)
        }
        Some((list, _)) => return Err(crate::compute::body::bad("fixed_ips", list, "It must have exactly one item")),
    };
    let attach = Attach {
        port: given.reference("port_id"),
        network: given.reference("net_id"),
        fixed_ip,
        tag: given.text("tag").map(str::to_owned),
    };
    if attach.port.is_some() && attach.network.is_some() {
        return Err(Fault::Invalid("Must not input both network_id and port_id".into()));
    }
    if attach.fixed_ip.is_some() && attach.network.is_none() {
        return Err(Fault::Invalid("Must input network_id when request IP address".into()));
    }
    Ok(attach)
}

/// `POST /servers/{id}/os-interface`
pub async fn attach(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    let asked = read(&call, &body)?;
    let new_id = uuid::Uuid::new_v4().to_string();
    let mut made = None;
    let server = act(&call, "attach_interface", WHEN, |server, subject| {
        let port = match &asked.port {
            Some(named) => bind(&call, server, subject, named)?,
            None => new_port(&call, server, subject, &asked, &new_id)?,
        };
        server.nics.push(NicRequest {
            port_id: Some(port.id.clone()),
            tag: asked.tag.clone(),
            ..NicRequest::default()
        });
        made = Some(port);
        Ok(())
    })
    .await?;
    let port = made.ok_or_else(|| Fault::Internal("no port was made".into()))?;
    Ok(Reply::ok(json!({"interfaceAttachment": show_interface(&call, &server, &port)})))
}

fn bind(call: &Call, server: &Server, subject: &mut Subject<'_>, named: &Ref<Port>) -> Result<Port, Fault> {
    let entry = port_of(&subject.view, named)?;
    networks::free(&subject.view, &entry, &server.project_id)?;
    let mut port = entry.value.clone();
    port.hold(Holder::server(server));
    port.host = super::status::host(subject.snapshot, server).map(str::to_owned);
    if port.dns_name.is_empty() {
        port.dns_name = server.hostname.clone();
    }
    port.updated_at = call.now;
    subject.change.update(entry, port.clone());
    Ok(port)
}

/// A port on the network asked for, or on the project's only one.
fn new_port(call: &Call, server: &Server, subject: &mut Subject<'_>, asked: &Attach, id: &str) -> Result<Port, Fault> {
    let network = match &asked.network {
        Some(named) => networks::network(&subject.view, named)?,
        None => {
            let nics = networks::resolve(call, &subject.view, Some(&json!("auto")))?;
            let only = nics.first().and_then(|nic| nic.network_id.as_deref()).map(Ref::sent);
            networks::network(&subject.view, &only.ok_or_else(|| Fault::Invalid("No network to attach to".into()))?)?
        }
    };
    networks::hold(&subject.view, &network, &mut subject.change);
    let fixed_ips = match &asked.fixed_ip {
        Some(text) => {
            let ip = networks::address(&subject.view, &network, text)?;
            let subnets = subject.snapshot.find::<Subnet>(Index::Network, &network.id);
            subnets.filter(|s| s.contains(ip)).map(|s| FixedIp { subnet_id: s.id.clone(), ip }).take(1).collect()
        }
        None => any_addresses(subject, &network)?,
    };
    let security_groups =
        if network.port_security_enabled { default_groups(call, server, subject)? } else { Vec::new() };
    let port = Port {
        project_id: server.project_id.clone(),
        fixed_ips,
        holder: Some(Holder::server(server)),
        security_groups,
        dns_name: server.hostname.clone(),
        owned: true,
        host: super::status::host(subject.snapshot, server).map(str::to_owned),
        ..Port::new(id, &network, call.now)
    };
    subject.change.create(port.clone());
    Ok(port)
}

/// One address of each family that the network hands out.
fn any_addresses(subject: &Subject<'_>, network: &Network) -> Result<Vec<FixedIp>, Fault> {
    let mut fixed = Vec::new();
    for v6 in [false, true] {
        let subnets: Vec<_> = subject
            .snapshot
            .find::<Subnet>(Index::Network, &network.id)
            .filter(|s| s.base.is_ipv6() == v6 && (!v6 || s.ipv6_address_mode.as_deref() != Some("slaac")))
            .collect();
        let is_taken = |ip| subject.ledger.holder(&Port::address_claim(&network.id, ip)).is_some();
        let found = subnets.iter().find_map(|s| Some((s.id.clone(), free_address(s, None, is_taken)?)));
        match found {
            Some((subnet_id, ip)) => fixed.push(FixedIp { subnet_id, ip }),
            None if subnets.is_empty() => {}
            None => return Err(Fault::Invalid(format!("No fixed IP addresses available for network: {}", network.id))),
        }
    }
    Ok(fixed)
}

/// The default group of the server's project; made if nobody needed it before.
fn default_groups(call: &Call, server: &Server, subject: &mut Subject<'_>) -> Result<Vec<String>, Fault> {
    let realm = Realm::project(&server.project_id);
    if let Some(group) = subject.snapshot.within::<SecurityGroup>(&realm).find(|group| group.name == "default") {
        return Ok(vec![group.id.clone()]);
    }
    let (group, rules) = default_security_group(&server.project_id, call.now);
    let id = group.id.clone();
    subject.change.create(group);
    for rule in rules {
        subject.change.create(rule);
    }
    Ok(vec![id])
}

/// `DELETE /servers/{id}/os-interface/{port}`
pub async fn detach(call: Call) -> Result<Reply, Fault> {
    let port_id = call.param("port");
    act(&call, "detach_interface", WHEN, |server, subject| {
        let snapshot = subject.snapshot;
        let port = snapshot.get::<Port>(port_id).filter(|port| port.is_of_server(&server.id));
        let port =
            port.ok_or_else(|| missing(format!("Instance {} does not have port with id {port_id}", server.id)))?;
        server.nics.retain(|nic| nic.port_id.as_deref() != Some(port_id));
        let change: &mut Change = &mut subject.change;
        for fip in snapshot.find::<FloatingIp>(Index::Owner, port_id).filter(|f| f.port_id.as_deref() == Some(port_id))
        {
            change.edit(fip, |f| {
                f.port_id = None;
                f.fixed_ip = None;
                f.router_id = None;
                f.updated_at = call.now;
            });
        }
        if port.owned && Trunk::with(snapshot, port_id).is_none() {
            change.delete(port);
        } else {
            change.edit(port, |p| {
                p.holder = None;
                p.host = None;
                p.owned = false;
                p.status = PortStatus::Down;
                p.updated_at = call.now;
            });
        }
        Ok(())
    })
    .await?;
    Ok(Reply::empty(202))
}
