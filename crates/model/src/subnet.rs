//! A range of addresses on a network, and how the next free one is found.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::resource::kind;
use crate::{Claim, Holder, Index, Key, Kind, Limited, Network, Port, Realm, Resource, Snapshot, Time, quota};

/// A Neutron subnet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subnet {
    pub id: String,
    pub project_id: String,
    pub network_id: String,
    /// The realm of the network, which may be another project's.
    pub network_project_id: String,
    pub name: String,
    #[serde(default)]
    pub description: String,
    /// The network part's address.
    pub base: IpAddr,
    pub prefix: u8,
    pub gateway_ip: Option<IpAddr>,
    /// First and last address of each range from which addresses are handed out.
    pub pools: Vec<(IpAddr, IpAddr)>,
    pub enable_dhcp: bool,
    #[serde(default)]
    pub dns_nameservers: Vec<IpAddr>,
    /// Destination (CIDR) and next hop.
    #[serde(default)]
    pub host_routes: Vec<(String, IpAddr)>,
    #[serde(default)]
    pub ipv6_ra_mode: Option<String>,
    #[serde(default)]
    pub ipv6_address_mode: Option<String>,
    #[serde(default)]
    pub subnetpool_id: Option<String>,
    #[serde(default)]
    pub service_types: Vec<String>,
    #[serde(default)]
    pub dns_publish_fixed_ip: bool,
    #[serde(default)]
    pub tags: Vec<String>,
    pub created_at: Time,
    pub updated_at: Time,
}

impl Subnet {
    /// Whose the address is from which DHCP answers on it.
    pub fn as_holder(&self) -> Holder {
        Holder::Dhcp(self.key())
    }

    /// A network's range with DHCP, and as yet without a gateway and without addresses to give away.
    pub fn new(id: impl Into<String>, network: &Network, (base, prefix): (IpAddr, u8), now: Time) -> Self {
        Self {
            id: id.into(),
            // Ports refer to subnets in the network's realm.
            project_id: network.project_id.clone(),
            network_id: network.id.clone(),
            network_project_id: network.project_id.clone(),
            name: String::new(),
            description: String::new(),
            base,
            prefix,
            gateway_ip: None,
            pools: Vec::new(),
            enable_dhcp: true,
            dns_nameservers: Vec::new(),
            host_routes: Vec::new(),
            ipv6_ra_mode: None,
            ipv6_address_mode: None,
            subnetpool_id: None,
            service_types: Vec::new(),
            dns_publish_fixed_ip: false,
            tags: Vec::new(),
            created_at: now,
            updated_at: now,
        }
    }

    /// `10.0.0.0/24`
    pub fn cidr(&self) -> String {
        format!("{}/{}", self.base, self.prefix)
    }

    /// Whether an address lies in the subnet.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.base, ip) {
            (IpAddr::V4(base), IpAddr::V4(ip)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                u32::from(base) & mask == u32::from(ip) & mask
            }
            (IpAddr::V6(base), IpAddr::V6(ip)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                u128::from(base) & mask == u128::from(ip) & mask
            }
            _ => false,
        }
    }

    /// The key of the network on which it lies.
    pub fn network_key(&self) -> Key {
        Key::new(Kind::Network, Realm::project(&self.network_project_id), self.network_id.as_str())
    }
}

impl Resource for Subnet {
    kind!(Subnet: of a project);
    const QUOTAS: &[Limited] = &[Limited::new("subnet", 100)];
    fn claims(&self) -> Vec<Claim> {
        let mut claims =
            vec![Claim::Needs(self.network_key()), Claim::Unique(format!("cidr/{}/{}", self.network_id, self.cidr()))];
        claims.extend(quota::uses(&self.project_id, "subnet", 1));
        claims
    }
    fn index(&self) -> Vec<(Index, String)> {
        vec![(Index::Network, self.network_id.clone()), (Index::Name, self.name.clone())]
    }
}

/// A Neutron subnet pool: prefixes from which subnets are cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubnetPool {
    pub id: String,
    pub project_id: String,
    pub name: String,
    #[serde(default)]
    pub description: String,
    /// CIDRs.
    pub prefixes: Vec<String>,
    pub default_prefixlen: u8,
    pub min_prefixlen: u8,
    pub max_prefixlen: u8,
    pub default_quota: Option<u64>,
    /// As a [`Network`](crate::Network)'s.
    #[serde(default, rename = "shared", skip_serializing)]
    pub was_shared: bool,
    pub is_default: bool,
    /// The scope in which it is, which may be another project's.
    #[serde(default)]
    pub address_scope: Option<Key>,
    #[serde(default)]
    pub tags: Vec<String>,
    pub created_at: Time,
    pub updated_at: Time,
}

