//! An object of the Kubernetes API, of any kind. The body is kept as the client sent it plus defaults, so that no field
//! is lost that a hand-written type forgot; only what claims something is read here.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::quantity::Quantity;
use crate::resource::kind;
use crate::{Claim, Host, Index, Key, Kind, Limited, Realm, Resource, quota};

/// An object of the Kubernetes API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KubeObject {
    pub cluster_id: String,
    /// The project that owns the cluster: whose quota counts.
    pub project_id: String,
    /// Empty for the core group.
    pub group: String,
    /// The plural: `pods`.
    pub resource: String,
    /// Empty for what has no namespace.
    pub namespace: String,
    pub name: String,
    /// The whole object without `metadata.resourceVersion`, which is the row's revision.
    pub body: Value,
}

impl KubeObject {
    /// The beginning of the names of all objects of a resource, in one namespace or (empty) in all.
    pub fn prefix(group: &str, resource: &str, namespace: &str) -> String {
        if namespace.is_empty() { format!("{group}/{resource}/") } else { format!("{group}/{resource}/{namespace}/") }
    }

    /// The key of an object. Objects without a namespace have `//` before their name.
    pub fn key_of(cluster: &str, group: &str, resource: &str, namespace: &str, name: &str) -> Key {
        Key::new(Kind::KubeObject, Realm::Cluster(cluster.into()), format!("{group}/{resource}/{namespace}/{name}"))
    }

    pub fn uid(&self) -> &str {
        self.body["metadata"]["uid"].as_str().unwrap_or("")
    }

    /// The uid of a host's Node in a cluster.
    pub(crate) fn uid_of_node(cluster: &str, host: &str) -> String {
        crate::derived_id(&["node", cluster, host])
    }

