//! What the network of one host shall look like: the whole of it, as data. A pure function of the rows makes it
//! (`plan::hostnet`), a driver makes it true in one pass, and whatever is on the host but not in it is removed.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::Direction;

/// The whole network of one host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostNetwork {
    /// One namespace each.
    pub domains: Vec<Domain>,
    /// External networks: bridges in the host's own namespace, to which domains with a way out are linked.
    pub externals: Vec<External>,
}

/// An external network on this host. Its bridge carries the gateway's address, and the host routes and masquerades
/// what leaves it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct External {
    pub network_id: String,
    /// Gateway addresses with prefix lengths, to be held by the bridge: `172.24.4.1/24`.
    pub gateways: Vec<(IpAddr, u8)>,
    pub mtu: u32,
}

/// A router with its networks, or a lone network: one namespace, in which nothing of another domain exists.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Domain {
    /// The id of the network of the domain that was made first: it stays the same when a router joins others to it, as
    /// far as that is possible.
    pub id: String,
    pub bridges: Vec<Bridge>,
    pub uplinks: Vec<Uplink>,
    /// Further routes of its routers: destination (CIDR) and next hop.
    pub routes: Vec<(String, IpAddr)>,
    pub services: Vec<Service>,
    /// Where the APIs of clusters are answered, in the namespace itself.
    #[serde(default)]
    pub apis: Vec<Api>,
    /// Addresses to which rules of its ports refer, by the id of their security group or address group: CIDRs of both
    /// families. Each is here once, however many rules of however many ports name it.
    #[serde(default)]
    pub groups: BTreeMap<String, Vec<String>>,
    pub zone: Zone,
    /// Answered at 169.254.169.254 for the ports of the domain.
    pub metadata: bool,
}

/// A network on this host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bridge {
    pub network_id: String,
    pub vni: u32,
    pub mtu: u32,
    /// Addresses of routers (and, where a network has none, of DHCP and DNS) on it, with prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// The MAC of the bridge on this host. Each host has its own (FACTS: a shared one makes bridges drop routed frames).
    pub mac: String,
    pub subnets: Vec<Scope>,
    /// The address scopes of its IPv4 and IPv6 subnets: networks of different ones do not reach each other.
    #[serde(default)]
    pub address_scopes: [Option<String>; 2],
    /// Ports plugged on this host.
    pub ports: Vec<Wire>,
    /// Underlay addresses of the other hosts that have ports of this network.
    pub peers: Vec<IpAddr>,
    /// MAC and underlay address of every port on another host.
    pub remote_ports: Vec<(String, IpAddr)>,
}

/// How a port is plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Plug {
    /// A tap, opened for a VM.
    Tap,
    /// A veth whose other end is in a pod's namespace. The pair is made when the runtime asks for it (CNI).
    Veth,
    /// A veth whose other end is joined with the device of a trunk's parent, by a tag ([`Wire::trunk`]). The pair is there as
    /// long as the parent's device is.
    Subport,
}

/// A port on this host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wire {
    pub port_id: String,
    /// The device's name: `tap`, `vth` or `spi` and the first 11 characters of the port's id.
    pub device: String,
    pub plug: Plug,
    pub mac: String,
    /// With the prefix length of the subnet.
    pub addresses: Vec<(IpAddr, u8)>,
    pub gateway: Option<IpAddr>,
    pub mtu: u32,
    pub up: bool,
    /// Sources that the port may use beside its own: MAC and CIDR.
    pub allowed_pairs: Vec<(Option<String>, String)>,
    /// `None`: port security is off, everything passes.
    pub rules: Option<Vec<Rule>>,
    /// Every packet is judged by itself, not by the first of its flow: answers need rules of their own.
    #[serde(default)]
    pub stateless: bool,
    /// How fast it may be, and how its packets are marked.
    #[serde(default)]
    pub qos: Qos,
    /// It is the parent of a trunk: the ids of the ports of which its tagged frames are, by the tag. Frames with any other
    /// tag are dropped.
    #[serde(default)]
    pub trunk: BTreeMap<u16, String>,
    /// What DHCP tells this port.
    pub hostname: String,
    /// What DHCP tells this port beside the rest: the option's name or number, its value, and whether it is DHCPv6's.
    #[serde(default)]
    pub dhcp_options: Vec<(String, String, bool)>,
}

/// What the traffic of a port or an address is held to, and marked with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Qos {
    /// Of what goes to it.
    pub ingress: Option<RateLimit>,
    /// Of what comes from it.
    pub egress: Option<RateLimit>,
    /// The DSCP value of what comes from it.
    pub dscp: Option<u8>,
}

