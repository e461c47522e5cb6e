//! The one scheduler: VMs and pods become a [`Demand`], hosts with their claims become [`Room`], and the same filters
//! and weights decide. What it says is a proposal; the claims of the commit are the final word, and a refused proposal is
//! planned again from a fresh snapshot.

use std::collections::{BTreeMap, HashMap, HashSet};

use model::{
    Aggregate, Aggregates, Change, Entry, Host, Index, Realm, Server, ServerGroup, Snapshot, Time, Vm, VmPhase,
    pod_demand,
};

mod affinity;
mod neighbours;
mod pods;
mod spread;

/// How long after its last report a host still counts as there.
const FRESH_SECONDS: i64 = 60;
/// How long a VM may wait for room before its server is told that there is none.
const PATIENCE_SECONDS: i64 = 10;

/// Extra specs of flavors that begin so ask for aggregates.
const AGGREGATE_SPEC: &str = "aggregate_instance_extra_specs:";

/// What something asks of a host.
#[derive(Clone, Debug, Default)]
pub struct Demand {
    pub cpu_milli: u64,
    pub memory_mib: u64,
    pub disk_mib: u64,
    /// Traits that the host must have, and must not have.
    pub traits: Vec<String>,
    pub forbidden_traits: Vec<String>,
    /// Whose work it is: hosts can be reserved.
    pub project: String,
    /// Only hosts of this availability zone will do.
    pub zone: Option<String>,
    /// What an aggregate of the host must say, by key of its metadata.
    pub aggregates: Vec<(String, String)>,
    /// Only this host will do.
    pub host: Option<String>,
    /// Rather this host than another.
    pub prefer: Option<String>,
    pub group: Option<Group>,
    pub neighbours: Neighbours,
}

/// Hosts of servers that hints name. What runs somewhere already may stay there.
#[derive(Clone, Debug, Default)]
pub struct Neighbours {
    /// One of these; `None`: any.
    pub near: Option<HashSet<String>>,
    /// None of these.
    pub away: HashSet<String>,
}

/// The rule of a server group, and how many of its other members each host has.
#[derive(Clone, Debug)]
pub struct Group {
    pub policy: String,
    pub per_host: u64,
    pub members: HashMap<String, u64>,
}

/// Why a host will not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    Disabled,
    Silent,
    NotAsked,
    Reserved,
    Zone,
    Aggregate(String),
    Trait(String),
    Group,
    Neighbours,
    Cpu {
        asked: u64,
        free: u64,
    },
    Memory {
        asked: u64,
        free: u64,
    },
    Disk {
        asked: u64,
        free: u64,
    },
    /// For pods: what the Node object says.
    Node(String),
}

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Disabled => f.write_str("disabled by an administrator"),
            Self::Silent => f.write_str("has not reported lately"),
            Self::NotAsked => f.write_str("another host was asked for"),
            Self::Reserved => f.write_str("is not for this project: hosts are reserved"),
            Self::Zone => f.write_str("is in another availability zone"),
            Self::Aggregate(key) => write!(f, "is in no aggregate with the {key} that is asked for"),
            Self::Trait(name) => write!(f, "trait {name} does not fit"),
            Self::Group => f.write_str("the server group's policy forbids it"),
            Self::Neighbours => f.write_str("the hints same_host and different_host forbid it"),
            Self::Cpu { asked, free } => {
                write!(f, "not enough cores: asked {}, free {}", cores(*asked), cores(*free))
            }
            Self::Memory { asked, free } => write!(f, "not enough memory: asked {asked} MiB, free {free} MiB"),
            Self::Disk { asked, free } => {
                write!(f, "not enough disk: asked {} GiB, free {} GiB", asked.div_ceil(1024), free / 1024)
            }
            Self::Node(text) => f.write_str(text),
        }
    }
}

fn mib(gib: u64) -> u64 {
    gib.saturating_mul(1024)
}

fn cores(milli: u64) -> String {
    format!("{}.{:03}", milli / 1000, milli % 1000).trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl Unfit {
    /// The reason in kube-scheduler's words, for events and conditions of pods.
    fn kube(&self) -> String {
        match self {
            Self::Disabled => "node(s) were unschedulable".into(),
            Self::Silent => "node(s) had untolerated taint(s)".into(),
            Self::Reserved => "node(s) were reserved for other projects".into(),
            Self::NotAsked | Self::Zone | Self::Aggregate(_) | Self::Trait(_) | Self::Group | Self::Neighbours => {
                "node(s) didn't match Pod's node affinity/selector".into()
            }
            Self::Cpu { .. } => "Insufficient cpu".into(),
            Self::Memory { .. } => "Insufficient memory".into(),
            Self::Disk { .. } => "Insufficient ephemeral-storage".into(),
            Self::Node(text) => text.clone(),
        }
    }
}

/// A host and what is still free on it.
struct Room<'a> {
    host: &'a Host,
    aggregates: &'a Aggregates<'a>,
    fresh: bool,
    cpu_milli: u64,
    memory_mib: u64,
    disk_mib: u64,
}

