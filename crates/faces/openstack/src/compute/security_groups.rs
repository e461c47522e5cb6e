//! Nova's own view of security groups: `os-security-groups` and their rules, which ended with 2.35. The rows are Neutron's.

use std::net::IpAddr;

use gate::View;
use model::{
    Change, Direction, Entry, Fault, Index, Port, RbacPolicy, SecurityGroup, SecurityGroupRule, Server, Snapshot,
    default_security_group,
};
use serde_json::{Value, json};

use super::body::{Fields, bad, is_uuid};
use super::fault::{missing, no_server};
use crate::call::{Call, Reply};

fn rules<'a>(snapshot: &'a Snapshot, group: &str) -> impl Iterator<Item = Entry<'a, SecurityGroupRule>> {
    snapshot.find::<SecurityGroupRule>(Index::Owner, group)
}

fn show_rule(snapshot: &Snapshot, rule: &SecurityGroupRule) -> Value {
    let any = |port: Option<u16>| port.map_or(-1, i32::from);
    let remote = rule.remote_group_id.as_deref().and_then(|id| snapshot.get::<SecurityGroup>(id));
    let (group, range) = match (&rule.remote_group_id, &rule.remote_ip_prefix) {
        (Some(_), _) => {
            (remote.map_or(json!({}), |group| json!({"name": group.name, "tenant_id": group.project_id})), json!({}))
        }
        // Nova knows no address groups: neither a group nor everybody.
        (None, None) if rule.remote_address_group.is_some() => (json!({}), json!({})),
        (None, Some(cidr)) => (json!({}), json!({"cidr": cidr})),
        (None, None) => (json!({}), json!({"cidr": if rule.ipv6 { "::/0" } else { "0.0.0.0/0" }})),
    };
    let ports = rule.protocol.is_some();
    json!({
        "id": rule.id,
        "parent_group_id": rule.group_id,
        "ip_protocol": rule.protocol,
        "from_port": if ports { json!(any(rule.port_min)) } else { Value::Null },
        "to_port": if ports { json!(any(rule.port_max)) } else { Value::Null },
        "group": group,
        "ip_range": range,
    })
}

fn show_group(snapshot: &Snapshot, group: &SecurityGroup) -> Value {
    let ingress = rules(snapshot, &group.id).filter(|rule| rule.direction == Direction::Ingress);
    json!({
        "id": group.id, "name": group.name, "description": group.description, "tenant_id": group.project_id,
        "rules": ingress.map(|rule| show_rule(snapshot, &rule)).collect::<Vec<_>>(),
    })
}

fn find<'a>(view: &View<'a>, id: &str) -> Result<Entry<'a, SecurityGroup>, Fault> {
    if !is_uuid(id) {
        return Err(Fault::Invalid(format!("Security group id should be uuid: {id}")));
    }
    view.get::<SecurityGroup>(id).map_err(|_| missing(format!("Security group {id} not found.")))
}

/// The same if the caller may change it: what is only shared with them they use, and that is all.
fn find_own<'a>(view: &View<'a>, id: &str) -> Result<Entry<'a, SecurityGroup>, Fault> {
    find(view, id)?;
    view.own::<SecurityGroup>(id)
}

/// The group of this name or id in the caller's project.
pub fn resolve<'a>(view: &View<'a>, asked: &str) -> Result<Entry<'a, SecurityGroup>, Fault> {
    let mut named = view.mine::<SecurityGroup>().filter(|group| group.name == asked || group.id == asked);
    match (named.next(), named.next()) {
        (Some(group), None) => Ok(group),
        (Some(_), Some(_)) => Err(Fault::Conflict(format!(
            "Multiple security groups found matching '{asked}'. Use an ID to be more specific."
        ))),
        (None, _) => Err(missing(format!("Security group {asked} not found."))),
    }
}

