//! Every field of what users of pods, services and workloads write, and what becomes of it: done, refused in words, refused
//! by pod security, or without effect and why that does no harm. The table refuses, a test holds it against the schema, so
//! that no field is ever ignored by accident, and `docs/kubernetes.md` shows it.

use serde_json::Value;

use crate::types::{Shape, Type, TypeId, Types};
use crate::validate::Errors;

/// The fields of one struct of the API.
#[cfg_attr(not(test), allow(dead_code, reason = "tests hold the whole table against the schema and the page"))]
pub struct Fields {
    /// The last part of its definition's name.
    pub of: &'static str,
    /// Acted on; separated by spaces.
    pub done: &'static str,
    /// Refused with 403 by pod security where they reach beyond the pod.
    pub policed: &'static str,
    /// Accepted without effect: the field, and why nobody is harmed.
    pub idle: &'static [(&'static str, &'static str)],
    /// Refused, unless the value is one of those (as JSON) which ask for nothing: the field, these values, the words.
    pub refused: &'static [(&'static str, &'static [&'static str], &'static str)],
}

const fn done(of: &'static str, done: &'static str) -> Fields {
    Fields { of, done, policed: "", idle: &[], refused: &[] }
}

const NO_VOLUME: &str =
    "this kind of volume is not offered: emptyDir, configMap, secret, downwardAPI and projected are";
const NO_SELINUX: &str = "hosts have no SELinux: as on any node without it";
const NO_WINDOWS: &str = "hosts run Linux";
const NO_DRA: &str = "there are no devices to claim";
const NO_INDEX: &str = "Jobs with indexes are not offered";
const NO_LOCAL: &str = "only the runtime's own profile is offered";

/// The fields of containers of every sort.
const CONTAINER: Fields = Fields {
    of: "Container",
    done: "args command env envFrom image imagePullPolicy lifecycle livenessProbe name readinessProbe resources restartPolicy securityContext startupProbe stdin stdinOnce terminationMessagePath terminationMessagePolicy tty volumeMounts workingDir",
    policed: "ports",
    idle: &[("resizePolicy", "containers are not resized while they run; there is nothing that asks for it")],
    refused: &[
        ("restartPolicyRules", &[], "rules for single exit codes are not offered"),
        ("volumeDevices", &[], "block devices are not offered"),
    ],
};

