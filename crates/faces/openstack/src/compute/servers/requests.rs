//! What `POST /servers` may ask for: the body read, checked and resolved, before any row is thought of.

use std::collections::BTreeMap;

use gate::{Ref, View};
use model::machine::{Machine, is_hardware};
use model::{Entry, Fault, Flavor, Host, Image, ImageStatus, InjectedFile, Keypair, NicRequest, Port};
use serde_json::Value;

use super::hints::{self, Hints};
use super::{networks, personality};
use crate::call::Call;
use crate::compute::body::{Fields, bad, is_uuid};
use crate::compute::fault::{missing, over, referred};
use crate::compute::{flavors, hosts, quotas, security_groups};
use crate::image::access::sees;

/// The properties of images that mean something to Nova.
const IMAGE_PROPERTIES: &str = "hw_architecture hw_emulation_architecture hw_auto_disk_config hw_boot_menu hw_cdrom_bus \
    hw_cpu_cores hw_cpu_sockets hw_cpu_max_cores hw_cpu_max_sockets hw_cpu_max_threads hw_cpu_policy \
    hw_cpu_thread_policy hw_cpu_realtime_mask hw_cpu_threads hw_device_id hw_disk_bus hw_disk_type hw_floppy_bus \
    hw_firmware_type hw_firmware_stateless hw_input_bus hw_ipxe_boot hw_locked_memory hw_machine_type \
    hw_mem_encryption hw_mem_encryption_model hw_mem_page_size hw_numa_nodes hw_numa_cpus hw_numa_mem \
    hw_pci_numa_affinity_policy hw_pointer_model hw_pmu hw_qemu_guest_agent hw_rescue_bus hw_rescue_device \
    hw_rng_model hw_time_hpet hw_serial_port_count hw_scsi_model hw_video_model hw_video_ram hw_vif_model \
    hw_viommu_model hw_vm_mode hw_watchdog_action hw_vif_multiqueue_enabled hw_tpm_model hw_tpm_version \
    hw_ephemeral_encryption hw_ephemeral_encryption_format hw_ephemeral_encryption_secret_uuid \
    hw_virtio_packed_ring hw_maxphysaddr_mode hw_maxphysaddr_bits hw_sound_model hw_usb_model \
    hw_redirected_usb_ports img_bittorrent img_bdm_v2 img_block_device_mapping img_cache_in_nova \
    img_compression_level img_hv_requested_version img_hv_type img_config_drive img_linked_clone img_mappings \
    img_owner_id img_root_device_name img_use_agent img_version img_signature img_signature_hash_method \
    img_signature_certificate_uuid img_signature_key_type img_hide_hypervisor_id os_admin_user os_command_line \
    os_distro os_require_quiesce os_secure_boot os_skip_agent_inject_files_at_boot os_skip_agent_inject_ssh os_type \
    traits_required";

/// A server as asked for, everything resolved.
pub struct Asked {
    pub name: String,
    pub description: Option<String>,
    pub hostname: Option<String>,
    pub flavor: Flavor,
    pub image_id: Option<String>,
    pub image_properties: BTreeMap<String, String>,
    pub key_name: Option<String>,
    pub public_key: Option<String>,
    pub user_data: Option<String>,
    pub files: Vec<InjectedFile>,
    pub metadata: BTreeMap<String, String>,
    pub tags: Vec<String>,
    pub config_drive: bool,
    pub access_ipv4: String,
    pub access_ipv6: String,
    pub auto_disk: bool,
    pub availability_zone: Option<String>,
    pub requested_host: Option<String>,
    pub hints: Hints,
    pub nics: Vec<NicRequest>,
    pub security_groups: Vec<String>,
    /// The names or ids as given, for the answer.
    pub security_group_names: Vec<String>,
    pub least: u32,
    pub most: u32,
    pub return_reservation: bool,
    pub admin_pass: String,
}

const BASE: &[&str] = &[
    "name",
    "imageRef",
    "flavorRef",
    "adminPass",
    "metadata",
    "networks",
    "OS-DCF:diskConfig",
    "accessIPv4",
    "accessIPv6",
    "availability_zone",
    "block_device_mapping",
    "block_device_mapping_v2",
    "config_drive",
    "key_name",
    "min_count",
    "max_count",
    "return_reservation_id",
    "security_groups",
    "user_data",
];

