//! `/security-group-rules`

use gate::View;
use model::{AddressGroup, Direction, Index, Kind, PROTOCOLS, Resource, SecurityGroup, SecurityGroupRule};
use serde_json::Value;

use super::attrs::{Attr, Is, ruled, shown, standard};
use super::body::{Attributes, python_list, shown_value};
use super::cidr::Cidr;
use super::error::NeutronError;
use super::request::{Plan, Request};
use super::resource::{NeutronResource, referred};

/// Protocols whose rules may name ports.
const WITH_PORTS: &[u8] = &[6, 17, 33, 132, 136];
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

impl NeutronResource for SecurityGroupRule {
    const ONE: &'static str = "security_group_rule";
    const MANY: &'static str = "security_group_rules";
    const ATTRS: &'static [Attr<Self>] = standard![
        ruled::<Self>("security_group_id", Is::Id(&[Kind::SecurityGroup]), |_, rule| (&rule.group_id).into())
            .once()
            .required(),
        ruled::<Self>("direction", Is::OneOf(&["ingress", "egress"]), |_, rule| way(rule.direction).into())
            .once()
            .required(),
        ruled::<Self>("ethertype", Is::Any, |_, rule| if rule.ipv6 { "IPv6" } else { "IPv4" }.into()).once(),
        ruled::<Self>("protocol", Is::Any, |_, rule| (&rule.protocol).into()).once(),
        ruled::<Self>("port_range_min", Is::Any, |_, rule| rule.port_min.into()).once(),
        ruled::<Self>("port_range_max", Is::Any, |_, rule| rule.port_max.into()).once(),
        ruled::<Self>("remote_ip_prefix", Is::Any, |_, rule| (&rule.remote_ip_prefix).into()).once(),
        ruled::<Self>("remote_group_id", Is::IdOrNull(&[Kind::SecurityGroup]), |_, rule| (&rule.remote_group_id)
            .into())
        .once(),
        ruled::<Self>("remote_address_group_id", Is::IdOrNull(&[Kind::AddressGroup]), |_, rule| {
            (&rule.remote_address_group).into()
        })
        .once(),
        shown::<Self>("normalized_cidr", |_, rule| {
            let cidr = rule.remote_ip_prefix.as_deref().and_then(|prefix| Cidr::parse(prefix).ok());
            cidr.map(|cidr| cidr.to_string()).into()
        }),
        shown::<Self>("belongs_to_default_sg", |view, rule| {
            view.snapshot.get::<SecurityGroup>(&rule.group_id).is_some_and(|g| g.value.name == "default").into()
        }),
    ];

    fn create(plan: &mut Plan, request: &Request, _project: String, body: &Attributes) -> Result<Self, NeutronError> {
        let group_id = body.required_reference("security_group_id")?;
        let prefix = prefix(body.value("remote_ip_prefix"))?;
        let ipv6 = ethertype(body.value("ethertype"))?;
        let protocol = protocol(body.value("protocol"))?;
        let remote_group = body.reference::<SecurityGroup>("remote_group_id");
        let address_group = body.reference::<AddressGroup>("remote_address_group_id");
        let min = number(body.value("port_range_min"))?;
        let max = number(body.value("port_range_max"))?;
        let group: SecurityGroup = referred(plan, request, &group_id)?;
        if !SecurityGroup::changes(&View::new(&plan.rows, &request.who), &group) {
            return Err(NeutronError::policy("rule:create_security_group_rule"));
        }
        let outward = body.text("direction").as_deref() == Some("egress");
        let direction = if outward { Direction::Egress } else { Direction::Ingress };
        let id = uuid::Uuid::new_v4().to_string();
        let mut rule = body.fill(SecurityGroupRule {
            protocol,
            remote_ip_prefix: prefix.map(|(text, _)| text),
            ..SecurityGroupRule::new(id, &group, direction, ipv6, request.now)
        });
        check_ethertype(&rule)?;
        (rule.port_min, rule.port_max) = ports(&rule, min, max)?;
        let remotes = [rule.remote_ip_prefix.is_some(), remote_group.is_some(), address_group.is_some()];
        if remotes.iter().filter(|given| **given).count() > 1 {
            return Err(NeutronError::bad(
                "SecurityGroupMultipleRemoteEntites",
                "Only one of remote_ip_prefix or remote_group_id or remote_address_group_id may be provided.",
            ));
        }
        if let Some(remote) = &remote_group {
            let remote = referred(plan, request, remote)?.id;
            plan.hold::<SecurityGroup>(&remote);
            rule.remote_group_id = Some(remote);
        }
        if let Some(remote) = &address_group {
            rule.remote_address_group = Some(referred(plan, request, remote)?.key());
        }
        let mut others = plan.rows.find::<SecurityGroupRule>(Index::Owner, &group.id);
        if let Some(same) = others.find(|other| same_meaning(other.value, &rule)) {
            return Err(NeutronError::conflict(
                "SecurityGroupRuleExists",
                format!("Security group rule already exists. Rule id is {}.", same.value.id),
            ));
        }
        drop(others);
        touch_group(plan, request, group);
        Ok(rule)
    }

    fn delete(plan: &mut Plan, request: &Request, value: Self) -> Result<(), NeutronError> {
        touch_group(plan, request, plan.need(&value.group_id)?);
        Ok(())
    }
}

