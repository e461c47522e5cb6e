//! Which addresses a port gets: those it asks for, or one of each version, and on subnets whose hosts make their own
//! addresses (SLAAC) the one that its MAC gives. The commit's claims have the last word.

use std::net::IpAddr;

use gate::Ref;
use model::{FixedIp, Index, Network, Port, Subnet, Time, free_address};
use serde_json::Value;

use super::cidr::Cidr;
use super::error::NeutronError;
use super::request::Plan;
use super::uses;

/// More addresses than this no port may have.
const MAX_FIXED_IPS: usize = 32;

/// An address that a client asks for.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub subnet: Option<Ref<Subnet>>,
    pub ip: Option<IpAddr>,
}

/// Hosts make their addresses on the subnet from their MACs.
pub fn is_automatic(subnet: &Subnet) -> bool {
    let automatic = |mode: &Option<String>| matches!(mode.as_deref(), Some("slaac" | "dhcpv6-stateless"));
    automatic(&subnet.ipv6_address_mode) || automatic(&subnet.ipv6_ra_mode)
}

/// `[{"subnet_id": …, "ip_address": …}]`
pub fn wanted(given: &Value) -> Result<Vec<Wanted>, NeutronError> {
    let given = given.as_array().map(Vec::as_slice).unwrap_or_default();
    if given.len() > MAX_FIXED_IPS {
        return Err(NeutronError::invalid("Exceeded maximum amount of fixed ips per port"));
    }
    let mut all: Vec<Wanted> = Vec::with_capacity(given.len());
    for item in given {
        let known = |name: &String| name == "subnet_id" || name == "ip_address";
        if let Some(extra) = item.as_object().into_iter().flatten().map(|(name, _)| name).find(|n| !known(n)) {
            return Err(NeutronError::attribute("fixed_ips", format!("'{extra}' is not a key of a fixed IP.")));
        }
        let text = |name: &str| match &item[name] {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.clone())),
            _ => Err(NeutronError::attribute("fixed_ips", format!("'{}' is not a string.", item[name]))),
        };
        let ip = match text("ip_address")? {
            None => None,
            Some(text) => {
                let bad = || NeutronError::attribute("fixed_ips", format!("'{text}' is not a valid IP address."));
                Some(text.parse::<IpAddr>().map_err(|_| bad())?)
            }
        };
        let subnet_id = text("subnet_id")?;
        if let Some(id) = subnet_id.as_ref().filter(|id| !super::body::is_uuid(id)) {
            return Err(NeutronError::attribute("fixed_ips", format!("'{id}' is not a valid UUID.")));
        }
        if ip.is_some() && all.iter().any(|w| w.ip == ip) {
            return Err(NeutronError::attribute("fixed_ips", "Duplicate IP address"));
        }
        all.push(Wanted { subnet: subnet_id.as_deref().map(Ref::sent), ip });
    }
    Ok(all)
}

/// The addresses of a port. What it holds already (`port.fixed_ips`) it may keep.
pub fn assign(
    plan: &Plan,
    network: &Network,
    port: &Port,
    wanted: Option<&[Wanted]>,
) -> Result<Vec<FixedIp>, NeutronError> {
    let mut subnets: Vec<Subnet> =
        plan.rows.find::<Subnet>(Index::Network, &network.id).map(|s| s.value.clone()).collect();
    subnets.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    let mut pick = Pick { plan, network, port, given: Vec::new() };
    pick_all(&mut pick, &subnets, wanted)?;
    Ok(pick.given)
}

fn pick_all(pick: &mut Pick<'_>, subnets: &[Subnet], wanted: Option<&[Wanted]>) -> Result<(), NeutronError> {
    let port = pick.port;
    match wanted {
        Some(wanted) => {
            // Addresses asked for by number first, so that none of them is given away for another entry.
            for want in wanted.iter().filter(|w| w.ip.is_some()) {
                pick.exact(subnets, want)?;
            }
            for want in wanted.iter().filter(|w| w.ip.is_none()) {
                pick.any_of(subnets, want)?;
            }
        }
        None => {
            let fitting = serving(subnets, port.device_owner());
            pick.one_of(fitting.iter().filter(|s| s.base.is_ipv4()))?;
            pick.one_of(fitting.iter().filter(|s| s.base.is_ipv6() && !is_automatic(s)))?;
        }
    }
    let asked_for_none = wanted.is_some_and(<[Wanted]>::is_empty);
    if !uses::is_routers(port) && !asked_for_none {
        for subnet in serving(subnets, port.device_owner()).iter().filter(|s| is_automatic(s)) {
            pick.automatic(subnet)?;
        }
    }
    Ok(())
}

/// The subnets that serve a device owner: those made for it, or else those made for everybody.
fn serving(subnets: &[Subnet], owner: &str) -> Vec<Subnet> {
    let matching = |s: &&Subnet| s.service_types.iter().any(|t| !owner.is_empty() && owner.starts_with(t.as_str()));
    let own: Vec<Subnet> = subnets.iter().filter(matching).cloned().collect();
    if own.is_empty() { subnets.iter().filter(|s| s.service_types.is_empty()).cloned().collect() } else { own }
}

