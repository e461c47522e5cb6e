//! Ports of servers and pods: made when their owner appears, moved with it, removed with it. Servers and pods take the
//! same path, so that neither can leak a port that the other would have cleaned up.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};

use model::kube_event::{self, News};
use model::{
    Change, Cluster, Entry, Event, FixedIp, FloatingIp, Holder, Index, Key, Kind, KubeObject, Ledger, Network,
    NicRequest, Port, PortForwarding, PortStatus, RbacAction, RbacPolicy, Realm, SecurityGroup, Server, Snapshot,
    Subnet, Time, Trunk, Vm, default_security_group, derived_id, free_address, quota,
};

use crate::kube::keys;
use crate::planner::{EVENTS, PODS_ASKED, Plan, Planner, Rows, Seen, Step, Touched, objects, values};

/// The id of a pod's port.
pub fn pod_port_id(uid: &str) -> String {
    derived_id(&["pod-port", uid])
}

/// Ports that shall be made, bound, moved or removed. Items are servers, pods and ports.
pub const PLANNER: Planner = Planner {
    name: "port",
    reads: &[
        Rows::Of(Kind::Server),
        Rows::Asked(&Rows::Of(Kind::Vm)),
        PODS_ASKED,
        Rows::Asked(&Rows::Of(Kind::Port)),
        Rows::Of(Kind::Trunk),
        Rows::Of(Kind::Network),
        Rows::Of(Kind::Subnet),
        Rows::Of(Kind::SecurityGroup),
        Rows::Of(Kind::RbacPolicy),
        Rows::Of(Kind::Quota),
    ],
    writes: &[
        Rows::Of(Kind::Server),
        Rows::Of(Kind::Port),
        Rows::Of(Kind::PortForwarding),
        Rows::Of(Kind::FloatingIp),
        Rows::Of(Kind::SecurityGroup),
        Rows::Of(Kind::SecurityGroupRule),
        EVENTS,
    ],
    at_once: 512,
    items,
    touched,
    failed: None,
    plan,
};

fn items(rows: &Snapshot) -> Vec<Key> {
    let servers = rows.all::<Server>().map(|server| server.row.key.clone());
    let ports = rows.all::<Port>().map(|port| port.row.key.clone());
    servers.chain(keys(rows, "", "pods")).chain(ports).collect()
}

fn touched(rows: &Snapshot, event: &Event, touched: &mut Touched) {
    let port = |id: &str| rows.get::<Port>(id).map(|port| port.row.key.clone());
    match event.key.kind {
        Kind::Server | Kind::Vm => {
            let vms = values::<Vm>(event).map(|vm| vm.server_id.as_str());
            for id in values::<Server>(event).map(|server| server.id.as_str()).chain(vms) {
                let Some(server) = rows.get::<Server>(id) else { continue };
                touched.item(server.row.key.clone());
                touched.items(Port::of_server(rows, &server).map(|port| port.row.key.clone()));
            }
            // The ports of a server that is gone are found by what it was.
            for server in values::<Server>(event).filter(|_| event.after.is_none()) {
                touched.items(Port::of_server(rows, server).map(|port| port.row.key.clone()));
            }
        }
        Kind::KubeObject => {
            touched.item(event.key.clone());
            let mut uids: Vec<&str> = objects(event).map(KubeObject::uid).collect();
            uids.dedup();
            touched.items(uids.into_iter().filter_map(|uid| port(&pod_port_id(uid))));
        }
        Kind::Port => {
            touched.item(event.key.clone());
            for holder in values::<Port>(event).filter_map(|port| port.holder.as_ref()) {
                if let Holder::Server(key) | Holder::Pod { key, .. } = holder {
                    touched.item(key.clone());
                }
            }
            let trunks = values::<Port>(event).flat_map(|port| rows.find::<Trunk>(Index::Owner, &port.id));
            let subports = trunks.flat_map(|trunk| trunk.value.ports().filter_map(|key| port(&key.name)));
            touched.items(subports.collect::<Vec<_>>());
            let mut held = values::<Port>(event).map(|port| (&port.holder, &port.fixed_ips));
            let (before, after) = (held.next(), held.next());
            if after.is_none() || before != after {
                touched.waiting();
            }
        }
        Kind::Trunk => {
            let ports = values::<Trunk>(event).flat_map(|trunk| trunk.ports()).filter_map(|key| port(&key.name));
            touched.items(ports.collect::<Vec<_>>());
        }
        _ => touched.waiting(),
    }
}

