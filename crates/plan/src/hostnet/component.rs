//! Networks that routers join: what one domain of a host is made of.

use std::collections::BTreeMap;

use model::{Holder, Index, Network, Port, Router, Snapshot, Subnet};

/// Networks joined by routers.
pub struct Component<'a> {
    /// The oldest first.
    pub networks: Vec<&'a Network>,
    /// By id.
    pub routers: Vec<&'a Router>,
    /// Every port on these networks, by network and id.
    pub ports: Vec<&'a Port>,
    /// Every subnet on them, by id.
    pub subnets: BTreeMap<&'a str, &'a Subnet>,
}

impl<'a> Component<'a> {
    /// The component of a network; `None` if it is external or does not exist.
    pub fn around(snapshot: &'a Snapshot, seed: &str) -> Option<Self> {
        let network = |id: &str| snapshot.get::<Network>(id).map(|n| n.value).filter(|n| !n.external);
        let mut networks: BTreeMap<&str, &Network> = BTreeMap::new();
        let mut routers: BTreeMap<&str, &Router> = BTreeMap::new();
        let mut ports = Vec::new();
        let mut ahead = vec![network(seed)?];
        while let Some(next) = ahead.pop() {
            if networks.insert(&next.id, next).is_some() {
                continue;
            }
            for port in snapshot.find::<Port>(Index::Network, &next.id) {
                ports.push(port.value);
                let Some(Holder::Interface(router)) = &port.value.holder else { continue };
                let Some(router) = snapshot.at::<Router>(router) else { continue };
                if routers.insert(&router.value.id, router.value).is_none() {
                    ahead.extend(Port::interfaces(snapshot, router.value).filter_map(|p| network(&p.value.network_id)));
                }
            }
        }
        ports.sort_by(|a, b| (&a.network_id, &a.id).cmp(&(&b.network_id, &b.id)));
        let subnets = networks
            .keys()
            .flat_map(|id| snapshot.find::<Subnet>(Index::Network, id))
            .map(|s| (s.value.id.as_str(), s.value))
            .collect();
        let mut networks: Vec<&Network> = networks.into_values().collect();
        networks.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Some(Self { networks, routers: routers.into_values().collect(), ports, subnets })
    }

    pub fn id(&self) -> &str {
        self.networks.first().map_or("", |n| &n.id)
    }
}