    /// Whether it is what its cluster said of a host, and not a Node that the cluster made.
    pub fn is_of_host(&self) -> bool {
        self.is("", "nodes") && self.uid() == Self::uid_of_node(&self.cluster_id, &self.name)
    }

    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.group == group && self.resource == resource
    }

    pub fn is_pod(&self) -> bool {
        self.is("", "pods")
    }

    /// Whether a pod has come to its end: it takes no room and no quota any more.
    pub fn pod_finished(&self) -> bool {
        matches!(self.body["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
    }

    /// Whether the object is being deleted (it has a deletion timestamp).
    pub fn deleting(&self) -> bool {
        self.body["metadata"]["deletionTimestamp"].is_string()
    }

    /// The fields of its body that nobody reports.
    fn asked(&self) -> impl Iterator<Item = (&str, &Value)> {
        let fields = self.body.as_object().into_iter().flatten();
        fields.filter(|(name, _)| *name != "status").map(|(name, value)| (name.as_str(), value))
    }

    /// What the object takes of what its project may keep. Hosts and controllers write statuses and events, and must be able
    /// to: both are free up to a size. An event is not counted, since each cluster keeps only so many (`plan::kube::event`),
    /// unless a finalizer holds it. What is being deleted takes no more than before: it can always be.
    fn kept(&self) -> Vec<Claim> {
        let fields = self.body.as_object().into_iter().flatten();
        let bytes = fields.map(|(name, value)| match name.as_str() {
            "status" => json_size(value).saturating_sub(FREE_STATUS),
            _ => name.len() + 4 + json_size(value),
        });
        let event = self.is("", "events");
        let mut free = if event { FREE_EVENT } else { 0 };
        if self.deleting() {
            free += FREE_DELETION;
        }
        let kilobytes = bytes.sum::<usize>().saturating_sub(free).div_ceil(1024) as u64;
        let objects = u64::from(!event || self.held());
        let taken = [("kube_objects", objects), ("kube_megabytes", kilobytes)].into_iter().filter(|(_, n)| *n > 0);
        taken.filter_map(|(name, amount)| quota::uses(&self.project_id, name, amount)).collect()
    }

    /// The definition that makes the kind of an object of a cluster's own, which cannot go while there are objects.
    pub fn definition(&self) -> Option<Key> {
        let name = || format!("{}.{}", self.resource, self.group);
        (!is_kubernetes_group(&self.group))
            .then(|| Self::key_of(&self.cluster_id, "apiextensions.k8s.io", "customresourcedefinitions", "", &name()))
    }

    /// An object of a cluster's own kind needs the kind's definition; a definition claims the kind's names.
    fn claim_kind(&self, claims: &mut Vec<Claim>) {
        claims.extend(self.definition().map(Claim::Needs));
        if !self.is("apiextensions.k8s.io", "customresourcedefinitions") {
            return;
        }
        let (group, names) = (&self.body["spec"]["group"], &self.body["spec"]["names"]);
        let mut claim = |what: &str, name: &Value| {
            if let (Some(group), Some(name)) = (group.as_str(), name.as_str()) {
                claims.push(Claim::Unique(format!("kube-{what}/{}/{group}/{name}", self.cluster_id)));
            }
        };
        let short = names["shortNames"].as_array().into_iter().flatten();
        [&names["kind"], &names["listKind"]].into_iter().for_each(|name| claim("kind", name));
        [&names["plural"], &names["singular"]].into_iter().chain(short).for_each(|name| claim("resource", name));
    }

    /// The owner that controls the object.
    pub fn controller(&self) -> Option<&Value> {
        self.body["metadata"]["ownerReferences"].as_array()?.iter().find(|owner| owner["controller"] == true)
    }

    /// What the objects of one resource in one namespace of a cluster have in common.
    pub fn kin(cluster: &str, group: &str, resource: &str, namespace: &str) -> String {
        format!("{cluster}/{group}/{resource}/{namespace}")
    }

    /// Under what the bindings of a place (a namespace, or the whole cluster: empty) are found that name a subject. Of a service
    /// account the name is `namespace:name`.
    pub fn bound(cluster: &str, place: &str, kind: &str, name: &str) -> String {
        format!("{cluster}/{place}/{kind}/{name}")
    }

    /// What a binding is found by.
    fn bindings(&self) -> impl Iterator<Item = (Index, String)> {
        let is_binding = self.group == "rbac.authorization.k8s.io" && self.resource.ends_with("bindings");
        let subjects = self.body["subjects"].as_array().filter(|_| is_binding).into_iter().flatten();
        subjects.filter_map(|subject| {
            let (kind, name) = (subject["kind"].as_str()?, subject["name"].as_str()?);
            let namespace = subject["namespace"].as_str().filter(|namespace| !namespace.is_empty());
            let account = || format!("{}:{name}", namespace.unwrap_or(&self.namespace));
            let name = if kind == "ServiceAccount" { account() } else { name.to_owned() };
            Some((Index::Bound, Self::bound(&self.cluster_id, &self.namespace, kind, &name)))
        })
    }

    /// Takes an owner off.
    pub fn disown(&mut self, uid: &str) {
        let meta = &mut self.body["metadata"];
        if let Some(owners) = meta["ownerReferences"].as_array_mut() {
            owners.retain(|owner| owner["uid"] != uid);
        }
        if meta["ownerReferences"].as_array().is_none_or(Vec::is_empty)
            && let Some(meta) = meta.as_object_mut()
        {
            meta.remove("ownerReferences");
        }
    }

    /// Finalizers hold the object when it is deleted.
    pub fn held(&self) -> bool {
        self.body["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty())
    }

    /// Takes a finalizer away.
    pub fn release(&mut self, finalizer: &str) {
        let Some(meta) = self.body["metadata"].as_object_mut() else { return };
        if let Some(Value::Array(all)) = meta.get_mut("finalizers") {
            all.retain(|name| name != finalizer);
            if all.is_empty() {
                meta.remove("finalizers");
            }
        }
    }

    /// Whether a pod says to which other pods it shall be near, or not near.
    pub fn has_pod_affinity(&self) -> bool {
        let affinity = &self.body["spec"]["affinity"];
        affinity["podAffinity"].is_object() || affinity["podAntiAffinity"].is_object()
    }

    /// Whether a pod says anything of where other pods shall be.
    fn cares(&self) -> bool {
        let spread = self.body["spec"]["topologySpreadConstraints"].as_array();
        self.has_pod_affinity() || spread.is_some_and(|all| !all.is_empty())
    }

    /// Uids of the owners.
    pub fn owners(&self) -> impl Iterator<Item = &str> {
        self.body["metadata"]["ownerReferences"].as_array().into_iter().flatten().filter_map(|o| o["uid"].as_str())
    }
}

/// The finalizer that holds a definition of a kind as long as there are objects of it.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Groups of Kubernetes' own: kinds in others are defined by clusters.
const KUBERNETES: &[&str] = &[
    "",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "apps",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "extensions",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
    "storagemigration.k8s.io",
];

/// Whether a group is one of Kubernetes' own.
pub fn is_kubernetes_group(group: &str) -> bool {
    KUBERNETES.contains(&group)
}

/// How many bytes of a status are free.
const FREE_STATUS: usize = 16 << 10;
/// How many bytes of an event are free: more than one of a host or a controller has.
const FREE_EVENT: usize = 4 << 10;
/// How many bytes more are free of what is being deleted: more than a deletion adds.
const FREE_DELETION: usize = 1 << 10;

/// The object in a field, which is made one.
pub fn object_in<'a>(value: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let field = &mut value[field];
    if !field.is_object() {
        *field = Value::Object(Map::new());
    }
    match field {
        Value::Object(map) => map,
        _ => unreachable!("it was made one"),
    }
}

/// The size of a value as JSON, roughly.
pub fn json_size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|item| json_size(item) + 1).sum::<usize>() + 2,
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| name.len() + json_size(value) + 4).sum::<usize>() + 2
        }
        _ => 6,
    }
}