fn plan(seen: &Seen<'_>, items: &[Key], now: Time) -> Plan {
    let snapshot = seen.rows;
    let mut round = Round {
        snapshot,
        ledger: seen.ledger,
        now,
        given: HashMap::new(),
        last: HashMap::new(),
        macs: HashMap::new(),
        room: HashMap::new(),
    };
    let mut plan = Plan::default();
    // Projects without a default group, each with those that need it.
    let mut groupless: BTreeMap<String, Vec<Key>> = BTreeMap::new();
    for server in items.iter().filter_map(|key| snapshot.at::<Server>(key)).filter(|server| !server.deleting) {
        let key = &server.row.key;
        match round.server(server) {
            Ok(change) => plan.step(key, change.unwrap_or_default()),
            Err(PortError::NoDefaultGroup) => groupless.entry(server.project_id.clone()).or_default().push(key.clone()),
            Err(PortError::Problem(text)) => {
                plan.waits(key);
                let mut change = Change::new();
                if server.problem.as_deref() != Some(&text) {
                    change.edit(server, |s| s.problem = Some(text));
                }
                plan.step(key, change);
            }
        }
    }
    for pod in items.iter().filter_map(|key| snapshot.at::<KubeObject>(key)) {
        let Some(cluster) = snapshot.get::<Cluster>(&pod.cluster_id) else { continue };
        let key = &pod.row.key;
        match round.pod(cluster, pod) {
            Ok(change) => plan.step(key, change.unwrap_or_default()),
            Err(PortError::NoDefaultGroup) => {
                groupless.entry(cluster.project_id.clone()).or_default().push(key.clone())
            }
            Err(PortError::Problem(why)) => {
                plan.waits(key);
                let mut change = Change::new();
                let news = News::new("port-controller", "FailedCreatePort", format!("The pod gets no port: {why}"));
                kube_event::tell(&mut change, snapshot, pod.value, &[news.warning()], now);
                plan.step(key, change);
            }
        }
    }
    for (project, items) in groupless {
        let (group, rules) = default_security_group(&project, now);
        let mut change = Change::from(group);
        for rule in rules {
            change.create(rule);
        }
        plan.waiting.extend(items.iter().cloned());
        plan.steps.push(Step { items, change });
    }
    for port in items.iter().filter_map(|key| snapshot.at::<Port>(key)) {
        plan.step(&port.row.key, tend(snapshot, port, now).unwrap_or_default());
    }
    plan
}

/// Whether a pod shall have a port now: it has a host, an end not yet reached, and a network of its own.
fn wants_port(pod: &KubeObject) -> bool {
    let spec = &pod.body["spec"];
    spec["nodeName"].as_str().is_some_and(|n| !n.is_empty())
        && spec["hostNetwork"].as_bool() != Some(true)
        && !pod.pod_finished()
}

/// Why a port could not be planned.
enum PortError {
    /// The project has no default security group yet; it is made first.
    NoDefaultGroup,
    /// In words for the user.
    Problem(String),
}

fn problem<T>(text: String) -> Result<T, PortError> {
    Err(PortError::Problem(text))
}

/// What was given away in this round, so that two changes of one round do not ask for the same.
struct Round<'a> {
    snapshot: &'a Snapshot,
    ledger: &'a Ledger,
    now: Time,
    /// Addresses that were given, by network.
    given: HashMap<String, HashSet<IpAddr>>,
    /// The last address that was given, by subnet: none before it became free.
    last: HashMap<String, IpAddr>,
    /// MACs that were given, by network.
    macs: HashMap<String, HashSet<String>>,
    /// How many ports a project may still have; `None`: any number.
    room: HashMap<String, Option<u64>>,
}