impl Room<'_> {
    fn take(&mut self, cpu_milli: u64, memory_mib: u64, disk_mib: u64) {
        self.cpu_milli = self.cpu_milli.saturating_sub(cpu_milli);
        self.memory_mib = self.memory_mib.saturating_sub(memory_mib);
        self.disk_mib = self.disk_mib.saturating_sub(disk_mib);
    }

    fn unfit(&self, demand: &Demand) -> Option<Unfit> {
        let has = |name: &String| self.host.traits.contains(name);
        let aggregate = |(key, value): &&(String, String)| !self.aggregates.has(&self.host.name, key, value);
        let group_full = demand.group.as_ref().is_some_and(|group| group.forbids(&self.host.name));
        if demand.host.as_ref().is_some_and(|asked| *asked != self.host.name) {
            Some(Unfit::NotAsked)
        } else if !self.aggregates.admits(&self.host.name, &demand.project) {
            Some(Unfit::Reserved)
        } else if demand.zone.as_ref().is_some_and(|zone| zone != self.aggregates.zone(&self.host.name)) {
            Some(Unfit::Zone)
        } else if let Some((key, _)) = demand.aggregates.iter().find(aggregate) {
            Some(Unfit::Aggregate(key.clone()))
        } else if !self.host.enabled {
            Some(Unfit::Disabled)
        } else if !self.fresh {
            Some(Unfit::Silent)
        } else if let Some(name) = demand.traits.iter().find(|t| !has(t)) {
            Some(Unfit::Trait(name.clone()))
        } else if let Some(name) = demand.forbidden_traits.iter().find(|t| has(t)) {
            Some(Unfit::Trait(name.clone()))
        } else if group_full {
            Some(Unfit::Group)
        } else if demand.prefer.as_ref() != Some(&self.host.name) && demand.neighbours.forbid(&self.host.name) {
            Some(Unfit::Neighbours)
        } else if demand.cpu_milli > self.cpu_milli {
            Some(Unfit::Cpu { asked: demand.cpu_milli, free: self.cpu_milli })
        } else if demand.memory_mib > self.memory_mib {
            Some(Unfit::Memory { asked: demand.memory_mib, free: self.memory_mib })
        } else if demand.disk_mib > self.disk_mib {
            Some(Unfit::Disk { asked: demand.disk_mib, free: self.disk_mib })
        } else {
            None
        }
    }

    /// The larger the better, in thousandths: how much stays free of what would be scarcest, then preferences.
    fn weight(&self, demand: &Demand) -> i64 {
        let part = |free: u64, asked: u64, all: u64| (free.saturating_sub(asked) * 1000).checked_div(all).unwrap_or(0);
        let cpu = part(self.cpu_milli, demand.cpu_milli, self.host.cpu_milli);
        let memory = part(self.memory_mib, demand.memory_mib, self.host.memory_mib);
        let preferred = if demand.prefer.as_deref() == Some(&*self.host.name) { 100_000 } else { 0 };
        let company = demand.group.as_ref().map_or(0, |group| group.weight(&self.host.name));
        cpu.min(memory) as i64 + preferred + company
    }
}

impl Neighbours {
    fn forbid(&self, host: &str) -> bool {
        self.near.as_ref().is_some_and(|near| !near.contains(host)) || self.away.contains(host)
    }
}

impl Group {
    fn forbids(&self, host: &str) -> bool {
        let here = self.members.get(host).copied().unwrap_or(0);
        match self.policy.as_str() {
            "affinity" => here == 0 && self.members.values().any(|n| *n > 0),
            "anti-affinity" => here >= self.per_host,
            _ => false,
        }
    }

    fn weight(&self, host: &str) -> i64 {
        let here = self.members.get(host).copied().unwrap_or(0).min(1000) as i64;
        match self.policy.as_str() {
            "soft-affinity" => here * 2000,
            "soft-anti-affinity" => here * -2000,
            _ => 0,
        }
    }
}

/// Where VMs and pods without a host shall go.
pub fn plan(snapshot: &Snapshot, now: Time) -> Vec<Change> {
    let aggregates = Aggregates::of(snapshot);
    let mut rooms = rooms(snapshot, &aggregates, now);
    let mut changes = vms(snapshot, now, &mut rooms);
    changes.extend(pods::plan(snapshot, now, &mut rooms));
    changes
}

