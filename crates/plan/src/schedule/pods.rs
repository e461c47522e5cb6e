//! Pods without a host get one.
//!
//! Room is claimed by each pod's own row. That two pods may not be near each other cannot be: which pods a selector means is
//! no function of one row. So all placements of pods that must or must not be near others, or must be spread, are one change
//! for each cluster, which also writes the cluster's [`Setting`] of placements; every other placement demands that this is as
//! it was. Of two plans from one snapshot one is refused then, unless neither has such pods.

use std::collections::{BTreeMap, HashMap};

use model::kube_event::{self, News};
use model::{
    Aggregate, Change, Entry, Expect, Host, Index, Key, KubeObject, PodDemand, Resource, Setting, Snapshot, Time,
    pod_demand,
};
use serde_json::{Value, json};

use super::affinity::{self, Affinity, Said};
use super::neighbours::Neighbours;
use super::rooms::{self, Rooms};
use super::spread::{self, Spread};
use super::{Demand, Unfit};
use crate::fit::{self, Node, Requirements};
use crate::planner::{Plan, Step};

/// The most placements of one change.
const TOGETHER: usize = 64;
/// The most pods that are looked at in one plan; they are the first in turn.
const AT_ONCE: usize = 2048;
/// What being liked most weighs: twice the room that is free, as kube-scheduler weighs it.
const LIKED: i64 = 2000;

/// Where the pods shall go.
pub fn plan(plan: &mut Plan, snapshot: &Snapshot, waiting: Vec<Entry<'_, KubeObject>>, now: Time, rooms: &Rooms<'_>) {
    let mut waiting = in_turn(waiting);
    plan.left.extend(waiting.drain(AT_ONCE.min(waiting.len())..).map(|pod| pod.row.key.clone()));
    let mut clusters: BTreeMap<&str, Placing<'_>> = BTreeMap::new();
    for pod in &waiting {
        let id: &str = &pod.value.cluster_id;
        let placing = clusters.entry(id).or_insert_with(|| Placing::of(snapshot, id, rooms, &waiting));
        placing.pod(plan, *pod, now, rooms);
    }
    for placing in clusters.into_values() {
        placing.together(plan);
    }
}

/// Of each cluster the more important first, then the older; the clusters take turns: what is important to one tenant keeps
/// no other waiting.
fn in_turn(mut waiting: Vec<Entry<'_, KubeObject>>) -> Vec<Entry<'_, KubeObject>> {
    let priority = |pod: &KubeObject| pod.body["spec"]["priority"].as_i64().unwrap_or(0);
    waiting.sort_by_key(|pod| (std::cmp::Reverse(priority(pod)), pod.row.created));
    let mut before: HashMap<&str, usize> = HashMap::new();
    let mut turns: Vec<(usize, model::Revision, Entry<'_, KubeObject>)> = Vec::new();
    for pod in waiting {
        let turn = before.entry(&pod.value.cluster_id).or_default();
        turns.push((*turn, pod.row.created, pod));
        *turn += 1;
    }
    turns.sort_by_key(|(turn, created, _)| (*turn, *created));
    turns.into_iter().map(|(_, _, pod)| pod).collect()
}

/// The pods of one cluster while they are placed.
struct Placing<'a> {
    snapshot: &'a Snapshot,
    cluster: &'a str,
    /// All nodes, where pods care about others; else the views of those that were looked at, by the numbers of the hosts.
    nodes: BTreeMap<String, Node>,
    views: HashMap<usize, Node>,
    /// Where the search for a host begins, and how many pods have searched.
    asker: u64,
    searches: usize,
    /// Where pods care about others.
    company: Option<Company<'a>>,
    placements: Option<Entry<'a, Setting>>,
    name: String,
}

struct Company<'a> {
    neighbours: Neighbours<'a>,
    said: Said,
    /// What must be placed in one change.
    together: Change,
    items: Vec<Key>,
    /// Who could have been placed so and was not.
    left: Vec<Entry<'a, KubeObject>>,
}