/// Struct by struct, in the order in which people meet them.
pub const TABLE: &[Fields] = &[
    Fields {
        of: "PodSpec",
        done: "activeDeadlineSeconds affinity automountServiceAccountToken containers dnsConfig dnsPolicy enableServiceLinks hostAliases hostname imagePullSecrets initContainers nodeName nodeSelector os priority priorityClassName readinessGates restartPolicy schedulerName schedulingGates securityContext serviceAccount serviceAccountName setHostnameAsFQDN shareProcessNamespace subdomain terminationGracePeriodSeconds tolerations topologySpreadConstraints volumes",
        policed: "hostIPC hostNetwork hostPID",
        idle: &[("preemptionPolicy", "nothing is preempted; the more important pod is placed first")],
        refused: &[
            ("ephemeralContainers", &[], "ephemeral containers are not offered"),
            ("hostUsers", &["true"], "user namespaces are not offered"),
            ("hostnameOverride", &[], "not offered: use `hostname`"),
            ("overhead", &[], "there are no runtime classes"),
            ("resourceClaims", &[], NO_DRA),
            ("resources", &[], "resources of a whole pod are not offered: give them to its containers"),
            ("runtimeClassName", &[], "there are no runtime classes"),
            ("workloadRef", &[], "there are no workloads to belong to"),
        ],
    },
    CONTAINER,
    Fields {
        of: "ContainerPort",
        done: "containerPort name protocol",
        policed: "hostPort",
        idle: &[("hostIP", "means nothing without `hostPort`, which pod security refuses")],
        refused: &[],
    },
    Fields {
        of: "ResourceRequirements",
        done: "limits requests",
        policed: "",
        idle: &[],
        refused: &[("claims", &[], NO_DRA)],
    },
    done("EnvVar", "name value valueFrom"),
    Fields {
        of: "EnvVarSource",
        done: "configMapKeyRef fieldRef resourceFieldRef secretKeyRef",
        policed: "",
        idle: &[],
        refused: &[("fileKeyRef", &[], "variables from files are not offered")],
    },
    done("EnvFromSource", "configMapRef prefix secretRef"),
    done("ConfigMapEnvSource", "name optional"),
    done("SecretEnvSource", "name optional"),
    done("ConfigMapKeySelector", "key name optional"),
    done("SecretKeySelector", "key name optional"),
    Fields {
        of: "ObjectFieldSelector",
        done: "fieldPath",
        policed: "",
        idle: &[("apiVersion", "there is one version of pods")],
        refused: &[],
    },
    done("ResourceFieldSelector", "containerName divisor resource"),
    Fields {
        of: "Lifecycle",
        done: "postStart preStop",
        policed: "",
        idle: &[],
        refused: &[("stopSignal", &[], "containers are ended by the signal that their image names, or TERM")],
    },
    Fields {
        of: "LifecycleHandler",
        done: "exec httpGet sleep",
        policed: "",
        idle: &[],
        refused: &[("tcpSocket", &[], "never did anything in a hook, in Kubernetes either")],
    },
    done(
        "Probe",
        "exec failureThreshold grpc httpGet initialDelaySeconds periodSeconds successThreshold tcpSocket terminationGracePeriodSeconds timeoutSeconds",
    ),
    done("ExecAction", "command"),
    Fields { of: "HTTPGetAction", done: "httpHeaders path port scheme", policed: "host", idle: &[], refused: &[] },
    done("HTTPHeader", "name value"),
    done("GRPCAction", "port service"),
    done("SleepAction", "seconds"),
    Fields { of: "TCPSocketAction", done: "port", policed: "host", idle: &[], refused: &[] },
    Fields {
        of: "VolumeMount",
        done: "mountPath name readOnly subPath subPathExpr",
        policed: "",
        idle: &[],
        refused: &[
            ("mountPropagation", &["\"None\""], "mounts are not shared with the host"),
            ("recursiveReadOnly", &["\"Disabled\""], "there is nothing mounted below a volume"),
        ],
    },
    Fields {
        of: "SecurityContext",
        done: "allowPrivilegeEscalation readOnlyRootFilesystem runAsGroup runAsNonRoot runAsUser",
        policed: "appArmorProfile capabilities privileged procMount seccompProfile",
        idle: &[("seLinuxOptions", NO_SELINUX)],
        refused: &[("windowsOptions", &[], NO_WINDOWS)],
    },
    Fields { of: "Capabilities", done: "drop", policed: "add", idle: &[], refused: &[] },
    Fields {
        of: "AppArmorProfile",
        done: "",
        policed: "type",
        idle: &[],
        refused: &[("localhostProfile", &[], NO_LOCAL)],
    },
    Fields {
        of: "SeccompProfile",
        done: "",
        policed: "type",
        idle: &[],
        refused: &[("localhostProfile", &[], NO_LOCAL)],
    },
    Fields {
        of: "PodSecurityContext",
        done: "fsGroup runAsGroup runAsNonRoot runAsUser supplementalGroups",
        policed: "appArmorProfile seccompProfile sysctls",
        idle: &[
            ("fsGroupChangePolicy", "volumes are new with each pod: there is nothing to change twice"),
            ("seLinuxChangePolicy", NO_SELINUX),
            ("seLinuxOptions", NO_SELINUX),
        ],
        refused: &[
            ("supplementalGroupsPolicy", &["\"Merge\""], "groups of the image are always added"),
            ("windowsOptions", &[], NO_WINDOWS),
        ],
    },
    done("Sysctl", "name value"),
    done("PodOS", "name"),
    done("PodDNSConfig", "nameservers options searches"),
    done("PodDNSConfigOption", "name value"),
    done("HostAlias", "hostnames ip"),
    done("LocalObjectReference", "name"),
    done("PodReadinessGate", "conditionType"),
    done("PodSchedulingGate", "name"),
    Fields {
        of: "Toleration",
        done: "effect key operator value",
        policed: "",
        idle: &[("tolerationSeconds", "a taint keeps pods away; none is driven out by it")],
        refused: &[],
    },
    done("Affinity", "nodeAffinity podAffinity podAntiAffinity"),
    done(
        "NodeAffinity",
        "preferredDuringSchedulingIgnoredDuringExecution requiredDuringSchedulingIgnoredDuringExecution",
    ),
    done("NodeSelector", "nodeSelectorTerms"),
    done("NodeSelectorTerm", "matchExpressions matchFields"),
    done("NodeSelectorRequirement", "key operator values"),
    done("PreferredSchedulingTerm", "preference weight"),
    done(
        "PodAffinity",
        "preferredDuringSchedulingIgnoredDuringExecution requiredDuringSchedulingIgnoredDuringExecution",
    ),
    done(
        "PodAntiAffinity",
        "preferredDuringSchedulingIgnoredDuringExecution requiredDuringSchedulingIgnoredDuringExecution",
    ),
    done("WeightedPodAffinityTerm", "podAffinityTerm weight"),
    done("PodAffinityTerm", "labelSelector matchLabelKeys mismatchLabelKeys namespaceSelector namespaces topologyKey"),
    done(
        "TopologySpreadConstraint",
        "labelSelector matchLabelKeys maxSkew minDomains nodeAffinityPolicy nodeTaintsPolicy topologyKey whenUnsatisfiable",
    ),
    Fields {
        of: "Volume",
        done: "configMap downwardAPI emptyDir name projected secret",
        policed: "hostPath",
        idle: &[],
        refused: &[
            ("awsElasticBlockStore", &[], NO_VOLUME),
            ("azureDisk", &[], NO_VOLUME),
            ("azureFile", &[], NO_VOLUME),
            ("cephfs", &[], NO_VOLUME),
            ("cinder", &[], NO_VOLUME),
            ("csi", &[], NO_VOLUME),
            ("ephemeral", &[], NO_VOLUME),
            ("fc", &[], NO_VOLUME),
            ("flexVolume", &[], NO_VOLUME),
            ("flocker", &[], NO_VOLUME),
            ("gcePersistentDisk", &[], NO_VOLUME),
            ("gitRepo", &[], NO_VOLUME),
            ("glusterfs", &[], NO_VOLUME),
            ("image", &[], NO_VOLUME),
            ("iscsi", &[], NO_VOLUME),
            ("nfs", &[], NO_VOLUME),
            ("persistentVolumeClaim", &[], NO_VOLUME),
            ("photonPersistentDisk", &[], NO_VOLUME),
            ("portworxVolume", &[], NO_VOLUME),
            ("quobyte", &[], NO_VOLUME),
            ("rbd", &[], NO_VOLUME),
            ("scaleIO", &[], NO_VOLUME),
            ("storageos", &[], NO_VOLUME),
            ("vsphereVolume", &[], NO_VOLUME),
        ],
    },
    Fields { of: "HostPathVolumeSource", done: "", policed: "path type", idle: &[], refused: &[] },
    done("EmptyDirVolumeSource", "medium sizeLimit"),
    done("ConfigMapVolumeSource", "defaultMode items name optional"),
    done("SecretVolumeSource", "defaultMode items optional secretName"),
    done("DownwardAPIVolumeSource", "defaultMode items"),
    done("DownwardAPIVolumeFile", "fieldRef mode path resourceFieldRef"),
    done("KeyToPath", "key mode path"),
    done("ProjectedVolumeSource", "defaultMode sources"),
    Fields {
        of: "VolumeProjection",
        done: "configMap downwardAPI secret serviceAccountToken",
        policed: "",
        idle: &[],
        refused: &[
            ("clusterTrustBundle", &[], "there are no bundles of certificates"),
            ("podCertificate", &[], "certificates for pods are not offered"),
        ],
    },
    done("ConfigMapProjection", "items name optional"),
    done("SecretProjection", "items name optional"),
    done("DownwardAPIProjection", "items"),
    Fields {
        of: "ServiceAccountTokenProjection",
        done: "expirationSeconds path",
        policed: "",
        idle: &[],
        refused: &[("audience", &[], "tokens are for this cluster's API alone")],
    },
    Fields {
        of: "ServiceSpec",
        done: "clusterIP clusterIPs externalName ipFamilies internalTrafficPolicy ports publishNotReadyAddresses selector sessionAffinity sessionAffinityConfig type",
        policed: "",
        idle: &[
            ("allocateLoadBalancerNodePorts", "hosts' ports are nobody's: none is ever allocated"),
            ("externalTrafficPolicy", "no load balancer is offered yet: nothing comes from outside"),
            ("ipFamilyPolicy", "a cluster has one family; RequireDualStack is refused"),
            ("trafficDistribution", "a preference; all endpoints are near"),
        ],
        refused: &[
            ("externalIPs", &[], "other people's addresses cannot be taken: use a floating IP"),
            ("healthCheckNodePort", &["0"], "hosts' ports are not offered"),
            ("loadBalancerClass", &[], "no load balancer is offered yet"),
            ("loadBalancerIP", &["\"\""], "no load balancer is offered yet"),
            ("loadBalancerSourceRanges", &[], "no load balancer is offered yet"),
        ],
    },
    Fields {
        of: "ServicePort",
        done: "appProtocol name port protocol targetPort",
        policed: "",
        idle: &[],
        refused: &[(
            "nodePort",
            &["0"],
            "hosts are shared by clusters: their ports are not offered; the type NodePort is taken without one",
        )],
    },
    done("SessionAffinityConfig", "clientIP"),
    Fields {
        of: "ClientIPConfig",
        done: "",
        policed: "",
        idle: &[("timeoutSeconds", "a client keeps its endpoint for as long as the endpoints stay the same")],
        refused: &[],
    },
    done(
        "DeploymentSpec",
        "minReadySeconds paused progressDeadlineSeconds replicas revisionHistoryLimit selector strategy template",
    ),
    done("DeploymentStrategy", "rollingUpdate type"),
    done("RollingUpdateDeployment", "maxSurge maxUnavailable"),
    done("ReplicaSetSpec", "minReadySeconds replicas selector template"),
    Fields {
        of: "JobSpec",
        done: "activeDeadlineSeconds backoffLimit completions manualSelector parallelism selector suspend template ttlSecondsAfterFinished",
        policed: "",
        idle: &[],
        refused: &[
            ("backoffLimitPerIndex", &[], NO_INDEX),
            ("completionMode", &["\"NonIndexed\""], NO_INDEX),
            ("managedBy", &["\"kubernetes.io/job-controller\""], "there is no other controller for Jobs"),
            ("maxFailedIndexes", &[], NO_INDEX),
            ("podFailurePolicy", &[], "policies for single failures are not offered"),
            ("podReplacementPolicy", &["\"TerminatingOrFailed\""], "a pod that is being deleted is replaced at once"),
            ("successPolicy", &[], NO_INDEX),
        ],
    },
    done("PodTemplateSpec", "metadata spec"),
    done("LabelSelector", "matchExpressions matchLabels"),
    done("LabelSelectorRequirement", "key operator values"),
];

