//! From a server to its incarnations: one [`Vm`] row for each, the old one gone before the new one has a host. Removing a
//! server ends here too, when nothing of it is left anywhere.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    Change, Entry, Event, Holder, Image, ImageStatus, Index, Key, Kind, Port, Realm, Server, ServerAction, ServerUsage,
    Snapshot, Source, Time, Vm, VmPhase, VmStatus,
};

use crate::planner::{Plan, Planner, Rows, Seen, Touched, values};

/// Incarnations that shall be made or go away, and servers of which nothing is left.
pub const PLANNER: Planner = Planner {
    name: "server",
    reads: &[
        Rows::Of(Kind::Server),
        Rows::Of(Kind::Vm),
        Rows::Of(Kind::Port),
        Rows::Of(Kind::Image),
        Rows::Of(Kind::ServerAction),
    ],
    writes: &[
        Rows::Of(Kind::Server),
        Rows::Of(Kind::Vm),
        Rows::Of(Kind::Image),
        Rows::Of(Kind::ServerAction),
        Rows::Of(Kind::ServerUsage),
    ],
    at_once: 256,
    items: |rows| rows.all::<Server>().map(|server| server.row.key.clone()).collect(),
    touched,
    failed: None,
    plan,
};

fn touched(rows: &Snapshot, event: &Event, touched: &mut Touched) {
    let mut server = |id: &str| touched.items(rows.get::<Server>(id).map(|server| server.row.key.clone()));
    for named in values::<Server>(event) {
        server(&named.id);
        // Whom it names may wait for it to be the last that does.
        named.neighbours().for_each(|id| server(id));
    }
    values::<Vm>(event).for_each(|vm| server(&vm.server_id));
    values::<ServerAction>(event).for_each(|action| server(&action.server_id));
    values::<Image>(event).filter_map(|image| image.source.as_ref()).for_each(|source| server(&source.server_id));
    for port in values::<Port>(event) {
        if let Some(Holder::Server(key)) = &port.holder {
            touched.item(key.clone());
        }
    }
}

fn plan(seen: &Seen<'_>, items: &[Key], now: Time) -> Plan {
    let mut plan = Plan::default();
    let mut ending = BTreeSet::new();
    for server in items.iter().filter_map(|key| seen.rows.at::<Server>(key)) {
        plan.step(&server.row.key, step(seen.rows, server, now).unwrap_or_default());
        ending.extend(server.deleting.then_some(server.value.project_id.as_str()));
    }
    if let Some(first) = items.first() {
        plan.step(first, forget(seen.rows, &ending, now).unwrap_or_default());
    }
    plan
}

/// What usage reports know goes again: what is too old, and what is too much for one of the projects to whose records more
/// are about to come. A few at a time; what is left goes with the next.
fn forget(snapshot: &Snapshot, ending: &BTreeSet<&str>, now: Time) -> Option<Change> {
    const AT_ONCE: usize = 256;
    if ending.is_empty() {
        return None;
    }
    let old = |usage: &Entry<'_, ServerUsage>| now.duration_since(usage.ended) > ServerUsage::KEEP;
    let mut gone: BTreeMap<_, _> =
        snapshot.within::<ServerUsage>(&Realm::Cloud).take_while(old).take(AT_ONCE).map(|u| (&u.row.key, u)).collect();
    for project in ending {
        let all = || snapshot.find::<ServerUsage>(Index::Owner, project);
        let excess = all().skip(ServerUsage::MOST).take(AT_ONCE).count();
        gone.extend(all().take(excess).map(|usage| (&usage.row.key, usage)));
    }
    let mut change = Change::new();
    for usage in gone.into_values() {
        change.delete(usage);
    }
    (!change.is_empty()).then_some(change)
}

/// The next step of one server.
fn step(snapshot: &Snapshot, server: Entry<'_, Server>, now: Time) -> Option<Change> {
    let vms: Vec<Entry<'_, Vm>> = snapshot.find::<Vm>(Index::Owner, &server.id).collect();
    let mut change = Change::new();
    if server.deleting {
        for vm in &vms {
            if is_gone(vm) && !vm.status.kept {
                change.delete(*vm);
            } else if !vm.deleting {
                change.edit(*vm, |v| v.deleting = true);
            }
        }
        if vms.is_empty() && Port::of_server(snapshot, &server).next().is_none() && shed(snapshot, &server, &mut change)
        {
            change.delete(server);
            ServerUsage::of(&server, now, true).map(|usage| change.create(usage));
            // Images that are not complete, and the one that it was shelved in.
            for image in snapshot.find::<Image>(Index::Owner, &server.id) {
                change.delete(image);
            }
            let shelf = server.shelved.iter().chain(&server.unshelving).filter_map(|id| snapshot.get::<Image>(id));
            for image in shelf.filter(|image| image.source.is_none()) {
                change.delete(image);
            }
        }
    } else {
        live(snapshot, server, &vms, &mut change, now);
    }
    (!change.is_empty()).then_some(change)
}

/// Takes away its log, and that others name it; whether that is all there was. A commit takes so many rows and bytes, and
/// both grow with what a server's users do: with more than fits, the rest goes next.
fn shed(snapshot: &Snapshot, server: &Server, change: &mut Change) -> bool {
    const ENTRIES: usize = 1000;
    const NEIGHBOURS: usize = 8;
    let mut log = snapshot.find::<ServerAction>(Index::Owner, &server.id);
    for action in log.by_ref().take(ENTRIES) {
        change.delete(action);
    }
    let mut neighbours = snapshot.find::<Server>(Index::Owner, &server.id);
    for other in neighbours.by_ref().take(NEIGHBOURS) {
        change.edit(other, |other| other.forget_neighbour(&server.id));
    }
    log.next().is_none() && neighbours.next().is_none()
}