/// Ids of the groups on a server's ports; before it has any, those asked for.
fn of_server<'a>(snapshot: &'a Snapshot, server: &'a Server) -> Vec<&'a str> {
    let ports: Vec<&Port> = Port::of_server(snapshot, server).map(|port| port.value).collect();
    of_ports(&ports, server)
}

/// The same of its ports.
pub fn of_ports<'a>(ports: &[&'a Port], server: &'a Server) -> Vec<&'a str> {
    let mut ids: Vec<&'a str> = Vec::new();
    let of_ports = ports.iter().flat_map(|port| port.security_groups.iter());
    let asked = server.security_groups.iter().filter(|_| ports.is_empty());
    for id in of_ports.chain(asked) {
        if !ids.contains(&id.as_str()) {
            ids.push(id);
        }
    }
    ids
}

/// `GET /servers/{id}/os-security-groups`
pub async fn list_of_server(call: Call) -> Result<Reply, Fault> {
    let view = call.view()?;
    let id = call.param("id");
    let server = view.get::<Server>(id).map_err(|_| no_server(id))?;
    let groups: Vec<Value> = of_server(&call.snapshot, &server)
        .iter()
        .filter_map(|id| call.snapshot.get::<SecurityGroup>(id))
        .map(|group| show_group(&call.snapshot, &group))
        .collect();
    Ok(Reply::ok(json!({"security_groups": groups})))
}

/// `GET /os-security-groups`
pub async fn index(call: Call) -> Result<Reply, Fault> {
    let view = call.view()?;
    let mut groups: Vec<Entry<'_, SecurityGroup>> =
        if call.query("all_tenants").is_some_and(|v| v != "0") && view.who.is_admin() {
            view.all::<SecurityGroup>().collect()
        } else {
            view.mine::<SecurityGroup>().collect()
        };
    groups.sort_by(|a, b| (&a.project_id, &a.name).cmp(&(&b.project_id, &b.name)));
    let groups: Vec<Value> = groups.iter().map(|group| show_group(&call.snapshot, group)).collect();
    Ok(Reply::ok(json!({"security_groups": groups})))
}

/// `GET /os-security-groups/{id}`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    let view = call.view()?;
    let group = find(&view, call.param("id"))?;
    Ok(Reply::ok(json!({"security_group": show_group(&call.snapshot, &group)})))
}

fn name_and_description(body: &Value) -> Result<(String, String), Fault> {
    let fields = Fields::of(body, "security_group")?;
    let text = |field: &str| -> Result<String, Fault> {
        let value = fields.required(field)?;
        let text =
            if value.is_null() { "" } else { value.as_str().ok_or_else(|| bad(field, value, "It is not a string"))? };
        if text.trim().is_empty() && field == "name" {
            return Err(Fault::Invalid(format!("Security group {field} cannot be empty.")));
        }
        if text.chars().count() > 255 {
            return Err(Fault::Invalid(format!("Security group {field} should not be greater than 255 characters.")));
        }
        Ok(text.to_owned())
    };
    Ok((text("name")?, text("description")?))
}

/// `POST /os-security-groups`
pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let (name, description) = name_and_description(&call.json().await?)?;
    let project = call.who()?.project()?.to_owned();
    if name == "default" {
        return Err(Fault::Invalid("Default security group already exists.".into()));
    }
    // The same rules outwards as every new group has.
    let (template, template_rules) = default_security_group(&project, call.now);
    let group = SecurityGroup { id: uuid::Uuid::new_v4().to_string(), name, description, ..template };
    let rules: Vec<SecurityGroupRule> = template_rules
        .into_iter()
        .filter(|rule| rule.direction == Direction::Egress)
        .map(|rule| SecurityGroupRule { id: uuid::Uuid::new_v4().to_string(), group_id: group.id.clone(), ..rule })
        .collect();
    call.cloud
        .store
        .transact(|_| {
            let mut change = Change::from(group.clone());
            for rule in &rules {
                change.create(rule.clone());
            }
            Ok((change, ()))
        })
        .await?;
    Ok(Reply::ok(json!({"security_group": show_group(&call.cloud.store.snapshot(), &group)})))
}

