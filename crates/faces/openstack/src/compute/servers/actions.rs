//! `POST /servers/{id}/action`: what can be done to a server. Verbs change what is wanted; hosts follow.

use model::{Fault, Host, Kind, Port, SecurityGroup, Server};
use serde_json::Value;

use super::{Subject, When, act, console, remake, rescue, shelve, snapshot, update, view};
use crate::call::{Call, Reply};
use crate::compute::body::{Fields, bad};
use crate::compute::fault::{missing, not_built};
use crate::compute::schema::{Is, Property, Schema, property};
use crate::compute::{consoles, floating_ips, security_groups};
use crate::service::Takes;

/// Actions that ended with a version: their last one.
const ENDED: &[(&str, (u16, u16))] = &[
    ("addFloatingIp", (2, 43)),
    ("removeFloatingIp", (2, 43)),
    ("addFixedIp", (2, 43)),
    ("removeFixedIp", (2, 43)),
    ("os-getVNCConsole", (2, 5)),
    ("os-getSPICEConsole", (2, 5)),
    ("os-getRDPConsole", (2, 5)),
    ("os-getSerialConsole", (2, 5)),
];

/// What is declared of the actions.
pub fn bodies() -> Vec<Takes> {
    let remade = [remake::REBUILD.declared(), remake::RESIZE.declared(), rescue::RESCUE.declared()];
    remade.into_iter().chain([ADD_GROUP.declared(), REMOVE_GROUP.declared()]).collect()
}

/// `POST /servers/{id}/action`
pub async fn action(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    let map = body.as_object().filter(|map| map.len() == 1);
    let Some((name, value)) = map.and_then(|map| map.iter().next()) else {
        return Err(Fault::Invalid("Malformed request body: exactly one action must be given".into()));
    };
    if let Some((_, last)) = ENDED.iter().find(|(ended, _)| ended == name) {
        return match name.as_str() {
            _ if call.version > *last => Err(missing("The resource could not be found.")),
            "addFloatingIp" => floating_ips::add(&call, value).await,
            "removeFloatingIp" => floating_ips::remove(&call, value).await,
            _ => consoles::old(&call, name, value),
        };
    }
    let known_server = |call: &Call| super::find(&call.view()?, call.param("id")).map(drop);
    known_server(&call)?;
    match name.as_str() {
        "os-start" => start(&call).await,
        "os-stop" => stop(&call).await,
        "reboot" => reboot(&call, &body).await,
        "pause" => pause(&call).await,
        "unpause" => unpause(&call).await,
        "suspend" => suspend(&call).await,
        "resume" => resume(&call).await,
        "rescue" => rescue::rescue(&call, value).await,
        "unrescue" => rescue::unrescue(&call).await,
        "shelve" => shelve::shelve(&call).await,
        "shelveOffload" => shelve::offload(&call).await,
        "unshelve" => shelve::unshelve(&call, value).await,
        "createImage" => snapshot::create_image(&call, &body).await,
        "createBackup" => snapshot::create_backup(&call, &body).await,
        "migrate" => elsewhere(&call, "No valid host was found. No valid host found for cold migrate"),
        "os-migrateLive" => elsewhere(&call, "No valid host was found. There are not enough hosts available."),
        "evacuate" => evacuate(&call),
        "lock" => lock(&call, value).await,
        "unlock" => unlock(&call).await,
        "rebuild" => remake::rebuild(&call, &body).await,
        "resize" => remake::resize(&call, &body).await,
        "confirmResize" => remake::confirm(&call).await,
        "revertResize" => remake::revert(&call).await,
        "forceDelete" => {
            update::remove(&call).await?;
            Ok(Reply::empty(202))
        }
        "os-resetState" => reset_state(&call, &body).await,
        "os-getConsoleOutput" => console::output(&call, value).await,
        "changePassword" => change_password(&call, &body).await,
        "addSecurityGroup" => groups(&call, &body, true).await,
        "removeSecurityGroup" => groups(&call, &body, false).await,
        "restore" => restore(&call).await,
        "trigger_crash_dump" if call.version >= (2, 17) => crash_dump(&call).await,
        "trigger_crash_dump" => Err(missing("The resource could not be found.")),
        "resetNetwork" | "injectNetworkInfo" => {
            Err(Fault::Expired(format!("The action {name} is no longer available. No forwarding address is given.")))
        }
        other => Err(Fault::Invalid(format!("There is no such action: {other}"))),
    }
}

