//! Hosts as resource providers: what they have, what is used of it, by whom.

use std::collections::BTreeMap;

use model::{Aggregate, Entry, Fault, Host, Index, KubeObject, Server, Snapshot, Vm, pod_demand};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::classes::CLASSES;
use super::fault::missing;
use super::query::Wanted;
use super::traits;
use crate::call::{Call, Reply};

/// What a host has of a class: how much there is, and how often it may be promised.
pub struct Inventory {
    pub total: u64,
    pub ratio: f64,
    /// How much may be promised in all, and how much is.
    pub capacity: u64,
    pub used: u64,
}

/// The inventory of a host in one of [`CLASSES`].
pub fn inventory(call: &Call, host: &Host, class: &str, pool: &str) -> Inventory {
    let used = call.cloud.store.pool(&Host::pool(&host.name, pool)).used;
    match class {
        "VCPU" => Inventory {
            total: host.cores,
            ratio: if host.cores == 0 { 1.0 } else { host.cpu_milli as f64 / 1000.0 / host.cores as f64 },
            capacity: host.cpu_milli / 1000,
            used: used.div_ceil(1000),
        },
        "MEMORY_MB" => Inventory { total: host.memory_mib, ratio: 1.0, capacity: host.memory_mib, used },
        _ => Inventory { total: host.disk_gib, ratio: 1.0, capacity: host.disk_gib, used: used.div_ceil(1024) },
    }
}

/// Changes when what a host has changes; not with its heartbeats, as the row's revision does.
pub fn generation(host: &Host) -> u64 {
    let what = format!("{:?}", (host.cores, host.cpu_milli, host.memory_mib, host.disk_gib, traits::of(host)));
    Sha256::digest(what).iter().take(4).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The host whose id is in the path.
pub fn of_path<'a>(call: &Call, snapshot: &'a Snapshot) -> Result<Entry<'a, Host>, Fault> {
    let id = call.param("id");
    let found = snapshot.all::<Host>().find(|host| host.id == id);
    found.ok_or_else(|| missing(format!("No resource provider with uuid {id} found")))
}

fn show_provider(call: &Call, host: Entry<'_, Host>) -> Value {
    let path = format!("{}/resource_providers/{}", call.entry.service.prefix, host.id);
    let mut relations = vec!["inventories", "usages"];
    for (since, relation) in [((1, 1), "aggregates"), ((1, 6), "traits"), ((1, 11), "allocations")] {
        relations.extend((call.version >= since).then_some(relation));
    }
    let mut links = vec![json!({"rel": "self", "href": path})];
    links.extend(relations.into_iter().map(|rel| json!({"rel": rel, "href": format!("{path}/{rel}")})));
    let mut out = json!({"uuid": host.id, "name": host.name, "generation": generation(&host), "links": links});
    if call.version >= (1, 14) {
        out["parent_provider_uuid"] = Value::Null;
        out["root_provider_uuid"] = json!(host.id);
    }
    out
}

/// `GET /resource_providers`
pub async fn index(call: Call) -> Result<Reply, Fault> {
    let known = ["name", "uuid", "member_of", "resources", "in_tree", "required"];
    super::query::only(&call, &known)?;
    let wanted = Wanted::read(&call)?;
    let providers: Vec<Value> = call
        .snapshot
        .all::<Host>()
        .filter(|host| is_member(&call, host))
        .filter(|host| call.query("name").is_none_or(|name| host.name == name))
        .filter(|host| call.query("uuid").is_none_or(|id| host.id == id))
        .filter(|host| call.query("in_tree").is_none_or(|id| host.id == id))
        .filter(|host| wanted.fits(&call, host))
        .map(|host| show_provider(&call, host))
        .collect();
    Ok(Reply::ok(json!({"resource_providers": providers})))
}

/// `GET /resource_providers/{id}`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    let host = of_path(&call, &call.snapshot)?;
    Ok(Reply::ok(show_provider(&call, host)))
}

fn show_inventory(inventory: &Inventory) -> Value {
    json!({
        "total": inventory.total, "reserved": 0, "min_unit": 1, "max_unit": inventory.total.max(1), "step_size": 1,
        "allocation_ratio": inventory.ratio,
    })
}

/// `GET /resource_providers/{id}/inventories`
pub async fn inventories(call: Call) -> Result<Reply, Fault> {
    let host = of_path(&call, &call.snapshot)?;
    let all: BTreeMap<&str, Value> = CLASSES
        .iter()
        .map(|(class, pool)| (*class, inventory(&call, &host, class, pool)))
        .filter(|(_, inventory)| inventory.total > 0)
        .map(|(class, inventory)| (class, show_inventory(&inventory)))
        .collect();
    Ok(Reply::ok(json!({"resource_provider_generation": generation(&host), "inventories": all})))
}

