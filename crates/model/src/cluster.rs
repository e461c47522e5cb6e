//! A logical Kubernetes cluster: a complete API of its own, which belongs to one project.
//!
//! Networks of a project can be joined by routers, and then share service addresses and names. Clusters on them therefore
//! keep apart from the first day: each claims its range of service addresses and its names among all that lie on networks
//! of the project.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::resource::kind;
use crate::{Claim, Index, Key, Kind, Network, Realm, Resource, Snapshot, Subnet, Time};

/// A logical Kubernetes cluster of one project.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    pub id: String,
    pub project_id: String,
    pub name: String,
    /// The network on which its pods have their ports.
    pub network_id: String,
    /// The realm of the network, which may be another project's.
    pub network_project_id: String,
    /// The range of its service addresses; base and prefix length.
    pub service_base: IpAddr,
    pub service_prefix: u8,
    /// The last part of its names: `cluster.local`.
    pub domain: String,
    pub created_at: Time,
    /// Who signs its clients' certificates; `None` only in a row of an older cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<Authority>,
}

/// An authority for certificates: its own and its key, as PEM.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Authority {
    pub certificate: String,
    pub key: String,
}

impl std::fmt::Debug for Authority {
    /// Without the key, which no log may have.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Resource for Cluster {
    kind!(Cluster: of a project);
    const HOLDS: bool = true;
    fn claims(&self) -> Vec<Claim> {
        let place = &self.network_project_id;
        let mut claims = vec![
            Claim::Unique(format!("cluster-name/{}/{}", self.project_id, self.name)),
            Claim::Unique(format!("cluster-domain/{place}/{}", self.domain.trim_end_matches('.').to_ascii_lowercase())),
            Claim::Needs(Key::new(Kind::Network, Realm::project(place), self.network_id.as_str())),
        ];
        let blocks = blocks(self.service_base, self.service_prefix);
        claims.extend(blocks.map(|block| Claim::Unique(format!("cluster-services/{place}/{block}"))));
        claims
    }
    fn index(&self) -> Vec<(Index, String)> {
        vec![(Index::Network, self.network_id.clone()), (Index::Name, self.name.clone())]
    }
}

/// Ranges of service addresses are claimed in blocks of this size, so that any two that overlap share one.
const BLOCK_V4: u8 = 16;
/// The first of the ranges is `10.96.0.0/16`.
const FIRST_BLOCK: u8 = 96;
const PLAIN_DOMAIN: &str = "cluster.local";
const BLOCK_V6: u8 = 64;
/// The most blocks that one cluster may have.
const BLOCKS: u32 = 16;

/// The blocks that a range touches, as their first addresses.
fn blocks(base: IpAddr, prefix: u8) -> impl Iterator<Item = IpAddr> {
    let (number, bits, block) = match base {
        IpAddr::V4(ip) => (u128::from(u32::from(ip)), 32, BLOCK_V4),
        IpAddr::V6(ip) => (u128::from(ip), 128, BLOCK_V6),
    };
    let step = 1u128 << (bits - block);
    let count = 1u32.checked_shl(u32::from(block.saturating_sub(prefix))).unwrap_or(BLOCKS).min(BLOCKS);
    let first = number & !(step - 1);
    (0..u128::from(count)).map(move |n| {
        let at = first.saturating_add(n * step);
        if bits == 32 { IpAddr::V4(Ipv4Addr::from(at as u32)) } else { IpAddr::V6(Ipv6Addr::from(at)) }
    })
}

impl Cluster {
    /// A cluster called like its id on a network of its own project, with the first range of service addresses and the
    /// plain domain; [`Self::apart`] says which are free where there are others.
    pub fn new(id: impl Into<String>, network: &Network, now: Time) -> Self {
        let id = id.into();
        Self {
            project_id: network.project_id.clone(),
            name: id.clone(),
            network_id: network.id.clone(),
            network_project_id: network.project_id.clone(),
            service_base: IpAddr::V4(Ipv4Addr::new(10, FIRST_BLOCK, 0, 0)),
            service_prefix: BLOCK_V4,
            domain: PLAIN_DOMAIN.to_owned(),
            created_at: now,
            authority: None,
            id,
        }
    }

    /// Service addresses and names for a new cluster on a network of a project, which no other cluster there has and no
    /// subnet: the first of `10.96.0.0/16` to `10.111.0.0/16`, and `cluster.local` or the cluster's name before it. `None`:
    /// there is no range left.
    pub fn apart(snapshot: &Snapshot, network_project: &str, name: &str) -> Option<(IpAddr, u8, String)> {
        let others: Vec<&Cluster> = snapshot
            .all::<Cluster>()
            .map(|cluster| cluster.value)
            .filter(|cluster| cluster.network_project_id == network_project)
            .collect();
        let taken: Vec<IpAddr> = others.iter().flat_map(|c| blocks(c.service_base, c.service_prefix)).collect();
        let subnets: Vec<&Subnet> = snapshot
            .all::<Subnet>()
            .map(|subnet| subnet.value)
            .filter(|subnet| subnet.network_project_id == network_project)
            .collect();
        let covered = |base: IpAddr| {
            subnets.iter().any(|subnet| subnet.contains(base) || blocks(subnet.base, subnet.prefix).any(|b| b == base))
        };
        let mut bases = (FIRST_BLOCK..112).map(|second| IpAddr::V4(Ipv4Addr::new(10, second, 0, 0)));
        let base = bases.find(|base| !taken.contains(base) && !covered(*base))?;
        let taken = others.iter().any(|other| other.domain == PLAIN_DOMAIN);
        let domain = if taken { format!("{name}.{PLAIN_DOMAIN}") } else { PLAIN_DOMAIN.to_owned() };
        Some((base, BLOCK_V4, domain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Change;

    fn cluster(name: &str, base: &str, prefix: u8, domain: &str) -> Cluster {
        let network = Network::new("n", "p", 1, Time::UNIX_EPOCH);
        Cluster {
            service_base: base.parse().expect("an address"),
            service_prefix: prefix,
            domain: domain.into(),
            ..Cluster::new(name, &network, Time::UNIX_EPOCH)
        }
    }

    fn collide(a: &Cluster, b: &Cluster) -> bool {
        a.claims().iter().any(|claim| matches!(claim, Claim::Unique(_)) && b.claims().contains(claim))
    }

    #[test]
    fn clusters_keep_apart() {
        let one = cluster("one", "10.96.0.0", 16, "cluster.local");
        assert!(collide(&one, &cluster("two", "10.96.128.0", 24, "two.cluster.local")), "the ranges overlap");
        assert!(collide(&one, &cluster("two", "10.97.0.0", 16, "Cluster.Local.")), "the names are the same");
        assert!(collide(&one, &cluster("two", "10.96.0.0", 12, "two")), "the larger range has the smaller in it");
        assert!(!collide(&one, &cluster("two", "10.97.0.0", 16, "two.cluster.local")));
        let mut snapshot = Snapshot::default();
        let mut change = Change::new();
        change.create(one);
        snapshot.apply(1, &change.writes);
        let next = Cluster::apart(&snapshot, "p", "two").expect("there is room");
        assert_eq!(next, ("10.97.0.0".parse().expect("an address"), 16, "two.cluster.local".to_owned()));
        let elsewhere = Cluster::apart(&snapshot, "q", "two").expect("there is room");
        assert_eq!((elsewhere.0.to_string(), elsewhere.2), ("10.96.0.0".to_owned(), "cluster.local".to_owned()));
    }
}