/// Every host with what is free on it, by name.
fn rooms<'a>(snapshot: &'a Snapshot, aggregates: &'a Aggregates<'a>, now: Time) -> BTreeMap<String, Room<'a>> {
    let mut rooms: BTreeMap<String, Room<'a>> = snapshot
        .all::<Host>()
        .map(|host| {
            let age = host.status.heartbeat.map(|beat| now.as_second() - beat.as_second());
            let host = host.value;
            let room = Room {
                host,
                aggregates,
                fresh: age.is_some_and(|age| age <= FRESH_SECONDS),
                cpu_milli: host.cpu_milli,
                memory_mib: host.memory_mib,
                disk_mib: mib(host.disk_gib),
            };
            (host.name.clone(), room)
        })
        .collect();
    for vm in snapshot.all::<Vm>() {
        if let Some(room) = vm.host.as_ref().and_then(|host| rooms.get_mut(host)) {
            room.take(vm.cpu_milli, vm.memory_mib, mib(vm.disk_gib));
        }
    }
    for (_, pod) in crate::port::pods(snapshot).filter(|(_, pod)| !pod.pod_finished()) {
        if let Some(room) = pod.body["spec"]["nodeName"].as_str().and_then(|host| rooms.get_mut(host)) {
            let demand = pod_demand(&pod.body);
            room.take(demand.cpu_milli, demand.memory_mib, demand.disk_mib);
        }
    }
    rooms
}

/// What was thought of a host: its weight, or why it will not do.
type Verdict<'a> = (&'a Host, Result<i64, Unfit>);

/// The best host, and the verdict on each that was looked at.
fn choose<'a>(rooms: &BTreeMap<String, Room<'a>>, demand: &Demand) -> (Option<&'a Host>, Vec<Verdict<'a>>) {
    let looked: Vec<_> = rooms
        .values()
        .map(|room| (room.host, room.unfit(demand).map_or_else(|| Ok(room.weight(demand)), Err)))
        .collect();
    let mut best: Option<(&Host, i64)> = None;
    for (host, verdict) in &looked {
        if let Ok(weight) = verdict
            && best.is_none_or(|(_, most)| *weight > most)
        {
            best = Some((host, *weight));
        }
    }
    (best.map(|(host, _)| host), looked)
}

// VMs

/// Where a server was put in this round.
struct Placed {
    server: String,
    group: Option<String>,
    host: String,
}

fn vms(snapshot: &Snapshot, now: Time, rooms: &mut BTreeMap<String, Room<'_>>) -> Vec<Change> {
    let mut waiting: Vec<Entry<'_, Vm>> = snapshot.all::<Vm>().filter(|vm| vm.host.is_none() && !vm.deleting).collect();
    waiting.sort_by_key(|vm| vm.row.created);
    let mut placed: Vec<Placed> = Vec::new();
    let mut changes = Vec::new();
    for vm in waiting {
        let Some(server) = snapshot.get::<Server>(&vm.server_id).filter(|server| !server.deleting) else { continue };
        if server.incarnation != vm.incarnation {
            continue;
        }
        let others: Vec<Entry<'_, Vm>> = snapshot
            .find::<Vm>(Index::Owner, &vm.server_id)
            .filter(|other| other.incarnation != vm.incarnation && other.host.is_some())
            .collect();
        // The old incarnation must be seen to be gone before the new one may be anywhere.
        if !others.iter().all(|other| other.deleting && other.status.phase == VmPhase::Gone) {
            continue;
        }
        for other in &others {
            give_back(rooms, other);
        }
        let demand = vm_demand(snapshot, &vm, &server, &others, &placed);
        let (best, looked) = choose(rooms, &demand);
        let lines: Vec<String> = looked.iter().map(|(host, verdict)| line(host, verdict)).collect();
        let mut change = Change::new();
        match best {
            Some(host) => {
                if let Some(room) = rooms.get_mut(&host.name) {
                    room.take(vm.cpu_milli, vm.memory_mib, mib(vm.disk_gib));
                }
                placed.push(Placed {
                    server: server.id.clone(),
                    group: server.server_group_id.clone(),
                    host: host.name.clone(),
                });
                change.expects.push(Aggregate::unchanged(snapshot));
                change.edit(vm, |v| {
                    v.host = Some(host.name.clone());
                    v.decision = lines;
                });
                for other in others {
                    change.delete(other);
                }
                if server.problem.is_some() {
                    change.edit(server, |s| s.problem = None);
                }
            }
            None => {
                for other in &others {
                    take_again(rooms, other);
                }
                refuse(&mut change, vm, server, lines, now);
            }
        }
        if !change.is_empty() {
            changes.push(change);
        }
    }
    changes
}