/// Kinds that have no specification in the table, and why no field of theirs is ignored.
#[cfg(test)]
const NOT_LISTED: &[(&str, &str)] = &[
    ("ClusterRole", "who may what: every field is read by each check"),
    ("ClusterRoleBinding", "as ClusterRole"),
    ("ConfigMap", "data"),
    ("CustomResourceDefinition", "its strategy refuses what is not done, keyword by keyword"),
    ("EndpointSlice", "written by a controller; its fields are for those who read it"),
    ("Event", "said, not acted on"),
    ("Lease", "acted on by those who hold it"),
    ("LocalSubjectAccessReview", "a question"),
    ("Namespace", "its specification is the server's"),
    ("Node", "hosts write it, of users' fields taints and `unschedulable` are acted on"),
    ("Role", "as ClusterRole"),
    ("RoleBinding", "as ClusterRole"),
    ("Secret", "data"),
    ("SelfSubjectAccessReview", "a question"),
    ("SelfSubjectReview", "a question"),
    ("SelfSubjectRulesReview", "a question"),
    ("ServiceAccount", "its tokens, pull secrets and mounts are acted on"),
    ("SubjectAccessReview", "a question"),
    ("TokenReview", "a question"),
    ("ValidatingWebhookConfiguration", "its strategy refuses what is not done"),
];