impl Round<'_> {
    /// The change that gives a server the ports it lacks: all of them or none.
    fn server(&mut self, server: Entry<'_, Server>) -> Result<Option<Change>, PortError> {
        let ready = |nic: &NicRequest| {
            let port = nic.port_id.as_deref().and_then(|id| self.snapshot.get::<Port>(id));
            port.is_some_and(|port| port.is_of_server(&server.id))
        };
        if server.nics.iter().all(ready) {
            return Ok(None);
        }
        let has_vm = self.snapshot.find::<Vm>(Index::Owner, &server.id).next().is_some();
        let mut change = Change::new();
        let mut nics = Vec::new();
        for (at, nic) in server.nics.iter().enumerate() {
            if ready(nic) {
                nics.push(nic.clone());
                continue;
            }
            match &nic.port_id {
                Some(id) => match self.snapshot.get::<Port>(id) {
                    Some(port) if port.is_free() && port.project_id == server.project_id => {
                        change.edit(port, |p| bind(p, &server, self.now));
                        nics.push(nic.clone());
                    }
                    Some(_) => return problem(format!("Port {id} is still in use.")),
                    // Deleted behind the server's back: the interface is gone with it.
                    None if has_vm => {}
                    None => return problem(format!("Port {id} could not be found.")),
                },
                None => {
                    let port = self.server_port(&server, at, nic, &mut change)?;
                    nics.push(NicRequest { port_id: Some(port.id.clone()), ..nic.clone() });
                    change.create(port);
                }
            }
        }
        change.edit(server, |s| {
            s.nics = nics;
            s.problem = None;
        });
        Ok(Some(change))
    }

    fn server_port(
        &mut self,
        server: &Server,
        at: usize,
        nic: &NicRequest,
        change: &mut Change,
    ) -> Result<Port, PortError> {
        let network = nic.network_id.as_deref().unwrap_or("");
        self.check_access(server, nic, network, change)?;
        let id = derived_id(&["server-port", &server.id, &at.to_string(), network]);
        let port =
            self.port(id, &server.project_id, network, nic.fixed_ip, &server.security_groups, Holder::server(server))?;
        Ok(Port { dns_name: server.hostname.clone(), ..port })
    }

    /// The server may be on the network now, whatever was when it was asked for: a server may wait long for its ports, and
    /// what was shared with its project is taken back without looking at servers. Holds as long as it stays shared.
    fn check_access(
        &self,
        server: &Server,
        nic: &NicRequest,
        network: &str,
        change: &mut Change,
    ) -> Result<(), PortError> {
        let Some(net) = self.snapshot.get::<Network>(network) else { return Ok(()) };
        if net.external {
            return problem(format!("It is not allowed to create an interface on external network {network}."));
        }
        if net.project_id == server.project_id || nic.by_admin {
            return Ok(());
        }
        let key = &net.row.key;
        let mut policies = RbacPolicy::giving(self.snapshot, key, RbacAction::Shared, &server.project_id);
        match policies.next() {
            Some(policy) => {
                change.expect(policy);
                Ok(())
            }
            None => problem(format!("Network {network} could not be found.")),
        }
    }

    /// The change that gives a pod its port.
    fn pod(&mut self, cluster: Entry<'_, Cluster>, pod: Entry<'_, KubeObject>) -> Result<Option<Change>, PortError> {
        let uid = pod.uid();
        if uid.is_empty() || !wants_port(&pod) || pod.deleting() {
            return Ok(None);
        }
        let id = pod_port_id(uid);
        if self.snapshot.get::<Port>(&id).is_some() {
            return Ok(None);
        }
        let port = self.port(id, &cluster.project_id, &cluster.network_id, None, &[], Holder::pod(&pod))?;
        Ok(Some(Change::from(Port {
            dns_name: pod.value.name.clone(),
            pod: Some((pod.namespace.clone(), cluster.id.clone())),
            host: pod.body["spec"]["nodeName"].as_str().map(str::to_owned),
            ..port
        })))
    }

    /// A new port of an owner, with addresses and a MAC that nobody has.
    fn port(
        &mut self,
        id: String,
        project: &str,
        network: &str,
        asked: Option<IpAddr>,
        groups: &[String],
        holder: Holder,
    ) -> Result<Port, PortError> {
        let Some(net) = self.snapshot.get::<Network>(network) else {
            return problem(format!("Network {network} could not be found."));
        };
        let security_groups = match (net.port_security_enabled, groups) {
            (false, _) => Vec::new(),
            (true, []) => vec![self.default_group(project)?],
            (true, groups) => groups.to_vec(),
        };
        if self.room(project).is_some_and(|left| *left == 0) {
            return problem("Maximum number of ports exceeded".into());
        }
        let mac = self.mac(network, &id);
        let fixed_ips = self.addresses(network, asked, holder.device_owner(), &mac)?;
        self.room(project).into_iter().for_each(|left| *left -= 1);
        Ok(Port {
            project_id: project.to_owned(),
            mac,
            fixed_ips,
            holder: Some(holder),
            security_groups,
            port_security_enabled: net.port_security_enabled,
            owned: true,
            ..Port::new(id, &net, self.now)
        })
    }

    fn default_group(&self, project: &str) -> Result<String, PortError> {
        let realm = Realm::project(project);
        let mut groups = self.snapshot.within::<SecurityGroup>(&realm);
        groups.find(|group| group.name == "default").map(|group| group.id.clone()).ok_or(PortError::NoDefaultGroup)
    }

    /// How many ports a project may still have, if that is limited. The commit decides; this is for the words.
    fn room(&mut self, project: &str) -> Option<&mut u64> {
        let ledger = self.ledger;
        let left = self.room.entry(project.to_owned()).or_insert_with(|| {
            let pool = ledger.pool(&quota::pool(project, "port"));
            pool.limit.map(|limit| limit.saturating_sub(pool.used))
        });
        left.as_mut()
    }

    /// A MAC that no port on the network has. The ports are not looked through: there may be many.
    fn mac(&mut self, network: &str, id: &str) -> String {
        let given = self.macs.entry(network.to_owned()).or_default();
        let is_free =
            |mac: &String| !given.contains(mac) && self.ledger.holder(&Port::mac_claim(network, mac)).is_none();
        let mac = (0..u32::MAX).map(|n| Port::mac_from(id, n)).find(is_free).unwrap_or_default();
        given.insert(mac.clone());
        mac
    }

    /// The address asked for, or one IPv4 and one IPv6 address, as far as the network has such subnets.
    fn addresses(
        &mut self,
        network: &str,
        asked: Option<IpAddr>,
        owner: &str,
        mac: &str,
    ) -> Result<Vec<FixedIp>, PortError> {
        let (snapshot, ledger) = (self.snapshot, self.ledger);
        let given = self.given.entry(network.to_owned()).or_default();
        let taken = |given: &HashSet<IpAddr>, ip: IpAddr| {
            given.contains(&ip) || ledger.holder(&Port::address_claim(network, ip)).is_some()
        };
        let mut subnets: Vec<_> = snapshot
            .find::<Subnet>(Index::Network, network)
            .filter(|s| s.service_types.is_empty() || s.service_types.iter().any(|t| t == owner))
            .collect();
        subnets.sort_by_key(|s| (s.created_at, s.id.clone()));
        if let Some(ip) = asked {
            let Some(subnet) = subnets.iter().find(|s| s.contains(ip)) else {
                return problem(format!(
                    "IP address {ip} is not a valid IP for any of the subnets on network {network}."
                ));
            };
            if taken(given, ip) {
                return problem(format!("Fixed IP address {ip} is already in use on network {network}."));
            }
            given.insert(ip);
            return Ok(vec![FixedIp { subnet_id: subnet.id.clone(), ip }]);
        }
        let mut fixed = Vec::new();
        for v6 in [false, true] {
            let family: Vec<_> = subnets.iter().filter(|s| s.base.is_ipv6() == v6).collect();
            let (own, managed): (Vec<&Subnet>, Vec<&Subnet>) =
                family.into_iter().map(|s| s.value).partition(|s| self_configured(s));
            for subnet in own {
                if let Some(ip) = eui64(subnet, mac) {
                    fixed.push(FixedIp { subnet_id: subnet.id.clone(), ip });
                }
            }
            if managed.is_empty() {
                continue;
            }
            let next = |s: &&Subnet| free_address(s, self.last.get(&s.id).copied(), |ip| taken(given, ip));
            let Some((subnet, ip)) = managed.iter().find_map(|s| Some((s, next(s)?))) else {
                return problem(format!("No more IP addresses available on network {network}."));
            };
            self.last.insert(subnet.id.clone(), ip);
            fixed.push(FixedIp { subnet_id: subnet.id.clone(), ip });
        }
        if fixed.is_empty() {
            return problem(format!("Network {network} requires a subnet in order to boot instances on."));
        }
        given.extend(fixed.iter().map(|f| f.ip));
        Ok(fixed)
    }
}