fn give_back(rooms: &mut BTreeMap<String, Room<'_>>, vm: &Vm) {
    if let Some(room) = vm.host.as_ref().and_then(|host| rooms.get_mut(host)) {
        room.cpu_milli += vm.cpu_milli;
        room.memory_mib += vm.memory_mib;
        room.disk_mib += mib(vm.disk_gib);
    }
}

fn take_again(rooms: &mut BTreeMap<String, Room<'_>>, vm: &Vm) {
    if let Some(room) = vm.host.as_ref().and_then(|host| rooms.get_mut(host)) {
        room.take(vm.cpu_milli, vm.memory_mib, mib(vm.disk_gib));
    }
}

fn line(host: &Host, verdict: &Result<i64, Unfit>) -> String {
    match verdict {
        Ok(weight) => format!("{}: fits, weight {weight}", host.name),
        Err(why) => format!("{}: {why}", host.name),
    }
}

/// Says that no host will do, where that is news; a server is told only when waiting did not help.
fn refuse(change: &mut Change, vm: Entry<'_, Vm>, server: Entry<'_, Server>, lines: Vec<String>, now: Time) {
    if now.as_second() - vm.created_at.as_second() >= PATIENCE_SECONDS {
        let why = if lines.is_empty() { "there is no host".to_owned() } else { lines.join("; ") };
        let text = format!("No valid host was found. {why}");
        if server.problem.as_deref() != Some(&text) {
            change.edit(server, |s| s.problem = Some(text));
        }
    }
    if vm.decision != lines {
        change.edit(vm, |v| v.decision = lines);
    }
}

fn vm_demand(snapshot: &Snapshot, vm: &Vm, server: &Server, others: &[Entry<'_, Vm>], placed: &[Placed]) -> Demand {
    let trait_specs = |value: &str| -> Vec<String> {
        let specs = server.flavor.extra_specs.iter().filter(|(_, v)| *v == value);
        specs.filter_map(|(key, _)| key.strip_prefix("trait:").map(str::to_owned)).collect()
    };
    let specs = server.flavor.extra_specs.iter();
    let aggregates =
        specs.filter_map(|(key, value)| Some((key.strip_prefix(AGGREGATE_SPEC)?.to_owned(), value.clone())));
    let last = others.iter().max_by_key(|other| other.incarnation).and_then(|other| other.host.clone());
    Demand {
        cpu_milli: vm.cpu_milli,
        memory_mib: vm.memory_mib,
        disk_mib: mib(vm.disk_gib),
        traits: trait_specs("required"),
        forbidden_traits: trait_specs("forbidden"),
        project: server.project_id.clone(),
        zone: server.availability_zone.clone(),
        aggregates: aggregates.collect(),
        // A disk that is kept lies on the host of the old incarnation.
        host: if server.keep_disk && last.is_some() { last.clone() } else { server.requested_host.clone() },
        prefer: last,
        group: server.server_group_id.as_deref().and_then(|id| group(snapshot, id, &server.id, placed)),
        neighbours: Neighbours {
            near: server.same_host.as_ref().map(|ids| hosts_of(snapshot, ids, placed)),
            away: hosts_of(snapshot, &server.different_host, placed),
        },
    }
}

/// The hosts on which something of these servers is.
fn hosts_of(snapshot: &Snapshot, servers: &[String], placed: &[Placed]) -> HashSet<String> {
    let there = servers.iter().flat_map(|id| snapshot.find::<Vm>(Index::Owner, id)).filter_map(|vm| vm.host.clone());
    let new = placed.iter().filter(|placed| servers.contains(&placed.server)).map(|placed| placed.host.clone());
    there.chain(new).collect()
}

/// A server group as seen by one of its members.
fn group(snapshot: &Snapshot, id: &str, member: &str, placed: &[Placed]) -> Option<Group> {
    let group = snapshot.get::<ServerGroup>(id)?;
    let mut members: HashMap<String, u64> = HashMap::new();
    let realm = Realm::project(&group.project_id);
    for server in snapshot.within::<Server>(&realm) {
        if server.server_group_id.as_deref() != Some(id) || server.id == member || server.deleting {
            continue;
        }
        let hosts: HashSet<String> =
            snapshot.find::<Vm>(Index::Owner, &server.id).filter_map(|vm| vm.host.clone()).collect();
        for host in hosts {
            *members.entry(host).or_default() += 1;
        }
    }
    for placed in placed.iter().filter(|placed| placed.group.as_deref() == Some(id)) {
        *members.entry(placed.host.clone()).or_default() += 1;
    }
    Some(Group { policy: group.policy.clone(), per_host: group.max_server_per_host.unwrap_or(1), members })
}
