//! Hosts as Nova shows them: hypervisors, compute services, availability zones.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use model::{Aggregate, Aggregates, Change, Entry, Fault, Host, Index, Pool, Server, Snapshot, Time, Vm, derived_id};
use serde_json::{Value, json};

use super::body::Fields;
use super::fault::{missing, not_built};
use super::wire::number_of;
use super::wire::{list, page, time_micro};
use crate::call::{Call, Reply};

/// When the host was last heard.
fn heard(call: &Call, host: &Host) -> Option<Time> {
    call.cloud.store.last_beat(&host.name).max(host.status.heartbeat)
}

fn room(call: &Call, host: &Host, resource: &str) -> Pool {
    call.cloud.store.pool(&Host::pool(&host.name, resource))
}

fn vms(snapshot: &Snapshot, host: &str) -> usize {
    snapshot.find::<Vm>(Index::Host, host).count()
}

fn service_id(call: &Call, host: &Host) -> Value {
    let id = derived_id(&["compute-service", &host.id]);
    if call.version >= (2, 53) { json!(id) } else { json!(number_of(&id)) }
}

fn host_id(call: &Call, host: &Host) -> Value {
    if call.version >= (2, 53) { json!(host.id) } else { json!(number_of(&host.id)) }
}

fn find<'a>(call: &'a Call, id: &str) -> Result<Entry<'a, Host>, Fault> {
    let found = call.snapshot.all::<Host>().find(|host| host_id(call, host) == id || number_text(call, host) == id);
    found.ok_or_else(|| missing(format!("Hypervisor with ID '{id}' could not be found.")))
}

fn number_text(call: &Call, host: &Host) -> String {
    host_id(call, host).as_u64().map(|n| n.to_string()).unwrap_or_default()
}

// Hypervisors

fn brief(call: &Call, host: &Host) -> Value {
    json!({
        "id": host_id(call, host),
        "hypervisor_hostname": host.name,
        "state": if host.is_up() { "up" } else { "down" },
        "status": if host.enabled { "enabled" } else { "disabled" },
    })
}

/// `10.0.0` as the number that Nova makes of it: 10000000.
fn version_number(text: &str) -> u64 {
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let mut parts = digits.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u64>().unwrap_or(0));
    (0..3).fold(0, |number, _| number * 1000 + parts.next().unwrap_or(0) % 1000)
}

fn detail(call: &Call, host: &Host) -> Value {
    let mut out = brief(call, host);
    out["hypervisor_type"] = json!("QEMU");
    out["hypervisor_version"] = json!(version_number(&host.status.hypervisor_version));
    out["host_ip"] = json!(host.underlay.map_or_else(|| "127.0.0.1".to_owned(), |ip| ip.to_string()));
    out["service"] = json!({
        "id": service_id(call, host), "host": host.name, "disabled_reason": host.disabled_reason,
    });
    if call.version >= (2, 88) {
        out["uptime"] = Value::Null;
        return out;
    }
    let (cpu, memory, disk) = (room(call, host, "cpu"), room(call, host, "memory"), room(call, host, "disk"));
    out["cpu_info"] = if call.version >= (2, 28) { json!({}) } else { json!("{}") };
    out["vcpus"] = json!(host.cores);
    out["vcpus_used"] = json!(cpu.used.div_ceil(1000));
    out["memory_mb"] = json!(host.memory_mib);
    out["memory_mb_used"] = json!(memory.used);
    out["free_ram_mb"] = json!(host.memory_mib.saturating_sub(memory.used));
    out["local_gb"] = json!(host.disk_gib);
    let disk_used = disk.used.div_ceil(1024);
    out["local_gb_used"] = json!(disk_used);
    out["free_disk_gb"] = json!(host.disk_gib.saturating_sub(disk_used));
    out["disk_available_least"] = json!(host.disk_gib.saturating_sub(disk_used));
    out["current_workload"] = json!(0);
    out["running_vms"] = json!(vms(&call.snapshot, &host.name));
    out
}

fn with_servers(call: &Call, host: &Host, out: &mut Value) {
    let servers: Vec<Value> = call
        .snapshot
        .find::<Vm>(Index::Host, &host.name)
        .filter_map(|vm| call.snapshot.get::<Server>(&vm.server_id))
        .map(|server| json!({"uuid": server.id, "name": super::servers::view::instance_name(&server.id)}))
        .collect();
    if !servers.is_empty() {
        out["servers"] = json!(servers);
    }
}

