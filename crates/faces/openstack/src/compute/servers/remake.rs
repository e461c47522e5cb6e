//! Rebuild and resize: a server's next incarnation.
//!
//! A resize may need more room than there is. So that a server is not stopped for a size that then fits nowhere, the
//! old incarnation takes the room of the larger size in the request's own transaction, and is refused there; the next
//! incarnation takes that room over from it.

use model::machine::Machine;
use model::{Entry, Fault, Flavor, Index, InjectedFile, Server, ServerUsage, Vm};
use serde_json::{Value, json};

use super::view;
use super::{Subject, When, act};
use super::{personality, requests};
use crate::attrs::Answers;
use crate::call::{Call, Reply};
use crate::compute::body::Fields;

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

fn known(version: (u16, u16)) -> Vec<&'static str> {
    let mut known = vec![
        "imageRef",
        "name",
        "adminPass",
        "metadata",
        "preserve_ephemeral",
        "OS-DCF:diskConfig",
        "accessIPv4",
        "accessIPv6",
    ];
    known.extend((version <= (2, 56)).then_some("personality"));
    for (since, field) in [
        ((2, 19), "description"),
        ((2, 54), "key_name"),
        ((2, 57), "user_data"),
        ((2, 63), "trusted_image_certificates"),
        ((2, 90), "hostname"),
    ] {
        known.extend((version >= since).then_some(field));
    }
    known
}

/// What a rebuild may change besides the disk.
struct Rebuild<'a> {
    image: &'a Value,
    name: Option<String>,
    metadata: Option<std::collections::BTreeMap<String, String>>,
    auto_disk: Option<bool>,
    access_ipv4: Option<String>,
    access_ipv6: Option<String>,
    /// Each given as null takes the value away.
    description: Option<Option<String>>,
    key_name: Option<Option<String>>,
    user_data: Option<Option<String>>,
    /// A new disk has the files of this request alone.
    files: Vec<InjectedFile>,
    hostname: Option<String>,
    admin_pass: String,
}

fn read_rebuild<'a>(call: &Call, fields: &Fields<'a>) -> Result<Rebuild<'a>, Fault> {
    fields.only(&known(call.version))?;
    if fields.get("trusted_image_certificates").and_then(Value::as_array).is_some_and(|list| !list.is_empty()) {
        return Err(Fault::Invalid("trusted_image_certificates is not supported by this cloud.".into()));
    }
    if fields.boolean("preserve_ephemeral")? == Some(true) {
        return Err(Fault::Invalid("The current driver does not support preserving ephemeral partitions.".into()));
    }
    let given = |field: &str| fields.map.contains_key(field);
    let text = |field: &str, most: usize| -> Result<Option<Option<String>>, Fault> {
        Ok(if given(field) { Some(fields.text(field, most)?.map(str::to_owned)) } else { None })
    };
    Ok(Rebuild {
        image: fields.required("imageRef")?,
        name: fields.name("name")?,
        metadata: if given("metadata") { Some(requests::metadata(call, fields)?) } else { None },
        auto_disk: requests::disk_config(fields)?,
        access_ipv4: fields.address("accessIPv4", false)?,
        access_ipv6: fields.address("accessIPv6", true)?,
        description: text("description", 255)?,
        key_name: text("key_name", 255)?,
        user_data: if given("user_data") { Some(fields.base64("user_data", 65535)?) } else { None },
        files: personality::read(call, fields)?,
        hostname: fields.text("hostname", 255)?.map(|text| requests::hostname(call, text)).transpose()?,
        admin_pass: requests::admin_pass(fields)?,
    })
}

/// `rebuild`
pub async fn rebuild(call: &Call, body: &Value) -> Result<Reply, Fault> {
    let fields = Fields::of(body, "rebuild")?;
    let asked = read_rebuild(call, &fields)?;
    let server = act(call, "rebuild", when(&["active", "stopped", "error"]), |server, subject| {
        let image = requests::boot_image(&subject.view, asked.image, &server.flavor)?;
        server.image_id = Some(image.id.clone());
        server.image_properties = requests::image_properties(&image);
        server.config_drive |= requests::needs_config_drive(&image);
        apply(&asked, server, subject)?;
        server.admin_pass = Some(asked.admin_pass.clone());
        next(server, false);
        Ok(())
    })
    .await?;
    let mut out = json!(view::server(call, &server, Answers::REBUILT));
    out["adminPass"] = json!(asked.admin_pass);
    out["status"] = json!("REBUILD");
    Ok(Reply::json(202, &json!({"server": out})))
}

fn apply(asked: &Rebuild<'_>, server: &mut Server, subject: &Subject<'_>) -> Result<(), Fault> {
    let keep = |field: &mut String, value: &Option<String>| {
        if let Some(value) = value {
            field.clone_from(value);
        }
    };
    keep(&mut server.name, &asked.name);
    keep(&mut server.access_ipv4, &asked.access_ipv4);
    keep(&mut server.access_ipv6, &asked.access_ipv6);
    keep(&mut server.hostname, &asked.hostname);
    if let Some(metadata) = &asked.metadata {
        server.metadata.clone_from(metadata);
    }
    if let Some(auto) = asked.auto_disk {
        server.auto_disk = auto;
    }
    if let Some(description) = &asked.description {
        server.description.clone_from(description);
    }
    if let Some(user_data) = &asked.user_data {
        server.user_data.clone_from(user_data);
    }
    server.files.clone_from(&asked.files);
    if let Some(name) = &asked.key_name {
        let key = name.as_deref().map(|name| requests::find_key(&subject.view, name)).transpose()?;
        server.public_key = key.and_then(requests::ssh_key);
        server.key_name.clone_from(name);
    }
    Ok(())
}

/// `resize`
pub async fn resize(call: &Call, body: &Value) -> Result<Reply, Fault> {
    let fields = Fields::of(body, "resize")?;
    fields.only(&["flavorRef", "OS-DCF:diskConfig"])?;
    let flavor = requests::flavor(&call.view()?, fields.required("flavorRef")?)?;
    let auto_disk = requests::disk_config(&fields)?;
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
        if let Some(auto) = auto_disk {
            server.auto_disk = auto;
        }
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
