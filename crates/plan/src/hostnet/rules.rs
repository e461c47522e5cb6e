//! What a port's security groups allow, with groups as the other side replaced by the addresses of their members in the
//! domain: the same address in another domain is somebody else. Address groups stay references: a domain has each once,
//! however many rules of however many ports name it.

use std::collections::{BTreeMap, BTreeSet};

use model::hostnet::{Bridge, Rule};
use model::{AddressGroup, Index, Port, SecurityGroup, SecurityGroupRule, Snapshot};

use super::component::Component;

/// The rules of a port, sorted, each once.
pub fn of(snapshot: &Snapshot, component: &Component<'_>, port: &Port) -> Vec<Rule> {
    let groups = port.security_groups.iter();
    let rules = groups.flat_map(|group| snapshot.find::<SecurityGroupRule>(Index::Owner, group));
    let mut rules: Vec<Rule> = rules.map(|rule| compiled(component, rule.value)).collect();
    rules.sort();
    rules.dedup();
    rules
}

fn compiled(component: &Component<'_>, rule: &SecurityGroupRule) -> Rule {
    Rule {
        direction: rule.direction,
        ipv6: rule.ipv6,
        protocol: rule.protocol_number(),
        ports: rule.port_min.map(|min| (min, rule.port_max)),
        remote: match (&rule.remote_group_id, &rule.remote_ip_prefix) {
            (Some(group), _) => Some(members(component, group, rule.ipv6)),
            (None, Some(prefix)) if prefix.ends_with("/0") => None,
            (None, Some(prefix)) => Some(vec![prefix.clone()]),
            (None, None) => None,
        },
        remote_addresses: rule.remote_address_group.as_ref().map(|group| group.name.to_string()),
    }
}

/// None of the port's groups lets answers through by itself; a port is never in groups of both sorts.
pub fn stateless(snapshot: &Snapshot, port: &Port) -> bool {
    let mut groups = port.security_groups.iter().filter_map(|id| snapshot.get::<SecurityGroup>(id)).peekable();
    groups.peek().is_some() && groups.all(|group| !group.value.stateful)
}

/// The address groups to which rules of the bridges' ports refer.
pub fn address_groups(snapshot: &Snapshot, bridges: &[Bridge]) -> BTreeMap<String, Vec<String>> {
    let rules = bridges.iter().flat_map(|bridge| &bridge.ports).flat_map(|wire| wire.rules.iter().flatten());
    let ids: BTreeSet<&String> = rules.filter_map(|rule| rule.remote_addresses.as_ref()).collect();
    let addresses = |id: &str| snapshot.get::<AddressGroup>(id).map(|group| group.value.addresses.clone());
    ids.into_iter().map(|id| (id.clone(), addresses(id).unwrap_or_default())).collect()
}

/// The addresses of a group's members, and those that they may use beside their own.
fn members(component: &Component<'_>, group: &str, ipv6: bool) -> Vec<String> {
    let members = component.ports.iter().filter(|p| p.security_groups.iter().any(|g| g == group));
    let mut all: Vec<String> = members
        .flat_map(|port| {
            let own = port.fixed_ips.iter().filter(|f| f.ip.is_ipv6() == ipv6);
            let own = own.map(|f| format!("{}/{}", f.ip, if ipv6 { 128 } else { 32 }));
            let pairs = port.allowed_address_pairs.iter().map(|(_, cidr)| cidr.as_str());
            let pairs = pairs.filter(|cidr| cidr.contains(':') == ipv6);
            own.chain(pairs.map(|cidr| match cidr.contains('/') {
                true => cidr.to_owned(),
                false => format!("{cidr}/{}", if ipv6 { 128 } else { 32 }),
            }))
        })
        .collect();
    all.sort();
    all.dedup();
    all
}
