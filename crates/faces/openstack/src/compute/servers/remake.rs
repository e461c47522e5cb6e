//! Rebuild and resize: a server's next incarnation.
//!
//! A resize may need more room than there is. So that a server is not stopped for a size that then fits nowhere, the
//! old incarnation takes the room of the larger size in the request's own transaction, and is refused there; the next
//! incarnation takes that room over from it.

use model::machine::Machine;
use model::{Entry, Fault, Flavor, Index, Server, ServerUsage, Vm};
use serde_json::{Value, json};

use super::requests::{
    self, ACCESS_IPV4, ACCESS_IPV6, ADMIN_PASS, CERTIFICATES, DESCRIPTION, DISK_CONFIG, FLAVOR, HOSTNAME, IMAGE,
    KEY_NAME, METADATA, NAME, PERSONALITY, USER_DATA,
};
use super::{Subject, When, act, personality, view};
use crate::attrs::Answers;
use crate::call::{Call, Reply};
use crate::compute::schema::{Is, Schema, property};

const fn when(vm_states: &'static [&'static str]) -> When {
    When { vm_states, tasks: &[], any_task: false, though_locked: false }
}

/// Begins the next incarnation. Reboots are counted anew in it.
pub(super) fn next(server: &mut Server, keep_disk: bool) {
    server.sized_at = server.counted_since();
    server.incarnation += 1;
    server.keep_disk = keep_disk;
    server.launched_at = None;
    server.soft_reboots = 0;
    server.hard_reboots = 0;
    server.paused = false;
    server.suspended = false;
    server.forced_state = None;
    server.problem = None;
}

/// What a rebuild may change besides the disk.
pub const REBUILD: Schema<Server> = Schema {
    name: "rebuild",
    properties: &[
        IMAGE.required(),
        NAME,
        ADMIN_PASS,
        METADATA,
        property("preserve_ephemeral", Is::Flag),
        DISK_CONFIG,
        ACCESS_IPV4,
        ACCESS_IPV6,
        PERSONALITY,
        DESCRIPTION,
        KEY_NAME.since(2, 54).nullable(),
        USER_DATA.since(2, 57),
        CERTIFICATES,
        HOSTNAME,
    ],
};

pub const RESIZE: Schema<Server> = Schema { name: "resize", properties: &[FLAVOR, DISK_CONFIG] };

/// `rebuild`
pub async fn rebuild(call: &Call, body: &Value) -> Result<Reply, Fault> {
    let given = REBUILD.read(call.version, body)?;
    if given.get("trusted_image_certificates").and_then(Value::as_array).is_some_and(|list| !list.is_empty()) {
        return Err(Fault::Invalid("trusted_image_certificates is not supported by this cloud.".into()));
    }
    if given.flag("preserve_ephemeral") == Some(true) {
        return Err(Fault::Invalid("The current driver does not support preserving ephemeral partitions.".into()));
    }
    // A new disk has the files of this request alone.
    let files = personality::read(call, given.get("personality"))?;
    let admin_pass = requests::admin_pass(given.text("adminPass"));
    let server = act(call, "rebuild", when(&["active", "stopped", "error"]), |server, subject| {
        let image = given.get("imageRef").unwrap_or(&Value::Null);
        let image = requests::boot_image(&subject.view, image, &server.flavor)?;
        server.image_id = Some(image.id.clone());
        server.image_properties = requests::image_properties(&image);
        server.config_drive |= requests::needs_config_drive(&image);
        given.put(server);
        if given.has("metadata") {
            requests::check_metadata(call, &server.metadata)?;
        }
        server.files.clone_from(&files);
        if given.has("key_name") {
            let key = given.text("key_name").map(|name| requests::find_key(&subject.view, name)).transpose()?;
            server.key_name = key.map(|key| key.value.name.clone());
            server.public_key = key.and_then(requests::ssh_key);
        }
        server.admin_pass = Some(admin_pass.clone());
        next(server, false);
        Ok(())
    })
    .await?;
    let mut out = json!(view::server(call, &server, Answers::REBUILT));
    out["adminPass"] = json!(admin_pass);
    out["status"] = json!("REBUILD");
    Ok(Reply::json(202, &json!({"server": out})))
}

