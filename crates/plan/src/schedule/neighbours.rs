//! Which pods stand on which nodes of a cluster, for pods that care: affinity between pods and spreading over topologies
//! ask how many pods of a sort each node has. Made only for clusters in which some pod has such fields; what was counted
//! once is kept up to date by each pod that is placed, since the pods of a Deployment all ask the same.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use model::{KubeObject, Realm, Snapshot};
use serde_json::{Value, json};

use crate::kube::matches;

/// Which pods are meant: those of some namespaces with some labels.
#[derive(Clone, Debug)]
pub struct Sort {
    /// `None`: all.
    namespaces: Option<BTreeSet<String>>,
    /// A `LabelSelector`; null fits no pod.
    selector: Value,
}

impl Sort {
    pub fn new(namespaces: Option<BTreeSet<String>>, selector: Value) -> Self {
        Self { namespaces, selector }
    }

    pub fn fits(&self, pod: &KubeObject) -> bool {
        self.namespaces.as_ref().is_none_or(|all| all.contains(&pod.namespace))
            && !self.selector.is_null()
            && matches(&self.selector, &pod.body["metadata"]["labels"])
    }

    /// Equal for equal sorts.
    pub fn name(&self) -> String {
        match &self.namespaces {
            Some(names) => format!("{names:?} {}", self.selector),
            None => format!("* {}", self.selector),
        }
    }
}

/// Adds to a selector what `matchLabelKeys` and `mismatchLabelKeys` say: the pod's own values of these labels.
pub fn with_own_labels(selector: &Value, asks: &Value, pod: &KubeObject) -> Value {
    let mut selector = selector.clone();
    let own = &pod.body["metadata"]["labels"];
    for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        for key in list(&asks[field]).filter_map(Value::as_str) {
            if let Some(value) = own[key].as_str().filter(|_| selector.is_object()) {
                let expression = json!({"key": key, "operator": operator, "values": [value]});
                match &mut selector["matchExpressions"] {
                    Value::Array(all) => all.push(expression),
                    other => *other = json!([expression]),
                }
            }
        }
    }
    selector
}

pub fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// How many pods of a sort a node has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    pub all: i64,
    /// Without those that are being deleted.
    pub staying: i64,
}

type Counts = BTreeMap<String, Count>;

/// The pods of a cluster that have a node, and what was counted of them.
pub struct Neighbours<'a> {
    namespaces: Vec<&'a KubeObject>,
    placed: Vec<(&'a KubeObject, String)>,
    /// By the names of the sorts, all of which a pod must fit to be counted.
    counted: HashMap<String, (Vec<Sort>, Counts)>,
}

impl<'a> Neighbours<'a> {
    /// The cluster as it is.
    pub fn of(snapshot: &'a Snapshot, cluster: &str) -> Self {
        let realm = Realm::Cluster(cluster.into());
        let namespaces = snapshot.names::<KubeObject>(&realm, "/namespaces/", None).map(|o| o.value).collect();
        let pods = snapshot.names::<KubeObject>(&realm, "/pods/", None).map(|o| o.value);
        let placed = pods.filter(|pod| !pod.pod_finished()).filter_map(|pod| Some((pod, node_of(pod)?.to_owned())));
        Self { namespaces, placed: placed.collect(), counted: HashMap::new() }
    }

    /// Every pod with its node.
    pub fn placed(&self) -> impl Iterator<Item = (&'a KubeObject, &str)> {
        self.placed.iter().map(|(pod, node)| (*pod, node.as_str()))
    }

    /// Notes that a pod has been given a node.
    pub fn place(&mut self, pod: &'a KubeObject, node: &str) {
        for (sorts, counts) in self.counted.values_mut() {
            note(sorts, counts, pod, node);
        }
        self.placed.push((pod, node.to_owned()));
    }

    /// How many pods that are of all these sorts each node has.
    pub fn count(&mut self, sorts: &[Sort]) -> &Counts {
        let name = sorts.iter().map(Sort::name).collect::<Vec<_>>().join(" and ");
        let placed = &self.placed;
        let (_, counts) = self.counted.entry(name).or_insert_with(|| {
            let mut counts = Counts::new();
            placed.iter().for_each(|(pod, node)| note(sorts, &mut counts, pod, node));
            (sorts.to_vec(), counts)
        });
        counts
    }

    /// The names of the namespaces with such labels.
    pub fn namespaces(&self, selector: &Value) -> impl Iterator<Item = String> {
        self.namespaces
            .iter()
            .filter(|namespace| matches(selector, &namespace.body["metadata"]["labels"]))
            .map(|namespace| namespace.name.clone())
    }
}

fn note(sorts: &[Sort], counts: &mut Counts, pod: &KubeObject, node: &str) {
    if sorts.iter().all(|sort| sort.fits(pod)) {
        let count = counts.entry(node.to_owned()).or_default();
        count.all += 1;
        count.staying += i64::from(!pod.deleting());
    }
}

/// The node that a pod has.
pub fn node_of(pod: &KubeObject) -> Option<&str> {
    pod.body["spec"]["nodeName"].as_str().filter(|node| !node.is_empty())
}