const fn when(vm_states: &'static [&'static str]) -> When {
    When { vm_states, tasks: &[], any_task: false, though_locked: false }
}

async fn simple(call: &Call, verb: &str, when: When, edit: impl Fn(&mut Server)) -> Result<Reply, Fault> {
    act(call, verb, when, |server, _| {
        server.forced_state = None;
        edit(server);
        Ok(())
    })
    .await?;
    Ok(Reply::empty(202))
}

async fn start(call: &Call) -> Result<Reply, Fault> {
    let edit = |server: &mut Server| {
        // One that ended by itself was never asked to be off: only a count starts it anew.
        server.hard_reboots += u32::from(server.power);
        server.power = true;
    };
    simple(call, "start", when(&["stopped"]), edit).await
}

async fn stop(call: &Call) -> Result<Reply, Fault> {
    simple(call, "stop", when(&["active", "error"]), |server| server.power = false).await
}

async fn pause(call: &Call) -> Result<Reply, Fault> {
    simple(call, "pause", when(&["active"]), |server| server.paused = true).await
}

async fn unpause(call: &Call) -> Result<Reply, Fault> {
    simple(call, "unpause", when(&["paused"]), |server| server.paused = false).await
}

async fn suspend(call: &Call) -> Result<Reply, Fault> {
    simple(call, "suspend", when(&["active"]), |server| server.suspended = true).await
}

async fn resume(call: &Call) -> Result<Reply, Fault> {
    simple(call, "resume", when(&["suspended"]), |server| server.suspended = false).await
}

/// Deletions are not deferred here, so that there is never anything to restore: Nova's answer for such a server.
async fn restore(call: &Call) -> Result<Reply, Fault> {
    act(call, "restore", when(&["soft-delete"]), |_, _| Ok(())).await?;
    Ok(Reply::empty(202))
}

/// As Nova where the driver cannot do it.
async fn crash_dump(call: &Call) -> Result<Reply, Fault> {
    act(call, "trigger_crash_dump", when(&["active", "paused", "rescued", "resized", "error"]), |_, _| {
        Err(Fault::Invalid("Triggering crash dump is not supported".into()))
    })
    .await?;
    Ok(Reply::empty(202))
}

/// Nova's answer where there is no other host to go to.
fn elsewhere(call: &Call, why: &str) -> Result<Reply, Fault> {
    admin(call, "migrate_server")?;
    Err(Fault::Invalid(why.into()))
}

fn evacuate(call: &Call) -> Result<Reply, Fault> {
    admin(call, "evacuate")?;
    let view = call.view()?;
    let server = super::find(&view, call.param("id"))?;
    let host = super::status::host(&call.snapshot, &server).and_then(|name| call.snapshot.get::<Host>(name));
    match host.filter(|host| host.is_up()) {
        Some(host) => Err(Fault::Invalid(format!("Compute service of {} is still in use.", host.name))),
        None => Err(not_built("The action 'evacuate'")),
    }
}

fn admin(call: &Call, rule: &str) -> Result<(), Fault> {
    if call.who()?.is_admin() {
        return Ok(());
    }
    Err(Fault::Forbidden(format!("Policy doesn't allow os_compute_api:os-{rule} to be performed.")))
}

async fn reboot(call: &Call, body: &Value) -> Result<Reply, Fault> {
    let fields = Fields::of(body, "reboot")?;
    fields.only(&["type"])?;
    let value = fields.required("type")?;
    match value.as_str().map(str::to_uppercase).as_deref() {
        Some("SOFT") => simple(call, "reboot", when(&["active"]), |server| server.soft_reboots += 1).await,
        Some("HARD") => {
            // A hard reboot also starts what is stopped, paused or in error.
            let when = When {
                vm_states: &["active", "stopped", "paused", "suspended", "error"],
                tasks: &["rebooting", "rebooting_hard", "pausing", "unpausing", "powering-on", "powering-off"],
                any_task: false,
                though_locked: false,
            };
            let edit = |server: &mut Server| {
                server.hard_reboots += 1;
                server.power = true;
                server.paused = false;
                server.suspended = false;
            };
            simple(call, "reboot", when, edit).await
        }
        _ => Err(bad("type", value, "It is not one of ['HARD', 'Hard', 'hard', 'SOFT', 'Soft', 'soft']")),
    }
}