/// Hosts make their own addresses in the subnet (SLAAC).
fn self_configured(subnet: &Subnet) -> bool {
    matches!(subnet.ipv6_address_mode.as_deref(), Some("slaac" | "dhcpv6-stateless"))
}

/// The address that a host with this MAC gives itself in an IPv6 subnet (RFC 4291, appendix A).
fn eui64(subnet: &Subnet, mac: &str) -> Option<IpAddr> {
    let IpAddr::V6(base) = subnet.base else { return None };
    let bytes: Vec<u8> = mac.split(':').map(|part| u8::from_str_radix(part, 16)).collect::<Result<_, _>>().ok()?;
    let [a, b, c, d, e, f] = bytes.try_into().ok()?;
    let suffix = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    let high = u128::from(base) & !u128::from(u64::MAX);
    Some(IpAddr::V6(Ipv6Addr::from(high | u128::from(suffix))))
}

fn bind(port: &mut Port, server: &Server, now: Time) {
    port.hold(Holder::server(server));
    if port.dns_name.is_empty() {
        port.dns_name = server.hostname.clone();
    }
    port.updated_at = now;
}

/// What shall become of a port that exists, by what became of its owner.
fn tend(snapshot: &Snapshot, port: Entry<'_, Port>, now: Time) -> Option<Change> {
    let fate = match &port.value.holder {
        Some(Holder::Server(server)) => server_fate(snapshot, server),
        Some(Holder::Pod { key, uid }) => pod_fate(snapshot, key, uid),
        Some(Holder::Trunk(trunk)) => trunk_fate(snapshot, trunk),
        _ => Fate::Stay,
    };
    let mut change = Change::new();
    match fate {
        Fate::Stay => return None,
        Fate::Move(host) if port.host == host => return None,
        Fate::Move(host) => {
            change.edit(port, |p| {
                p.host = host;
                p.status = PortStatus::Down;
            });
        }
        Fate::Go if port.owned && Trunk::with(snapshot, &port.id).is_none() => {
            remove(snapshot, port, &mut change, now);
        }
        // Also a port that was made for its owner, if a trunk needs it: it is the trunk's user's to delete.
        Fate::Go => {
            change.edit(port, |p| {
                p.holder = None;
                p.host = None;
                p.owned = false;
                if p.pod.take().is_some() {
                    p.dns_name.clear();
                }
                p.status = PortStatus::Down;
                p.updated_at = now;
            });
        }
    }
    Some(change)
}