/// Hosts that are asked at a time for what only they know.
const ASKED_AT_ONCE: usize = 16;

async fn hypervisors(call: Call, show: fn(&Call, &Host) -> Value) -> Result<Reply, Fault> {
    let mut hosts: Vec<Entry<'_, Host>> = call.snapshot.all::<Host>().collect();
    if call.version >= (2, 53)
        && let Some(pattern) = call.query("hypervisor_hostname_pattern")
    {
        hosts.retain(|host| host.name.contains(pattern));
        if hosts.is_empty() {
            return Err(missing(format!("No hypervisor matching '{pattern}' could be found.")));
        }
    }
    let servers = call.version >= (2, 53) && matches!(call.query("with_servers"), Some("true" | "True" | "1"));
    let show = |host: &Host| {
        let mut out = show(&call, host);
        if servers {
            with_servers(&call, host, &mut out);
        }
        out
    };
    if call.version < (2, 33) {
        let items = hosts.iter().map(|host| show(host)).collect();
        return Ok(Reply::ok(list(&call, "hypervisors", items, None)));
    }
    let page = page(&call, hosts, |host| host.id.clone())?;
    let next = page.more.then(|| page.items.last().map(|host| host.id.clone())).flatten();
    let mut items: Vec<Value> = page.items.iter().map(|host| show(host)).collect();
    let asked: Vec<_> = page.items.iter().zip(&mut items).map(|(host, item)| add_uptime(&call, host, item)).collect();
    futures_util::stream::iter(asked).buffer_unordered(ASKED_AT_ONCE).collect::<()>().await;
    Ok(Reply::ok(list(&call, "hypervisors", items, next)))
}

/// Fills in what only the host knows, where it is shown. Of one that does not answer it stays null, as in Nova.
async fn add_uptime(call: &Call, host: &Host, out: &mut Value) {
    if out.get("uptime").is_some() && host.is_up() {
        out["uptime"] = json!(uptime(call, host).await.ok());
    }
}

/// `GET /os-hypervisors`
pub async fn hypervisor_index(call: Call) -> Result<Reply, Fault> {
    hypervisors(call, brief).await
}

/// `GET /os-hypervisors/detail`
pub async fn hypervisor_detail(call: Call) -> Result<Reply, Fault> {
    hypervisors(call, detail).await
}

/// `GET /os-hypervisors/{id}`
pub async fn hypervisor_show(call: Call) -> Result<Reply, Fault> {
    let host = find(&call, call.param("id"))?;
    let mut out = detail(&call, &host);
    add_uptime(&call, &host, &mut out).await;
    if matches!(call.query("with_servers"), Some("true" | "True" | "1")) {
        with_servers(&call, &host, &mut out);
    }
    Ok(Reply::ok(json!({"hypervisor": out})))
}

/// `GET /os-hypervisors/{id}/uptime` until 2.87
pub async fn hypervisor_uptime(call: Call) -> Result<Reply, Fault> {
    let host = find(&call, call.param("id"))?;
    let mut out = brief(&call, &host);
    let silent = |_| Fault::Invalid(format!("Compute service of {} is unavailable at this time.", host.name));
    out["uptime"] = json!(uptime(&call, &host).await.map_err(silent)?);
    Ok(Reply::ok(json!({"hypervisor": out})))
}

/// How long the host runs: a line that it says itself.
async fn uptime(call: &Call, host: &Host) -> Result<String, Fault> {
    const LONGEST: usize = 1024;
    match call.cloud.streams.get(&host.endpoint, "/uptime", LONGEST).await? {
        (200, line) => Ok(String::from_utf8_lossy(&line).into_owned()),
        (code, _) => Err(Fault::Unavailable(format!("host {} answered {code} for its uptime", host.name))),
    }
}

/// `GET /os-hypervisors/{pattern}/search` until 2.52
pub async fn hypervisor_search(call: Call) -> Result<Reply, Fault> {
    let pattern = call.param("id");
    let found: Vec<Value> =
        call.snapshot.all::<Host>().filter(|h| h.name.contains(pattern)).map(|h| brief(&call, &h)).collect();
    if found.is_empty() {
        return Err(missing(format!("No hypervisor matching '{pattern}' could be found.")));
    }
    Ok(Reply::ok(json!({"hypervisors": found})))
}