fn known(version: (u16, u16)) -> Vec<&'static str> {
    let mut known = BASE.to_vec();
    known.extend((version <= (2, 56)).then_some("personality"));
    for (since, field) in [
        ((2, 19), "description"),
        ((2, 52), "tags"),
        ((2, 63), "trusted_image_certificates"),
        ((2, 74), "host"),
        ((2, 74), "hypervisor_hostname"),
        ((2, 90), "hostname"),
    ] {
        known.extend((version >= since).then_some(field));
    }
    known
}

/// Reads and resolves the body.
pub fn read(call: &Call, body: &Value) -> Result<Asked, Fault> {
    let view = call.view()?;
    let fields = Fields::of(body, "server")?;
    fields.only(&known(call.version))?;
    refuse_what_is_not_built(&fields)?;
    fields.required("name")?;
    let name = fields.name("name")?.unwrap_or_default();
    let flavor = flavor(&view, fields.required("flavorRef")?)?;
    let image = image(&view, &fields, &flavor)?;
    let key = key(&view, &fields)?;
    let (security_groups, security_group_names) = groups(&view, &fields)?;
    let (availability_zone, requested_host) = place(&view, &fields)?;
    let (least, most) = counts(&fields)?;
    let nics = networks::resolve(call, &view, fields.map.get("networks"))?;
    if most > 1 && nics.iter().any(|nic| nic.port_id.is_some() || nic.fixed_ip.is_some()) {
        return Err(Fault::Invalid(
            "Unable to launch multiple instances with a single configured port ID or fixed IP. Please launch your \
             instance one by one with different ports."
                .into(),
        ));
    }
    Ok(Asked {
        name,
        description: fields.text("description", 255)?.map(str::to_owned),
        hostname: fields.text("hostname", 255)?.map(|text| hostname(call, text)).transpose()?,
        flavor,
        image_id: image.map(|image| image.id.clone()),
        image_properties: image.map(|image| image_properties(&image)).unwrap_or_default(),
        key_name: key.map(|key| key.value.name.clone()),
        public_key: key.and_then(ssh_key),
        user_data: fields.base64("user_data", 65535)?,
        files: personality::read(call, &fields)?,
        metadata: metadata(call, &fields)?,
        tags: tags(&fields)?,
        config_drive: fields.boolean("config_drive")?.unwrap_or(false) || image.is_some_and(|i| needs_config_drive(&i)),
        access_ipv4: fields.address("accessIPv4", false)?.unwrap_or_default(),
        access_ipv6: fields.address("accessIPv6", true)?.unwrap_or_default(),
        auto_disk: disk_config(&fields)?.unwrap_or(false),
        availability_zone,
        requested_host,
        hints: hints::read(&view, body)?,
        nics,
        security_groups,
        security_group_names,
        least,
        most,
        return_reservation: fields.boolean("return_reservation_id")?.unwrap_or(false),
        admin_pass: admin_pass(&fields)?,
    })
}

/// Volumes and trusted certificates are not built, and not passed over in silence.
fn refuse_what_is_not_built(fields: &Fields<'_>) -> Result<(), Fault> {
    let filled = |field: &str| fields.get(field).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    if filled("trusted_image_certificates") {
        return Err(Fault::Invalid("Image certificate validation is not supported by this cloud.".into()));
    }
    if filled("block_device_mapping") {
        return Err(Fault::Invalid("Block Device Mapping is Invalid: volumes are not supported by this cloud.".into()));
    }
    let Some(devices) = fields.get("block_device_mapping_v2") else { return Ok(()) };
    let devices =
        devices.as_array().ok_or_else(|| bad("block_device_mapping_v2", devices, "It is not of type 'array'"))?;
    for device in devices {
        let text = |field: &str| device[field].as_str().unwrap_or("");
        let local = text("source_type") == "image" && text("destination_type") == "local";
        let boots = device["boot_index"].as_i64().or_else(|| text("boot_index").parse().ok()) == Some(0);
        if devices.len() != 1 || !local || !boots {
            return Err(Fault::Invalid(
                "Block Device Mapping is Invalid: only one local disk from an image is supported by this cloud.".into(),
            ));
        }
        let image = fields.get("imageRef").and_then(Value::as_str).unwrap_or("");
        if text("uuid") != image {
            return Err(Fault::Invalid("Block Device Mapping is Invalid: its image differs from imageRef.".into()));
        }
    }
    Ok(())
}