enum Fate {
    Stay,
    Move(Option<String>),
    Go,
}

fn server_fate(snapshot: &Snapshot, server: &Key) -> Fate {
    let Some(server) = snapshot.at::<Server>(server) else { return Fate::Go };
    let vms: Vec<_> = snapshot.find::<Vm>(Index::Owner, &server.id).collect();
    if server.deleting && vms.is_empty() {
        return Fate::Go;
    }
    // While a new incarnation waits for its host, the port stays where the old one ran.
    match vms.iter().filter(|vm| vm.host.is_some()).max_by_key(|vm| vm.incarnation) {
        Some(vm) => Fate::Move(vm.host.clone()),
        None => Fate::Stay,
    }
}

/// A subport is where its trunk's parent is.
fn trunk_fate(snapshot: &Snapshot, trunk: &Key) -> Fate {
    let parent = snapshot.at::<Trunk>(trunk).and_then(|trunk| snapshot.at::<Port>(&trunk.value.port));
    parent.map_or(Fate::Go, |parent| Fate::Move(parent.value.host.clone()))
}

fn pod_fate(snapshot: &Snapshot, key: &Key, uid: &str) -> Fate {
    match snapshot.at::<KubeObject>(key) {
        Some(pod) if pod.uid() == uid && wants_port(&pod) => {
            Fate::Move(pod.body["spec"]["nodeName"].as_str().map(str::to_owned))
        }
        _ => Fate::Go,
    }
}

/// Deletes a port, and frees the floating IPs that led to it. Ports of floating IPs that were forwarded to it are so no more.
fn remove(snapshot: &Snapshot, port: Entry<'_, Port>, change: &mut Change, now: Time) {
    change.delete(port);
    let mut idle: BTreeMap<String, bool> = BTreeMap::new();
    for forwarding in snapshot.find::<PortForwarding>(Index::Owner, &port.id) {
        let fip = &forwarding.floatingip_id;
        let mut all = snapshot.find::<PortForwarding>(Index::Owner, fip);
        idle.insert(fip.clone(), all.all(|other| other.port_id == port.id));
        change.delete(forwarding);
    }
    for fip in idle.into_iter().filter(|(_, idle)| *idle).filter_map(|(id, _)| snapshot.get::<FloatingIp>(&id)) {
        change.edit(fip, |f| {
            f.router_id = None;
            f.updated_at = now;
        });
    }
    for fip in snapshot.find::<FloatingIp>(Index::Owner, &port.id).filter(|f| f.port_id.as_ref() == Some(&port.id)) {
        change.edit(fip, |f| {
            f.port_id = None;
            f.fixed_ip = None;
            f.router_id = None;
            f.updated_at = now;
        });
    }
}