/// A group's revision tells clients whether its rules changed.
fn touch_group(plan: &mut Plan, request: &Request, mut group: SecurityGroup) {
    group.updated_at = request.now;
    plan.put(group);
}

pub fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

fn same_meaning(a: &SecurityGroupRule, b: &SecurityGroupRule) -> bool {
    a.direction == b.direction
        && a.ipv6 == b.ipv6
        && a.protocol_number() == b.protocol_number()
        && (a.port_min, a.port_max) == (b.port_min, b.port_max)
        && a.remote_group_id == b.remote_group_id
        && a.remote_address_group == b.remote_address_group
        && network_of(a) == network_of(b)
}

/// `0.0.0.0/0` says the same as no prefix at all.
fn network_of(rule: &SecurityGroupRule) -> Option<Cidr> {
    rule.remote_ip_prefix.as_deref().and_then(|p| Cidr::parse(p).ok()).filter(|cidr| cidr.prefix > 0)
}

fn ethertype(value: Option<&Value>) -> Result<bool, NeutronError> {
    let Some(value) = value else { return Ok(false) };
    match value.as_str().map(str::to_ascii_lowercase).as_deref() {
        Some("ipv4") => Ok(false),
        Some("ipv6") => Ok(true),
        _ => Err(NeutronError::bad(
            "SecurityGroupRuleInvalidEtherType",
            format!(
                "Security group rule for ethertype '{}' not supported. Allowed values are ['IPv4', 'IPv6'].",
                shown_value(value)
            ),
        )),
    }
}

fn protocol(value: Option<&Value>) -> Result<Option<String>, NeutronError> {
    let Some(value) = value else { return Ok(None) };
    let bad = || {
        let names = python_list(PROTOCOLS.iter().map(|(name, _)| *name));
        NeutronError::bad(
            "SecurityGroupRuleInvalidProtocol",
            format!(
                "Security group rule protocol {} not supported. Only protocol values {names} and integer representations [0 to 255] are supported.",
                shown_value(value)
            ),
        )
    };
    let text = match value {
        Value::Null => return Ok(None),
        Value::String(text) => text.to_ascii_lowercase(),
        Value::Number(number) => number.to_string(),
        _ => return Err(bad()),
    };
    match text.as_str() {
        "any" | "0" | "" => Ok(None),
        text if text.parse::<u8>().is_ok() || PROTOCOLS.iter().any(|(name, _)| *name == text) => {
            Ok(Some(text.to_owned()))
        }
        _ => Err(bad()),
    }
}

fn prefix(value: Option<&Value>) -> Result<Option<(String, Cidr)>, NeutronError> {
    let text = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if text.is_empty() => return Ok(None),
        Some(value) => shown_value(value),
    };
    let bad = || NeutronError::bad("InvalidCIDR", format!("Invalid CIDR {text} given as IP prefix."));
    let cidr = Cidr::parse(&text).map_err(|()| bad())?;
    // As given; an address alone is a range of one.
    let shown = if text.contains('/') { text.clone() } else { cidr.to_string() };
    Ok(Some((shown, cidr)))
}