/// `PUT /os-security-groups/{id}`
pub async fn update(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    let (who, id) = (call.who()?, call.param("id"));
    find_own(&View::new(&call.snapshot, who), id)?;
    let (name, description) = name_and_description(&body)?;
    let group = call
        .cloud
        .store
        .transact(|snapshot| {
            let entry = find_own(&View::new(snapshot, who), id)?;
            match (entry.name.as_str(), name.as_str()) {
                ("default", "default") => {}
                ("default", _) => return Err(Fault::Invalid("Unable to update system group 'default'".into())),
                (_, "default") => return Err(Fault::Invalid("Default security group already exists.".into())),
                _ => {}
            }
            let mut group = entry.value.clone();
            group.name = name.clone();
            group.description = description.clone();
            group.updated_at = call.now;
            let mut change = Change::new();
            change.update(entry, group.clone());
            Ok((change, group))
        })
        .await?;
    Ok(Reply::ok(json!({"security_group": show_group(&call.snapshot, &group)})))
}

/// `DELETE /os-security-groups/{id}`
pub async fn delete(call: Call) -> Result<Reply, Fault> {
    let (who, id) = (call.who()?, call.param("id"));
    let gone = call.cloud.store.transact(|snapshot| {
        let group = find_own(&View::new(snapshot, who), id)?;
        if group.name == "default" {
            return Err(Fault::Invalid(
                "Insufficient privileges: the default security group cannot be removed.".into(),
            ));
        }
        let mut change = Change::new();
        change.delete(group);
        let remote = |rule: &Entry<'_, SecurityGroupRule>| rule.remote_group_id.as_deref() == Some(id);
        for rule in snapshot.all::<SecurityGroupRule>().filter(|rule| rule.group_id == id || remote(rule)) {
            change.delete(rule);
        }
        Ok((change, ()))
    });
    gone.await.map_err(|fault| match fault {
        Fault::Conflict(_) => Fault::Invalid(format!("Security Group {id} in use.")),
        other => other,
    })?;
    Ok(Reply::empty(202))
}

// Rules

fn port(fields: &Fields<'_>, field: &str) -> Result<Option<i64>, Fault> {
    let Some(value) = fields.get(field) else { return Ok(None) };
    let number = value.as_i64().or_else(|| value.as_str()?.trim().parse().ok());
    number.map(Some).ok_or_else(|| Fault::Invalid(format!("Invalid input for {field}: {value}")))
}

/// Protocol and ports as a rule keeps them.
type Match = (Option<String>, Option<u16>, Option<u16>);

/// What a rule shall match, or why protocol and ports do not go together.
fn protocol_and_ports(fields: &Fields<'_>) -> Result<Match, Fault> {
    let protocol = fields.get("ip_protocol").map(|value| match value {
        Value::String(text) => text.to_lowercase(),
        other => other.to_string(),
    });
    let (from, to) = (port(fields, "from_port")?, port(fields, "to_port")?);
    let Some(protocol) = protocol else {
        return match (from, to) {
            (None | Some(-1), None | Some(-1)) => Ok((None, None, None)),
            _ => Err(Fault::Invalid("Not enough parameters to build a valid rule.".into())),
        };
    };
    if !matches!(protocol.as_str(), "tcp" | "udp" | "icmp") {
        return Err(Fault::Invalid(format!("Invalid IP protocol {protocol}.")));
    }
    let (Some(from), Some(to)) = (from, to) else {
        return Err(Fault::Invalid("Not enough parameters to build a valid rule.".into()));
    };
    let wrong = |why: &str| Fault::Invalid(format!("Invalid port range {from}:{to}. {why}"));
    let narrow = |n: i64| if n == -1 { Ok(None) } else { u16::try_from(n).map(Some).map_err(|_| ()) };
    let (Ok(min), Ok(max)) = (narrow(from), narrow(to)) else {
        return Err(wrong(if protocol == "icmp" {
            "For ICMP, the type:code must be valid"
        } else {
            "Valid TCP ports should be between 1-65535"
        }));
    };
    if protocol == "icmp" {
        if min.is_some_and(|n| n > 255) || max.is_some_and(|n| n > 255) {
            return Err(wrong("For ICMP, the type:code must be valid"));
        }
    } else if min.is_none_or(|n| n < 1) || max.is_none() {
        return Err(wrong("Valid TCP ports should be between 1-65535"));
    } else if min > max {
        return Err(wrong("Former value cannot be greater than the later"));
    }
    Ok((Some(protocol), min, max))
}