fn row(of: &str) -> Option<&'static Fields> {
    TABLE.iter().find(|fields| fields.of == of)
}

/// Refuses what the table refuses in the specification of an object.
pub fn check(shape: &Shape, object: &Value, errors: &mut Errors) {
    if let Type::Struct(structure) = shape.types.get(shape.root)
        && let Some(spec) = structure.fields.get("spec")
    {
        walk(&shape.types, *spec, &object["spec"], "spec", errors);
    }
}

fn walk(types: &Types, id: TypeId, value: &Value, at: &str, errors: &mut Errors) {
    match types.get(id) {
        Type::Struct(structure) => {
            let Some(row) = row(structure.name()) else { return };
            for (name, value) in value.as_object().into_iter().flatten() {
                let at = format!("{at}.{name}");
                match row.refused.iter().find(|(field, ..)| field == name) {
                    Some((_, harmless, why)) => refuse(value, harmless, why, &at, errors),
                    None => {
                        if let Some(field) = structure.fields.get(name.as_str()) {
                            walk(types, *field, value, &at, errors);
                        }
                    }
                }
            }
        }
        Type::List { item, .. } => {
            for (i, value) in value.as_array().into_iter().flatten().enumerate() {
                walk(types, *item, value, &format!("{at}[{i}]"), errors);
            }
        }
        _ => {}
    }
}