struct Pick<'a> {
    plan: &'a Plan,
    network: &'a Network,
    port: &'a Port,
    given: Vec<FixedIp>,
}

impl Pick<'_> {
    fn give(&mut self, subnet: &Subnet, ip: IpAddr) {
        if !self.is_used(ip) {
            self.given.push(FixedIp { subnet_id: subnet.id.clone(), ip });
        }
    }

    /// Whether an address is another port's, or given to this one already.
    fn is_used(&self, ip: IpAddr) -> bool {
        let is = |fixed: &FixedIp| fixed.ip == ip;
        self.given.iter().any(is)
            || (!self.port.fixed_ips.iter().any(is) && self.plan.has_address(&self.network.id, ip))
    }

    fn free(&self, subnet: &Subnet) -> Option<IpAddr> {
        free_address(subnet, None, |ip| self.is_used(ip))
    }

    fn exact(&mut self, subnets: &[Subnet], want: &Wanted) -> Result<(), NeutronError> {
        let Some(ip) = want.ip else { return Ok(()) };
        let subnet = match &want.subnet {
            Some(id) => {
                let subnet = self.named(subnets, id)?;
                if !Cidr::of(subnet).host_address(ip) {
                    return Err(NeutronError::bad(
                        "InvalidIpForSubnet",
                        format!("IP address {ip} is not a valid IP for the specified subnet."),
                    ));
                }
                subnet
            }
            None => subnets.iter().find(|s| Cidr::of(s).host_address(ip)).ok_or_else(|| {
                NeutronError::bad(
                    "InvalidIpForNetwork",
                    format!("IP address {ip} is not a valid IP for any of the subnets on the specified network."),
                )
            })?,
        };
        if is_automatic(subnet) && !uses::is_routers(self.port) && Cidr::of(subnet).eui64(&self.port.mac) != Some(ip) {
            return Err(NeutronError::invalid(format!(
                "IPv6 address {ip} can not be directly assigned to a port on subnet {} since the subnet is configured for automatic addresses",
                subnet.id
            )));
        }
        if self.is_used(ip) {
            return Err(self.taken(ip));
        }
        self.give(subnet, ip);
        Ok(())
    }

    fn any_of(&mut self, subnets: &[Subnet], want: &Wanted) -> Result<(), NeutronError> {
        let Some(id) = &want.subnet else { return Ok(()) };
        let subnet = self.named(subnets, id)?;
        if is_automatic(subnet) && !uses::is_routers(self.port) {
            return self.automatic(subnet);
        }
        let kept = self.port.fixed_ips.iter().find(|f| f.subnet_id == subnet.id && !self.is_used(f.ip));
        let ip = kept.map(|f| f.ip).or_else(|| self.free(subnet)).ok_or_else(|| self.full())?;
        self.give(subnet, ip);
        Ok(())
    }

    fn one_of<'s>(&mut self, subnets: impl Iterator<Item = &'s Subnet>) -> Result<(), NeutronError> {
        let mut any = false;
        for subnet in subnets {
            any = true;
            if let Some(ip) = self.free(subnet) {
                self.give(subnet, ip);
                return Ok(());
            }
        }
        if any { Err(self.full()) } else { Ok(()) }
    }

    fn automatic(&mut self, subnet: &Subnet) -> Result<(), NeutronError> {
        let Some(ip) = Cidr::of(subnet).eui64(&self.port.mac) else { return Ok(()) };
        if self.given.iter().any(|f| f.ip == ip) {
            return Ok(());
        }
        if self.is_used(ip) {
            return Err(self.taken(ip));
        }
        self.give(subnet, ip);
        Ok(())
    }

    fn named<'s>(&self, subnets: &'s [Subnet], id: &Ref<Subnet>) -> Result<&'s Subnet, NeutronError> {
        subnets.iter().find(|s| id.is(&s.id)).ok_or_else(|| {
            NeutronError::invalid(format!(
                "Failed to create port on network {}, because fixed_ips included invalid subnet {}",
                self.network.id,
                id.named()
            ))
        })
    }

    fn taken(&self, ip: IpAddr) -> NeutronError {
        NeutronError::conflict(
            "IpAddressAlreadyAllocated",
            format!("IP address {ip} already allocated in network {}.", self.network.id),
        )
    }

    fn full(&self) -> NeutronError {
        NeutronError::conflict(
            "IpAddressGenerationFailure",
            format!("No more IP addresses available on network {}.", self.network.id),
        )
    }
}

/// Gives every port of the network that is not a router's its address on a new subnet with automatic addresses.
pub fn give_automatic(plan: &mut Plan, subnet: &Subnet, now: Time) {
    if !is_automatic(subnet) {
        return;
    }
    let ports: Vec<Port> = plan
        .rows
        .find::<Port>(Index::Network, &subnet.network_id)
        .map(|port| port.value.clone())
        .filter(|port| !uses::is_routers(port) && !uses::is_dhcp(port) && !port.fixed_ips.is_empty())
        .collect();
    for mut port in ports {
        if let Some(ip) = Cidr::of(subnet).eui64(&port.mac) {
            port.fixed_ips.push(FixedIp { subnet_id: subnet.id.clone(), ip });
            port.updated_at = now;
            plan.put(port);
        }
    }
}
