//! What a port's security groups allow. Groups as the other side stay references: a domain has each once, with the addresses
//! of its members there, since the same address in another domain is somebody else. Their members in each rule were refused: a
//! group of a thousand whose members let each other in was a million addresses.

use std::collections::{BTreeMap, BTreeSet};

use model::hostnet::{Bridge, Rule};
use model::{AddressGroup, Index, Port, SecurityGroup, SecurityGroupRule, Snapshot};

use super::component::Component;

/// The rules of a port, sorted, each once.
pub fn of(snapshot: &Snapshot, port: &Port) -> Vec<Rule> {
    let groups = port.security_groups.iter();
    let rules = groups.flat_map(|group| snapshot.find::<SecurityGroupRule>(Index::Owner, group));
    let mut rules: Vec<Rule> = rules.map(|rule| compiled(rule.value)).collect();
    rules.sort();
    rules.dedup();
    rules
}

fn compiled(rule: &SecurityGroupRule) -> Rule {
    let addresses = rule.remote_address_group.as_ref().map(|group| group.name.to_string());
    Rule {
        direction: rule.direction,
        ipv6: rule.ipv6,
        protocol: rule.protocol_number(),
        ports: rule.port_min.map(|min| (min, rule.port_max)),
        remote: rule
            .remote_ip_prefix
            .clone()
            .filter(|prefix| rule.remote_group_id.is_none() && !prefix.ends_with("/0")),
        remote_group: rule.remote_group_id.clone().or(addresses),
    }
}

/// None of the port's groups lets answers through by itself; a port is never in groups of both sorts.
pub fn stateless(snapshot: &Snapshot, port: &Port) -> bool {
    let mut groups = port.security_groups.iter().filter_map(|id| snapshot.get::<SecurityGroup>(id)).peekable();
    groups.peek().is_some() && groups.all(|group| !group.value.stateful)
}

/// The groups to which rules of the bridges' ports refer.
pub fn groups(snapshot: &Snapshot, component: &Component<'_>, bridges: &[Bridge]) -> BTreeMap<String, Vec<String>> {
    let rules = bridges.iter().flat_map(|bridge| &bridge.ports).flat_map(|wire| wire.rules.iter().flatten());
    let ids: BTreeSet<&String> = rules.filter_map(|rule| rule.remote_group.as_ref()).collect();
    let mut groups: BTreeMap<String, Vec<String>> = ids.into_iter().map(|id| (id.clone(), Vec::new())).collect();
    for port in &component.ports {
        for group in &port.security_groups {
            groups.get_mut(group).into_iter().for_each(|members| members.extend(addresses(port)));
        }
    }
    for (id, members) in &mut groups {
        let group = snapshot.get::<AddressGroup>(id);
        members.extend(group.into_iter().flat_map(|group| group.value.addresses.iter().cloned()));
        members.sort();
        members.dedup();
    }
    groups
}

/// A port's addresses, and those that it may use beside its own.
fn addresses(port: &Port) -> impl Iterator<Item = String> {
    let own = port.fixed_ips.iter().map(|fixed| fixed.ip.to_string());
    let pairs = port.allowed_address_pairs.iter().map(|(_, cidr)| cidr.clone());
    own.chain(pairs).map(|address| match (address.contains('/'), address.contains(':')) {
        (true, _) => address,
        (false, ipv6) => format!("{address}/{}", if ipv6 { 128 } else { 32 }),
    })
}
