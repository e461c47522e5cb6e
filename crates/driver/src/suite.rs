//! What every driver must do, simulated or real: a driver's tests implement a bench of its sort and call its case. All cases
//! panic, saying what was expected, when a driver does not do what it must. They begin with an empty host and leave one.
//!
//! What only a real host has (guests that obey, packets that pass, images that are pulled) is for each driver's own tests.

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use model::VmPhase;
use model::hostnet::HostNetwork;
use model::wanted::{Generation, WantedPod, WantedVm};

use crate::{Attach, ContainerState, DriverFault, NetDriver, PodDriver, Result, SeenVm, VmDriver};

/// A host with VMs.
pub trait VmBench: Attach {
    /// Another driver of the same host, as after a crash of the process.
    fn driver(&self) -> Box<dyn VmDriver>;
    /// A VM without interfaces that can be made here.
    fn vm(&self, id: &str) -> WantedVm;
    /// A folder on the same file system as VMs.
    fn folder(&self) -> &Path;
    /// Whether guests run here within seconds; else all VMs of the case stay stopped.
    fn runs(&self) -> bool;
    /// Ids of the VMs of which disks are kept, or a place for them.
    fn kept(&self) -> Vec<String>;
}

/// A host with pods.
pub trait PodBench {
    fn driver(&self) -> Box<dyn PodDriver>;
    /// A pod with one container, called `main`, that runs on.
    fn pod(&self, uid: &str) -> WantedPod;
}

/// A host with a network.
pub trait NetBench {
    fn driver(&self) -> Box<dyn NetDriver>;
    /// A network with one port of a VM and one of a pod.
    fn network(&self) -> HostNetwork;
}

fn is_stale<T: Debug>(what: &str, result: Result<T>) {
    assert!(
        matches!(result, Err(DriverFault::Stale(_))),
        "{what}, decided before something newer was done: {result:?}"
    );
}

fn done<T>(what: &str, result: Result<T>) -> T {
    result.unwrap_or_else(|fault| panic!("{what}: {fault}"))
}

const OLD: Generation = Generation(10);
const NOW: Generation = Generation(20);
const NEXT: Generation = Generation(30);

/// VMs are made, listed, put aside, given back and removed, each as often as one likes.
pub async fn vms(bench: &dyn VmBench) {
    let driver = bench.driver();
    assert_eq!(done("a list of nothing", driver.list().await), []);
    let aside = bench.folder().join("aside");
    done("the removal of nothing", driver.remove("server.1", false, NOW).await);
    assert!(!done("nothing is put aside", driver.put_aside("server.1", &aside, NOW).await), "there was nothing");
    assert!(driver.give_back("server.1", &aside, NOW).await.is_err(), "nothing was put aside that could be given back");
    assert!(driver.copy_disk("server.1", "root", &aside, NOW).await.is_err(), "there is no disk to copy");
    done("no copy is ended", driver.end_copy("server.1", NOW).await);
    let wanted = WantedVm { generation: NOW, running: bench.runs(), ..bench.vm("server.1") };
    let phase = if bench.runs() { VmPhase::Running } else { VmPhase::Stopped };
    let there = vm_until(bench, &wanted, phase).await;
    let again = done("the same again", driver.ensure(&wanted, bench).await);
    assert_eq!((again.phase, again.pid), (phase, there.pid), "what is as it shall be is left alone");
    let next = bench.driver();
    match next.usage("server.1").await {
        Err(DriverFault::NotReady(_)) if !bench.runs() => {}
        usage => assert!(bench.runs() && usage.is_ok(), "what it used: {usage:?}"),
    }
    let listed = done("a list", next.list().await);
    assert!(
        matches!(listed.as_slice(), [vm] if vm.id == "server.1" && vm.phase == phase),
        "the next process: {listed:?}"
    );
    assert!(done("put aside", next.put_aside("server.1", &aside, NOW).await), "there was one");
    assert_eq!(done("a list", next.list().await), []);
    done("given back", next.give_back("server.1", &aside, NOW).await);
    vm_until(bench, &wanted, phase).await;
    for what in ["removed", "removed again"] {
        done(what, driver.remove("server.1", false, NOW).await);
        assert_eq!(done("a list", driver.list().await), [], "{what}");
    }
    assert!(matches!(driver.usage("server.1").await, Err(DriverFault::NotReady(_))), "what is gone uses nothing");
    done("forgotten", driver.forget_generations());
}

