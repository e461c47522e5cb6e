//! Affinity and anti-affinity between pods, by kube-scheduler's rules: what a pod asks of those that stand already, and what
//! these ask of it, since required anti-affinity holds both ways. Only placing asks; a pod whose labels change later stays.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use model::KubeObject;
use serde_json::Value;

use super::neighbours::{Neighbours, Sort, list, with_own_labels};
use crate::fit::Node;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// How much better a pod likes a place of which somebody there says that it must have such a pod near.
const WANTED_THERE: i64 = 1;

/// Whether the pod has rules that must hold.
pub fn required(pod: &KubeObject) -> bool {
    let affinity = &pod.body["spec"]["affinity"];
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| list(&affinity[*kind][REQUIRED]).next().is_some())
}

/// A `PodAffinityTerm`: near which pods, and how near.
#[derive(Clone, Debug)]
struct Term {
    sort: Sort,
    topology: String,
    weight: i64,
}

impl Term {
    fn read(term: &Value, weight: i64, pod: &KubeObject, neighbours: &Neighbours<'_>) -> Self {
        let named = list(&term["namespaces"]).filter_map(Value::as_str).map(str::to_owned);
        let mut names: BTreeSet<String> = named.collect();
        let selector = &term["namespaceSelector"];
        let everywhere = selector.as_object().is_some_and(|selector| selector.values().all(is_empty));
        if selector.is_object() {
            names.extend(neighbours.namespaces(selector));
        } else if names.is_empty() {
            names.insert(pod.namespace.clone());
        }
        let selector = with_own_labels(&term["labelSelector"], term, pod);
        let sort = Sort::new((!everywhere).then_some(names), selector);
        Self { sort, topology: term["topologyKey"].as_str().unwrap_or("").to_owned(), weight }
    }

    fn name(&self) -> String {
        format!("{} {} {}", self.topology, self.weight, self.sort.name())
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_none_or(|o| o.is_empty()) && value.as_array().is_none_or(|a| a.is_empty())
}

fn hard(kind: &str, pod: &KubeObject, neighbours: &Neighbours<'_>) -> Vec<Term> {
    let terms = list(&pod.body["spec"]["affinity"][kind][REQUIRED]);
    terms.map(|term| Term::read(term, 0, pod, neighbours)).collect()
}

/// Preferences, with what they weigh: less than nothing for those that repel.
fn soft(pod: &KubeObject, neighbours: &Neighbours<'_>) -> Vec<Term> {
    let of = |kind: &str, sign: i64| -> Vec<Term> {
        let terms = list(&pod.body["spec"]["affinity"][kind][PREFERRED]);
        let weight = |term: &Value| sign * term["weight"].as_i64().unwrap_or(0).clamp(0, 100);
        terms.map(|term| Term::read(&term["podAffinityTerm"], weight(term), pod, neighbours)).collect()
    };
    [of("podAffinity", 1), of("podAntiAffinity", -1)].concat()
}

/// Part of the cluster: a topology key and its value.
type Domain = (String, String);

/// What pods of the cluster say of others that come, each term once with the nodes on which pods have it.
#[derive(Default)]
pub struct Said {
    /// Anti-affinity that must hold.
    repel: BTreeMap<String, (Term, BTreeMap<String, i64>)>,
    /// The same of pods that wait themselves: whoever is meant shall not be placed beside them unnoticed.
    looming: BTreeMap<String, Term>,
    like: BTreeMap<String, (Term, BTreeMap<String, i64>)>,
}

impl Said {
    pub fn of<'a>(neighbours: &Neighbours<'a>, waiting: impl Iterator<Item = &'a KubeObject>) -> Self {
        let mut said = Self::default();
        for (pod, node) in neighbours.placed() {
            said.place(pod, node, neighbours);
        }
        for term in
            waiting.filter(|pod| pod.has_pod_affinity()).flat_map(|pod| hard("podAntiAffinity", pod, neighbours))
        {
            said.looming.insert(term.name(), term);
        }
        said
    }

    /// Notes that a pod has been given a node.
    pub fn place(&mut self, pod: &KubeObject, node: &str, neighbours: &Neighbours<'_>) {
        if !pod.has_pod_affinity() {
            return;
        }
        let note = |all: &mut BTreeMap<String, (Term, BTreeMap<String, i64>)>, term: Term| {
            let (_, nodes) = all.entry(term.name()).or_insert_with(|| (term, BTreeMap::new()));
            *nodes.entry(node.to_owned()).or_default() += 1;
        };
        hard("podAntiAffinity", pod, neighbours).into_iter().for_each(|term| note(&mut self.repel, term));
        let wanted = hard("podAffinity", pod, neighbours).into_iter();
        wanted.for_each(|term| note(&mut self.like, Term { weight: WANTED_THERE, ..term }));
        soft(pod, neighbours).into_iter().for_each(|term| note(&mut self.like, term));
    }

