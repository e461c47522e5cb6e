//! Nova's first view of hosts, `os-hosts`, which ended with 2.42: what a host has, what projects have of it, and whether
//! servers are put there. Hosts are not switched on and off from here, which Nova answers so for QEMU too.

use std::collections::BTreeMap;

use model::{Aggregate, Entry, Fault, Host, Index, Snapshot, Vm};
use serde_json::{Value, json};

use super::body::{Fields, bad};
use super::fault::{missing, not_built};
use super::hosts;
use crate::call::{Call, Reply};

fn find<'a>(call: &'a Call) -> Result<Entry<'a, Host>, Fault> {
    let name = call.param("host");
    call.snapshot.get::<Host>(name).ok_or_else(|| missing(format!("Compute host {name} could not be found.")))
}

/// `GET /os-hosts`
pub async fn index(call: Call) -> Result<Reply, Fault> {
    let asked = call.query("zone");
    let zone = |host: &Host| Aggregate::zone_of(&call.snapshot, &host.name).to_owned();
    let all = call.snapshot.all::<Host>().map(|host| (host.value.name.clone(), zone(host.value)));
    let hosts: Vec<Value> = all
        .filter(|(_, zone)| asked.is_none_or(|asked| asked == zone))
        .map(|(name, zone)| json!({"host_name": name, "service": "compute", "zone": zone}))
        .collect();
    Ok(Reply::ok(json!({"hosts": hosts})))
}

/// Cores, MiB and GiB.
#[derive(Clone, Copy, Default)]
struct Amounts {
    cpu: u64,
    memory: u64,
    disk: u64,
}

impl Amounts {
    fn of(vm: &Vm) -> Self {
        Self { cpu: vm.cpu_milli.div_ceil(1000), memory: vm.memory_mib, disk: vm.disk_gib }
    }

    fn plus(self, other: Self) -> Self {
        Self { cpu: self.cpu + other.cpu, memory: self.memory + other.memory, disk: self.disk + other.disk }
    }

    fn shown(self, host: &Host, project: &str) -> Value {
        json!({"resource": {
            "host": host.name, "project": project, "cpu": self.cpu, "memory_mb": self.memory, "disk_gb": self.disk,
        }})
    }
}

fn taken(snapshot: &Snapshot, host: &Host) -> BTreeMap<String, Amounts> {
    let mut taken: BTreeMap<String, Amounts> = BTreeMap::new();
    for vm in snapshot.find::<Vm>(Index::Host, &host.name) {
        let sum = taken.entry(vm.value.project_id.clone()).or_default();
        *sum = sum.plus(Amounts::of(vm.value));
    }
    taken
}

/// `GET /os-hosts/{host}`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    let host = find(&call)?.value;
    let total = Amounts { cpu: host.cores, memory: host.memory_mib, disk: host.disk_gib };
    let projects = taken(&call.snapshot, host);
    let used = projects.values().fold(Amounts::default(), |sum, one| sum.plus(*one));
    let mut rows = vec![total.shown(host, "(total)"), used.shown(host, "(used_now)"), used.shown(host, "(used_max)")];
    rows.extend(projects.iter().map(|(project, amounts)| amounts.shown(host, project)));
    Ok(Reply::ok(json!({"host": rows})))
}

/// `PUT /os-hosts/{host}`
pub async fn update(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    let fields = Fields::new("body", &body)?;
    fields.only(&["status", "maintenance_mode"])?;
    let on_or_off = |field: &str| match fields.get(field) {
        None => Ok(None),
        Some(value) => match value.as_str().map(str::to_lowercase).as_deref() {
            Some("enable") => Ok(Some(true)),
            Some("disable") => Ok(Some(false)),
            _ => Err(bad(field, value, "It is not one of ['enable', 'disable']")),
        },
    };
    let (status, maintenance) = (on_or_off("status")?, on_or_off("maintenance_mode")?);
    let name = find(&call)?.value.name.clone();
    if maintenance.is_some() {
        return Err(not_built("The maintenance mode of a host"));
    }
    let Some(on) = status else {
        return Err(Fault::Invalid(
            "Invalid input for field/attribute body. {} does not have enough properties".into(),
        ));
    };
    hosts::enable(&call, |host| host.name == name, on, None).await?;
    Ok(Reply::ok(json!({"host": name, "status": if on { "enabled" } else { "disabled" }})))
}

/// `GET /os-hosts/{host}/startup`, `shutdown` and `reboot`
pub async fn power(call: Call) -> Result<Reply, Fault> {
    find(&call)?;
    Err(not_built("Switching a host on or off"))
}
