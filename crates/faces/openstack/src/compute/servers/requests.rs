//! What `POST /servers` may ask for: the body read, checked and resolved, before any row is thought of.

use std::collections::BTreeMap;

use gate::{Ref, View};
use model::machine::{Machine, is_hardware};
use model::{Entry, Fault, Flavor, Host, Image, ImageStatus, Keypair, Kind, Port, Server};
use serde_json::Value;

use super::hints::{self, Hints};
use super::{networks, personality};
use crate::call::Call;
use crate::compute::body::{Fields, bad, is_uuid};
use crate::compute::fault::{missing, over, referred};
use crate::compute::schema::{self, Given, Is, Property, Schema, property};
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

pub const NAME: Property<Server> =
    property::<Server>("name", Is::Name).put(|server, value| server.name = schema::text(value));
pub const DESCRIPTION: Property<Server> = property::<Server>("description", Is::Text(255))
    .since(2, 19)
    .nullable()
    .put(|server, value| server.description = schema::text_or_none(value));
pub const HOSTNAME: Property<Server> = property::<Server>("hostname", Is::Own(hostname))
    .since(2, 90)
    .put(|server, value| server.hostname = schema::text(value));
pub const ACCESS_IPV4: Property<Server> =
    property::<Server>("accessIPv4", Is::Ipv4).put(|server, value| server.access_ipv4 = schema::text(value));
pub const ACCESS_IPV6: Property<Server> =
    property::<Server>("accessIPv6", Is::Ipv6).put(|server, value| server.access_ipv6 = schema::text(value));
pub const DISK_CONFIG: Property<Server> = property::<Server>("OS-DCF:diskConfig", Is::OneOf(&["AUTO", "MANUAL"]))
    .put(|server, value| server.auto_disk = value == "AUTO");
pub const METADATA: Property<Server> =
    property::<Server>("metadata", Is::Texts).put(|server, value| server.metadata = schema::texts(value));
pub const USER_DATA: Property<Server> = property::<Server>("user_data", Is::Base64(65535))
    .nullable()
    .put(|server, value| server.user_data = schema::text_or_none(value));