impl Resource for SubnetPool {
    kind!(SubnetPool: of a project);
    const QUOTAS: &[Limited] = &[Limited::new("subnetpool", 100)];
    fn claims(&self) -> Vec<Claim> {
        let mut claims: Vec<Claim> = quota::uses(&self.project_id, "subnetpool", 1).into_iter().collect();
        if self.is_default {
            let version = if self.prefixes.iter().any(|prefix| prefix.contains(':')) { 6 } else { 4 };
            claims.push(Claim::Unique(format!("default-subnetpool/{version}")));
        }
        claims.extend(self.address_scope.clone().map(Claim::Needs));
        claims
    }
    fn index(&self) -> Vec<(Index, String)> {
        self.address_scope.iter().map(|key| (Index::Owner, key.name.to_string())).collect()
    }
}

/// The lowest address of the subnet's pools that no port of the snapshot holds and that is not in `taken` (addresses that
/// the same change already gave away). The commit's claims decide; if it refuses, ask again with a fresh snapshot.
pub fn allocate(snapshot: &Snapshot, subnet: &Subnet, taken: &[IpAddr]) -> Option<IpAddr> {
    let ports = snapshot.find::<Port>(Index::Network, &subnet.network_id);
    let used: HashSet<IpAddr> = ports.flat_map(|port| port.value.fixed_ips.iter().map(|fixed| fixed.ip)).collect();
    lowest(subnet, |ip| !used.contains(&ip) && !taken.contains(&ip) && Some(ip) != subnet.gateway_ip)
}

fn lowest(subnet: &Subnet, free: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    subnet.pools.iter().find_map(|(a, b)| addresses(*a, *b).find(|ip| free(*ip)))
}

/// An address of the subnet's pools that is neither taken nor the gateway's, without a look at all that are: the first behind
/// a row of taken ones, the end of which is found by halves. For whoever was given an address before, and knows of none that
/// became free since, one behind that. What lies before is looked through only when all behind is taken.
pub fn free_address(subnet: &Subnet, last: Option<IpAddr>, taken: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let free = |ip: IpAddr| !taken(ip) && Some(ip) != subnet.gateway_ip;
    let at = subnet.pools.iter().position(|(a, b)| last.is_some_and(|last| (*a..=*b).contains(&last)));
    let begun = at.and_then(|at| search(last?, subnet.pools[at].1, free));
    let behind = || subnet.pools.iter().skip(at.map_or(0, |at| at + 1));
    begun.or_else(|| behind().find_map(|(a, b)| search(*a, *b, free))).or_else(|| lowest(subnet, free))
}

/// Steps over taken addresses, twice as far each time, and from a free one back to the end of those that are taken.
fn search(first: IpAddr, last: IpAddr, free: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let (begin, most) = (number(first), number(last).checked_sub(number(first))?);
    let free = |steps: u128| free(address(begin + steps, first));
    let (mut taken, mut steps) = (None, 0);
    while !free(steps) {
        if steps == most {
            return None;
        }
        taken = Some(steps);
        steps = most.min(steps.saturating_mul(2).saturating_add(1));
    }
    while let Some(low) = taken.filter(|low| steps - low > 1) {
        let middle = low + (steps - low) / 2;
        if free(middle) { steps = middle } else { taken = Some(middle) }
    }
    Some(address(begin + steps, first))
}

/// The addresses of a pool.
fn addresses(first: IpAddr, last: IpAddr) -> impl Iterator<Item = IpAddr> {
    (number(first)..=number(last)).map(move |n| address(n, first))
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

/// The address with this number, of the family of another.
fn address(number: u128, like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::from(number as u32).into(),
        IpAddr::V6(_) => Ipv6Addr::from(number).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Network;

    #[test]
    fn an_address_is_found_without_a_look_at_all_that_are_taken() {
        let ip = |n: u32| IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n));
        let network = Network::new("n", "p", 1, Time::UNIX_EPOCH);
        let pools = vec![(ip(2), ip(100_000)), (ip(200_000), ip(200_002))];
        let subnet =
            Subnet { pools, gateway_ip: Some(ip(3)), ..Subnet::new("s", &network, (ip(0), 8), Time::UNIX_EPOCH) };
        let asked = std::cell::Cell::new(0);
        let find = |last: Option<u32>, taken: &dyn Fn(u32) -> bool| {
            asked.set(0);
            let count = |of: IpAddr| {
                asked.set(asked.get() + 1);
                taken(number(of) as u32 - 0x0a00_0000)
            };
            free_address(&subnet, last.map(ip), count).map(|of| number(of) as u32 - 0x0a00_0000)
        };
        for (taken, found) in [(1, 2), (2, 4), (50, 51), (5000, 5001), (70_000, 70_001)] {
            assert_eq!(find(None, &|n| n <= taken), Some(found));
            assert!(asked.get() < 40, "{} were looked at", asked.get());
        }
        assert_eq!(find(Some(5000), &|n| n <= 5000), Some(5001));
        assert_eq!(find(None, &|n| n <= 100_000), Some(200_000), "the next pool");
        assert_eq!(find(Some(200_000), &|n| n != 77), Some(77), "the only one");
        assert_eq!(find(None, &|_| true), None);
    }
}
