//! What a server is, computed from its row and its incarnations'; stored nowhere. All that Nova calls status, vm_state,
//! task_state and power_state comes from here.
//!
//! ```text
//! never launched:  BUILD (scheduling, networking, spawning) -> ACTIVE, or ERROR with the planner's or the host's reason
//! launched:        ACTIVE <-> SHUTOFF, ACTIVE <-> PAUSED, REBOOT and HARD_REBOOT until the host has done it;
//!                  SHUTOFF also by itself, when the guest powered off or its QEMU died;
//!                  SUSPENDED, RESCUE and SHELVED_OFFLOADED when the host has done it, with a task until then
//! next incarnation: REBUILD -> ACTIVE | RESIZE -> VERIFY_RESIZE -> ACTIVE | REVERT_RESIZE -> ACTIVE
//! ```

use model::{Image, ImageStatus, Index, Server, Snapshot, Vm, VmPhase};

/// What a server is at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub status: &'static str,
    pub vm_state: &'static str,
    pub task_state: Option<&'static str>,
    pub power_state: u8,
    /// Why it is in error, in words.
    pub fault: Option<String>,
}

const NOSTATE: u8 = 0;
const RUNNING: u8 = 1;
const PAUSED: u8 = 3;
const SHUTDOWN: u8 = 4;

/// The incarnation that counts.
pub fn current<'a>(snapshot: &'a Snapshot, server: &Server) -> Option<&'a Vm> {
    snapshot.find::<Vm>(Index::Owner, &server.id).map(|vm| vm.value).find(|vm| vm.incarnation == server.incarnation)
}

/// The host that a server is on: of the current incarnation, or of the one before while that still runs.
pub fn host<'a>(snapshot: &'a Snapshot, server: &Server) -> Option<&'a str> {
    let placed = snapshot.find::<Vm>(Index::Owner, &server.id).map(|vm| vm.value).filter(|vm| vm.host.is_some());
    placed.max_by_key(|vm| vm.incarnation).and_then(|vm| vm.host.as_deref())
}

/// What a server is.
pub fn state(snapshot: &Snapshot, server: &Server) -> State {
    let mut state = of(server, current(snapshot, server));
    if state.task_state.is_none() {
        let images = snapshot.find::<Image>(Index::Owner, &server.id);
        state.task_state =
            images.map(|image| image.status).max_by_key(|s| *s == ImageStatus::Saving).map(|s| match s {
                ImageStatus::Saving => "image_uploading",
                _ => "image_snapshot_pending",
            });
    }
    state
}

/// What a server is, given the incarnation that counts.
pub fn of(server: &Server, vm: Option<&Vm>) -> State {
    let mut state = if server.shelved.is_some() {
        shelved(vm)
    } else if server.launched_at.is_none() {
        unlaunched(server, vm)
    } else {
        launched(server, vm)
    };
    match server.forced_state.as_deref() {
        Some("error") => {
            state.status = "ERROR";
            state.vm_state = "error";
            state.task_state = None;
        }
        Some("active") if state.vm_state == "error" => {
            state.status = "ACTIVE";
            state.vm_state = "active";
            state.fault = None;
        }
        _ => {}
    }
    if server.deleting {
        state.task_state = Some("deleting");
    }
    state
}

fn phase(vm: Option<&Vm>) -> VmPhase {
    vm.map_or(VmPhase::Unknown, |vm| vm.status.phase)
}

fn power(phase: VmPhase) -> u8 {
    match phase {
        VmPhase::Running => RUNNING,
        VmPhase::Paused => PAUSED,
        VmPhase::Stopped | VmPhase::Suspended => SHUTDOWN,
        VmPhase::Unknown | VmPhase::Starting | VmPhase::Failed | VmPhase::Gone => NOSTATE,
    }
}

fn error(vm: Option<&Vm>, why: String) -> State {
    State { status: "ERROR", vm_state: "error", task_state: None, power_state: power(phase(vm)), fault: Some(why) }
}

fn shelved(vm: Option<&Vm>) -> State {
    let (status, vm_state, task_state) = match vm {
        None => ("SHELVED_OFFLOADED", "shelved_offloaded", None),
        Some(vm) if vm.deleting => ("SHELVED", "shelved", Some("shelving_offloading")),
        Some(vm) if vm.status.phase == VmPhase::Stopped => ("ACTIVE", "active", Some("shelving_image_uploading")),
        Some(_) => ("ACTIVE", "active", Some("shelving")),
    };
    let power_state = vm.map_or(SHUTDOWN, |vm| power(vm.status.phase));
    State { status, vm_state, task_state, power_state, fault: None }
}