pub const KEY_NAME: Property<Server> = property("key_name", Is::Text(255));
pub const ADMIN_PASS: Property<Server> = property("adminPass", Is::Text(255));
pub const PERSONALITY: Property<Server> = property("personality", Is::Any).until(2, 56);
pub const CERTIFICATES: Property<Server> = property("trusted_image_certificates", Is::Any).since(2, 63);
pub const IMAGE: Property<Server> = property("imageRef", Is::Any).refers_to(&[(Kind::Image, r#""$""#)]);
pub const FLAVOR: Property<Server> = property("flavorRef", Is::Any).required().refers_to(&[(Kind::Flavor, r#""$""#)]);

/// What `POST /servers` says of the servers.
pub const SERVER: Schema<Server> = Schema {
    name: "server",
    properties: &[
        NAME.required(),
        IMAGE,
        FLAVOR,
        ADMIN_PASS,
        METADATA,
        property("networks", Is::Any)
            .refers_to(&[(Kind::Network, r#"[{"uuid": "$"}]"#), (Kind::Port, r#"[{"port": "$"}]"#)]),
        DISK_CONFIG,
        ACCESS_IPV4,
        ACCESS_IPV6,
        property("availability_zone", Is::Text(255)),
        property("block_device_mapping", Is::Any),
        property("block_device_mapping_v2", Is::Any),
        property::<Server>("config_drive", Is::Flag).put(|server, value| server.config_drive = value == true),
        KEY_NAME,
        property("min_count", Is::Int(1, 1000)),
        property("max_count", Is::Int(1, 1000)),
        property("return_reservation_id", Is::Flag),
        property("security_groups", Is::Any).refers_to(&[(Kind::SecurityGroup, r#"[{"name": "$"}]"#)]),
        USER_DATA,
        PERSONALITY,
        DESCRIPTION,
        property::<Server>("tags", Is::Own(|_, _, value| super::tags::read_all(value).map(Value::from)))
            .since(2, 52)
            .put(|server, value| server.tags = value.as_array().into_iter().flatten().map(schema::text).collect()),
        CERTIFICATES,
        property("host", Is::Text(255)).since(2, 74),
        property("hypervisor_hostname", Is::Text(255)).since(2, 74),
        HOSTNAME,
    ],
};

const HINTS: &[(Kind, &str)] = &[
    (Kind::ServerGroup, r#"{"group": "$"}"#),
    (Kind::Server, r#"{"same_host": ["$"]}"#),
    (Kind::Server, r#"{"different_host": ["$"]}"#),
];

/// The body of `POST /servers`.
pub const BODY: Schema = Schema {
    name: "",
    properties: &[
        property("server", Is::Any).required(),
        property("os:scheduler_hints", Is::Any).refers_to(HINTS),
        property("OS-SCH-HNT:scheduler_hints", Is::Any).refers_to(HINTS),
    ],
};

/// Servers as asked for, everything resolved.
pub struct Asked {
    /// As each of them shall be, but for its id and its number; no hostname: one by its name.
    pub server: Server,
    pub hints: Hints,
    /// The names or ids as given, for the answer.
    pub security_group_names: Vec<String>,
    pub least: u32,
    pub most: u32,
    pub return_reservation: bool,
    pub admin_pass: String,
}

/// Reads and resolves the body.
pub fn read(call: &Call, body: &Value) -> Result<Asked, Fault> {
    let view = call.view()?;
    let given = SERVER.read(call.version, body)?;
    refuse_what_is_not_built(&given)?;
    let flavor = flavor(&view, given.get("flavorRef").unwrap_or(&Value::Null))?;
    let image = image(&view, &given, &flavor)?;
    let key = given.text("key_name").map(|name| find_key(&view, name)).transpose()?;
    let (security_groups, security_group_names) = groups(&view, given.get("security_groups"))?;
    let (availability_zone, requested_host) = place(&view, &given)?;
    let (least, most) = counts(&given)?;
    let nics = networks::resolve(call, &view, given.get("networks"))?;
    if most > 1 && nics.iter().any(|nic| nic.port_id.is_some() || nic.fixed_ip.is_some()) {
        return Err(Fault::Invalid(
            "Unable to launch multiple instances with a single configured port ID or fixed IP. Please launch your \
             instance one by one with different ports."
                .into(),
        ));
    }
    let hints = hints::read(&view, body)?;
    let admin_pass = admin_pass(given.text("adminPass"));
    let mut server = Server {
        user_id: view.who.user_id.clone(),
        image_id: Some(image.id.clone()),
        image_properties: image_properties(&image),
        key_name: key.map(|key| key.value.name.clone()),
        public_key: key.and_then(ssh_key),
        files: personality::read(call, given.get("personality"))?,
        availability_zone,
        requested_host,
        server_group_id: hints.group.clone(),
        scheduler_hints: hints.given.clone(),
        same_host: hints.same_host.clone(),
        different_host: hints.different_host.clone(),
        nics,
        security_groups,
        admin_pass: Some(admin_pass.clone()),
        ..Server::new("", view.who.project()?, "", flavor, call.now)
    };
    given.put(&mut server);
    server.config_drive |= needs_config_drive(&image);
    check_metadata(call, &server.metadata)?;
    let return_reservation = given.flag("return_reservation_id").unwrap_or(false);
    Ok(Asked { server, hints, security_group_names, least, most, return_reservation, admin_pass })
}

/// Volumes and trusted certificates are not built, and not passed over in silence.
fn refuse_what_is_not_built(given: &Given<'_, Server>) -> Result<(), Fault> {
    let filled = |field: &str| given.get(field).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    if filled("trusted_image_certificates") {
        return Err(Fault::Invalid("Image certificate validation is not supported by this cloud.".into()));
    }
    if filled("block_device_mapping") {
        return Err(Fault::Invalid("Block Device Mapping is Invalid: volumes are not supported by this cloud.".into()));
    }
    let Some(devices) = given.get("block_device_mapping_v2") else { return Ok(()) };
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
        let image = given.text("imageRef").unwrap_or("");
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

fn image<'a>(view: &View<'a>, given: &Given<'_, Server>, flavor: &Flavor) -> Result<Entry<'a, Image>, Fault> {
    let value = given.get("imageRef").filter(|value| **value != "");
    let Some(value) = value else {
        return Err(Fault::Invalid(
            "Block Device Mapping is Invalid: Boot sequence for the instance and image/block device mapping \
             combination is not valid."
                .into(),
        ));
    };
    boot_image(view, value, flavor)
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
fn groups(view: &View<'_>, value: Option<&Value>) -> Result<(Vec<String>, Vec<String>), Fault> {
    let Some(value) = value else { return Ok((Vec::new(), vec!["default".into()])) };
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
fn place(view: &View<'_>, given: &Given<'_, Server>) -> Result<(Option<String>, Option<String>), Fault> {
    let zone = given.text("availability_zone");
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
        if let Some(name) = given.text(field) {
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

fn counts(given: &Given<'_, Server>) -> Result<(u32, u32), Fault> {
    let count = |name: &str| given.int(name).and_then(|n| u32::try_from(n).ok());
    let least = count("min_count").unwrap_or(1);
    let most = count("max_count").unwrap_or(least);
    if least > most {
        return Err(Fault::Invalid("min_count must be <= max_count".into()));
    }
    Ok((least, most))
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

/// A hostname given by the user (2.90); since 2.94 with a domain.
fn hostname(version: (u16, u16), name: &str, value: &Value) -> Result<Value, Fault> {
    let label = |part: &str| {
        let fine = |c: char| c.is_ascii_alphanumeric() || c == '-';
        (1..=63).contains(&part.len()) && part.chars().all(fine) && !part.starts_with('-') && !part.ends_with('-')
    };
    let text = value.as_str().filter(|text| text.len() <= 255);
    let fine = text.is_some_and(|text| if version >= (2, 94) { text.split('.').all(label) } else { label(text) });
    if fine { Ok(value.clone()) } else { Err(bad(name, value, "It does not match the format 'fqdn'")) }
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
pub fn admin_pass(given: Option<&str>) -> String {
    const LETTERS: &[u8] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    match given {
        Some(text) => text.to_owned(),
        None => {
            let bytes = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()].map(uuid::Uuid::into_bytes).concat();
            // The bytes of a UUID that tell its version and variant are no random ones.
            let random = bytes.into_iter().enumerate().filter(|(i, _)| !matches!(i % 16, 6 | 8)).map(|(_, b)| b);
            random.take(12).map(|b| char::from(LETTERS[usize::from(b) % LETTERS.len()])).collect()
        }
    }
}

/// The interface to a port of the caller's.
pub fn port_of<'a>(view: &View<'a>, named: &Ref<Port>) -> Result<Entry<'a, Port>, Fault> {
    let port = view.refer(named).ok().filter(|port| view.who.is_admin() || view.owns(port.value));
    port.ok_or_else(|| missing(format!("Port {} could not be found.", named.named())))
}