impl<'a> Placing<'a> {
    fn of(snapshot: &'a Snapshot, cluster: &'a str, rooms: &Rooms<'_>, waiting: &[Entry<'a, KubeObject>]) -> Self {
        let mut caring = snapshot.find::<KubeObject>(Index::Caring, cluster);
        let company = caring.any(|pod| !pod.pod_finished()).then(|| {
            let neighbours = Neighbours::of(snapshot, cluster);
            let of_cluster = waiting.iter().map(|pod| pod.value).filter(|pod| pod.cluster_id == cluster);
            let said = Said::of(&neighbours, of_cluster);
            Company { neighbours, said, together: Change::new(), items: Vec::new(), left: Vec::new() }
        });
        let node = |host: &Host| (host.name.clone(), fit::of_host(snapshot, cluster, host));
        let nodes = if company.is_some() { rooms.hosts().map(node).collect() } else { BTreeMap::new() };
        let name = format!("pod-placements/{cluster}");
        Self {
            snapshot,
            cluster,
            nodes,
            views: HashMap::new(),
            asker: rooms::asker(cluster, snapshot.revision()),
            searches: 0,
            company,
            placements: snapshot.get::<Setting>(&name),
            name,
        }
    }

    /// Places one pod, or says why not.
    fn pod(&mut self, plan: &mut Plan, pod: Entry<'a, KubeObject>, now: Time, rooms: &Rooms<'_>) {
        let key = &pod.row.key;
        let bound = self.company.as_ref().is_some_and(|company| company.binds(pod.value));
        if let Some(company) = self.company.as_mut().filter(|company| bound && company.items.len() >= TOGETHER) {
            company.left.push(pod);
            plan.left.push(key.clone());
            return;
        }
        let demand = pod_demand(&pod.body);
        let mut body = pod.body.clone();
        match self.choose(pod.value, demand, rooms) {
            Ok(host) => {
                rooms.take(&host, demand.cpu_milli, demand.memory_mib, demand.disk_mib);
                body["spec"]["nodeName"] = json!(host);
                set_scheduled(&mut body, None, now);
                let message = format!("Successfully assigned {}/{} to {host}", pod.namespace, pod.name);
                let news = News::new("default-scheduler", "Scheduled", message);
                let change = told(self.snapshot, pod, body, &news, now);
                self.placed(plan, pod, change, &host, bound);
            }
            Err(why) => {
                if let Some(company) = self.company.as_mut().filter(|_| bound) {
                    company.left.push(pod);
                }
                set_scheduled(&mut body, Some(&why), now);
                let news = News::new("default-scheduler", "FailedScheduling", why).warning();
                plan.waits(key);
                if body != pod.body {
                    plan.step(key, told(self.snapshot, pod, body, &news, now));
                }
            }
        }
    }

    /// Adds the change that gives a pod its host to those that must come together, or to the plan.
    fn placed(&mut self, plan: &mut Plan, pod: Entry<'a, KubeObject>, mut change: Change, host: &str, bound: bool) {
        if let Some(company) = &mut self.company {
            company.neighbours.place(pod.value, host);
            company.said.place(pod.value, host, &company.neighbours);
        }
        let aggregates = Aggregate::unchanged(self.snapshot);
        match self.company.as_mut().filter(|_| bound) {
            Some(company) => {
                company.together.writes.append(&mut change.writes);
                if company.items.is_empty() {
                    company.together.expects.push(aggregates);
                }
                company.items.push(pod.row.key.clone());
            }
            None => {
                let revision = self.placements.map(|setting| setting.row.modified);
                change.expects.extend([Expect { key: placements(&self.name, 0).key(), revision }, aggregates]);
                plan.step(&pod.row.key, change);
            }
        }
    }

    /// The best host, or why there is none.
    fn choose(&mut self, pod: &KubeObject, asked: PodDemand, rooms: &Rooms<'_>) -> Result<String, String> {
        let demand = Demand {
            cpu_milli: asked.cpu_milli,
            memory_mib: asked.memory_mib,
            disk_mib: asked.disk_mib,
            project: pod.project_id.clone(),
            ..Demand::default()
        };
        let rules = self.company.as_mut().map(|company| {
            let spread = Spread::of(pod, &self.nodes, &mut company.neighbours);
            (spread, Affinity::of(pod, &self.nodes, &mut company.neighbours, &company.said))
        });
        // Where no pod of the cluster cares about others, only some hosts are looked at.
        let mut enough = if rules.is_some() { usize::MAX } else { rooms::ENOUGH };
        let mut fit: Vec<(&str, i64)> = Vec::new();
        let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
        let requirements = Requirements::of(&pod.body);
        self.searches += 1;
        for (number, room) in rooms.from(self.asker, self.searches) {
            let name = &room.host.name;
            let view = || fit::of_host(self.snapshot, self.cluster, room.host);
            let node = match self.nodes.get(name).filter(|_| rules.is_some()) {
                Some(node) => node,
                None => self.views.entry(number).or_insert_with(view),
            };
            let company =
                || rules.as_ref().and_then(|(spread, near)| spread.refuses(node).or_else(|| near.refuses(node)));
            let refusal = node
                .refuses(&requirements)
                .map(Unfit::Node)
                .or_else(|| room.unfit(&demand))
                .or_else(|| company().map(|why| Unfit::Node(why.to_owned())));
            match refusal {
                // The cluster does not see it.
                Some(_) if !room.is_for(&demand.project) => {}
                Some(why) => *reasons.entry(why.kube()).or_default() += 1,
                None => {
                    fit.push((name, room.weight(&demand) + node.preference(&requirements)));
                    enough -= 1;
                    if enough == 0 {
                        break;
                    }
                }
            }
        }
        if let Some((spread, near)) = &rules {
            prefer(&mut fit, |name| self.nodes.get(name).map(|node| near.likes(node)));
            prefer(&mut fit, |name| self.nodes.get(name).and_then(|node| spread.crowd(node)).map(|crowd| -crowd));
        }
        // The first of the best.
        let best = fit.iter().rev().max_by_key(|(_, weight)| *weight);
        best.map(|(host, _)| (*host).to_owned()).ok_or_else(|| unschedulable(&reasons))
    }

    /// Adds the change of those that must be placed together.
    fn together(self, plan: &mut Plan) {
        let Some(company) = self.company.filter(|company| !company.items.is_empty()) else { return };
        let mut change = company.together;
        match self.placements {
            Some(setting) => change.edit(setting, |s| s.value = json!(s.value.as_u64().unwrap_or(0) + 1)),
            None => change.create(placements(&self.name, 1)),
        };
        // Somebody else, who did not know of these, may place them meanwhile.
        company.left.into_iter().for_each(|pod| {
            change.expect(pod);
        });
        plan.steps.push(Step { items: company.items, change });
    }
}