fn refuse(value: &Value, harmless: &[&str], why: &str, at: &str, errors: &mut Errors) {
    let empty = match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    if !empty && !harmless.contains(&value.to_string().as_str()) {
        errors.forbidden(at, why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::types;
    use std::collections::BTreeSet;

    /// The specification of each kind that is in the table.
    fn roots() -> Vec<TypeId> {
        let mut roots = Vec::new();
        for kind in crate::registry::built_in() {
            let Type::Struct(whole) = types().get(kind.shape.root) else { panic!("{kind:?} is no struct") };
            let spec = whole.fields.get("spec").copied();
            let listed = spec.filter(|id| matches!(types().get(*id), Type::Struct(s) if row(s.name()).is_some()));
            let excused = NOT_LISTED.iter().any(|(name, _)| *name == kind.kind);
            assert_ne!(listed.is_some(), excused, "{}: a row in TABLE, or a reason in NOT_LISTED", kind.kind);
            roots.extend(listed);
        }
        roots
    }

    fn gather(id: TypeId, missing: &mut BTreeSet<String>, seen: &mut BTreeSet<String>) {
        match types().get(id) {
            Type::Struct(structure) => {
                let of = structure.name().to_owned();
                // Metadata has rules of its own.
                if of == "ObjectMeta" || !seen.insert(of.clone()) {
                    return;
                }
                let Some(row) = row(&of) else {
                    missing.insert(format!("{of} (with {:?})", structure.fields.keys().collect::<Vec<_>>()));
                    return;
                };
                let mut listed: Vec<&str> = row.done.split_whitespace().chain(row.policed.split_whitespace()).collect();
                let acted = listed.clone();
                listed.extend(row.idle.iter().map(|(field, _)| *field));
                listed.extend(row.refused.iter().map(|(field, ..)| *field));
                let unique: BTreeSet<&str> = listed.iter().copied().collect();
                assert_eq!(unique.len(), listed.len(), "{of} lists a field twice");
                for (field, id) in &structure.fields {
                    if !unique.contains(&**field) {
                        missing.insert(format!("{of}.{field}"));
                    }
                    if acted.contains(&&**field) {
                        gather(*id, missing, seen);
                    }
                }
                for field in unique {
                    assert!(structure.fields.contains_key(field), "{of} has no field {field}");
                }
            }
            Type::List { item, .. } => gather(*item, missing, seen),
            Type::Map { value, .. } => gather(*value, missing, seen),
            _ => {}
        }
    }

    #[test]
    fn no_field_is_forgotten() {
        let (mut missing, mut seen) = (BTreeSet::new(), BTreeSet::new());
        for root in roots() {
            gather(root, &mut missing, &mut seen);
        }
        assert!(missing.is_empty(), "not in the table: {missing:#?}");
        let listed: BTreeSet<&str> = TABLE.iter().map(|row| row.of).collect();
        for row in listed {
            assert!(seen.contains(row), "{row} is in the table and nowhere else");
        }
    }

    fn page() -> String {
        let mut out = String::new();
        for row in TABLE {
            out.push_str(&format!("\n### {}\n\n| field | |\n| --- | --- |\n", row.of));
            for field in row.done.split_whitespace() {
                out.push_str(&format!("| `{field}` | done |\n"));
            }
            for field in row.policed.split_whitespace() {
                out.push_str(&format!("| `{field}` | within pod security, level baseline; else 403 |\n"));
            }
            for (field, why) in row.idle {
                out.push_str(&format!("| `{field}` | no effect: {why} |\n"));
            }
            for (field, harmless, why) in row.refused {
                let but = match harmless {
                    [] => String::new(),
                    values => format!(" (but for `{}`)", values.join("`, `")),
                };
                out.push_str(&format!("| `{field}` | refused{but}: {why} |\n"));
            }
        }
        out
    }

    /// `BLESS=1 cargo test -p face-kube the_page` writes it anew.
    #[test]
    fn the_page_shows_the_table() {
        const MARK: &str = "<!-- The rest is made from crates/faces/kube/src/kinds/fields.rs -->\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/kubernetes.md");
        let text = std::fs::read_to_string(path).expect("docs/kubernetes.md");
        let (head, rest) = text.split_once(MARK).expect("the mark after which the table stands");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(path, format!("{head}{MARK}{}", page())).expect("written");
        } else {
            assert!(rest == page(), "docs/kubernetes.md differs from the table: run this test with BLESS=1");
        }
    }
}