impl Resource for KubeObject {
    kind!(KubeObject);
    // OpenStack has no quota of its own for them. All rows are in the memory of every process, so kilobytes count.
    const QUOTAS: &[Limited] =
        &[Limited::new("kube_objects", 20_000), Limited::new("kube_megabytes", 256).scaled(1024)];
    fn realm(&self) -> Realm {
        Realm::cluster(&self.cluster_id)
    }
    /// That a pod has come to its end is more: it gives back what it took.
    fn is_report_on(&self, before: &Self) -> bool {
        self.pod_finished() == before.pod_finished() && self.asked().eq(before.asked())
    }
    fn name(&self) -> String {
        format!("{}/{}/{}/{}", self.group, self.resource, self.namespace, self.name)
    }
    fn packed(mut self) -> Self {
        self.body.shrink();
        self
    }
    fn claims(&self) -> Vec<Claim> {
        let mut claims = Vec::new();
        if !self.namespace.is_empty() {
            claims.push(Claim::Needs(Self::key_of(&self.cluster_id, "", "namespaces", "", &self.namespace)));
        }
        claims.extend(self.kept());
        self.claim_kind(&mut claims);
        if self.is_pod() && !self.pod_finished() {
            let demand = pod_demand(&self.body);
            claims.extend(quota::uses(&self.project_id, "cores", demand.cpu_milli));
            claims.extend(quota::uses(&self.project_id, "ram", demand.memory_mib));
            if let Some(host) = self.body["spec"]["nodeName"].as_str() {
                claims.extend(Host::room(host, demand.cpu_milli, demand.memory_mib, demand.disk_mib));
            }
        }
        if self.is("", "services") {
            for ip in self.body["spec"]["clusterIPs"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if ip != "None" && !ip.is_empty() {
                    claims.push(Claim::Unique(format!("service-address/{}/{ip}", self.cluster_id)));
                }
            }
        }
        claims
    }
    fn index(&self) -> Vec<(Index, String)> {
        let mut index: Vec<(Index, String)> = self.owners().map(|uid| (Index::Owner, uid.to_owned())).collect();
        if !index.is_empty() || self.deleting() || self.is_of_host() {
            index.push((Index::Collectable, String::new()));
        }
        if (self.is_pod() || self.is("apps", "replicasets")) && self.controller().is_none() {
            let kin = Self::kin(&self.cluster_id, &self.group, &self.resource, &self.namespace);
            index.push((Index::Uncontrolled, kin));
        }
        if self.is_pod() && self.cares() {
            index.push((Index::Caring, self.cluster_id.clone()));
        }
        if self.is_pod()
            && let Some(host) = self.body["spec"]["nodeName"].as_str()
        {
            index.push((Index::Host, host.to_owned()));
        }
        // Pods and services are found by uid too: events and ports name them so.
        index.push((Index::Name, self.uid().to_owned()));
        index.extend(self.bindings());
        index
    }
}