impl Company<'_> {
    /// Whether it matters to others, or to the pod itself, who is placed at the same time.
    fn binds(&self, pod: &KubeObject) -> bool {
        affinity::required(pod) || spread::required(pod) || self.said.repels(pod)
    }
}

/// How often pods of a cluster were placed together.
fn placements(name: &str, count: u64) -> Setting {
    Setting { name: name.to_owned(), value: json!(count) }
}

fn told(snapshot: &Snapshot, pod: Entry<'_, KubeObject>, body: Value, news: &News, now: Time) -> Change {
    let mut change = Change::new();
    kube_event::tell(&mut change, snapshot, pod.value, std::slice::from_ref(news), now);
    change.edit(pod, |p| p.body = body);
    change
}

/// Adds to the weights what is thought of each node: the best gets all, the worst nothing.
fn prefer(fit: &mut [(&str, i64)], thought: impl Fn(&str) -> Option<i64>) {
    let thoughts: Vec<Option<i64>> = fit.iter().map(|(name, _)| thought(name)).collect();
    let (least, most) = (thoughts.iter().flatten().min(), thoughts.iter().flatten().max());
    let (Some(least), Some(most)) = (least, most) else { return };
    for ((_, weight), thought) in fit.iter_mut().zip(&thoughts) {
        *weight += thought.map_or(0, |t| ((t - least) * LIKED).checked_div(most - least).unwrap_or(LIKED));
    }
}

/// A pod that is to get a host.
pub fn waits(pod: &KubeObject) -> bool {
    let spec = &pod.body["spec"];
    let scheduler = spec["schedulerName"].as_str().unwrap_or("default-scheduler");
    spec["nodeName"].as_str().is_none_or(str::is_empty)
        && scheduler == "default-scheduler"
        && spec["schedulingGates"].as_array().is_none_or(Vec::is_empty)
        && !pod.deleting()
        && !pod.pod_finished()
}

/// kube-scheduler's sentence for a pod that fits nowhere.
fn unschedulable(reasons: &BTreeMap<String, usize>) -> String {
    let hosts: usize = reasons.values().sum();
    if hosts == 0 {
        return "no nodes available to schedule pods".into();
    }
    let parts: Vec<String> = reasons.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
    format!("0/{hosts} nodes are available: {}.", parts.join(", "))
}

/// Sets the condition `PodScheduled`: true, or false with the reason. Leaves it alone when it says so already.
fn set_scheduled(body: &mut Value, problem: Option<&str>, now: Time) {
    let status = if problem.is_some() { "False" } else { "True" };
    if !body["status"].is_object() {
        body["status"] = json!({"phase": "Pending"});
    }
    if !body["status"]["conditions"].is_array() {
        body["status"]["conditions"] = json!([]);
    }
    let Some(conditions) = body["status"]["conditions"].as_array_mut() else { return };
    let at = conditions.iter().position(|c| c["type"] == "PodScheduled");
    let before = at.map(|i| conditions[i].clone()).unwrap_or_default();
    if before["status"] == status && before["message"].as_str() == problem {
        return;
    }
    let since =
        if before["status"] == status { before["lastTransitionTime"].clone() } else { json!(format!("{:.0}", now)) };
    let mut condition = json!({
        "type": "PodScheduled", "status": status, "lastProbeTime": null, "lastTransitionTime": since,
    });
    if let Some(text) = problem {
        condition["reason"] = json!("Unschedulable");
        condition["message"] = json!(text);
    }
    match at {
        Some(i) => conditions[i] = condition,
        None => conditions.push(condition),
    }
}