/// `GET /os-hypervisors/{pattern}/servers` until 2.52
pub async fn hypervisor_servers(call: Call) -> Result<Reply, Fault> {
    let pattern = call.param("id");
    let with = |host: Entry<'_, Host>| {
        let mut shown = brief(&call, &host);
        with_servers(&call, &host, &mut shown);
        shown
    };
    let found: Vec<Value> = call.snapshot.all::<Host>().filter(|host| host.name.contains(pattern)).map(with).collect();
    if found.is_empty() {
        return Err(missing(format!("No hypervisor matching '{pattern}' could be found.")));
    }
    Ok(Reply::ok(json!({"hypervisors": found})))
}

/// `GET /os-hypervisors/statistics` until 2.87
pub async fn statistics(call: Call) -> Result<Reply, Fault> {
    let mut sum = std::collections::BTreeMap::<&str, u64>::new();
    for host in call.snapshot.all::<Host>() {
        let shown = detail(&call, &host);
        *sum.entry("count").or_default() += 1;
        for field in [
            "vcpus",
            "vcpus_used",
            "memory_mb",
            "memory_mb_used",
            "free_ram_mb",
            "local_gb",
            "local_gb_used",
            "free_disk_gb",
            "disk_available_least",
            "current_workload",
            "running_vms",
        ] {
            *sum.entry(field).or_default() += shown[field].as_u64().unwrap_or(0);
        }
    }
    Ok(Reply::ok(json!({"hypervisor_statistics": sum})))
}

// Services

fn service(call: &Call, host: &Host) -> Value {
    let mut out = json!({
        "id": service_id(call, host),
        "binary": "nova-compute",
        "host": host.name,
        "zone": Aggregate::zone_of(&call.snapshot, &host.name),
        "status": if host.enabled { "enabled" } else { "disabled" },
        "state": if host.is_up() { "up" } else { "down" },
        "updated_at": heard(call, host).map(time_micro),
        "disabled_reason": host.disabled_reason,
    });
    if call.version >= (2, 11) {
        out["forced_down"] = json!(false);
    }
    out
}

/// `GET /os-services`
pub async fn services(call: Call) -> Result<Reply, Fault> {
    let host = call.query("host");
    let none = call.query("binary").is_some_and(|binary| binary != "nova-compute");
    let services: Vec<Value> = call
        .snapshot
        .all::<Host>()
        .filter(|h| !none && host.is_none_or(|name| h.name == name))
        .map(|h| service(&call, &h))
        .collect();
    Ok(Reply::ok(json!({"services": services})))
}

/// Lets the scheduler use a host, or not.
pub async fn enable(
    call: &Call,
    which: impl Fn(&Host) -> bool,
    on: bool,
    reason: Option<String>,
) -> Result<Host, Fault> {
    call.cloud
        .store
        .transact(|snapshot| {
            let entry = snapshot.all::<Host>().find(|host| which(host));
            let entry = entry.ok_or_else(|| missing("Could not find service."))?;
            let mut host = entry.value.clone();
            host.enabled = on;
            host.disabled_reason = reason.clone().filter(|_| !on);
            let mut change = Change::new();
            change.update(entry, host.clone());
            Ok((change, host))
        })
        .await
}

/// `PUT /os-services/{id}`: since 2.53 the id of a service, before that `enable`, `disable` or `disable-log-reason`.
pub async fn update_service(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    let fields = Fields::new("body", &body)?;
    let id = call.param("id").to_owned();
    if call.version < (2, 53) {
        return old_update_service(&call, &fields, &id).await;
    }
    fields.only(&["status", "disabled_reason", "forced_down"])?;
    let forced = fields.boolean("forced_down")?;
    if forced == Some(true) {
        return Err(not_built("Forcing a service down"));
    }
    if forced.is_some() && fields.get("status").is_none() {
        let found = call.snapshot.all::<Host>().find(|host| derived_id(&["compute-service", &host.id]) == id);
        let host = found.ok_or_else(|| missing("Could not find service."))?;
        return Ok(Reply::ok(json!({"service": service(&call, &host)})));
    }
    let on = match fields.text("status", 20)? {
        Some("enabled") => true,
        Some("disabled") => false,
        _ => return Err(Fault::Invalid("Invalid status field in body: it must be 'enabled' or 'disabled'.".into())),
    };
    let reason = fields.text("disabled_reason", 255)?.map(str::to_owned);
    if on && reason.is_some() {
        return Err(Fault::Invalid("Specifying 'disabled_reason' when status is 'enabled' is invalid.".into()));
    }
    let host = enable(&call, |host| derived_id(&["compute-service", &host.id]) == id, on, reason).await?;
    Ok(Reply::ok(json!({"service": service(&call, &host)})))
}