/// It does not run yet in this incarnation.
fn unlaunched(server: &Server, vm: Option<&Vm>) -> State {
    let placed = vm.is_some_and(|vm| vm.host.is_some());
    match (vm, &server.problem) {
        (Some(vm), _) if vm.status.phase == VmPhase::Failed => return error(Some(vm), vm.status.message.clone()),
        (_, Some(problem)) if !placed => return error(vm, problem.clone()),
        _ => {}
    }
    let (status, vm_state, task) = if server.unshelving.is_some() {
        ("SHELVED_OFFLOADED", "shelved_offloaded", if placed { "spawning" } else { "unshelving" })
    } else if server.incarnation <= 1 {
        let task = match vm {
            None => "networking",
            Some(_) if !placed => "scheduling",
            Some(_) => "spawning",
        };
        ("BUILD", "building", task)
    } else if server.old_flavor.is_some() {
        ("RESIZE", "active", if placed { "resize_finish" } else { "resize_migrating" })
    } else if server.keep_disk {
        ("REVERT_RESIZE", "resized", "resize_reverting")
    } else {
        ("REBUILD", "active", if placed { "rebuild_spawning" } else { "rebuilding" })
    };
    State { status, vm_state, task_state: Some(task), power_state: power(phase(vm)), fault: None }
}

fn launched(server: &Server, vm: Option<&Vm>) -> State {
    let phase = phase(vm);
    let done = vm.map(|vm| (vm.status.soft_reboots, vm.status.hard_reboots)).unwrap_or_default();
    let hard = server.hard_reboots > done.1 && server.power;
    let soft = server.soft_reboots > done.0 && server.power;
    let rescued = vm.is_some_and(|vm| vm.status.rescued);
    let (status, vm_state, task) = match phase {
        VmPhase::Failed => return error(vm, vm.map(|vm| vm.status.message.clone()).unwrap_or_default()),
        VmPhase::Stopped if vm.is_some_and(|vm| vm.status.ended) => {
            ("SHUTOFF", "stopped", hard.then_some("powering-on"))
        }
        _ if hard => ("HARD_REBOOT", "active", Some("rebooting_hard")),
        VmPhase::Running | VmPhase::Starting if server.rescue.is_some() && rescued => ("RESCUE", "rescued", None),
        _ if server.rescue.is_some() => ("ACTIVE", "active", Some("rescuing")),
        _ if rescued => ("RESCUE", "rescued", Some("unrescuing")),
        VmPhase::Running if soft => ("REBOOT", "active", Some("rebooting")),
        VmPhase::Suspended if server.suspended => ("SUSPENDED", "suspended", None),
        VmPhase::Suspended => ("SUSPENDED", "suspended", Some("resuming")),
        VmPhase::Running | VmPhase::Paused if server.suspended => ("ACTIVE", "active", Some("suspending")),
        VmPhase::Running if !server.power => ("ACTIVE", "active", Some("powering-off")),
        VmPhase::Running if server.paused => ("ACTIVE", "active", Some("pausing")),
        VmPhase::Running => ("ACTIVE", "active", None),
        VmPhase::Paused if !server.power => ("PAUSED", "paused", Some("powering-off")),
        VmPhase::Paused if server.paused => ("PAUSED", "paused", None),
        VmPhase::Paused => ("PAUSED", "paused", Some("unpausing")),
        VmPhase::Stopped | VmPhase::Starting | VmPhase::Gone if server.power => {
            ("SHUTOFF", "stopped", Some("powering-on"))
        }
        VmPhase::Stopped | VmPhase::Starting | VmPhase::Gone => ("SHUTOFF", "stopped", None),
        // The host does not answer: what was wanted last is the best guess, and no power state says so.
        VmPhase::Unknown if server.power => ("ACTIVE", "active", None),
        VmPhase::Unknown => ("SHUTOFF", "stopped", None),
    };
    let mut state = State { status, vm_state, task_state: task, power_state: power(phase), fault: None };
    if server.old_flavor.is_some() && task.is_none() {
        state.status = "VERIFY_RESIZE";
        state.vm_state = "resized";
    }
    state
}
