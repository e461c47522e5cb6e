//! The one scheduler: VMs and pods become a [`Demand`], hosts with their claims become [`Room`], and the same filters
//! and weights decide. What it says is a proposal; the claims of the commit are the final word, and a refused proposal is
//! planned again from a fresh snapshot.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::SignedDuration;
use model::{
    Aggregate, Aggregates, Change, Entry, Event, Host, Index, Key, Kind, KubeObject, Realm, Server, ServerGroup,
    Snapshot, Time, Vm, VmPhase,
};

use crate::kube;
use crate::planner::{EVENTS, PODS, PODS_ASKED, Plan, Planner, Rows, Seen, Touched, objects, values};

mod affinity;
mod neighbours;
mod pods;
mod rooms;
mod spread;

use rooms::Rooms;

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
            Self::NotAsked
            | Self::Reserved
            | Self::Zone
            | Self::Aggregate(_)
            | Self::Trait(_)
            | Self::Group
            | Self::Neighbours => "node(s) didn't match Pod's node affinity/selector".into(),
            Self::Cpu { .. } => "Insufficient cpu".into(),
            Self::Memory { .. } => "Insufficient memory".into(),
            Self::Disk { .. } => "Insufficient ephemeral-storage".into(),
            Self::Node(text) => text.clone(),
        }
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

/// Where VMs and pods without a host shall go. An item is one of these.
pub const PLANNER: Planner = Planner {
    name: "schedule",
    reads: &[
        Rows::Asked(&Rows::Of(Kind::Vm)),
        Rows::Of(Kind::Server),
        Rows::Of(Kind::ServerGroup),
        Rows::Of(Kind::Aggregate),
        Rows::Of(Kind::Host),
        PODS_ASKED,
        Rows::Objects("", "nodes"),
        Rows::Objects("", "namespaces"),
    ],
    writes: &[Rows::Of(Kind::Vm), Rows::Of(Kind::Server), Rows::Of(Kind::Setting), PODS, EVENTS],
    at_once: 4096,
    items,
    touched,
    failed: None,
    plan,
};

fn items(rows: &Snapshot) -> Vec<Key> {
    let vms = rows.all::<Vm>().filter(|vm| waits(vm.value)).map(|vm| vm.row.key.clone());
    let pods = kube::all(rows, "", "pods").filter(|pod| pods::waits(pod.value)).map(|pod| pod.row.key.clone());
    vms.chain(pods).collect()
}

/// A VM that is to get a host.
fn waits(vm: &Vm) -> bool {
    vm.host.is_none() && !vm.deleting
}

fn touched(rows: &Snapshot, event: &Event, touched: &mut Touched) {
    let vms = |server: &str| {
        let vms = rows.find::<Vm>(Index::Owner, server).filter(|vm| waits(vm.value));
        vms.map(|vm| vm.row.key.clone()).collect::<Vec<_>>()
    };
    match event.key.kind {
        Kind::Server => values::<Server>(event).for_each(|server| touched.items(vms(&server.id))),
        Kind::Vm => {
            values::<Vm>(event).for_each(|vm| touched.items(vms(&vm.server_id)));
            let takes = |vm: &Vm| (vm.cpu_milli, vm.memory_mib, vm.disk_gib);
            if changed(event, |vm: &Vm, other: &Vm| vm.host != other.host || takes(vm) != takes(other)) {
                touched.waiting();
            }
        }
        Kind::Host if !rooms::changed(event) => {}
        Kind::KubeObject => {
            if objects(event).any(|object| object.is_pod() && pods::waits(object)) {
                touched.item(event.key.clone());
            }
            // What others may have waited for.
            let heard = |object: &KubeObject, other: &KubeObject| {
                let ends = |object: &KubeObject| object.is_pod() && object.pod_finished();
                let (spec, others) = (&object.body["spec"], &other.body["spec"]);
                ["nodeName", "taints", "unschedulable"].iter().any(|field| spec[*field] != others[*field])
                    || object.body["metadata"]["labels"] != other.body["metadata"]["labels"]
                    || ends(object) != ends(other)
            };
            if changed(event, heard) {
                touched.waiting();
            }
        }
        _ => touched.waiting(),
    }
}

/// Whether an event came with a row, or took it, or made one of which it is to be heard.
fn changed<T: model::Resource>(event: &Event, heard: impl Fn(&T, &T) -> bool) -> bool {
    let mut values = values::<T>(event);
    match (values.next(), values.next()) {
        (Some(before), Some(after)) => heard(before, after),
        _ => true,
    }
}

