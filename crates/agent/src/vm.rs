//! VMs of this host: from a VM and its server to instructions for the driver, and from what the driver sees to the VM's
//! status.

use std::collections::{BTreeMap, HashMap, HashSet};

use driver::SeenVm;
use model::host_report::Report;
use model::host_view::{VmView, Wanted};
use model::machine::Machine;
use model::wanted::{Boot, Disk, Generation, Nic, WantedVm};
use model::{Fault, Port, Server, Source, Vm, VmPhase, VmStatus};

use crate::prune::{self, Thing};
use crate::trash::{Sort, Trash};
use crate::work::{Digest, Left, digest};
use crate::{Agent, fault, metadata};

/// How all VMs look that the driver has.
pub async fn seen(agent: &Agent) -> HashMap<String, Digest> {
    let seen = agent.listed("listing VMs", agent.drivers().vm.list().await);
    // Newer rows that change nothing about it are no news of it.
    let same = |vm: SeenVm| (vm.id.clone(), digest(SeenVm { generation: Generation::default(), ..vm }));
    seen.into_iter().map(same).collect()
}

/// All VMs that somebody wants here or that are here, by id, and how they look.
pub fn digests(wanted: &[Wanted], seen: &HashMap<String, Digest>) -> HashMap<String, Digest> {
    let mut digests: HashMap<String, Digest> = seen.clone();
    for vm in wanted {
        digests.insert(vm.id.clone(), digest((&vm.rows, seen.get(&vm.id))));
    }
    digests
}

/// Makes one VM what it shall be, and says what it is.
pub async fn step(agent: &Agent, id: &str) -> Result<Left, Fault> {
    let view = agent.cloud().fresh().await?;
    let at = view.generation();
    let Some(of) = view.vm(id) else { return put_aside(agent, id, at).await };
    let VmView { vm, server, .. } = &of;
    let status = match server {
        Some(server) if !vm.deleting => match wanted(agent, at, &of, server) {
            Ok(wanted) => ensure(agent, vm, &wanted, server.launched_at.is_none()).await?,
            Err(why) => VmStatus { phase: waiting_phase(&vm.status), message: why.to_string(), ..vm.status.clone() },
        },
        _ => {
            let keep = server.as_ref().is_some_and(|s| !s.deleting && s.keep_disk && s.incarnation > vm.incarnation);
            match agent.drivers().vm.remove(id, keep, at).await {
                Ok(()) => VmStatus { phase: VmPhase::Gone, message: String::new(), kept: keep, ..vm.status.clone() },
                Err(stale @ driver::DriverFault::Stale(_)) => return Err(fault(stale)),
                Err(why) => VmStatus { message: format!("cannot be removed yet: {why}"), ..vm.status.clone() },
            }
        }
    };
    let left = left(&status);
    agent.report(Report::Vm { id: id.to_owned(), status }).await.map(|_| left)
}

/// What fails again and again is tried seldom: unpacking a damaged image takes a disk and a core each time.
fn left(status: &VmStatus) -> Left {
    let rests = matches!(status.phase, VmPhase::Running | VmPhase::Paused | VmPhase::Stopped | VmPhase::Gone);
    let is_done = rests && status.message.is_empty();
    if is_done || status.failures >= VmStatus::PATIENCE { Left::Settled } else { Left::Unsettled }
}

/// VMs that the driver has and that nobody wants here.
pub(crate) fn unwanted<'a>(
    wanted: &'a HashSet<String>,
    seen: &'a HashMap<String, Digest>,
) -> impl Iterator<Item = Thing> + 'a {
    seen.keys().filter(|id| !wanted.contains(*id)).map(|id| (Sort::Vm, id.clone()))
}

/// Nobody wants it, and nobody said that it shall go.
async fn put_aside(agent: &Agent, id: &str, at: Generation) -> Result<Left, Fault> {
    let Some(place) = prune::place(agent, Sort::Vm, id)? else { return Ok(Left::Unsettled) };
    let something = agent.drivers().vm.put_aside(id, &place.content(), at).await.map_err(fault);
    prune::placed(agent, &place, something).map(|()| Left::Settled)
}

/// `first`: its server has not run yet.
async fn ensure(agent: &Agent, vm: &Vm, wanted: &WantedVm, first: bool) -> Result<VmStatus, Fault> {
    let drivers = agent.drivers();
    Ok(match drivers.vm.ensure(wanted, &*drivers.net).await {
        Ok(SeenVm { phase, message, ended, soft_reboots, hard_reboots, rescued, made, .. }) => {
            let (made, since) = (made || vm.status.made, vm.status.since);
            let (kept, failures) = (false, 0);
            VmStatus { phase, message, ended, soft_reboots, hard_reboots, rescued, made, kept, failures, since }
        }
        Err(driver::DriverFault::Refused(why)) => {
            let aside = Trash::of(&agent.config().dir).find(&wanted.id);
            let back = aside.map(|a| format!("; it was put aside, `braid trash restore {}` gives it back", a.name));
            VmStatus { phase: VmPhase::Failed, message: why + &back.unwrap_or_default(), ..vm.status.clone() }
        }
        // What is known of it is as old as the order.
        Err(stale @ driver::DriverFault::Stale(_)) => return Err(fault(stale)),
        Err(driver::DriverFault::Failed(why)) if first => failed_again(&vm.status, why),
        Err(why) => VmStatus { phase: waiting_phase(&vm.status), message: why.to_string(), ..vm.status.clone() },
    })
}