/// `resize`
pub async fn resize(call: &Call, body: &Value) -> Result<Reply, Fault> {
    let given = RESIZE.read(call.version, body)?;
    let flavor = requests::flavor(&call.view()?, given.get("flavorRef").unwrap_or(&Value::Null))?;
    let done = act(call, "resize", when(&["active", "stopped"]), |server, subject| {
        if flavor.id == server.flavor.id {
            return Err(Fault::Invalid("When resizing, instances must change flavor!".into()));
        }
        if flavor.disk == 0 && server.flavor.disk != 0 {
            return Err(Fault::Invalid("Resize to zero disk flavor is not allowed.".into()));
        }
        if flavor.disk < server.flavor.disk {
            return Err(Fault::Invalid("Unable to resize disk down.".into()));
        }
        if let Some(source) = vm(server, subject).and_then(|vm| vm.value.source.as_ref()) {
            Machine::of(&source.hardware, &flavor).map_err(Fault::Invalid)?;
        }
        reserve(server, &flavor, subject);
        end_size(call, server, subject);
        server.old_flavor = Some(std::mem::replace(&mut server.flavor, flavor.clone()));
        given.put(server);
        next(server, true);
        Ok(())
    })
    .await;
    match done {
        Ok(_) => Ok(Reply::empty(202)),
        // The host of the disk has no room for the larger size.
        Err(Fault::Exhausted(_)) => {
            Err(Fault::Invalid("No valid host was found. No valid host found for resize".into()))
        }
        Err(fault) => Err(fault),
    }
}

/// The present incarnation.
fn vm<'a>(server: &Server, subject: &Subject<'a>) -> Option<Entry<'a, Vm>> {
    let id = Vm::id(&server.id, server.incarnation);
    subject.snapshot.find::<Vm>(Index::Owner, &server.id).find(|vm| *vm.row.key.name == *id)
}

/// What the server took so far is counted by its present flavor, what follows by another.
fn end_size(call: &Call, server: &mut Server, subject: &mut Subject<'_>) {
    if let Some(usage) = ServerUsage::of(server, call.now, false) {
        server.sized_at = Some(usage.ended);
        subject.change.create(usage);
    }
}

/// Lets the running incarnation take the room of the larger of both sizes.
fn reserve(server: &Server, flavor: &Flavor, subject: &mut Subject<'_>) {
    if let Some(vm) = vm(server, subject) {
        let disk = flavor.disk.saturating_add(flavor.ephemeral).saturating_add(flavor.swap.div_ceil(1024));
        subject.change.edit(vm, |vm| {
            vm.cpu_milli = vm.cpu_milli.max(flavor.vcpus.saturating_mul(1000));
            vm.memory_mib = vm.memory_mib.max(flavor.ram.saturating_add(Vm::OVERHEAD_MIB));
            vm.disk_gib = vm.disk_gib.max(disk);
        });
    }
}

/// `confirmResize`
pub async fn confirm(call: &Call) -> Result<Reply, Fault> {
    act(call, "confirmResize", when(&["resized"]), |server, _| {
        server.old_flavor = None;
        Ok(())
    })
    .await?;
    Ok(Reply::empty(204))
}

/// `revertResize`
pub async fn revert(call: &Call) -> Result<Reply, Fault> {
    act(call, "revertResize", when(&["resized"]), |server, subject| {
        let old = server.old_flavor.take();
        let old = old.ok_or_else(|| Fault::Conflict(format!("Instance {} has not been resized.", server.id)))?;
        end_size(call, server, subject);
        server.flavor = old;
        next(server, true);
        Ok(())
    })
    .await?;
    Ok(Reply::empty(202))
}