/// `DELETE /os-services/{id}`: for hosts that are taken out, which is not built; a service that is in use Nova refuses, too.
pub async fn delete_service(call: Call) -> Result<Reply, Fault> {
    let id = call.param("id");
    let found =
        call.snapshot.all::<Host>().find(|host| service_id(&call, host) == id || service_number(&call, host) == id);
    let host = found.ok_or_else(|| missing(format!("Service {id} not found.")))?;
    if vms(&call.snapshot, &host.name) > 0 {
        return Err(Fault::Conflict(
            "Unable to delete compute service that is hosting instances. Migrate or delete the instances first.".into(),
        ));
    }
    Err(not_built("Deleting a compute service"))
}

fn service_number(call: &Call, host: &Host) -> String {
    service_id(call, host).as_u64().map(|n| n.to_string()).unwrap_or_default()
}

async fn old_update_service(call: &Call, fields: &Fields<'_>, verb: &str) -> Result<Reply, Fault> {
    let name = fields.text("host", 255)?.unwrap_or("").to_owned();
    if fields.text("binary", 255)? != Some("nova-compute") {
        return Err(missing(format!("Could not find binary on host {name}.")));
    }
    let (on, reason) = match verb {
        "enable" => (true, None),
        "disable" => (false, None),
        "disable-log-reason" => (false, fields.text("disabled_reason", 255)?.map(str::to_owned)),
        "force-down" => return Err(not_built("Forcing a service down")),
        _ => return Err(missing("Unknown action")),
    };
    enable(call, |host| host.name == name, on, reason.clone()).await?;
    let mut out = json!({"host": name, "binary": "nova-compute", "status": if on { "enabled" } else { "disabled" }});
    if let Some(reason) = reason {
        out["disabled_reason"] = json!(reason);
    }
    Ok(Reply::ok(json!({"service": out})))
}

// Zones

/// The availability zones with their hosts.
fn zones<'a>(call: &'a Call, aggregates: &Aggregates<'a>) -> BTreeMap<&'a str, Vec<&'a Host>> {
    let mut zones: BTreeMap<&str, Vec<&Host>> = BTreeMap::new();
    for host in call.snapshot.all::<Host>().map(|host| host.value) {
        zones.entry(aggregates.zone(&host.name)).or_default().push(host);
    }
    zones
}

/// Whether there is such an availability zone.
pub fn is_zone(snapshot: &Snapshot, zone: &str) -> bool {
    let aggregates = Aggregates::of(snapshot);
    zone == model::ZONE || snapshot.all::<Host>().any(|host| aggregates.zone(&host.name) == zone)
}

fn show_zones(call: &Call, hosts: impl Fn(&Host) -> Option<Value>) -> Reply {
    let aggregates = Aggregates::of(&call.snapshot);
    let zones = zones(call, &aggregates).into_iter().map(|(zone, members)| {
        let available = members.iter().any(|host| host.enabled && host.is_up());
        let shown = members.iter().filter_map(|host| Some((host.name.clone(), hosts(host)?)));
        let shown: serde_json::Map<String, Value> = shown.collect();
        let shown = if shown.is_empty() { Value::Null } else { Value::Object(shown) };
        json!({"zoneName": zone, "zoneState": {"available": available}, "hosts": shown})
    });
    Reply::ok(json!({"availabilityZoneInfo": zones.collect::<Vec<_>>()}))
}

/// `GET /os-availability-zone`
pub async fn zone_index(call: Call) -> Result<Reply, Fault> {
    Ok(show_zones(&call, |_| None))
}

/// `GET /os-availability-zone/detail`
pub async fn zone_detail(call: Call) -> Result<Reply, Fault> {
    let shown = |host: &Host| {
        let state = json!({
            "available": host.is_up(), "active": host.enabled,
            "updated_at": heard(&call, host).map(time_micro),
        });
        Some(json!({"nova-compute": state}))
    };
    Ok(show_zones(&call, shown))
}