/// A limit on bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RateLimit {
    /// Bytes a second.
    pub rate: u64,
    /// Bytes that may pass at once.
    pub burst: u64,
}

/// One thing that a port's security groups allow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rule {
    pub direction: Direction,
    pub ipv6: bool,
    /// IP protocol number; `None` is any.
    pub protocol: Option<u8>,
    /// For TCP, UDP and the like: first and last destination port. For ICMP: type and code (code `None` is any).
    pub ports: Option<(u16, Option<u16>)>,
    /// The other side, a CIDR. `None` is anybody.
    pub remote: Option<String>,
    /// The other side must be in this group of [`Domain::groups`], beside what `remote` says. A group without addresses is
    /// nobody.
    #[serde(default)]
    pub remote_group: Option<String>,
}

/// What DHCP and DNS need to know of a subnet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scope {
    pub subnet_id: String,
    pub base: IpAddr,
    pub prefix: u8,
    pub gateway: Option<IpAddr>,
    /// Answer DHCP on it.
    pub dhcp: bool,
    /// The address from which DHCP and DNS are answered: the gateway's, or one that was set aside.
    pub server: Option<IpAddr>,
    /// Name servers to announce; empty: `server`.
    pub dns: Vec<IpAddr>,
    /// Destination (CIDR) and next hop.
    pub routes: Vec<(String, IpAddr)>,
    /// How IPv6 hosts learn their addresses: `slaac`, `dhcpv6-stateless`, `dhcpv6-stateful`; `None`: no router
    /// advertisements.
    #[serde(default)]
    pub ipv6_ra_mode: Option<String>,
    /// Whether DHCPv6 gives addresses (`dhcpv6-stateful`), the rest only (`dhcpv6-stateless`), or does not answer.
    #[serde(default)]
    pub ipv6_address_mode: Option<String>,
}

impl Scope {
    /// The name servers to announce on the subnet: those that were given, else its own. The unspecified address among them
    /// means that there are none, as in Neutron (`0.0.0.0`, `::`).
    pub fn name_servers(&self) -> &[IpAddr] {
        match self.dns.as_slice() {
            [] => self.server.as_slice(),
            given if given.iter().any(IpAddr::is_unspecified) => &[],
            given => given,
        }
    }
}

/// A router's way out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Uplink {
    pub router_id: String,
    /// The external network.
    pub network_id: String,
    /// The router's own address there, with prefix length, and its MAC.
    pub address: (IpAddr, u8),
    pub mac: String,
    /// The external network's gateway.
    pub gateway: Option<IpAddr>,
    pub snat: bool,
    /// Floating address and the inner address to which it leads, both ways.
    pub floating: Vec<(IpAddr, IpAddr)>,
    /// How fast the router's own address, floating ones and those of `forwards` may be.
    #[serde(default)]
    pub limits: Vec<(IpAddr, Qos)>,
    /// Ports of further floating addresses, which lead inwards only.
    #[serde(default)]
    pub forwards: Vec<Forward>,
    pub mtu: u32,
}

/// Ports of a floating address that lead to ports of an inner one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Forward {
    pub outer: IpAddr,
    /// IP protocol number: TCP or UDP.
    pub protocol: u8,
    /// First and last.
    pub ports: (u16, u16),
    pub inner: IpAddr,
    /// First and last: one to which all lead, or as many as outside, each to its own.
    pub inner_ports: (u16, u16),
}

/// An address that stands for several: Kubernetes' cluster IPs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    pub address: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    pub port: u16,
    /// Empty: connections are refused.
    pub backends: Vec<(IpAddr, u16)>,
    /// A client keeps its backend.
    pub sticky: bool,
}

/// The service address of a cluster's own API.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Api {
    pub cluster_id: String,
    pub address: IpAddr,
    pub port: u16,
}

/// The names of a domain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Zone {
    /// Suffixes that clients shall try, in order.
    pub search: Vec<String>,
    /// Full name, lower case, without the last dot, and its addresses.
    pub names: BTreeMap<String, Vec<IpAddr>>,
    /// Full name of a service port (`_http._tcp.…`), target names with ports.
    pub srv: BTreeMap<String, Vec<(String, u16)>>,
    /// Full name, and the name for which it stands, in this zone or elsewhere.
    #[serde(default)]
    pub aliases: BTreeMap<String, String>,
    /// Suffixes for which this zone alone answers: an unknown name below them does not exist.
    pub authority: Vec<String>,
}

impl Domain {
    /// The namespace's name.
    pub fn namespace(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.id.get(..13).unwrap_or(&self.id))
    }
}