/// The flavor that a body names.
pub fn flavor(view: &View<'_>, value: &Value) -> Result<Flavor, Fault> {
    let id = match value {
        Value::Number(n) => n.to_string(),
        Value::String(text) if !text.is_empty() => text.clone(),
        _ => return Err(bad("flavorRef", value, "It is not of type 'string', 'integer'")),
    };
    // Old clients send the flavor's URL.
    let named = Ref::sent(id.rsplit('/').next().unwrap_or(&id));
    let found = view.refer_if(&named, |flavor| flavors::usable(view, flavor));
    let found = referred(found, format!("Flavor {} could not be found.", named.named()))?;
    Ok(found.value.clone())
}

fn image<'a>(view: &View<'a>, fields: &Fields<'_>, flavor: &Flavor) -> Result<Option<Entry<'a, Image>>, Fault> {
    let value = fields.get("imageRef").filter(|value| **value != "");
    let Some(value) = value else {
        return Err(Fault::Invalid(
            "Block Device Mapping is Invalid: Boot sequence for the instance and image/block device mapping \
             combination is not valid."
                .into(),
        ));
    };
    boot_image(view, value, flavor).map(Some)
}

/// Whoever made the image knows that its guest has no other way to its metadata.
pub fn needs_config_drive(image: &Image) -> bool {
    image.properties.get("img_config_drive").is_some_and(|said| said == "mandatory")
}

/// The image that a body names, if the flavor can boot it.
pub fn boot_image<'a>(view: &View<'a>, value: &Value, flavor: &Flavor) -> Result<Entry<'a, Image>, Fault> {
    let id = value.as_str().map(|text| text.rsplit('/').next().unwrap_or(text)).unwrap_or("");
    if !is_uuid(id) {
        return Err(Fault::Invalid("Invalid imageRef provided.".into()));
    }
    let image = view.refer_if(&Ref::<Image>::sent(id), |image| sees(view.who, image));
    let image = image.map_err(|_| Fault::Invalid(format!("Image {id} could not be found.")))?;
    if image.status != ImageStatus::Active {
        return Err(Fault::Invalid(format!("Image {id} is not active.")));
    }
    if let Some(format) = image.disk_format.as_deref().filter(|format| !matches!(*format, "raw" | "qcow2")) {
        let why =
            format!("Image {id} is unacceptable: disks of format {format} boot nowhere here, only raw and qcow2.");
        return Err(Fault::Invalid(why));
    }
    if flavor.ram < image.min_ram {
        return Err(Fault::Invalid("Flavor's memory is too small for requested image.".into()));
    }
    let (have, need) = (flavor.disk << 30, image.min_disk << 30);
    let need = need.max(image.virtual_size.unwrap_or(0));
    if flavor.disk > 0 && have < need {
        return Err(Fault::Invalid(format!(
            "Flavor's disk is too small for requested image. Flavor disk is {have} bytes, minimum size is {need} bytes."
        )));
    }
    let odd = |(name, value): &(&String, &String)| is_hardware(name) && value.chars().any(char::is_control);
    if let Some((name, _)) = image.properties.iter().find(odd) {
        return Err(Fault::Invalid(format!("Image {id} is unacceptable: its property {name} has control characters.")));
    }
    // A machine of which something would be missing is never made.
    Machine::of(&image.properties, flavor).map_err(Fault::Invalid)?;
    Ok(image)
}

/// What an image says of guests by the names that Nova knows, which servers show as long as they are (2.98).
pub fn image_properties(image: &Image) -> BTreeMap<String, String> {
    let said = image.properties.iter().filter(|(name, _)| IMAGE_PROPERTIES.split(' ').any(|known| known == *name));
    said.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn key<'a>(view: &View<'a>, fields: &Fields<'_>) -> Result<Option<Entry<'a, Keypair>>, Fault> {
    let Some(name) = fields.text("key_name", 255)? else { return Ok(None) };
    find_key(view, name).map(Some)
}

/// The caller's key pair that a body names.
pub fn find_key<'a>(view: &View<'a>, name: &str) -> Result<Entry<'a, Keypair>, Fault> {
    let found = view.snapshot.get::<Keypair>(&format!("{}/{name}", view.who.user_id));
    found.ok_or_else(|| Fault::Invalid("Invalid key_name provided.".into()))
}

