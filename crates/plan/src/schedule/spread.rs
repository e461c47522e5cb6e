//! Topology spread constraints, by kube-scheduler's rules.

use std::collections::BTreeMap;

use model::KubeObject;
use serde_json::Value;

use super::neighbours::{Neighbours, Sort, list, with_own_labels};
use crate::fit::{Node, Requirements};

/// Whether the pod has constraints that must hold.
pub fn required(pod: &KubeObject) -> bool {
    list(constraints(pod)).any(is_hard)
}

fn constraints(pod: &KubeObject) -> &Value {
    &pod.body["spec"]["topologySpreadConstraints"]
}

fn is_hard(constraint: &Value) -> bool {
    constraint["whenUnsatisfiable"].as_str() != Some("ScheduleAnyway")
}

/// One constraint, and how many such pods each domain has.
struct Constraint {
    topology: String,
    most: i64,
    /// One more if the pod itself is counted.
    own: i64,
    domains: BTreeMap<String, i64>,
    /// How many the emptiest domain has.
    least: i64,
}

impl Constraint {
    fn read(
        constraint: &Value,
        keys: &[&str],
        pod: &KubeObject,
        nodes: &BTreeMap<String, Node>,
        neighbours: &mut Neighbours<'_>,
    ) -> Self {
        let selector = with_own_labels(&constraint["labelSelector"], constraint, pod);
        let sort = Sort::new(Some([pod.namespace.clone()].into()), selector);
        let topology = constraint["topologyKey"].as_str().unwrap_or("").to_owned();
        let honours = |policy: &str, default: &str| constraint[policy].as_str().unwrap_or(default) == "Honor";
        let (affinity, taints) = (honours("nodeAffinityPolicy", "Honor"), honours("nodeTaintsPolicy", "Ignore"));
        let counts = neighbours.count(std::slice::from_ref(&sort));
        let requirements = Requirements::of(&pod.body);
        let mut domains: BTreeMap<String, i64> = BTreeMap::new();
        for (name, node) in nodes {
            let counted = keys.iter().all(|key| node.label(key).is_some())
                && (!affinity || node.selected_by(&requirements))
                && (!taints || node.tolerated_by(&requirements));
            if let Some(domain) = node.label(&topology).filter(|_| counted) {
                *domains.entry(domain.to_owned()).or_default() += counts.get(name).map_or(0, |count| count.staying);
            }
        }
        let wanted = constraint["minDomains"].as_u64().unwrap_or(1);
        let enough = domains.len() as u64 >= wanted;
        let least = domains.values().min().copied().filter(|_| enough).unwrap_or(0);
        let own = i64::from(sort.fits(pod));
        Self { topology, most: constraint["maxSkew"].as_i64().unwrap_or(1), own, domains, least }
    }
}

/// What counts for one pod when it is placed.
pub struct Spread {
    hard: Vec<Constraint>,
    soft: Vec<Constraint>,
}

impl Spread {
    pub fn of(pod: &KubeObject, nodes: &BTreeMap<String, Node>, neighbours: &mut Neighbours<'_>) -> Self {
        let mut of = |hard: bool| -> Vec<Constraint> {
            let all: Vec<&Value> = list(constraints(pod)).filter(|constraint| is_hard(constraint) == hard).collect();
            // Nodes count that are in a domain of each.
            let keys: Vec<&str> = all.iter().filter_map(|constraint| constraint["topologyKey"].as_str()).collect();
            all.iter().map(|constraint| Constraint::read(constraint, &keys, pod, nodes, neighbours)).collect()
        };
        Self { hard: of(true), soft: of(false) }
    }

    /// Why the pod cannot be on the node, in kube-scheduler's words.
    pub fn refuses(&self, node: &Node) -> Option<&'static str> {
        for constraint in &self.hard {
            let Some(domain) = node.label(&constraint.topology) else {
                return Some("node(s) didn't match pod topology spread constraints (missing required label)");
            };
            let here = constraint.domains.get(domain).copied().unwrap_or(0);
            if here + constraint.own - constraint.least > constraint.most {
                return Some("node(s) didn't match pod topology spread constraints");
            }
        }
        None
    }

    /// How crowded the node's domains are, of the constraints that are wishes; `None`: it is in none. To be compared with
    /// other nodes only.
    pub fn crowd(&self, node: &Node) -> Option<i64> {
        let of = |constraint: &Constraint| {
            Some(constraint.domains.get(node.label(&constraint.topology)?).copied().unwrap_or(0))
        };
        self.soft.iter().map(of).sum()
    }
}
