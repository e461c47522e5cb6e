//! What must hold: some things after every step, the rest once a healed cloud has settled.

use std::collections::{BTreeMap, BTreeSet};

use model::{Claim, Index, KubeObject, Port, Server, Vm, VmPhase};

use crate::World;

/// Nothing is promised twice and nothing runs twice, whatever fails.
pub fn always(world: &World) -> Result<(), String> {
    addresses(world)?;
    pools(world)?;
    once(world)
}

/// No two ports have one address.
fn addresses(world: &World) -> Result<(), String> {
    let snapshot = world.store.snapshot();
    let mut seen = BTreeMap::new();
    for port in snapshot.all::<Port>() {
        for fixed in &port.fixed_ips {
            if let Some(other) = seen.insert((port.network_id.clone(), fixed.ip), port.id.clone()) {
                return Err(format!("ports {other} and {} both have {}", port.id, fixed.ip));
            }
        }
    }
    Ok(())
}

/// What the pools say is used is the sum of what the rows claim, and never above the limit.
fn pools(world: &World) -> Result<(), String> {
    let snapshot = world.store.snapshot();
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for claim in snapshot.rows().flat_map(|row| row.object.claims()) {
        if let Claim::Use { pool, amount } = claim {
            *sums.entry(pool).or_default() += amount;
        }
    }
    for (name, sum) in sums {
        let pool = world.store.pool(&name);
        if pool.used != sum {
            return Err(format!("pool {name} says {} used, the rows claim {sum}", pool.used));
        }
        if pool.limit.is_some_and(|limit| sum > limit) {
            return Err(format!("pool {name}: {sum} used of {:?}", pool.limit));
        }
    }
    Ok(())
}

/// No server runs in two places.
fn once(world: &World) -> Result<(), String> {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (host, machine) in &world.machines {
        for id in machine.everything().0 {
            let server = id.split('.').next().unwrap_or("").to_owned();
            if let Some(other) = seen.insert(server.clone(), format!("{id} on {host}")) {
                return Err(format!("server {server} exists twice: {other}, and {id} on {host}"));
            }
        }
    }
    Ok(())
}

/// What was accepted is there, what was deleted is not, and hosts have exactly what the rows say.
pub fn settled(world: &World) -> Result<(), String> {
    let snapshot = world.store.snapshot();
    let servers: BTreeSet<String> = snapshot.all::<Server>().map(|s| s.id.clone()).collect();
    if servers != world.servers {
        return Err(format!("servers accepted {:?}, servers there {servers:?}", world.servers));
    }
    for server in snapshot.all::<Server>() {
        let runs = snapshot.find::<Vm>(Index::Owner, &server.id).any(|vm| vm.status.phase == VmPhase::Running);
        let told = server.problem.is_some()
            || snapshot.find::<Vm>(Index::Owner, &server.id).any(|vm| vm.host.is_none() && !vm.decision.is_empty());
        if !runs && !told {
            return Err(format!("server {} neither runs nor says why: {}", server.id, world.describe()));
        }
    }
    for (host, machine) in &world.machines {
        let (vms, pods) = machine.everything();
        let wanted: Vec<String> =
            snapshot.find::<Vm>(Index::Host, host).map(|vm| Vm::id(&vm.server_id, vm.incarnation)).collect();
        same(&format!("VMs of {host}"), wanted, vms)?;
        let wanted: Vec<String> = snapshot
            .find::<KubeObject>(Index::Host, host)
            .filter(|o| o.is_pod())
            // One for which there is no address left waits, and says so.
            .filter(|pod| snapshot.find::<Port>(Index::Owner, pod.uid()).next().is_some() || silent(pod.value))
            .map(|pod| pod.uid().to_owned())
            .collect();
        same(&format!("pods of {host}"), wanted, pods)?;
    }
    let alive = |port: &Port| {
        servers.contains(&port.device_id)
            || snapshot.find::<KubeObject>(Index::Name, &port.device_id).any(|o| o.is_pod())
    };
    match snapshot.all::<Port>().find(|port| !alive(port.value)) {
        Some(port) => Err(format!("port {} of {} was left behind", port.id, port.device_id)),
        None => Ok(()),
    }
}

/// A pod that does not say what it waits for.
fn silent(pod: &KubeObject) -> bool {
    pod.body["status"]["message"].as_str().is_none_or(str::is_empty)
}

fn same(what: &str, mut wanted: Vec<String>, mut there: Vec<String>) -> Result<(), String> {
    wanted.sort();
    there.sort();
    if wanted == there { Ok(()) } else { Err(format!("{what}: rows say {wanted:?}, the host has {there:?}")) }
}