/// What a host cannot do it may be able to do later; but if it says the same again and again of what never ran, it is more
/// likely to be the image's fault, and whoever waits has to know. It is tried further all the same.
fn failed_again(status: &VmStatus, why: String) -> VmStatus {
    let before = if status.message == why { status.failures } else { 0 };
    let failures = (before + 1).min(VmStatus::PATIENCE);
    let phase = match waiting_phase(status) {
        _ if failures >= VmStatus::PATIENCE => VmPhase::Failed,
        VmPhase::Failed => VmPhase::Starting,
        other => other,
    };
    VmStatus { phase, message: why, failures, ..status.clone() }
}

/// A VM that runs does not stop running because something else is amiss.
fn waiting_phase(status: &VmStatus) -> VmPhase {
    match status.phase {
        VmPhase::Unknown | VmPhase::Gone => VmPhase::Starting,
        other => other,
    }
}

/// Resolves a VM into plain instructions, or says what is missing.
fn wanted(agent: &Agent, at: Generation, of: &VmView, server: &Server) -> Result<WantedVm, Fault> {
    let vm = &of.vm;
    let id = Vm::id(&server.id, vm.incarnation);
    let gone = || Fault::invalid("the image was gone before the server could start");
    let source = vm.source.as_ref().ok_or_else(gone)?;
    let booted = server.rescue.as_ref().unwrap_or(source);
    let root = Disk {
        id: "root".into(),
        base: Some(agent.config().blobs.path(&source.blob)),
        format: source.format.clone(),
        size: server.flavor.disk << 30,
        read_only: false,
        made: was_made(&vm.status),
        take_from: (server.keep_disk && vm.incarnation > 1).then(|| Vm::id(&server.id, vm.incarnation - 1)),
    };
    Ok(WantedVm {
        generation: at,
        id,
        uuid: server.id.clone(),
        name: server.name.clone(),
        vcpus: server.flavor.vcpus,
        memory_mib: server.flavor.ram,
        running: server.power && server.shelved.is_none() && vm.incarnation == server.incarnation,
        paused: server.paused,
        suspended: server.suspended,
        rescue: server.rescue.is_some(),
        soft_reboots: server.soft_reboots,
        hard_reboots: server.hard_reboots,
        boot: boot(agent, booted),
        machine: Machine::of(&booted.hardware, &server.flavor).map_err(Fault::Invalid)?,
        disks: server.rescue.iter().map(|source| rescue(agent, source)).chain([root]).collect(),
        config_drive: if server.config_drive { metadata::files(of, server) } else { BTreeMap::new() },
        nics: nics(agent, &of.ports)?,
    })
}

/// Its disks were made. An older Braid did not write that down, but a VM that it saw run had some.
fn was_made(status: &VmStatus) -> bool {
    status.made || matches!(status.phase, VmPhase::Running | VmPhase::Paused | VmPhase::Suspended)
}

/// A disk to rescue the server's own with.
fn rescue(agent: &Agent, source: &Source) -> Disk {
    Disk {
        id: "rescue".into(),
        base: Some(agent.config().blobs.path(&source.blob)),
        format: source.format.clone(),
        size: 0,
        read_only: false,
        take_from: None,
        made: false,
    }
}

/// An image with a kernel of its own boots that.
fn boot(agent: &Agent, source: &Source) -> Boot {
    let path = |blob: &String| agent.config().blobs.path(blob);
    match &source.kernel {
        Some(kernel) => Boot::Kernel {
            kernel: path(kernel),
            initrd: source.initrd.as_ref().map(path),
            cmdline: source.cmdline.clone(),
        },
        None => Boot::Disk,
    }
}

/// The interfaces in the order in which they were asked for; all must be part of the network already.
fn nics(agent: &Agent, ports: &[Port]) -> Result<Vec<Nic>, Fault> {
    let network = agent.network();
    ports
        .iter()
        .map(|port| {
            let place = network.domains.iter().find_map(|domain| {
                let wires = domain.bridges.iter().flat_map(|bridge| &bridge.ports);
                wires.into_iter().find(|wire| wire.port_id == port.id).map(|wire| (domain, wire))
            });
            let (domain, wire) =
                place.ok_or_else(|| Fault::Unavailable(format!("waits for the network of port {}", port.id)))?;
            Ok(Nic {
                port_id: port.id.clone(),
                mac: port.mac.clone(),
                mtu: wire.mtu,
                device: wire.device.clone(),
                namespace: domain.namespace(&agent.config().prefix),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_for_good_is_tried_seldom() {
        let mut status = VmStatus::default();
        for _ in 1..VmStatus::PATIENCE {
            status = failed_again(&status, "the image is corrupt".into());
            assert_eq!(left(&status), Left::Unsettled);
        }
        status = failed_again(&status, "the image is corrupt".into());
        assert_eq!(left(&status), Left::Settled);
        let runs = VmStatus { phase: VmPhase::Running, ..VmStatus::default() };
        assert_eq!(left(&runs), Left::Settled);
        assert_eq!(left(&VmStatus { message: "no disk".into(), ..runs }), Left::Unsettled);
    }

    #[test]
    fn what_fails_alike_again_and_again_is_told() {
        let mut status = VmStatus::default();
        let mut fail = |why: &str| {
            status = failed_again(&status, why.to_owned());
            status.phase
        };
        let image = "cannot make the disk: the image is corrupt";
        for _ in 1..VmStatus::PATIENCE {
            assert_eq!(fail(image), VmPhase::Starting);
        }
        assert_eq!(fail("no room on the disk"), VmPhase::Starting, "other words are counted anew");
        for _ in 1..VmStatus::PATIENCE {
            assert_eq!(fail(image), VmPhase::Starting);
        }
        assert_eq!((fail(image), fail(image)), (VmPhase::Failed, VmPhase::Failed));
        assert_eq!(fail("no room on the disk"), VmPhase::Starting);
        assert_eq!(status.failures, 1);
    }
}