/// Of two orders about one VM the one that was decided first is refused once the other was carried out, also by the next
/// process, and when the VM is gone.
pub async fn old_orders_for_vms(bench: &dyn VmBench) {
    let driver = bench.driver();
    let vm = |generation| WantedVm { generation, running: false, ..bench.vm("moved.1") };
    let aside = bench.folder().join("aside-of-old");
    done("made", driver.ensure(&vm(OLD), bench).await);
    done("seen by newer rows", driver.ensure(&vm(NOW), bench).await);
    for driver in [driver, bench.driver()] {
        let before = done("a list", driver.list().await);
        assert!(matches!(before.as_slice(), [vm] if vm.generation == NOW), "a list tells generations: {before:?}");
        is_stale("ensure", driver.ensure(&WantedVm { running: true, ..vm(OLD) }, bench).await);
        is_stale("remove", driver.remove("moved.1", false, OLD).await);
        is_stale("put_aside", driver.put_aside("moved.1", &aside, OLD).await);
        is_stale("give_back", driver.give_back("moved.1", &aside, OLD).await);
        is_stale("copy_disk", driver.copy_disk("moved.1", "root", &bench.folder().join("copy"), OLD).await);
        is_stale("end_copy", driver.end_copy("moved.1", OLD).await);
        assert_eq!(done("a list", driver.list().await), before, "what is refused changes nothing");
    }
    let driver = bench.driver();
    done(
        "another VM has its own",
        driver.ensure(&WantedVm { generation: OLD, ..vm(OLD) }.called("other.1"), bench).await,
    );
    done("removed", driver.remove("moved.1", false, NEXT).await);
    is_stale("ensure of what is gone", driver.ensure(&vm(NOW), bench).await);
    is_stale("ensure of what is gone, later", bench.driver().ensure(&vm(NOW), bench).await);
    let left: Vec<String> = done("a list", driver.list().await).into_iter().map(|vm: SeenVm| vm.id).collect();
    assert_eq!(left, ["other.1"]);
    done("forgotten", driver.forget_generations());
    done("older rows count again", driver.ensure(&vm(OLD), bench).await);
    for id in ["moved.1", "other.1"] {
        done("removed", driver.remove(id, false, NEXT).await);
    }
    done("forgotten", driver.forget_generations());
}

/// Kept disks are taken over once, and a removal that was decided before that and comes after it keeps nothing any more.
/// For benches where guests run: a VM that never ran has taken nothing over.
pub async fn kept_disks(bench: &dyn VmBench) {
    let driver = bench.driver();
    let vm = |id, generation| WantedVm { generation, ..bench.vm(id) };
    vm_until(bench, &vm("kept.1", OLD), VmPhase::Running).await;
    for what in ["removed", "removed again"] {
        done(what, driver.remove("kept.1", true, NOW).await);
        assert_eq!(bench.kept(), ["kept.1"], "{what}");
    }
    let mut next = vm("kept.2", NEXT);
    next.disks.iter_mut().for_each(|disk| disk.take_from = Some("kept.1".to_owned()));
    vm_until(bench, &next, VmPhase::Running).await;
    assert_eq!(bench.kept(), [""; 0], "what was kept is taken over");
    for driver in [driver, bench.driver()] {
        is_stale("a removal whose disks were taken over", driver.remove("kept.1", true, NOW).await);
        assert_eq!(bench.kept(), [""; 0], "there is nothing to keep any more");
    }
    let driver = bench.driver();
    done("removed", driver.remove("kept.2", false, NEXT).await);
    assert_eq!((done("a list", driver.list().await), bench.kept()), (Vec::new(), Vec::new()));
    done("forgotten", driver.forget_generations());
}

trait Called {
    fn called(self, id: &str) -> Self;
}

impl Called for WantedVm {
    fn called(self, id: &str) -> Self {
        Self { id: id.to_owned(), ..self }
    }
}