/// `GET /resource_providers/{id}/inventories/{class}`
pub async fn inventory_of(call: Call) -> Result<Reply, Fault> {
    let host = of_path(&call, &call.snapshot)?;
    let asked = call.param("class");
    let class = CLASSES.iter().find(|(class, _)| *class == asked);
    let (class, pool) = class.ok_or_else(|| missing(format!("No inventory of class {asked} for {}", host.id)))?;
    let mut out = show_inventory(&inventory(&call, &host, class, pool));
    out["resource_provider_generation"] = json!(generation(&host));
    Ok(Reply::ok(out))
}

/// `GET /resource_providers/{id}/usages`
pub async fn usages(call: Call) -> Result<Reply, Fault> {
    let host = of_path(&call, &call.snapshot)?;
    let used: BTreeMap<&str, u64> =
        CLASSES.iter().map(|(class, pool)| (*class, inventory(&call, &host, class, pool).used)).collect();
    Ok(Reply::ok(json!({"resource_provider_generation": generation(&host), "usages": used})))
}

/// Whether a host is in the aggregates that the query names: `UUID`, `in:UUID,UUID`, either with `!` for the contrary. All
/// that are named must hold.
fn is_member(call: &Call, host: &Host) -> bool {
    let named = call.query.iter().filter(|(name, _)| name == "member_of");
    let mut holds = named.map(|(_, text)| {
        let (wanted, rest) = text.strip_prefix('!').map_or((true, text.as_str()), |rest| (false, rest));
        let uuids: Vec<&str> = rest.strip_prefix("in:").unwrap_or(rest).split(',').collect();
        let aggregates = call.snapshot.find::<Aggregate>(Index::Host, &host.name);
        aggregates.into_iter().any(|one| uuids.contains(&one.uuid.as_str())) == wanted
    });
    holds.all(|held| held)
}

/// `GET /resource_providers/{id}/aggregates`
pub async fn aggregates_of(call: Call) -> Result<Reply, Fault> {
    let host = of_path(&call, &call.snapshot)?;
    let aggregates = call.snapshot.find::<Aggregate>(Index::Host, &host.name);
    let mut out = json!({"aggregates": aggregates.map(|one| one.uuid.clone()).collect::<Vec<_>>()});
    if call.version >= (1, 19) {
        out["resource_provider_generation"] = json!(generation(&host));
    }
    Ok(Reply::ok(out))
}

/// Something that takes room on a host: a server or a pod.
pub struct Consumer {
    pub id: String,
    pub project_id: String,
    pub user_id: String,
    pub host: String,
    pub resources: BTreeMap<&'static str, u64>,
}

fn resources(cpu_milli: u64, memory_mib: u64, disk_gib: u64) -> BTreeMap<&'static str, u64> {
    let all = [("VCPU", cpu_milli.div_ceil(1000)), ("MEMORY_MB", memory_mib), ("DISK_GB", disk_gib)];
    all.into_iter().filter(|(_, amount)| *amount > 0).collect()
}

fn of_vm(snapshot: &Snapshot, vm: &Vm) -> Option<Consumer> {
    let user_id = snapshot.get::<Server>(&vm.server_id).map(|server| server.user_id.clone()).unwrap_or_default();
    Some(Consumer {
        id: vm.server_id.clone(),
        project_id: vm.project_id.clone(),
        user_id,
        host: vm.host.clone()?,
        resources: resources(vm.cpu_milli, vm.memory_mib, vm.disk_gib),
    })
}

fn of_pod(pod: &KubeObject) -> Option<Consumer> {
    let host = pod.body["spec"]["nodeName"].as_str().filter(|host| !host.is_empty())?;
    let demand = pod_demand(&pod.body);
    (pod.is_pod() && !pod.pod_finished()).then(|| Consumer {
        id: pod.uid().to_owned(),
        project_id: pod.project_id.clone(),
        user_id: String::new(),
        host: host.to_owned(),
        resources: resources(demand.cpu_milli, demand.memory_mib, demand.disk_mib.div_ceil(1024)),
    })
}

/// Everything that takes room on a host.
fn consumers(snapshot: &Snapshot, host: &str) -> Vec<Consumer> {
    let vms = snapshot.find::<Vm>(Index::Host, host).filter_map(|vm| of_vm(snapshot, &vm));
    vms.chain(snapshot.find::<KubeObject>(Index::Host, host).filter_map(|pod| of_pod(&pod))).collect()
}

/// `GET /resource_providers/{id}/allocations`
pub async fn allocations_of(call: Call) -> Result<Reply, Fault> {
    let host = of_path(&call, &call.snapshot)?;
    let all: BTreeMap<String, Value> = consumers(&call.snapshot, &host.name)
        .into_iter()
        .map(|consumer| {
            let mut out = json!({"resources": consumer.resources});
            if call.version >= (1, 28) {
                out["consumer_generation"] = json!(1);
            }
            (consumer.id, out)
        })
        .collect();
    Ok(Reply::ok(json!({"resource_provider_generation": generation(&host), "allocations": all})))
}

