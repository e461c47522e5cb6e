//! Services. The cluster address is chosen here, the lowest that is free; the claim on it decides in the commit.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use k8s_openapi::api::core;
use model::{Cluster, KubeObject, Realm, Snapshot};
use serde_json::{Value, json};

use crate::denied::Denied;
use crate::kind::{ApiResource, Given::View, Treatment, done};
use crate::strategy::{
    Column, Context, Result, Strategy, age_column, column, default, items, items_mut, name_column, object, pairs, size,
    wide,
};
use crate::validate::{self, Errors, NameRule, name_problem};

const FIELDS: &[Treatment] = &[
    Treatment {
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
    Treatment {
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
    Treatment {
        of: "ClientIPConfig",
        done: "",
        policed: "",
        idle: &[("timeoutSeconds", "a client keeps its endpoint for as long as the endpoints stay the same")],
        refused: &[],
    },
];

pub fn kind() -> ApiResource {
    ApiResource::of::<core::v1::Service>(Service).short("svc").all().status().given(View).fields(FIELDS)
}

pub struct Service;

impl Strategy for Service {
    fn name_rule(&self) -> NameRule {
        NameRule::Service
    }

    fn default(&self, service: &mut Value) {
        let spec = object(service, "spec");
        default(spec, "type", "ClusterIP");
        default(spec, "sessionAffinity", "None");
        if spec["sessionAffinity"] == "ClientIP" {
            let timeout = object(object(spec, "sessionAffinityConfig"), "clientIP");
            default(timeout, "timeoutSeconds", 10800);
        }
        for port in items_mut(spec, "ports") {
            default(port, "protocol", "TCP");
            let target = &port["targetPort"];
            if target.is_null() || *target == 0 || *target == "" {
                port["targetPort"] = port["port"].clone();
            }
        }
        let kind = spec["type"].as_str().unwrap_or("").to_owned();
        if kind != "ExternalName" {
            default(spec, "internalTrafficPolicy", "Cluster");
        }
        if matches!(kind.as_str(), "LoadBalancer" | "NodePort") {
            default(spec, "externalTrafficPolicy", "Cluster");
        }
        if kind == "LoadBalancer" {
            // Hosts are shared by clusters: their ports are nobody's.
            default(spec, "allocateLoadBalancerNodePorts", false);
        }
    }

    fn create(&self, service: &mut Value, context: &Context<'_>) -> Result<()> {
        service["status"] = json!({"loadBalancer": {}});
        addresses(service, context)
    }

    fn update(&self, new: &mut Value, old: &Value, context: &Context<'_>) -> Result<()> {
        const OF_ADDRESSES: [&str; 4] = ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"];
        let (named, was_named) = (is_name(new), is_name(old));
        for field in OF_ADDRESSES {
            let same = new["spec"][field] == old["spec"][field];
            let unsaid = new["spec"][field].is_null() && !old["spec"][field].is_null();
            match new["spec"].as_object_mut() {
                // What was given to a service that had an address goes with it.
                Some(spec) if named && same => drop(spec.remove(field)),
                Some(spec) if !named && unsaid => drop(spec.insert(field.to_owned(), old["spec"][field].clone())),
                _ => {}
            }
        }
        if was_named && !named { addresses(new, context) } else { Ok(()) }
    }

    fn validate(&self, service: &Value, errors: &mut Errors) {
        let spec = &service["spec"];
        errors.one_of("spec.type", &spec["type"], &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
        if let Some(kind @ ("LoadBalancer" | "NodePort")) = spec["type"].as_str()
            && spec["clusterIP"] == "None"
        {
            let why = format!("may not be set to 'None' for {kind} services");
            errors.invalid("spec.clusterIPs[0]", &spec["clusterIP"], &why);
        }
        errors.one_of("spec.ipFamilyPolicy", &spec["ipFamilyPolicy"], &["PreferDualStack", "SingleStack"]);
        errors.one_of("spec.sessionAffinity", &spec["sessionAffinity"], &["ClientIP", "None"]);
        errors.one_of("spec.internalTrafficPolicy", &spec["internalTrafficPolicy"], &["Cluster"]);
        validate::labels(&spec["selector"], "spec.selector", errors);
        if is_name(service) {
            name_elsewhere(spec, errors);
        } else if size(&spec["ports"]) == 0 && spec["clusterIP"] != "None" {
            errors.required("spec.ports", "");
        }
        ports(spec, errors);
    }

    fn warnings(&self, service: &Value) -> Vec<String> {
        let words = match service["spec"]["type"].as_str() {
            Some("LoadBalancer") => {
                "no load balancer is offered yet: the service answers at its cluster IP, its external IP stays pending"
            }
            // Hosts are shared by clusters: their ports are nobody's.
            Some("NodePort") => "no ports of the hosts are offered: the service answers at its cluster IP",
            _ => return Vec::new(),
        };
        vec![words.to_owned()]
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let (new, old) = (&new["spec"], &old["spec"]);
        if new["type"] != "ExternalName" && old["type"] != "ExternalName" && new["clusterIPs"] != old["clusterIPs"] {
            errors.invalid("spec.clusterIPs[0]", &new["clusterIPs"], "may not change once set");
        }
        if new["type"] != "ExternalName" && old["type"] != "ExternalName" && new["clusterIP"] != old["clusterIP"] {
            errors.invalid("spec.clusterIP", &new["clusterIP"], "field is immutable");
        }
    }

    fn selectable(&self) -> Vec<&str> {
        vec!["spec.clusterIP", "spec.type"]
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name_column(),
            column("Type", |service, _| service["spec"]["type"].clone()),
            column("Cluster-IP", |service, _| {
                service["spec"]["clusterIP"].as_str().filter(|a| !a.is_empty()).unwrap_or("<none>").into()
            }),
            column("External-IP", |service, _| external(service).into()),
            column("Port(s)", |service, _| port_list(&service["spec"]).into()),
            age_column(),
            wide("Selector", |service, _| pairs(&service["spec"]["selector"]).into()),
        ]
    }
}

/// Whether it is a name for something elsewhere.
fn is_name(service: &Value) -> bool {
    service["spec"]["type"] == "ExternalName"
}

/// Gives a service its address, if it is to have one.
fn addresses(service: &mut Value, context: &Context<'_>) -> Result<()> {
    if is_name(service) {
        return Ok(());
    }
    let taken = taken(context.snapshot, context.cluster);
    let spec = &mut service["spec"];
    let family = if context.cluster.service_base.is_ipv4() { "IPv4" } else { "IPv6" };
    default(spec, "ipFamilies", json!([family]));
    default(spec, "ipFamilyPolicy", "SingleStack");
    let asked = spec["clusterIP"].as_str().or(spec["clusterIPs"][0].as_str()).unwrap_or("").to_owned();
    let address = match asked.as_str() {
        "None" => "None".to_owned(),
        "" => free(context.cluster, &taken)
            .ok_or_else(|| Denied::Exhausted("failed to allocate a serviceIP: range is full".to_owned()))?,
        asked => {
            let invalid = |detail: &str| {
                let mut errors = Errors::default();
                errors.invalid("spec.clusterIPs", &json!([asked]), detail);
                Denied::Invalid(errors.into_causes())
            };
            let Ok(ip) = asked.parse::<IpAddr>() else {
                return Err(invalid("must be empty, 'None', or a valid IP address"));
            };
            if !within(context.cluster, ip) {
                return Err(invalid("failed to allocate IP: the provided IP is not in the valid range"));
            }
            if taken.contains(&ip) {
                return Err(invalid("failed to allocate IP: provided IP is already allocated"));
            }
            ip.to_string()
        }
    };
    let spec = &mut service["spec"];
    spec["clusterIP"] = address.as_str().into();
    spec["clusterIPs"] = json!([address]);
    Ok(())
}

/// The rules of a service that is a name for something elsewhere.
fn name_elsewhere(spec: &Value, errors: &mut Errors) {
    let name = &spec["externalName"];
    match name.as_str().map(|text| text.strip_suffix('.').unwrap_or(text)) {
        None | Some("") => errors.required("spec.externalName", ""),
        Some(text) => {
            if let Some(problem) = name_problem(NameRule::Subdomain, text) {
                errors.invalid("spec.externalName", name, problem);
            }
        }
    }
    if size(&spec["clusterIPs"]) > 0 || spec["clusterIP"].as_str().is_some_and(|ip| !ip.is_empty()) {
        errors.forbidden("spec.clusterIPs", "may not be set for ExternalName services");
    }
}

fn ports(spec: &Value, errors: &mut Errors) {
    let many = size(&spec["ports"]) > 1;
    let (mut names, mut pairs) = (HashSet::new(), HashSet::new());
    for (i, port) in items(spec, "ports").enumerate() {
        let at = format!("spec.ports[{i}]");
        match port["name"].as_str() {
            None | Some("") if many => errors.required(format!("{at}.name"), ""),
            None | Some("") => {}
            Some(text) => {
                if let Some(problem) = name_problem(NameRule::Label, text) {
                    errors.invalid(format!("{at}.name"), &port["name"], problem);
                }
                if !names.insert(text) {
                    errors.duplicate(format!("{at}.name"), &port["name"]);
                }
            }
        }
        errors.one_of(format!("{at}.protocol"), &port["protocol"], &["SCTP", "TCP", "UDP"]);
        errors.port(format!("{at}.port"), &port["port"]);
        errors.port(format!("{at}.targetPort"), &port["targetPort"]);
        if !pairs.insert((port["port"].as_i64(), port["protocol"].as_str())) {
            errors.duplicate(at, port);
        }
    }
}

/// The addresses in use by the services of the cluster.
fn taken(snapshot: &Snapshot, cluster: &Cluster) -> HashSet<IpAddr> {
    let realm = Realm::cluster(&cluster.id);
    let prefix = KubeObject::prefix("", "services", "");
    snapshot
        .names::<KubeObject>(&realm, &prefix, None)
        .flat_map(|s| items(&s.value.body["spec"], "clusterIPs"))
        .filter_map(|ip| ip.as_str()?.parse().ok())
        .collect()
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

/// The first and last address of the range that a service may have: neither the network's, nor the broadcast's.
fn range(cluster: &Cluster) -> (u128, u128) {
    let bits: u32 = if cluster.service_base.is_ipv4() { 32 } else { 128 };
    let host_bits = bits.saturating_sub(u32::from(cluster.service_prefix)).min(127);
    let size = 1u128 << host_bits;
    let base = number(cluster.service_base) & !(size - 1);
    (base + 1, (base + size).saturating_sub(2).max(base + 1))
}

fn within(cluster: &Cluster, ip: IpAddr) -> bool {
    let (first, last) = range(cluster);
    ip.is_ipv4() == cluster.service_base.is_ipv4() && (first..=last).contains(&number(ip))
}

/// The lowest free address of the cluster's services. The first is that of the API itself.
fn free(cluster: &Cluster, taken: &HashSet<IpAddr>) -> Option<String> {
    let (first, last) = range(cluster);
    // One of the first n + 1 addresses is free when n are taken.
    let end = last.min(first.saturating_add(taken.len() as u128 + 1));
    (first..=end).map(|n| address(cluster, n)).find(|ip| !taken.contains(ip)).map(|ip| ip.to_string())
}

fn address(cluster: &Cluster, number: u128) -> IpAddr {
    if cluster.service_base.is_ipv4() {
        IpAddr::V4(Ipv4Addr::from(number as u32))
    } else {
        IpAddr::V6(Ipv6Addr::from(number))
    }
}

/// The first address of a cluster's services: that of the service `kubernetes`.
pub fn first_address(cluster: &Cluster) -> String {
    address(cluster, range(cluster).0).to_string()
}

fn external(service: &Value) -> String {
    let spec = &service["spec"];
    let mut all: Vec<&str> = items(spec, "externalIPs").filter_map(Value::as_str).collect();
    match spec["type"].as_str() {
        Some("ExternalName") => return spec["externalName"].as_str().unwrap_or("").to_owned(),
        Some("LoadBalancer") => {
            let ingress = items(&service["status"]["loadBalancer"], "ingress");
            all.extend(ingress.filter_map(|i| i["ip"].as_str().or(i["hostname"].as_str())));
            if all.is_empty() {
                return "<pending>".to_owned();
            }
        }
        _ => {}
    }
    if all.is_empty() { "<none>".to_owned() } else { all.join(",") }
}

fn port_list(spec: &Value) -> String {
    let all: Vec<String> = items(spec, "ports")
        .map(|port| {
            let (number, protocol) = (port["port"].as_i64().unwrap_or(0), port["protocol"].as_str().unwrap_or("TCP"));
            match port["nodePort"].as_i64().filter(|n| *n != 0) {
                Some(node) => format!("{number}:{node}/{protocol}"),
                None => format!("{number}/{protocol}"),
            }
        })
        .collect();
    if all.is_empty() { "<none>".to_owned() } else { all.join(",") }
}