/// A port or an ICMP type as a number, however it was written; the bounds depend on the protocol.
fn number(value: Option<&Value>) -> Result<Option<i64>, NeutronError> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let number = value.as_i64().or_else(|| value.as_str().and_then(|t| t.trim().parse().ok()));
            let number = number.filter(|n| (0..=65535).contains(n));
            number.map(Some).ok_or_else(|| {
                NeutronError::bad(
                    "SecurityGroupInvalidPortValue",
                    format!("Invalid value for port {}", shown_value(value)),
                )
            })
        }
    }
}

fn check_ethertype(rule: &SecurityGroupRule) -> Result<(), NeutronError> {
    let shown = if rule.ipv6 { "IPv6" } else { "IPv4" };
    if let Some(prefix) = &rule.remote_ip_prefix
        && prefix.contains(':') != rule.ipv6
    {
        return Err(NeutronError::bad(
            "SecurityGroupRuleParameterConflict",
            format!("Conflicting value ethertype {shown} for CIDR {prefix}"),
        ));
    }
    let of_ipv6 = |protocol: &&str| {
        protocol.starts_with("ipv6-") || matches!(*protocol, "icmpv6" | "41" | "43" | "44" | "58" | "59" | "60")
    };
    if let Some(protocol) = rule.protocol.as_deref().filter(of_ipv6)
        && !rule.ipv6
    {
        return Err(NeutronError::bad(
            "SecurityGroupEthertypeConflictWithProtocol",
            format!("Invalid ethertype {shown} for protocol {protocol}."),
        ));
    }
    Ok(())
}

/// Ports, or ICMP type and code, checked against the protocol.
fn ports(
    rule: &SecurityGroupRule,
    min: Option<i64>,
    max: Option<i64>,
) -> Result<(Option<u16>, Option<u16>), NeutronError> {
    let number = rule.protocol_number();
    let small = |n: Option<i64>| n.and_then(|n| u16::try_from(n).ok());
    match number {
        _ if min.is_none() && max.is_none() => {}
        None => {
            return Err(NeutronError::bad(
                "SecurityGroupProtocolRequiredWithPorts",
                "Must also specify protocol if port range is given.",
            ));
        }
        Some(ICMP | ICMPV6) => {
            for (value, field, attr) in [(min, "type", "port-range-min"), (max, "code", "port-range-max")] {
                if let Some(value) = value.filter(|v| *v > 255) {
                    return Err(NeutronError::bad(
                        "SecurityGroupInvalidIcmpValue",
                        format!("Invalid value for ICMP {field} ({attr}) {value}. It must be 0 to 255."),
                    ));
                }
            }
            if let (None, Some(code)) = (min, max) {
                return Err(NeutronError::bad(
                    "SecurityGroupMissingIcmpType",
                    format!("ICMP code (port-range-max) {code} is provided but ICMP type (port-range-min) is missing."),
                ));
            }
        }
        Some(number) if WITH_PORTS.contains(&number) => {
            let ordered = matches!((min, max), (Some(min), Some(max)) if min <= max);
            if !ordered {
                return Err(NeutronError::bad(
                    "SecurityGroupInvalidPortRange",
                    "For TCP/UDP protocols, port_range_min must be <= port_range_max",
                ));
            }
            if min == Some(0) {
                return Err(NeutronError::bad("SecurityGroupInvalidPortValue", "Invalid value for port 0"));
            }
        }
        Some(_) => {
            return Err(NeutronError::bad(
                "SecurityGroupInvalidProtocolForPort",
                format!(
                    "Ports cannot be specified for protocol {}. Ports are only supported for ['dccp', 'sctp', 'tcp', 'udp', 'udplite'].",
                    rule.protocol.as_deref().unwrap_or("")
                ),
            ));
        }
    }
    Ok((small(min), small(max)))
}