fn cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (ip, prefix) = text.split_once('/')?;
    let (ip, prefix): (IpAddr, u8) = (ip.parse().ok()?, prefix.parse().ok()?);
    (prefix <= if ip.is_ipv4() { 32 } else { 128 }).then_some((ip, prefix))
}

/// `POST /os-security-group-rules`
pub async fn create_rule(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    let fields = Fields::of(&body, "security_group_rule")?;
    let view = call.view()?;
    let parent = match fields.required("parent_group_id")? {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let group = find_own(&view, &parent)?;
    let remote = fields.text("group_id", 255)?.filter(|id| !id.is_empty());
    let range = fields.text("cidr", 64)?.filter(|text| !text.is_empty());
    let remote = remote.map(|id| find(&view, id)).transpose()?;
    let remote_group_id = remote.map(|group| group.id.clone());
    let (protocol, port_min, port_max) = protocol_and_ports(&fields)?;
    let prefix = match range {
        Some(text) => Some(cidr(text).ok_or_else(|| Fault::Invalid(format!("Invalid cidr {text}.")))?),
        None => None,
    };
    let ipv6 = prefix.is_some_and(|(ip, _)| ip.is_ipv6());
    let rule = SecurityGroupRule {
        protocol,
        port_min,
        port_max,
        remote_ip_prefix: match (&remote_group_id, prefix) {
            (Some(_), _) => None,
            (None, Some((ip, prefix))) => Some(format!("{ip}/{prefix}")),
            (None, None) => Some("0.0.0.0/0".into()),
        },
        remote_group_id,
        ..SecurityGroupRule::new(uuid::Uuid::new_v4().to_string(), &group, Direction::Ingress, ipv6, call.now)
    };
    let made = call.cloud.store.transact(|snapshot| {
        let view = View::new(snapshot, call.who()?);
        find_own(&view, &rule.group_id)?;
        let mut change = Change::from(rule.clone());
        if let Some(id) = &rule.remote_group_id {
            let remote = find(&view, id)?;
            // As long as it is shared, and there: nothing else keeps either from going meanwhile.
            for policy in view.policies(remote.value).filter(|_| !view.owns(remote.value)) {
                snapshot.get::<RbacPolicy>(&policy.id).map(|policy| change.expect(policy));
            }
            change.expect(remote);
        }
        Ok((change, ()))
    });
    let made = made.await;
    made.map_err(|fault| match fault {
        Fault::Conflict(_) => Fault::Invalid(format!("This rule already exists in group {}", rule.group_id)),
        other => other,
    })?;
    Ok(Reply::ok(json!({"security_group_rule": show_rule(&call.snapshot, &rule)})))
}

/// `DELETE /os-security-group-rules/{id}`
pub async fn delete_rule(call: Call) -> Result<Reply, Fault> {
    let (who, id) = (call.who()?, call.param("id"));
    if !is_uuid(id) {
        return Err(Fault::Invalid(format!("Security group rule id should be uuid: {id}")));
    }
    call.cloud
        .store
        .transact(|snapshot| {
            let rule = View::new(snapshot, who).own::<SecurityGroupRule>(id);
            let rule = rule.map_err(|_| missing(format!("Security group rule {id} not found.")))?;
            let mut change = Change::new();
            change.delete(rule);
            Ok((change, ()))
        })
        .await?;
    Ok(Reply::empty(202))
}