/// Takes steps until the VM is so. Steps are counted: a real one waits by itself for what it has begun.
async fn vm_until(bench: &dyn VmBench, wanted: &WantedVm, phase: VmPhase) -> SeenVm {
    let driver = bench.driver();
    let mut seen = None;
    for _ in 0..600 {
        let now = done("a step", driver.ensure(wanted, bench).await);
        if now.phase == phase {
            return now;
        }
        seen = Some(now);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the VM does not become {phase:?}: {seen:?}")
}

/// Pods are made, listed, stopped and removed, each as often as one likes.
pub async fn pods(bench: &dyn PodBench) {
    let driver = bench.driver();
    let pod = WantedPod { generation: NOW, ..bench.pod("suite-one") };
    let uid = pod.uid.as_str();
    assert!(done("a look at nothing", driver.look(uid).await).is_none());
    done("the removal of nothing", driver.remove(uid, Duration::ZERO, NOW).await);
    done("a stop of nothing", driver.stop_container("never-was", Duration::ZERO).await);
    for _ in 0..2 {
        done("a sandbox", driver.ensure_sandbox(&pod).await);
        done("an image", driver.ensure_image(&pod, "main").await);
        done("a container", driver.ensure_container(&pod, "main").await);
    }
    let next = bench.driver();
    let listed = done("a list", next.list().await);
    let seen = listed.iter().find(|seen| seen.uid == uid).expect("the next process finds it");
    assert!(seen.ready && seen.created.is_some(), "{seen:?}");
    assert_eq!((&seen.name, &seen.namespace, &seen.cluster_id), (&pod.name, &pod.namespace, &pod.cluster_id));
    let [container] = seen.containers.as_slice() else { panic!("one container, made once: {seen:?}") };
    assert!(matches!(container.state, ContainerState::Running { .. }), "{container:?}");
    for _ in 0..2 {
        done("stopped", driver.stop_container(&container.id, Duration::ZERO).await);
    }
    let seen = done("a look", driver.look(uid).await).expect("it is there");
    assert!(matches!(seen.containers[0].state, ContainerState::Exited { .. }), "{seen:?}");
    for _ in 0..2 {
        done("removed", driver.remove(uid, Duration::ZERO, NOW).await);
        assert!(done("a look", driver.look(uid).await).is_none());
    }
}

/// [`old_orders_for_vms`], of pods.
pub async fn old_orders_for_pods(bench: &dyn PodBench) {
    let pod = |generation| WantedPod { generation, ..bench.pod("suite-moved") };
    let uid = pod(NOW).uid;
    let driver = bench.driver();
    done("a sandbox", driver.ensure_sandbox(&pod(NOW)).await);
    for driver in [driver, bench.driver()] {
        is_stale("ensure_sandbox", driver.ensure_sandbox(&pod(OLD)).await);
        is_stale("ensure_container", driver.ensure_container(&pod(OLD), "main").await);
        is_stale("remove", driver.remove(&uid, Duration::ZERO, OLD).await);
        let seen = done("a look", driver.look(&uid).await).expect("what is refused changes nothing");
        assert_eq!((seen.containers.len(), seen.generation), (0, NOW));
    }
    let driver = bench.driver();
    done("removed", driver.remove(&uid, Duration::ZERO, NEXT).await);
    is_stale("ensure of what is gone", driver.ensure_sandbox(&pod(NOW)).await);
    is_stale("ensure of what is gone, later", bench.driver().ensure_sandbox(&pod(NOW)).await);
    assert!(done("a look", driver.look(&uid).await).is_none());
    done("forgotten", driver.forget_generations());
    done("older rows count again", driver.ensure_sandbox(&pod(OLD)).await);
    done("removed", driver.remove(&uid, Duration::ZERO, NEXT).await);
}

/// A network is made and taken down, as often as one likes, and not by what is older than it.
pub async fn networks(bench: &dyn NetBench) {
    let (driver, network) = (bench.driver(), bench.network());
    let ports: Vec<String> = network
        .domains
        .iter()
        .flat_map(|domain| &domain.bridges)
        .flat_map(|bridge| bridge.ports.iter().map(|wire| wire.port_id.clone()))
        .collect();
    let early = driver.plug(&ports[0], Path::new("/proc/self/ns/net"), "eth0", NOW).await;
    assert!(matches!(early, Err(DriverFault::NotReady(_))), "a port that is not there yet: {early:?}");
    done("no port is unplugged", driver.unplug(&ports[0], NOW).await);
    for _ in 0..2 {
        let mut seen: Vec<String> =
            done("made", driver.apply(&network, NOW).await).wires.into_iter().map(|wire| wire.port_id).collect();
        seen.sort();
        let mut ports = ports.clone();
        ports.sort();
        assert_eq!(seen, ports, "each port is told of");
    }
    for driver in [driver, bench.driver()] {
        is_stale("apply", driver.apply(&HostNetwork::default(), OLD).await);
        is_stale("unplug", driver.unplug(&ports[0], OLD).await);
        let seen = done("the next process makes the same", driver.apply(&network, NOW).await);
        assert_eq!(seen.wires.len(), ports.len());
    }
    let driver = bench.driver();
    done("unplugged", driver.unplug(&ports[0], NEXT).await);
    assert_eq!(done("taken down", driver.apply(&HostNetwork::default(), NEXT).await).wires, []);
    is_stale("apply of what is gone", driver.apply(&network, NOW).await);
    done("forgotten", driver.forget_generations());
    done("older rows count again", driver.apply(&network, OLD).await);
    assert_eq!(done("taken down", driver.apply(&HostNetwork::default(), NEXT).await).wires, []);
}