/// The key that a guest lets in by SSH.
pub fn ssh_key(key: Entry<'_, Keypair>) -> Option<String> {
    (key.value.kind == "ssh").then(|| key.public_key.clone())
}

/// Ids of the groups asked for, and their names as given.
fn groups(view: &View<'_>, fields: &Fields<'_>) -> Result<(Vec<String>, Vec<String>), Fault> {
    let Some(value) = fields.get("security_groups") else { return Ok((Vec::new(), vec!["default".into()])) };
    let list = value.as_array().ok_or_else(|| bad("security_groups", value, "It is not of type 'array'"))?;
    let (mut ids, mut names) = (Vec::new(), Vec::new());
    for item in list {
        let group = Fields::new("security_groups", item)?;
        group.only(&["name"])?;
        group.required("name")?;
        let name = group.text("name", 255)?.unwrap_or("");
        names.push(name.to_owned());
        // Every port gets the default group unless others were asked for, and it is made with the first port.
        if name == "default" && view.mine::<model::SecurityGroup>().all(|group| group.name != "default") {
            continue;
        }
        let group = security_groups::resolve(view, name).map_err(|fault| match fault {
            Fault::NotFound { .. } => Fault::Invalid(format!(
                "Security group {name} not found for project {}.",
                view.who.project_id().unwrap_or("")
            )),
            other => other,
        })?;
        if !ids.contains(&group.id) {
            ids.push(group.id.clone());
        }
    }
    // The default group may not be there yet; it is stateful.
    let unmade =
        names.iter().any(|name| name == "default") && view.mine::<model::SecurityGroup>().all(|g| g.name != "default");
    let stateless = |id: &String| view.get::<model::SecurityGroup>(id).is_ok_and(|group| !group.stateful);
    if model::of_both_sorts(view.snapshot, &ids) || (unmade && ids.iter().any(stateless)) {
        return Err(Fault::Invalid(model::BOTH_SORTS.into()));
    }
    if names.is_empty() {
        names.push("default".into());
    }
    Ok((ids, names))
}

/// The availability zone and the host asked for.
fn place(view: &View<'_>, fields: &Fields<'_>) -> Result<(Option<String>, Option<String>), Fault> {
    let zone = fields.text("availability_zone", 255)?;
    let (zone, mut host) = match zone.map(|z| z.split(':').collect::<Vec<_>>()).as_deref() {
        None => (None, None),
        Some([zone]) => (Some(*zone), None),
        Some([zone, host] | [zone, host, ""]) if !host.is_empty() => (Some(*zone), Some(*host)),
        Some([zone, _, node]) => (Some(*zone), Some(*node)),
        Some(_) => return Err(Fault::Invalid("Invalid availability_zone: expected zone:host:node.".into())),
    };
    if zone.is_some_and(|zone| !zone.is_empty() && !hosts::is_zone(view.snapshot, zone)) {
        return Err(Fault::Invalid("The requested availability zone is not available".into()));
    }
    for field in ["host", "hypervisor_hostname"] {
        if let Some(name) = fields.text(field, 255)? {
            if zone.is_some() && host.is_some() {
                return Err(Fault::Invalid(
                    "Destination host and availability zone with a host cannot be given together.".into(),
                ));
            }
            host = Some(name);
        }
    }
    if let Some(host) = host {
        if !view.who.is_admin() {
            return Err(Fault::Forbidden(
                "Policy doesn't allow os_compute_api:servers:create:forced_host to be performed.".into(),
            ));
        }
        if view.snapshot.get::<Host>(host).is_none() {
            return Err(Fault::Invalid(format!("Compute host {host} could not be found.")));
        }
    }
    Ok((zone.filter(|zone| !zone.is_empty()).map(str::to_owned), host.map(str::to_owned)))
}