/// Nothing of it is left, or ever was, on any host, but for disks that were kept.
fn is_gone(vm: &Vm) -> bool {
    vm.host.is_none() || (vm.deleting && vm.status.phase == VmPhase::Gone)
}

fn live(snapshot: &Snapshot, server: Entry<'_, Server>, vms: &[Entry<'_, Vm>], change: &mut Change, now: Time) {
    let (current, old): (Vec<Entry<'_, Vm>>, Vec<Entry<'_, Vm>>) =
        vms.iter().copied().partition(|vm| vm.incarnation == server.incarnation);
    let current = current.first().copied();
    let placed = current.is_some_and(|vm| vm.host.is_some());
    for vm in old {
        // A gone incarnation keeps its room until the next one has taken it over, in the scheduler's change. What was kept of
        // it for one that never came has to go first: nobody else knows of it.
        if vm.host.is_none() || (placed && is_gone(&vm) && (server.keep_disk || !vm.status.kept)) {
            change.delete(vm);
        } else if !vm.deleting {
            change.edit(vm, |v| v.deleting = true);
        }
    }
    if let Some(image) = &server.shelved {
        return shelve(snapshot.get::<Image>(image), server, current, change);
    }
    match current {
        None if ports_ready(snapshot, &server) => {
            // A kept disk goes on booting as it did, though its image may be gone.
            let kept = vms.iter().filter(|_| server.keep_disk).max_by_key(|vm| vm.incarnation);
            let source = kept.and_then(|vm| vm.source.clone()).or_else(|| Source::of(snapshot, &server).ok());
            change.create(incarnation(&server, source, now));
        }
        None => {}
        Some(vm) => {
            let (cpu_milli, memory_mib, disk_gib) = room(&server, vm.source.as_ref());
            if (vm.cpu_milli, vm.memory_mib, vm.disk_gib) != (cpu_milli, memory_mib, disk_gib) {
                change.edit(vm, |v| (v.cpu_milli, v.memory_mib, v.disk_gib) = (cpu_milli, memory_mib, disk_gib));
            }
            let stands = match vm.status.phase {
                VmPhase::Running | VmPhase::Paused => true,
                VmPhase::Stopped => !server.power,
                _ => false,
            };
            if stands && (server.launched_at.is_none() || server.problem.is_some()) {
                change.edit(server, |s| {
                    s.launched_at = s.launched_at.or(Some(now));
                    s.sized_at = s.sized_at.or(s.launched_at);
                    s.updated_at = now;
                    s.problem = None;
                    s.unshelving = None;
                });
                let shelf = server.unshelving.as_deref().and_then(|id| snapshot.get::<Image>(id));
                shelf.map(|image| change.delete(image));
            }
        }
    }
}

/// When the image is complete, the VM goes, and with it the room that it took. If there will be no image, the server goes
/// on as it was.
fn shelve(image: Option<Entry<'_, Image>>, server: Entry<'_, Server>, vm: Option<Entry<'_, Vm>>, change: &mut Change) {
    match vm {
        Some(vm) if vm.deleting && is_gone(&vm) => {
            change.delete(vm);
        }
        Some(vm) if !vm.deleting && image.is_none() => {
            change.edit(server, |s| s.shelved = None);
        }
        Some(vm) if !vm.deleting && image.is_some_and(|image| image.status == ImageStatus::Active) => {
            change.edit(vm, |v| v.deleting = true);
        }
        _ => {}
    }
}

fn ports_ready(snapshot: &Snapshot, server: &Server) -> bool {
    server.nics.iter().all(|nic| {
        let port = nic.port_id.as_deref().and_then(|id| snapshot.get::<Port>(id));
        port.is_some_and(|port| port.is_of_server(&server.id))
    })
}

/// The room that a server takes: of the larger of two flavors while a resize can still be reverted. A flavor without a disk
/// has the image's size, which is whoever made the image's to choose: counted, or one small flavor would fill a host.
fn room(server: &Server, source: Option<&Source>) -> (u64, u64, u64) {
    let flavors = || server.old_flavor.iter().chain([&server.flavor]);
    let most = |f: fn(&model::Flavor) -> u64| flavors().map(f).max().unwrap_or(0);
    (
        most(|f| f.vcpus.saturating_mul(1000)),
        most(|f| f.ram.saturating_add(Vm::OVERHEAD_MIB)),
        most(|f| f.disk.saturating_add(f.ephemeral).saturating_add(f.swap.div_ceil(1024)))
            .saturating_add(source.filter(|_| server.flavor.disk == 0).map_or(0, |source| source.size_gib)),
    )
}

fn incarnation(server: &Server, source: Option<Source>, now: Time) -> Vm {
    let (cpu_milli, memory_mib, disk_gib) = room(server, source.as_ref());
    Vm {
        server_id: server.id.clone(),
        project_id: server.project_id.clone(),
        incarnation: server.incarnation,
        host: None,
        cpu_milli,
        memory_mib,
        disk_gib,
        source,
        deleting: false,
        decision: Vec::new(),
        status: VmStatus::default(),
        created_at: now,
    }
}