/// `GET /allocations/{consumer}`
pub async fn allocations(call: Call) -> Result<Reply, Fault> {
    let id = call.param("consumer");
    let vms = call.snapshot.find::<Vm>(Index::Owner, id).filter_map(|vm| of_vm(&call.snapshot, &vm));
    let pods = call.snapshot.find::<KubeObject>(Index::Name, id).filter_map(|pod| of_pod(&pod));
    let mut out = json!({"allocations": {}});
    for consumer in vms.chain(pods) {
        let Some(host) = call.snapshot.get::<Host>(&consumer.host) else { continue };
        out["allocations"][&host.id] = json!({"generation": generation(&host), "resources": consumer.resources});
        if call.version >= (1, 12) {
            out["project_id"] = json!(consumer.project_id);
            out["user_id"] = json!(consumer.user_id);
        }
        if call.version >= (1, 28) {
            out["consumer_generation"] = json!(1);
        }
        if call.version >= (1, 38) {
            out["consumer_type"] = json!(if consumer.user_id.is_empty() { "POD" } else { "INSTANCE" });
        }
    }
    Ok(Reply::ok(out))
}

/// `GET /usages`: of one project, since 1.9.
pub async fn project_usages(call: Call) -> Result<Reply, Fault> {
    super::query::only(&call, &["project_id", "user_id", "consumer_type"])?;
    let project = call
        .query("project_id")
        .ok_or_else(|| Fault::Invalid("Invalid query string parameters: 'project_id' is a required property".into()))?;
    let user = call.query("user_id");
    let mut sum: BTreeMap<&str, u64> = BTreeMap::new();
    let mut count = 0;
    for host in call.snapshot.all::<Host>() {
        for consumer in consumers(&call.snapshot, &host.name) {
            if consumer.project_id == project && user.is_none_or(|user| consumer.user_id == user) {
                count += 1;
                for (class, amount) in consumer.resources {
                    *sum.entry(class).or_default() += amount;
                }
            }
        }
    }
    if call.version >= (1, 38) {
        let mut all = json!(sum);
        all["consumer_count"] = json!(count);
        return Ok(Reply::ok(json!({"usages": {"all": all}})));
    }
    Ok(Reply::ok(json!({"usages": sum})))
}

/// `GET /allocation_candidates`, since 1.10
pub async fn candidates(call: Call) -> Result<Reply, Fault> {
    super::query::only(&call, &["resources", "required", "limit", "member_of", "in_tree", "group_policy"])?;
    let wanted = Wanted::read(&call)?;
    if wanted.resources.is_empty() {
        return Err(Fault::Invalid("At least one request group (`resources` or `resources{$S}`) is required.".into()));
    }
    let limit = match call.query("limit").map(str::parse::<usize>) {
        None => usize::MAX,
        Some(Ok(n)) if n > 0 => n,
        Some(_) => {
            return Err(Fault::Invalid("Invalid query string parameters: limit must be a positive number".into()));
        }
    };
    let hosts: Vec<Entry<'_, Host>> = call
        .snapshot
        .all::<Host>()
        .filter(|host| is_member(&call, host))
        .filter(|host| call.query("in_tree").is_none_or(|id| host.id == id))
        .filter(|host| wanted.fits(&call, host))
        .take(limit)
        .collect();
    let requests: Vec<Value> = hosts.iter().map(|host| candidate(&call, host, &wanted)).collect();
    let summaries: BTreeMap<&str, Value> =
        hosts.iter().map(|host| (host.value.id.as_str(), summary(&call, host, &wanted))).collect();
    Ok(Reply::ok(json!({"allocation_requests": requests, "provider_summaries": summaries})))
}

fn candidate(call: &Call, host: &Host, wanted: &Wanted) -> Value {
    let allocation = json!({"resources": wanted.resources});
    let mut out = if call.version >= (1, 12) {
        json!({"allocations": {&host.id: allocation}})
    } else {
        json!({"allocations": [{"resource_provider": {"uuid": host.id}, "resources": wanted.resources}]})
    };
    if call.version >= (1, 34) {
        out["mappings"] = json!({"": [host.id]});
    }
    out
}

fn summary(call: &Call, host: &Host, wanted: &Wanted) -> Value {
    let all = call.version >= (1, 27);
    let resources: BTreeMap<&str, Value> = CLASSES
        .iter()
        .filter(|(class, _)| all || wanted.resources.contains_key(*class))
        .map(|(class, pool)| (*class, inventory(call, host, class, pool)))
        .map(|(class, i)| (class, json!({"capacity": i.capacity, "used": i.used})))
        .collect();
    let mut out = json!({"resources": resources});
    if call.version >= (1, 17) {
        out["traits"] = json!(traits::of(host));
    }
    if call.version >= (1, 29) {
        out["parent_provider_uuid"] = Value::Null;
        out["root_provider_uuid"] = json!(host.id);
    }
    out
}