/// Only an agent in the guest could do it, and guests are not asked to have one.
async fn change_password(call: &Call, body: &Value) -> Result<Reply, Fault> {
    let fields = Fields::of(body, "changePassword")?;
    fields.only(&["adminPass"])?;
    fields.required("adminPass")?;
    fields.text("adminPass", 255)?;
    act(call, "changePassword", when(&["active"]), |_, _| {
        Err(Fault::Conflict("QEMU guest agent is not enabled.".into()))
    })
    .await?;
    Ok(Reply::empty(202))
}

const ANY: When = When { vm_states: &[], tasks: &[], any_task: true, though_locked: true };

async fn lock(call: &Call, value: &Value) -> Result<Reply, Fault> {
    let reason = if value.is_null() {
        None
    } else {
        let fields = Fields::new("lock", value)?;
        fields.only(if call.version >= (2, 73) { &["locked_reason"] } else { &[] })?;
        fields.text("locked_reason", 255)?.map(str::to_owned)
    };
    act(call, "lock", ANY, |server, _| {
        server.locked = true;
        server.locked_reason.clone_from(&reason);
        Ok(())
    })
    .await?;
    Ok(Reply::empty(202))
}

async fn unlock(call: &Call) -> Result<Reply, Fault> {
    act(call, "unlock", ANY, |server, _| {
        server.locked = false;
        server.locked_reason = None;
        Ok(())
    })
    .await?;
    Ok(Reply::empty(202))
}

async fn reset_state(call: &Call, body: &Value) -> Result<Reply, Fault> {
    if !call.who()?.is_admin() {
        return Err(Fault::Forbidden(
            "Policy doesn't allow os_compute_api:os-admin-actions:reset_state to be performed.".into(),
        ));
    }
    let fields = Fields::of(body, "os-resetState")?;
    fields.only(&["state"])?;
    let value = fields.required("state")?;
    let state = match value.as_str() {
        Some(state @ ("active" | "error")) => state.to_owned(),
        _ => return Err(bad("state", value, "It is not one of ['active', 'error']")),
    };
    act(call, "", ANY, |server, _| {
        server.forced_state = Some(state.clone());
        Ok(())
    })
    .await?;
    Ok(Reply::empty(202))
}

const GROUP: &[Property] = &[property("name", Is::Name).required().refers_to(&[(Kind::SecurityGroup, r#""$""#)])];
const ADD_GROUP: Schema = Schema { name: "addSecurityGroup", properties: GROUP };
const REMOVE_GROUP: Schema = Schema { name: "removeSecurityGroup", properties: GROUP };

/// Puts all of the server's ports into a security group, or takes them out.
async fn groups(call: &Call, body: &Value, add: bool) -> Result<Reply, Fault> {
    let given = if add { &ADD_GROUP } else { &REMOVE_GROUP }.read(call.version, body)?;
    let name = given.text("name").unwrap_or_default();
    let when = When { vm_states: &[], tasks: &[], any_task: true, though_locked: false };
    act(call, if add { "add_security_group" } else { "remove_security_group" }, when, |server, subject| {
        let group = security_groups::resolve(&subject.view, name)?.value.clone();
        let lists = |port: &Port| [port.security_groups.clone(), vec![group.id.clone()]].concat();
        let mut ports = view::ports(subject.snapshot, server).into_iter();
        if add && ports.any(|port| model::of_both_sorts(subject.snapshot, &lists(port))) {
            return Err(Fault::Invalid(model::BOTH_SORTS.into()));
        }
        let changed = regroup(call, server, subject, &group, add);
        if !add && !changed {
            return Err(missing(format!("Security group {name} not associated with the instance {}", server.id)));
        }
        Ok(())
    })
    .await?;
    Ok(Reply::empty(202))
}

/// Whether any port changed.
fn regroup(call: &Call, server: &mut Server, subject: &mut Subject<'_>, group: &SecurityGroup, add: bool) -> bool {
    let mut changed = false;
    let ports: Vec<String> = view::ports(subject.snapshot, server).iter().map(|port| port.id.clone()).collect();
    for port in ports.iter().filter_map(|id| subject.snapshot.get::<Port>(id)) {
        let has = port.security_groups.contains(&group.id);
        if has == add || !port.port_security_enabled {
            continue;
        }
        changed = true;
        subject.change.edit(port, |p| {
            p.security_groups.retain(|id| *id != group.id);
            p.security_groups.extend(add.then(|| group.id.clone()));
            p.updated_at = call.now;
        });
    }
    // Ports that are not made yet get what the server says.
    if ports.is_empty() {
        changed = server.security_groups.contains(&group.id) != add;
        server.security_groups.retain(|id| *id != group.id);
        server.security_groups.extend(add.then(|| group.id.clone()));
    }
    changed
}