/// What a pod takes of quota and of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodDemand {
    pub cpu_milli: u64,
    pub memory_mib: u64,
    /// `ephemeral-storage`.
    pub disk_mib: u64,
}

/// What a container without requests counts for: a tenth of a core and 64 MiB. Nothing would make quota meaningless.
const UNASKED: PodDemand = PodDemand { cpu_milli: 100, memory_mib: 64, disk_mib: 0 };

/// The room that a pod takes: the sum of its containers' requests (or limits) with those of its sidecars, or what an init
/// container takes with the sidecars that were started before it.
pub fn pod_demand(pod: &Value) -> PodDemand {
    let list = |field: &str| pod["spec"][field].as_array().into_iter().flatten();
    let (mut sidecars, mut most) = (PodDemand::NONE, PodDemand::NONE);
    for container in list("initContainers") {
        let with = sidecars.and(container_demand(container));
        if container["restartPolicy"] == "Always" {
            sidecars = with;
        }
        most = most.larger(with);
    }
    list("containers").fold(sidecars, |sum, container| sum.and(container_demand(container))).larger(most)
}

impl PodDemand {
    const NONE: Self = Self { cpu_milli: 0, memory_mib: 0, disk_mib: 0 };

    fn and(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_add(other.cpu_milli),
            memory_mib: self.memory_mib.saturating_add(other.memory_mib),
            disk_mib: self.disk_mib.saturating_add(other.disk_mib),
        }
    }

    fn larger(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.max(other.cpu_milli),
            memory_mib: self.memory_mib.max(other.memory_mib),
            disk_mib: self.disk_mib.max(other.disk_mib),
        }
    }
}