    /// Whether somebody, placed or waiting, must not have this pod near.
    pub fn repels(&self, pod: &KubeObject) -> bool {
        let placed = self.repel.values().map(|(term, _)| term);
        placed.chain(self.looming.values()).any(|term| term.sort.fits(pod))
    }
}

/// What counts for one pod when it is placed.
pub struct Affinity {
    /// Of each term that must hold the topology, and where such pods are.
    near: Vec<String>,
    there: HashSet<Domain>,
    /// The first of a group that wants its like near: it has to begin somewhere.
    first: bool,
    away: HashSet<Domain>,
    repelled: HashSet<Domain>,
    liked: HashMap<Domain, i64>,
}

impl Affinity {
    pub fn of(pod: &KubeObject, nodes: &BTreeMap<String, Node>, neighbours: &mut Neighbours<'_>, said: &Said) -> Self {
        let near = hard("podAffinity", pod, neighbours);
        let sorts: Vec<Sort> = near.iter().map(|term| term.sort.clone()).collect();
        let mut there = HashSet::new();
        let mut first = false;
        if !near.is_empty() {
            // As kube-scheduler has it: a pod counts when all of the terms mean it.
            let counts = neighbours.count(&sorts);
            let places = near.iter().flat_map(|term| domains(&term.topology, counts.keys(), nodes));
            there = places.collect();
            first = there.is_empty() && sorts.iter().all(|sort| sort.fits(pod));
        }
        let mut away = HashSet::new();
        for term in hard("podAntiAffinity", pod, neighbours) {
            let counts = neighbours.count(std::slice::from_ref(&term.sort));
            away.extend(domains(&term.topology, counts.keys(), nodes));
        }
        let repelling = said.repel.values().filter(|(term, _)| term.sort.fits(pod));
        let repelled = repelling.flat_map(|(term, on)| domains(&term.topology, on.keys(), nodes)).collect();
        let mut liked: HashMap<Domain, i64> = HashMap::new();
        let mut like = |topology: &str, node: &str, weight: i64| {
            if let Some(domain) = domain(topology, node, nodes) {
                *liked.entry(domain).or_default() += weight;
            }
        };
        for term in soft(pod, neighbours) {
            let counts = neighbours.count(std::slice::from_ref(&term.sort));
            counts.iter().for_each(|(node, count)| like(&term.topology, node, term.weight * count.all));
        }
        for (term, on) in said.like.values().filter(|(term, _)| term.sort.fits(pod)) {
            on.iter().for_each(|(node, count)| like(&term.topology, node, term.weight * count));
        }
        Self { near: near.into_iter().map(|term| term.topology).collect(), there, first, away, repelled, liked }
    }

    /// Why the pod cannot be on the node, in kube-scheduler's words.
    pub fn refuses(&self, node: &Node) -> Option<&'static str> {
        let of = |topology: &String| Some((topology.clone(), node.label(topology)?.to_owned()));
        let fits = |topology: &String| of(topology).is_some_and(|domain| self.first || self.there.contains(&domain));
        let within = |domains: &HashSet<Domain>| domains.iter().any(|(key, value)| node.label(key) == Some(value));
        if !self.near.iter().all(fits) {
            Some("node(s) didn't match pod affinity rules")
        } else if within(&self.away) {
            Some("node(s) didn't match pod anti-affinity rules")
        } else if within(&self.repelled) {
            Some("node(s) didn't satisfy existing pods anti-affinity rules")
        } else {
            None
        }
    }

    /// How much the pod, and the pods there, like it on the node. To be compared with other nodes only.
    pub fn likes(&self, node: &Node) -> i64 {
        let here = self.liked.iter().filter(|((key, value), _)| node.label(key) == Some(value));
        here.map(|(_, weight)| weight).sum()
    }
}

fn domain(topology: &str, node: &str, nodes: &BTreeMap<String, Node>) -> Option<Domain> {
    Some((topology.to_owned(), nodes.get(node)?.label(topology)?.to_owned()))
}

fn domains<'n>(
    topology: &str,
    on: impl Iterator<Item = &'n String>,
    nodes: &BTreeMap<String, Node>,
) -> HashSet<Domain> {
    on.filter_map(|node| domain(topology, node, nodes)).collect()
}
