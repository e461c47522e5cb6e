//! What must hold: some things after every step, the rest once a healed cloud has settled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use driver::{ContainerState, SeenContainer};
use model::hostnet::HostNetwork;
use model::{
    Claim, Flavor, Holder, Host, Index, KubeObject, Port, SecurityGroup, SecurityGroupRule, Server, Snapshot, Vm,
    VmPhase,
};

use crate::chronicle::owner;
use crate::rows::{MAX_CORES, MAX_SERVERS};
use crate::{World, policy};

/// Nothing is promised twice and nothing runs twice, whatever fails. What is checked is read from the rows themselves, not
/// from their claims: a claim that somebody forgets must be missed here.
pub fn always(world: &mut World) -> Result<(), String> {
    world.hear_commits()?;
    let snapshot = world.store.snapshot();
    ports(&snapshot)?;
    names(&snapshot)?;
    references(&snapshot)?;
    quota(&snapshot)?;
    room(&snapshot)?;
    apart(&snapshot)?;
    admitted(&snapshot)?;
    pools(world)?;
    once(world)?;
    attempts(world, &snapshot)?;
    careful(world)?;
    replicas(world, &snapshot)
}

/// No two ports have one address or one MAC; nobody has more ports than asked for.
fn ports(snapshot: &Snapshot) -> Result<(), String> {
    let mut seen = BTreeMap::new();
    let mut owned: BTreeMap<String, usize> = BTreeMap::new();
    for port in snapshot.all::<Port>() {
        let port = port.value;
        let addresses = port.fixed_ips.iter().map(|fixed| fixed.ip.to_string());
        for place in addresses.chain([port.mac.clone()]) {
            if let Some(other) = seen.insert((&port.network_id, place.clone()), &port.id) {
                return Err(format!("ports {other} and {} both have {place}", port.id));
            }
        }
        if let Some(holder) = &port.holder {
            *owned.entry(holder.to_string()).or_default() += 1;
        }
    }
    match owned.into_iter().find(|(_, count)| *count > 1) {
        Some((owner, count)) => Err(format!("{owner} asked for one port and has {count}")),
        None => Ok(()),
    }
}

/// No two flavors have one name.
fn names(snapshot: &Snapshot) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    match snapshot.all::<Flavor>().find(|flavor| !seen.insert(&flavor.value.name)) {
        Some(flavor) => Err(format!("two flavors have the name {}", flavor.name)),
        None => Ok(()),
    }
}

/// What ports refer to is there.
fn references(snapshot: &Snapshot) -> Result<(), String> {
    for port in snapshot.all::<Port>() {
        if let Some(group) = port.security_groups.iter().find(|id| snapshot.get::<SecurityGroup>(id).is_none()) {
            return Err(format!("port {} is in the security group {group}, which does not exist", port.id));
        }
    }
    Ok(())
}

/// The project has no more servers and cores than it may have.
fn quota(snapshot: &Snapshot) -> Result<(), String> {
    let servers = snapshot.all::<Server>();
    let (count, cores) = servers.fold((0, 0), |(count, cores), server| (count + 1, cores + server.flavor.vcpus));
    if count > MAX_SERVERS || cores > MAX_CORES {
        return Err(format!("{count} servers with {cores} cores, allowed are {MAX_SERVERS} with {MAX_CORES}"));
    }
    Ok(())
}

/// No host has promised more than it has.
fn room(snapshot: &Snapshot) -> Result<(), String> {
    for host in snapshot.all::<Host>() {
        let vms = snapshot.find::<Vm>(Index::Host, &host.name).map(|vm| (vm.cpu_milli, vm.memory_mib));
        let pods = snapshot.find::<KubeObject>(Index::Host, &host.name).filter(|pod| !pod.pod_finished());
        let pods = pods.map(|pod| model::pod_demand(&pod.body)).map(|demand| (demand.cpu_milli, demand.memory_mib));
        let (cpu, memory) = vms.chain(pods).fold((0, 0), |(cpu, memory), (c, m)| (cpu + c, memory + m));
        if cpu > host.cpu_milli || memory > host.memory_mib {
            return Err(format!("{} has promised {cpu} milli-cores and {memory} MiB", host.name));
        }
    }
    Ok(())
}

/// No two pods share a host that must not.
fn apart(snapshot: &Snapshot) -> Result<(), String> {
    for host in snapshot.all::<Host>() {
        let pods = snapshot.find::<KubeObject>(Index::Host, &host.name).filter(|pod| !pod.pod_finished());
        let mut apps = BTreeSet::new();
        let mut apps_of = pods.filter_map(|pod| pod.value.body["metadata"]["labels"]["app"].as_str());
        if let Some(app) = apps_of.find(|app| !apps.insert(*app)) {
            return Err(format!("{} has two pods of {app}, which must be apart", host.name));
        }
    }
    Ok(())
}