/// The room that a container takes: what it requests, its limits where it does not, or what one without both counts for.
pub fn container_demand(container: &Value) -> PodDemand {
    let asked = |resource: &str| {
        let resources = &container["resources"];
        resources["requests"].get(resource).or_else(|| resources["limits"].get(resource)).and_then(text_of)
    };
    let mib = |resource: &str| asked(resource).and_then(|q| quantity_bytes(&q)).map(|bytes| bytes.div_ceil(1 << 20));
    PodDemand {
        cpu_milli: asked("cpu").and_then(|q| quantity_milli(&q)).unwrap_or(UNASKED.cpu_milli),
        memory_mib: mib("memory").unwrap_or(UNASKED.memory_mib),
        disk_mib: mib("ephemeral-storage").unwrap_or(UNASKED.disk_mib),
    }
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A Kubernetes quantity in thousandths, rounded up: `1` is 1000, `250m` is 250. `None` if it is not a quantity.
pub fn quantity_milli(text: &str) -> Option<u64> {
    Quantity::parse(text)?.milli()
}

/// A Kubernetes quantity in whole units, rounded up: `1Ki` is 1024. `None` if it is not a quantity.
pub fn quantity_bytes(text: &str) -> Option<u64> {
    Quantity::parse(text)?.units()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn quantities() {
        for (text, milli) in [("1", 1000), ("250m", 250), ("0.5", 500), ("1.5", 1500), ("2e3", 2_000_000), ("1u", 1)] {
            assert_eq!(quantity_milli(text), Some(milli), "{text}");
        }
        assert_eq!(quantity_bytes("64Mi"), Some(64 << 20));
        for text in ["", "m", "1x", "-1", "1.2.3"] {
            assert_eq!(quantity_milli(text), None, "{text}");
        }
    }

    #[test]
    fn objects_take_what_they_need_to_be_kept() {
        let object = |resource: &str, meta: Value, data: usize, status: usize| KubeObject {
            cluster_id: "c".into(),
            project_id: "p".into(),
            group: String::new(),
            resource: resource.into(),
            namespace: String::new(),
            name: "a".into(),
            body: json!({"metadata": meta, "data": "x".repeat(data), "status": "x".repeat(status)}),
        };
        let kept = |object: &KubeObject| -> Vec<(String, u64)> {
            let uses = object.claims().into_iter().filter_map(|claim| match claim {
                Claim::Use { pool, amount } => Some((pool, amount)),
                _ => None,
            });
            uses.collect()
        };
        let taken = |objects, kib| {
            let taken = [("quota/p/kube_objects", objects), ("quota/p/kube_megabytes", kib)].into_iter();
            taken.filter(|(_, n)| *n > 0).map(|(pool, n)| (pool.to_owned(), n)).collect::<Vec<_>>()
        };
        let map = |meta: Value, data, status| kept(&object("configmaps", meta, data, status));
        assert_eq!(map(json!({}), 5000, 0), taken(1, 5));
        assert_eq!(map(json!({}), 0, FREE_STATUS), taken(1, 1), "a status is free");
        assert_eq!(map(json!({}), 0, FREE_STATUS + 4096), taken(1, 5), "but not any");

        let dying = || json!({"deletionTimestamp": "t", "finalizers": ["a.example.com/b"]});
        assert_eq!(map(dying(), 900 << 10, 0), taken(1, 900), "what is held is there, even when it is being deleted");
        for data in 0..3000 {
            let marked = json!({"deletionTimestamp": "2026-11-30T00:00:00Z", "deletionGracePeriodSeconds": 30, "generation": 10,
                    "finalizers": ["foregroundDeletion", "braid/cleanup"]});
            let (before, after) = (map(json!({}), data, 0), map(marked, data, 0));
            let more = after.iter().find(|(pool, n)| before.iter().all(|(of, was)| of != pool || was < n));
            assert_eq!(more, None, "a deletion takes more than there was: {data} bytes");
        }

        let event = |meta: Value, data| kept(&object("events", meta, data, 0));
        assert_eq!(event(json!({}), 3000), taken(0, 0), "events are as many as a cluster keeps");
        assert_eq!(event(json!({}), 900 << 10), taken(0, 897), "but not of any size");
        assert_eq!(event(json!({"finalizers": ["a.example.com/b"]}), 0), taken(1, 0), "nor held");
    }

    #[test]
    fn kinds_of_a_clusters_own_need_their_definition_and_claim_names() {
        let object = |group: &str, resource: &str, body: Value| KubeObject {
            cluster_id: "c".into(),
            project_id: "p".into(),
            group: group.into(),
            resource: resource.into(),
            namespace: String::new(),
            name: "a".into(),
            body,
        };
        let definition =
            KubeObject::key_of("c", "apiextensions.k8s.io", "customresourcedefinitions", "", "gs.example.com");
        assert!(object("example.com", "gs", json!({})).claims().contains(&Claim::Needs(definition)));
        assert_eq!(object("apps", "deployments", json!({})).definition(), None);
        let names = json!({"kind": "G", "listKind": "GList", "plural": "gs", "singular": "g", "shortNames": ["x"]});
        let body = json!({"spec": {"group": "example.com", "names": names}});
        let claims = object("apiextensions.k8s.io", "customresourcedefinitions", body).claims().into_iter();
        let taken: Vec<String> =
            claims.filter_map(|c| if let Claim::Unique(name) = c { Some(name) } else { None }).collect();
        let all = ["kind/c/example.com/G", "kind/c/example.com/GList", "resource/c/example.com/gs"];
        let all = all.into_iter().chain(["resource/c/example.com/g", "resource/c/example.com/x"]);
        assert_eq!(taken, all.map(|name| format!("kube-{name}")).collect::<Vec<_>>());
    }

    #[test]
    fn a_pod_takes_the_larger_of_sum_and_init() {
        let pod = json!({"spec": {
            "containers": [{"resources": {"requests": {"cpu": "200m"}}}, {}],
            "initContainers": [{"resources": {"limits": {"memory": "1Gi"}}}]
        }});
        assert_eq!(pod_demand(&pod), PodDemand { cpu_milli: 300, memory_mib: 1024, disk_mib: 0 });
        let request = |cpu: &str| json!({"requests": {"cpu": cpu, "memory": "1Mi", "ephemeral-storage": "1500k"}});
        let pod = json!({"spec": {
            "containers": [{"resources": request("1")}],
            "initContainers": [{"resources": request("2"), "restartPolicy": "Always"}, {"resources": request("3")}]
        }});
        assert_eq!(pod_demand(&pod), PodDemand { cpu_milli: 5000, memory_mib: 2, disk_mib: 4 });
    }
}
