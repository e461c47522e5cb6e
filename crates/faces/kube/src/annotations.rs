//! What the schemas of k8s-openapi leave out: how lists and maps merge. In Kubernetes these are markers on the Go types
//! (`+listType`, `+listMapKey`, `+mapType`, `patchStrategy`, `patchMergeKey`); strategic merge patch, server-side apply
//! and the OpenAPI documents all read them from here. A list that is not named is replaced as a whole.

/// How a list merges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListRule {
    /// `x-kubernetes-list-type`, for server-side apply.
    pub list: ListType,
    /// `x-kubernetes-list-map-keys`, of a list of type map.
    pub keys: &'static [&'static str],
    /// Strategic merge patch merges the list instead of replacing it.
    pub merge: bool,
    /// `x-kubernetes-patch-merge-key`; empty for lists of plain values.
    pub merge_key: &'static str,
    /// The patch strategy `retainKeys`, of the list's items.
    pub retain_keys: bool,
}

/// The topology of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    #[default]
    Atomic,
    Set,
    Map,
}

const fn map(keys: &'static [&'static str], merge_key: &'static str) -> ListRule {
    ListRule { list: ListType::Map, keys, merge: true, merge_key, retain_keys: false }
}
/// A list map for server-side apply that strategic merge replaces.
const fn map_only(keys: &'static [&'static str]) -> ListRule {
    ListRule { list: ListType::Map, keys, merge: false, merge_key: "", retain_keys: false }
}
const fn set(merge: bool) -> ListRule {
    ListRule { list: ListType::Set, keys: &[], merge, merge_key: "", retain_keys: false }
}
/// A list that server-side apply takes as a whole and strategic merge merges by a key.
const fn merge_only(merge_key: &'static str) -> ListRule {
    ListRule { list: ListType::Atomic, keys: &[], merge: true, merge_key, retain_keys: false }
}

const NAME: ListRule = map(&["name"], "name");
const CONDITIONS: ListRule = map(&["type"], "type");
const CONTAINER_PORTS: ListRule = map(&["containerPort", "protocol"], "containerPort");
const MOUNTS: ListRule = map(&["mountPath"], "mountPath");
const DEVICES: ListRule = map(&["devicePath"], "devicePath");

/// Lists that merge, by type and field.
const LISTS: &[(&str, &str, ListRule)] = &[
    ("Container", "env", NAME),
    ("Container", "ports", CONTAINER_PORTS),
    ("Container", "volumeDevices", DEVICES),
    ("Container", "volumeMounts", MOUNTS),
    ("ContainerStatus", "volumeMounts", MOUNTS),
    ("DeploymentStatus", "conditions", CONDITIONS),
    ("Endpoint", "addresses", set(false)),
    ("EphemeralContainer", "env", NAME),
    ("EphemeralContainer", "ports", CONTAINER_PORTS),
    ("EphemeralContainer", "volumeDevices", DEVICES),
    ("EphemeralContainer", "volumeMounts", MOUNTS),
    (
        "LoadBalancerStatus",
        "ingress",
        ListRule { list: ListType::Atomic, keys: &[], merge: false, merge_key: "", retain_keys: false },
    ),
    ("NamespaceStatus", "conditions", CONDITIONS),
    ("NodeSpec", "podCIDRs", set(true)),
    ("NodeStatus", "addresses", CONDITIONS),
    ("NodeStatus", "conditions", CONDITIONS),
    ("ObjectMeta", "finalizers", set(true)),
    ("ValidatingWebhook", "matchConditions", NAME),
    ("ValidatingWebhookConfiguration", "webhooks", NAME),
    ("CustomResourceDefinitionStatus", "conditions", map_only(&["type"])),
    ("JobStatus", "conditions", merge_only("type")),
    ("ObjectMeta", "ownerReferences", map(&["uid"], "uid")),
    ("PodFailurePolicyOnExitCodesRequirement", "values", set(false)),
    ("PodSpec", "containers", NAME),
    ("PodSpec", "ephemeralContainers", NAME),
    ("PodSpec", "hostAliases", map(&["ip"], "ip")),
    ("PodSpec", "imagePullSecrets", NAME),
    ("PodSpec", "initContainers", NAME),
    ("PodSpec", "resourceClaims", ListRule { retain_keys: true, ..NAME }),
    ("PodSpec", "schedulingGates", NAME),
    ("PodSpec", "topologySpreadConstraints", map(&["topologyKey", "whenUnsatisfiable"], "topologyKey")),
    ("PodSpec", "volumes", ListRule { retain_keys: true, ..NAME }),
    ("PodStatus", "conditions", CONDITIONS),
    ("PodStatus", "hostIPs", merge_only("ip")),
    ("PodStatus", "podIPs", map(&["ip"], "ip")),
    ("PodStatus", "resourceClaimStatuses", ListRule { retain_keys: true, ..NAME }),
    ("ReplicaSetStatus", "conditions", CONDITIONS),
    ("ResourceRequirements", "claims", map_only(&["name"])),
    ("ServiceAccount", "secrets", NAME),
    ("ServiceSpec", "ports", map(&["port", "protocol"], "port")),
    ("ServiceStatus", "conditions", CONDITIONS),
    ("UncountedTerminatedPods", "failed", set(false)),
    ("UncountedTerminatedPods", "succeeded", set(false)),
];

/// Structs that are owned and replaced as a whole.
const ATOMIC_STRUCTS: &[&str] = &[
    "ConfigMapKeySelector",
    "EndpointPort",
    "FileKeySelector",
    "LabelSelector",
    "LocalObjectReference",
    "NodeSelector",
    "NodeSelectorTerm",
    "ObjectFieldSelector",
    "ObjectReference",
    "ResourceFieldSelector",
    "RoleRef",
    "SecretKeySelector",
    "SecretReference",
    "Subject",
    "TypedLocalObjectReference",
    "TypedObjectReference",
    "OwnerReference",
];

/// Maps that are owned and replaced as a whole, by type and field.
const ATOMIC_MAPS: &[(&str, &str)] =
    &[("PodSpec", "nodeSelector"), ("ServiceSpec", "selector"), ("Overhead", "podFixed")];

/// Structs of which strategic merge patch keeps only the keys that `$retainKeys` names.
const RETAIN_KEYS: &[(&str, &str)] = &[("DeploymentSpec", "strategy"), ("DaemonSetSpec", "updateStrategy")];

/// How the list in this field merges.
pub fn list(owner: &str, field: &str) -> ListRule {
    LISTS.iter().find(|(o, f, _)| *o == owner && *f == field).map(|(_, _, rule)| *rule).unwrap_or_default()
}

/// Whether a struct is one value to server-side apply.
pub fn atomic_struct(name: &str) -> bool {
    ATOMIC_STRUCTS.contains(&name)
}

/// Whether the map in this field is one value to server-side apply.
pub fn atomic_map(owner: &str, field: &str) -> bool {
    ATOMIC_MAPS.contains(&(owner, field))
}

/// Whether the patch strategy of this field is `retainKeys`.
pub fn retain_keys(owner: &str, field: &str) -> bool {
    RETAIN_KEYS.contains(&(owner, field)) || list(owner, field).retain_keys
}

/// Defaults of list map keys that a client may leave out.
pub fn key_default(key: &str) -> Option<&'static str> {
    (key == "protocol").then_some("TCP")
}