/// No pod is there that the cluster's webhook denies.
fn admitted(snapshot: &Snapshot) -> Result<(), String> {
    let pod = snapshot.all::<KubeObject>().find(|object| policy::forbids(object));
    pod.map_or(Ok(()), |pod| Err(format!("pod {} is there, which the webhook denies", pod.name)))
}

/// No ReplicaSet got more pods than it asked for.
fn replicas(world: &mut World, snapshot: &Snapshot) -> Result<(), String> {
    let mut counts = BTreeMap::new();
    for set in snapshot.all::<KubeObject>().filter(|object| object.is("apps", "replicasets")) {
        let pods = snapshot.find::<KubeObject>(Index::Owner, set.uid());
        let count = pods.filter(|pod| pod.is_pod() && !pod.deleting() && !pod.pod_finished()).count();
        let before = world.pod_counts.get(set.uid()).copied().unwrap_or(0);
        let asked = set.body["spec"]["replicas"].as_u64().unwrap_or(1) as usize;
        if count > before && count > asked {
            return Err(format!("{} asked for {asked} pods and got {count}", set.name));
        }
        counts.insert(set.uid().to_owned(), count);
    }
    world.pod_counts = counts;
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

/// No server runs in two places, nothing is started twice, whoever crashes, and a new incarnation has no host while an old
/// one is anywhere.
fn once(world: &World) -> Result<(), String> {
    let snapshot = world.store.snapshot();
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (host, machine) in &world.machines {
        if let Some((id, starts)) = machine.starts().into_iter().find(|(_, starts)| *starts > 1) {
            return Err(format!("{id} on {host} was started {starts} times"));
        }
        for id in machine.everything().0 {
            let (server, incarnation) = Vm::parts(&id).unwrap_or((&id, 0));
            let server = server.to_owned();
            let mut vms = snapshot.find::<Vm>(Index::Owner, &server);
            if let Some(next) = vms.find(|vm| vm.host.is_some() && vm.incarnation > incarnation) {
                return Err(format!("{server}.{} has a host while {id} is on {host}", next.incarnation));
            }
            if let Some(other) = seen.insert(server.clone(), format!("{id} on {host}")) {
                return Err(format!("server {server} exists twice: {other}, and {id} on {host}"));
            }
        }
    }
    Ok(())
}

/// A container is started again only if it failed, and only where it may be.
fn attempts(world: &World, snapshot: &Snapshot) -> Result<(), String> {
    for pod in world.machines.iter().flat_map(|(_, machine)| machine.pods()) {
        let rows = snapshot.find::<KubeObject>(Index::Name, &pod.uid).filter(|row| row.is_pod());
        let again = |row: &KubeObject| row.body["spec"]["restartPolicy"] == "OnFailure";
        for row in rows.filter(|row| owner(row.value, "Job").is_some()) {
            let succeeded = |c: &&SeenContainer| matches!(c.state, ContainerState::Exited { code: 0, .. });
            let last = pod.containers.iter().map(|c| c.attempt).max().unwrap_or(0);
            let ended = pod.containers.iter().find(|c| c.attempt < last && (succeeded(c) || !again(row.value)));
            if let Some(ended) = ended {
                return Err(format!("container {} of pod {} had ended, and was started again", ended.id, row.name));
            }
        }
    }
    Ok(())
}

/// A pod that has ended did so as its containers did.
fn ends(world: &World, snapshot: &Snapshot) -> Result<(), String> {
    for pod in world.machines.iter().flat_map(|(_, machine)| machine.pods()) {
        let rows = snapshot.find::<KubeObject>(Index::Name, &pod.uid).filter(|row| row.is_pod());
        let well = pod.containers.iter().any(|c| matches!(c.state, ContainerState::Exited { code: 0, .. }));
        for row in rows.filter(|row| owner(row.value, "Job").is_some() && row.pod_finished()) {
            if well != (row.body["status"]["phase"] == "Succeeded") {
                let states: Vec<_> = pod.containers.iter().map(|c| &c.state).collect();
                return Err(format!("pod {} says {}, and ended so: {states:?}", row.name, row.body["status"]["phase"]));
            }
        }
    }
    Ok(())
}

/// Nothing is lost by a mistake: no disk was destroyed that no row said should go, and no host did as another store said.
fn careful(world: &World) -> Result<(), String> {
    let destroyed = world.destroyed.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(id) = destroyed.first() {
        return Err(format!("VM {id} was destroyed, and no row said so"));
    }
    world.wrong.first().map_or(Ok(()), |wrong| Err(wrong.clone()))
}

/// What was accepted is there, what was deleted is not, and hosts have exactly what the rows say.
pub fn settled(world: &World) -> Result<(), String> {
    let snapshot = world.store.snapshot();
    let servers: BTreeSet<String> = snapshot.all::<Server>().map(|s| s.id.clone()).collect();
    let stuck: BTreeSet<String> =
        snapshot.all::<Vm>().filter(|vm| held(world, vm.value)).map(|vm| vm.server_id.clone()).collect();
    let going = |id: &&String| stuck.contains(*id) && snapshot.get::<Server>(id).is_some_and(|server| server.deleting);
    let there: BTreeSet<String> = servers.iter().filter(|id| !going(id)).cloned().collect();
    if there != world.servers {
        return Err(format!("servers accepted {:?}, servers there {there:?}", world.servers));
    }
    if let Some(host) = snapshot.all::<Host>().find(|host| !host.is_up()) {
        return Err(format!("{} counts as away, and its agent works", host.name));
    }
    pods(world, &snapshot)?;
    ends(world, &snapshot)?;
    world.chronicle.at_rest(&snapshot, &world.jobs, world.stubborn.as_deref())?;
    workloads(&snapshot)?;
    reboots(&snapshot)?;
    disks(world, &snapshot)?;
    for (host, machine) in &world.machines {
        rules(&snapshot, &machine.network()).map_err(|why| format!("{host}: {why}"))?;
    }
    for server in snapshot.all::<Server>() {
        let runs = snapshot.find::<Vm>(Index::Owner, &server.id).any(|vm| vm.status.phase == VmPhase::Running);
        let told = server.problem.is_some()
            || snapshot.find::<Vm>(Index::Owner, &server.id).any(|vm| vm.host.is_none() && !vm.decision.is_empty())
            || snapshot.find::<Vm>(Index::Owner, &server.id).any(|vm| held(world, vm.value));
        if !runs && !told {
            return Err(format!("server {} neither runs nor says why: {}", server.id, world.describe()));
        }
    }
    for (host, machine) in &world.machines {
        let (vms, pods) = machine.everything();
        // Where nothing can be removed, what shall go may be there still, or never have been.
        let stubborn = world.stubborn.as_ref() == Some(host);
        let stays = |vm: &Vm| !(stubborn && vm.deleting);
        let wanted: Vec<String> = snapshot
            .find::<Vm>(Index::Host, host)
            .filter(|vm| stays(vm.value))
            .map(|vm| Vm::id(&vm.server_id, vm.incarnation))
            .collect();
        let vms = vms.into_iter().filter(|id| !stubborn || wanted.contains(id)).collect();
        same(&format!("VMs of {host}"), wanted, vms)?;
        let wanted: Vec<String> = snapshot
            .find::<KubeObject>(Index::Host, host)
            .filter(|o| o.is_pod() && !(stubborn && o.deleting()))
            // One for which there is no address left waits, and says so.
            .filter(|pod| Port::of_pod(&snapshot, pod.uid()).is_some() || silent(pod.value))
            .map(|pod| pod.uid().to_owned())
            .collect();
        let pods = pods.into_iter().filter(|uid| !stubborn || wanted.contains(uid)).collect();
        same(&format!("pods of {host}"), wanted, pods)?;
        if machine.network() != plan::hostnet::compile(&snapshot, host) {
            return Err(format!("the network of {host} is not what the rows say"));
        }
    }
    undying(world, &snapshot)?;
    let alive = |port: &Port| match &port.holder {
        // A client's own.
        None => true,
        Some(Holder::Pod { key, uid }) => snapshot.at::<KubeObject>(key).is_some_and(|pod| pod.uid() == uid),
        Some(holder) => holder.server_id().is_some_and(|id| servers.contains(id)),
    };
    match snapshot.all::<Port>().find(|port| !alive(port.value)) {
        Some(port) => Err(format!("port {} of {} was left behind", port.id, port.device_id())),
        None => Ok(()),
    }
}

/// It cannot be removed, and says so.
fn held(world: &World, vm: &Vm) -> bool {
    world.stubborn.is_some() && vm.host == world.stubborn && vm.status.message.starts_with("cannot be removed yet")
}

/// What cannot be removed although somebody wants it keeps its row, which says so.
fn undying(world: &World, snapshot: &Snapshot) -> Result<(), String> {
    let says = |id: &&String| {
        let mut vms = snapshot.all::<Vm>().filter(|vm| held(world, vm.value));
        vms.any(|vm| Vm::id(&vm.server_id, vm.incarnation) == **id)
    };
    match world.undying.iter().find(|id| !says(id)) {
        Some(id) => Err(format!("the VM {id} cannot be removed, and no row says so: {}", world.describe())),
        None => Ok(()),
    }
}

/// Each VM has the disk that it shall have, and no other disk is left.
fn disks(world: &World, snapshot: &Snapshot) -> Result<(), String> {
    for (host, machine) in world.machines.iter().filter(|(host, _)| world.stubborn.as_ref() != Some(host)) {
        let wanted = snapshot.find::<Vm>(Index::Host, host).map(|vm| {
            let made_for = world.made_for.get(&vm.server_id).copied().unwrap_or(vm.incarnation);
            (Vm::id(&vm.server_id, vm.incarnation), Vm::id(&vm.server_id, made_for))
        });
        let (wanted, there) = (wanted.collect::<BTreeMap<_, _>>(), machine.disks());
        if wanted != there {
            return Err(format!("disks of {host}, and for which VM each was made: wanted {wanted:?}, there {there:?}"));
        }
    }
    Ok(())
}

/// The pods that somebody asked for are there, and no others without an owner.
fn pods(world: &World, snapshot: &Snapshot) -> Result<(), String> {
    let stays = |pod: &KubeObject| {
        world.stubborn.is_some() && pod.deleting() && pod.body["spec"]["nodeName"].as_str() == world.stubborn.as_deref()
    };
    let own = |pod: &KubeObject| pod.is_pod() && pod.controller().is_none() && !stays(pod);
    let there = snapshot.all::<KubeObject>().filter(|object| own(object.value)).map(|pod| pod.name.clone()).collect();
    match world.pods == there {
        true => Ok(()),
        false => Err(format!("pods accepted {:?}, pods there {there:?}", world.pods)),
    }
}

/// Every workload has as many of what it makes as it asks for, or says why not.
fn workloads(snapshot: &Snapshot) -> Result<(), String> {
    let lives = |object: &KubeObject| !object.deleting() && !object.pod_finished();
    for owner in snapshot.all::<KubeObject>().filter(|object| lives(object.value)) {
        let (one, all): (&str, fn(&KubeObject) -> usize) = match owner.value.resource.as_str() {
            "replicasets" => ("pods", |_| 1),
            "deployments" => ("replicasets", |set| set.body["spec"]["replicas"].as_u64().unwrap_or(1) as usize),
            _ => continue,
        };
        let made = snapshot.find::<KubeObject>(Index::Owner, owner.uid());
        let there: usize = made.filter(|o| o.resource == one && lives(o.value)).map(|o| all(o.value)).sum();
        let asked = owner.body["spec"]["replicas"].as_u64().unwrap_or(1) as usize;
        let conditions = owner.body["status"]["conditions"].as_array();
        let told = conditions.into_iter().flatten().any(|c| c["type"] == "ReplicaFailure" && c["status"] == "True");
        if there != asked && !told {
            return Err(format!("{} asked for {asked} {one}, has {there} and does not say why", owner.name));
        }
    }
    Ok(())
}

/// What runs was rebooted as often as it was asked for.
fn reboots(snapshot: &Snapshot) -> Result<(), String> {
    for vm in snapshot.all::<Vm>().filter(|vm| vm.status.phase == VmPhase::Running && !vm.deleting) {
        let Some(server) = snapshot.get::<Server>(&vm.server_id).filter(|s| s.incarnation == vm.incarnation) else {
            continue;
        };
        let (asked, done) =
            ((server.soft_reboots, server.hard_reboots), (vm.status.soft_reboots, vm.status.hard_reboots));
        if asked != done {
            return Err(format!("server {} was to be rebooted {asked:?} times and was {done:?}", server.id));
        }
    }
    Ok(())
}

/// Every rule of a port's groups is among those that its host keeps for it. Read from the rows, since whatever makes a host's
/// network of them may lose some, too.
fn rules(snapshot: &Snapshot, network: &HostNetwork) -> Result<(), String> {
    let wires = network.domains.iter().flat_map(|domain| &domain.bridges).flat_map(|bridge| &bridge.ports);
    for wire in wires {
        let Some(port) = snapshot.get::<Port>(&wire.port_id).filter(|port| port.port_security_enabled) else {
            continue;
        };
        let kept = wire.rules.as_ref().ok_or_else(|| format!("port {} is open to everybody", port.id))?;
        let rows =
            port.security_groups.iter().flat_map(|group| snapshot.find::<SecurityGroupRule>(Index::Owner, group));
        for row in rows.filter(|row| port.security_groups.contains(&row.group_id)) {
            if !kept.iter().any(|rule| (rule.direction, rule.ipv6) == (row.direction, row.ipv6)) {
                return Err(format!("port {} has lost the rule {}", port.id, row.id));
            }
        }
    }
    Ok(())
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
