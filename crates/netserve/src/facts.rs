//! What the servers of a domain (DHCP, DNS, metadata) answer from: the domain as last applied, with what they look up.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use driver::address::Mac;
use model::hostnet::{Bridge, Domain, Wire};

/// A domain, ready to be asked.
#[derive(Default)]
pub struct Facts {
    domain: Option<Domain>,
    by_mac: HashMap<(String, Mac), (usize, usize)>,
    by_address: HashMap<IpAddr, (usize, usize)>,
    names: BTreeMap<IpAddr, Vec<String>>,
    /// Names under which there are names.
    branches: HashSet<String>,
}

impl Facts {
    pub fn new(domain: &Domain) -> Facts {
        let mut facts = Facts { domain: Some(domain.clone()), ..Facts::default() };
        for (at, bridge) in domain.bridges.iter().enumerate() {
            for (place, wire) in bridge.ports.iter().enumerate() {
                if let Some(mac) = Mac::parse(&wire.mac) {
                    facts.by_mac.insert((bridge.network_id.clone(), mac), (at, place));
                }
                for (address, _) in &wire.addresses {
                    facts.by_address.insert(*address, (at, place));
                }
            }
        }
        for (name, addresses) in &domain.zone.names {
            for address in addresses {
                facts.names.entry(*address).or_default().push(name.clone());
            }
        }
        let zone = &domain.zone;
        for name in zone.names.keys().chain(zone.srv.keys()).chain(zone.aliases.keys()) {
            let above = name.match_indices('.').map(|(dot, _)| &name[dot + 1..]);
            // What is above a branch that is known is known, too.
            for branch in above.take_while(|branch| !facts.branches.contains(*branch)).collect::<Vec<_>>() {
                facts.branches.insert(branch.to_owned());
            }
        }
        facts
    }

    /// There are names below this one.
    pub fn is_branch(&self, name: &str) -> bool {
        self.branches.contains(name)
    }

    pub fn domain(&self) -> Option<&Domain> {
        self.domain.as_ref()
    }

    fn at(&self, place: Option<&(usize, usize)>) -> Option<(&Bridge, &Wire)> {
        let &(bridge, wire) = place?;
        let bridge = self.domain.as_ref()?.bridges.get(bridge)?;
        Some((bridge, bridge.ports.get(wire)?))
    }

    /// The port of this host with that MAC on that network.
    pub fn port_by_mac(&self, network_id: &str, mac: Mac) -> Option<(&Bridge, &Wire)> {
        self.at(self.by_mac.get(&(network_id.to_owned(), mac)))
    }

    /// The port of this host that has that address.
    pub fn port_by_address(&self, address: IpAddr) -> Option<&Wire> {
        self.at(self.by_address.get(&address)).map(|(_, wire)| wire)
    }

    /// The names of an address.
    pub fn names_of(&self, address: IpAddr) -> &[String] {
        self.names.get(&address).map_or(&[], Vec::as_slice)
    }
}

/// The facts as they are now; servers look again at each question.
#[derive(Clone, Default)]
pub struct Current(Arc<RwLock<Arc<Facts>>>);

impl Current {
    pub fn get(&self) -> Arc<Facts> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set(&self, facts: Facts) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(facts);
    }
}