fn counts(fields: &Fields<'_>) -> Result<(u32, u32), Fault> {
    let one = |field: &str| Ok::<_, Fault>(fields.integer(field, 1, 1000)?.and_then(|n| u32::try_from(n).ok()));
    let least = one("min_count")?;
    let most = one("max_count")?;
    let least_or_one = least.unwrap_or(1);
    let most = most.unwrap_or(least_or_one);
    if least_or_one > most {
        return Err(Fault::Invalid("min_count must be <= max_count".into()));
    }
    Ok((least_or_one, most))
}

/// Metadata within the project's limit.
pub fn metadata(call: &Call, fields: &Fields<'_>) -> Result<BTreeMap<String, String>, Fault> {
    let metadata: BTreeMap<String, String> = fields.texts("metadata")?.unwrap_or_default().into_iter().collect();
    check_metadata(call, &metadata)?;
    Ok(metadata)
}

/// Refuses more metadata than the project's limit allows.
pub fn check_metadata(call: &Call, metadata: &BTreeMap<String, String>) -> Result<(), Fault> {
    let limit = quotas::limit(&call.snapshot, call.who()?.project_id().unwrap_or(""), "metadata_items");
    let asked = metadata.len() as u64;
    match limit {
        Some(most) if asked > most => Err(over("metadata_items", asked, model::Pool { used: 0, limit })),
        _ => Ok(()),
    }
}

fn tags(fields: &Fields<'_>) -> Result<Vec<String>, Fault> {
    match fields.get("tags") {
        Some(value) => super::tags::read_all(value),
        None => Ok(Vec::new()),
    }
}

/// `OS-DCF:diskConfig`; true is AUTO.
pub fn disk_config(fields: &Fields<'_>) -> Result<Option<bool>, Fault> {
    let Some(value) = fields.get("OS-DCF:diskConfig") else { return Ok(None) };
    match value.as_str() {
        Some("AUTO") => Ok(Some(true)),
        Some("MANUAL") => Ok(Some(false)),
        _ => Err(bad("OS-DCF:diskConfig", value, "It is not one of ['AUTO', 'MANUAL']")),
    }
}

/// A hostname given by the user (2.90); since 2.94 with a domain.
pub fn hostname(call: &Call, text: &str) -> Result<String, Fault> {
    let label = |part: &str| {
        let fine = |c: char| c.is_ascii_alphanumeric() || c == '-';
        (1..=63).contains(&part.len()) && part.chars().all(fine) && !part.starts_with('-') && !part.ends_with('-')
    };
    let fine = if call.version >= (2, 94) { text.split('.').all(label) } else { label(text) };
    if fine {
        Ok(text.to_owned())
    } else {
        Err(bad("hostname", &Value::from(text), "It does not match the format 'fqdn'"))
    }
}

/// A hostname made from a server's name.
pub fn hostname_of(name: &str, id: &str) -> String {
    let mapped: String = name
        .to_lowercase()
        .chars()
        .map(|c| if matches!(c, ' ' | '_' | '.') { '-' } else { c })
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .collect();
    let cut: String = mapped.trim_matches('-').chars().take(63).collect();
    let cut = cut.trim_end_matches('-');
    if cut.is_empty() { format!("server-{id}") } else { cut.to_owned() }
}

/// The password given, or a new one.
pub fn admin_pass(fields: &Fields<'_>) -> Result<String, Fault> {
    const LETTERS: &[u8] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    match fields.text("adminPass", 255)? {
        Some(text) => Ok(text.to_owned()),
        None => {
            let bytes = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()].map(uuid::Uuid::into_bytes).concat();
            // The bytes of a UUID that tell its version and variant are no random ones.
            let random = bytes.into_iter().enumerate().filter(|(i, _)| !matches!(i % 16, 6 | 8)).map(|(_, b)| b);
            Ok(random.take(12).map(|b| char::from(LETTERS[usize::from(b) % LETTERS.len()])).collect())
        }
    }
}

/// The interface to a port of the caller's.
pub fn port_of<'a>(view: &View<'a>, named: &Ref<Port>) -> Result<Entry<'a, Port>, Fault> {
    let port = view.refer(named).ok().filter(|port| view.who.is_admin() || view.owns(port.value));
    port.ok_or_else(|| missing(format!("Port {} could not be found.", named.named())))
}