fn plan(seen: &Seen<'_>, items: &[Key], now: Time) -> Plan {
    let (vms, pods) = (waiting(seen.rows, items, waits), waiting(seen.rows, items, pods::waits));
    let mut plan = Plan::default();
    if vms.is_empty() && pods.is_empty() {
        return plan;
    }
    let aggregates = Aggregates::of(seen.rows);
    let rooms = Rooms::of(seen, &aggregates);
    place_vms(&mut plan, seen.rows, vms, now, &rooms);
    pods::plan(&mut plan, seen.rows, pods, now, &rooms);
    plan
}

fn waiting<'s, T: model::Resource>(rows: &'s Snapshot, items: &[Key], waits: fn(&T) -> bool) -> Vec<Entry<'s, T>> {
    items.iter().filter_map(|key| rows.at::<T>(key)).filter(|entry| waits(entry.value)).collect()
}

/// What was thought of a host: its weight, or why it will not do.
type Verdict<'a> = (&'a Host, Result<i64, Unfit>);

/// The best of the hosts that were looked at, and the verdict on each.
fn choose<'a>(rooms: &Rooms<'a>, asker: u64, demand: &Demand) -> (Option<&'a Host>, Vec<Verdict<'a>>) {
    let mut enough = rooms::ENOUGH;
    let mut looked: Vec<Verdict<'a>> = Vec::new();
    for (_, room) in rooms.from(asker, 0) {
        let verdict = room.unfit(demand).map_or_else(|| Ok(room.weight(demand)), Err);
        enough -= usize::from(verdict.is_ok());
        looked.push((room.host, verdict));
        if enough == 0 {
            break;
        }
    }
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

fn place_vms(plan: &mut Plan, snapshot: &Snapshot, mut waiting: Vec<Entry<'_, Vm>>, now: Time, rooms: &Rooms<'_>) {
    waiting.sort_by_key(|vm| vm.row.created);
    let mut placed: Vec<Placed> = Vec::new();
    for vm in waiting {
        let key = &vm.row.key;
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
        others.iter().for_each(|other| rooms.give_back(other));
        let demand = vm_demand(snapshot, &vm, &server, &others, &placed);
        let (best, looked) = choose(rooms, rooms::asker(&vm.server_id, 0), &demand);
        let lines = lines(&looked);
        let mut change = Change::new();
        match best {
            Some(host) => {
                rooms.take(&host.name, vm.cpu_milli, vm.memory_mib, mib(vm.disk_gib));
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
                for other in others.iter().filter_map(|other| Some((other.host.as_ref()?, other))) {
                    rooms.take(other.0, other.1.cpu_milli, other.1.memory_mib, mib(other.1.disk_gib));
                }
                refuse(&mut change, vm, server, lines, now);
                plan.waits(key);
                if let Some(at) = patience(vm.value).filter(|at| *at > now) {
                    plan.again(key, at);
                }
            }
        }
        plan.step(key, change);
    }
}

/// So many hosts are told one by one of what was thought of them.
const TOLD: usize = 100;

fn lines(looked: &[Verdict<'_>]) -> Vec<String> {
    let mut lines: Vec<String> = looked.iter().take(TOLD).map(|(host, verdict)| line(host, verdict)).collect();
    let mut rest: BTreeMap<String, usize> = BTreeMap::new();
    for (_, verdict) in looked.iter().skip(TOLD) {
        let why = verdict.as_ref().map_or_else(Unfit::kube, |_| "fit".into());
        *rest.entry(why).or_default() += 1;
    }
    lines.extend(rest.into_iter().map(|(why, count)| format!("{count} more: {why}")));
    lines
}

fn line(host: &Host, verdict: &Result<i64, Unfit>) -> String {
    match verdict {
        Ok(weight) => format!("{}: fits, weight {weight}", host.name),
        Err(why) => format!("{}: {why}", host.name),
    }
}

/// From when on a server is told that there is no room.
fn patience(vm: &Vm) -> Option<Time> {
    vm.created_at.checked_add(SignedDuration::from_secs(PATIENCE_SECONDS)).ok()
}

/// Says that no host will do, where that is news; a server is told only when waiting did not help.
fn refuse(change: &mut Change, vm: Entry<'_, Vm>, server: Entry<'_, Server>, lines: Vec<String>, now: Time) {
    if patience(vm.value).is_some_and(|at| now >= at) {
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
