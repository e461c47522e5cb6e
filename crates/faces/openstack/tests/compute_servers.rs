//! Servers through Nova's API. The planners and the agent are played by the tests, which write the rows that those would.

mod common;
#[path = "common/cloud.rs"]
mod rows;

use common::{Harness, text};
use face_openstack::attrs::DeclaredFilter;
use model::{Server, VmPhase};
use rows::Rows;
use serde_json::{Value, json};

const SERVERS: &str = "/compute/v2.1/servers";

async fn create(h: &Harness, rows: &Rows, more: Value) -> (u16, Value) {
    let mut server = json!({"name": "web", "imageRef": rows.image, "flavorRef": rows.small});
    for (name, value) in more.as_object().into_iter().flatten() {
        server[name] = value.clone();
    }
    let (status, _, body) = h.call("POST", SERVERS, &h.demo, json!({"server": server})).await;
    (status, body)
}

async fn boot(h: &Harness, rows: &Rows, more: Value) -> String {
    let (status, body) = create(h, rows, more).await;
    assert_eq!(status, 202, "{body}");
    let id = text(&body["server"]["id"]).to_owned();
    rows.place(h, &id, "node1", VmPhase::Running).await;
    id
}

async fn show(h: &Harness, id: &str) -> Value {
    h.ok("GET", &format!("{SERVERS}/{id}"), &h.demo, Value::Null).await.2["server"].clone()
}

async fn act(h: &Harness, id: &str, body: Value) -> (u16, Value) {
    let (status, _, body) = h.call("POST", &format!("{SERVERS}/{id}/action"), &h.demo, body).await;
    (status, body)
}

fn message(body: &Value) -> &str {
    let (_, fault) = body.as_object().and_then(|map| map.iter().next()).unwrap_or_else(|| panic!("no fault: {body}"));
    text(&fault["message"])
}

#[tokio::test]
async fn a_server_from_request_to_nothing() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let (status, body) =
        create(&h, &rows, json!({"metadata": {"a": "b"}, "security_groups": [{"name": "default"}]})).await;
    assert_eq!(status, 202, "{body}");
    let made = &body["server"];
    assert!(made["adminPass"].is_string() && made["links"][0]["href"].is_string());
    let id = text(&made["id"]);
    assert_eq!(show(&h, id).await["status"], "BUILD");
    assert_eq!(show(&h, id).await["OS-EXT-STS:task_state"], "networking");
    rows.place(&h, id, "node1", VmPhase::Running).await;
    let server = show(&h, id).await;
    assert_eq!(server["status"], "ACTIVE");
    assert_eq!(server["addresses"]["private"][0]["addr"], "10.1.0.5");
    assert_eq!(server["flavor"]["id"], rows.small.as_str());
    assert_eq!(server["OS-EXT-STS:power_state"], 1);
    assert!(server.get("OS-EXT-SRV-ATTR:host").is_none(), "not an administrator");
    assert!(server.get("tags").is_none(), "2.1 knows no tags");
    let (_, _, admins) = h.ok("GET", &format!("{SERVERS}/{id}"), &h.admin, Value::Null).await;
    assert_eq!(admins["server"]["OS-EXT-SRV-ATTR:host"], "node1");

    let (status, _, _) = h.call("DELETE", &format!("{SERVERS}/{id}"), &h.demo, Value::Null).await;
    assert_eq!(status, 204);
    assert_eq!(show(&h, id).await["OS-EXT-STS:task_state"], "deleting");
    rows.vanish(&h, id).await;
    let (status, _, body) = h.call("GET", &format!("{SERVERS}/{id}"), &h.demo, Value::Null).await;
    assert_eq!(body, json!({"itemNotFound": {"code": 404, "message": format!("Instance {id} could not be found.")}}));
    assert_eq!(status, 404);
}

#[tokio::test]
async fn an_image_that_is_not_shared_any_more_boots_nothing() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    for (visibility, status) in [(model::Visibility::Shared, 202), (model::Visibility::Private, 400)] {
        let now = model::Time::now();
        let member = model::ImageMember { status: model::MemberStatus::Accepted, created_at: now, updated_at: now };
        let project = h.demo_project.clone();
        rows.edit::<model::Image>(&h, &rows.image, move |image| {
            image.visibility = visibility;
            image.members = [(project.clone(), member.clone())].into();
        })
        .await;
        let (got, body) = create(&h, &rows, json!({})).await;
        assert_eq!(got, status, "{visibility:?}: {body}");
    }
}

/// Every way to a machine: a property that is not built, or does not fit, is refused in words, and nothing is left.
#[tokio::test]
async fn machines_that_cannot_be_are_refused_in_words() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let says = async |name: &str, value: &str| {
        let said = std::collections::BTreeMap::from([(name.to_owned(), value.to_owned())]);
        rows.edit::<model::Image>(&h, &rows.image, move |image| image.properties = said.clone()).await;
    };
    says("hw_disk_bus", "xen").await;
    let (status, body) = create(&h, &rows, json!({})).await;
    assert_eq!(status, 400);
    let words = "Image property or extra spec hw_disk_bus=xen: this cloud has virtio, scsi, ide, sata only";
    assert_eq!(message(&body), words);
    says("img_config_drive", "mandatory").await;
    let id = boot(&h, &rows, json!({})).await;
    assert_eq!(show(&h, &id).await["config_drive"], "True");
    says("os_secure_boot", "required").await;
    for body in [json!({"rebuild": {"imageRef": rows.image}}), json!({"rescue": null})] {
        let (status, body) = act(&h, &id, body).await;
        assert_eq!(status, 400, "{body}");
        assert!(message(&body).ends_with("os_secure_boot=required needs hw_firmware_type=uefi"), "{body}");
    }
    // What the server was made of stays, whatever becomes of its image; with the next flavor it has to fit.
    let hardware = std::collections::BTreeMap::from([("hw_tpm_model".to_owned(), "tpm-crb".to_owned())]);
    let source = model::Source {
        blob: "00".into(),
        format: "raw".into(),
        kernel: None,
        initrd: None,
        cmdline: String::new(),
        size_gib: 0,
        hardware,
    };
    let vm = model::Vm::id(&id, 1);
    rows.edit::<model::Vm>(&h, &vm, |vm| vm.source = Some(source.clone())).await;
    let specs = std::collections::BTreeMap::from([("hw:tpm_model".to_owned(), "tpm-tis".to_owned())]);
    rows.edit::<model::Flavor>(&h, &rows.large, |flavor| flavor.extra_specs = specs.clone()).await;
    let (status, body) = act(&h, &id, json!({"resize": {"flavorRef": rows.large}})).await;
    assert_eq!(status, 400, "{body}");
    assert!(message(&body).ends_with("they must agree"), "{body}");
    assert_eq!(act(&h, &id, json!({"createImage": {"name": "snap"}})).await.0, 202);
    let snapshot = h.cloud.store.snapshot();
    let image = snapshot.find::<model::Image>(model::Index::Owner, &id).next().expect("an image");
    assert_eq!(image.properties.get("hw_tpm_model").map(String::as_str), Some("tpm-crb"));
    assert_eq!(image.properties.get("os_secure_boot"), None);
    rows.edit::<model::Image>(&h, &rows.image, |image| image.disk_format = Some("vmdk".into())).await;
    let (status, body) = create(&h, &rows, json!({})).await;
    assert!(status == 400 && message(&body).contains("format vmdk boot nowhere here"), "{body}");
}

/// A network that a stranger gives is not where servers go, nor a second one that has to be chosen from.
#[tokio::test]
async fn a_strangers_network_has_to_be_named() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let now = model::Time::now();
    let theirs = model::Network::new(uuid::Uuid::new_v4().to_string(), &h.admin_project, 4077, now);
    let policy = model::RbacPolicy {
        id: "policy".into(),
        project_id: h.admin_project.clone(),
        object: model::Resource::key(&theirs),
        action: model::RbacAction::Shared,
        target: h.demo_project.clone(),
        closing: false,
        updated_at: now,
    };
    for change in [model::Change::from(theirs.clone()), policy.into()] {
        h.cloud.store.commit(&change).await.expect("a commit");
    }
    let path = format!("/network/v2.0/networks/{}", theirs.id);
    assert_eq!(h.call("GET", &path, &h.demo, Value::Null).await.0, 200, "it is there to be named");
    let id = boot(&h, &rows, json!({})).await;
    let snapshot = h.cloud.store.snapshot();
    let asked = &snapshot.get::<Server>(&id).expect("a server").nics;
    assert_eq!(asked[0].network_id.as_deref(), Some(rows.network.as_str()));
}

#[tokio::test]
async fn passwords_reach_the_row_or_are_refused() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let (_, body) = create(&h, &rows, json!({})).await;
    let id = text(&body["server"]["id"]);
    let kept = |h: &Harness| h.cloud.store.snapshot().get::<Server>(id).and_then(|s| s.admin_pass.clone());
    assert_eq!(kept(&h).as_deref(), body["server"]["adminPass"].as_str());
    rows.place(&h, id, "node1", VmPhase::Running).await;
    let (status, body) = act(&h, id, json!({"changePassword": {"adminPass": "new"}})).await;
    assert_eq!((status, message(&body)), (409, "QEMU guest agent is not enabled."));
    let (status, body) = act(&h, id, json!({"changePassword": {}})).await;
    assert_eq!(status, 400, "{body}");
    let (_, body) = act(&h, id, json!({"rebuild": {"imageRef": rows.image, "adminPass": "again"}})).await;
    assert_eq!(body["server"]["adminPass"], "again");
    assert_eq!(kept(&h).as_deref(), Some("again"));
}

#[tokio::test]
async fn shapes_by_microversion() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let id = boot(&h, &rows, json!({})).await;
    let get = async |version: &str| {
        let path = format!("{SERVERS}/{id}");
        let (status, headers, body) =
            h.call_with("GET", &path, &h.demo, &[("openstack-api-version", version)], Value::Null).await;
        assert_eq!((status, headers["openstack-api-version"].to_str().unwrap()), (200, version));
        body["server"].clone()
    };
    let server = get("compute 2.46").await;
    assert_eq!((&server["locked"], &server["tags"], &server["description"]), (&json!(false), &json!([]), &Value::Null));
    assert!(server["flavor"]["links"].is_array());
    let server = get("compute 2.96").await;
    assert_eq!(server["flavor"]["original_name"], "m1.small");
    for field in ["locked_reason", "server_groups", "trusted_image_certificates", "pinned_availability_zone"] {
        assert!(server.get(field).is_some(), "{field}");
    }
    assert_eq!(server["OS-EXT-SRV-ATTR:hostname"], "web");
    let (status, _, body) =
        h.call_with("GET", SERVERS, &h.demo, &[("x-openstack-nova-api-version", "2.999")], Value::Null).await;
    assert_eq!(status, 406);
    assert!(message(&body).starts_with("Version 2.999 is not supported by the API."), "{body}");
}

#[tokio::test]
async fn bad_requests_are_told_why() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let none = uuid::Uuid::new_v4().to_string();
    let long = "n".repeat(256);
    for (more, status, says) in [
        (json!({"name": ""}), 400, "'' is too short"),
        (json!({"name": long}), 400, "too long"),
        (json!({"name": 12345}), 400, "not of type 'string'"),
        (json!({"flavorRef": none}), 400, "could not be found"),
        (json!({"flavorRef": -1}), 400, "could not be found"),
        (json!({"imageRef": none}), 400, "could not be found"),
        (json!({"imageRef": -1}), 400, "Invalid imageRef provided"),
        (json!({"networks": [{"uuid": none}]}), 400, "could not be found"),
        (json!({"networks": [{"uuid": "a-b"}]}), 400, "uuid"),
        (json!({"networks": [{"port": none}]}), 400, "could not be found"),
        (json!({"networks": [{"uuid": rows.network, "fixed_ip": "10.9.9.9"}]}), 400, "not a valid ip address"),
        (json!({"key_name": "nobody"}), 400, "Invalid key_name provided."),
        (json!({"security_groups": [{"name": "nobody"}]}), 400, "not found"),
        (json!({"accessIPv4": "1.1.1.1.1"}), 400, "ipv4"),
        (json!({"accessIPv6": "notvalid"}), 400, "ipv6"),
        (json!({"metadata": {"a": "v".repeat(260)}}), 400, "too long"),
        (json!({"user_data": "no base64!"}), 400, "base64"),
        (json!({"min_count": 3, "max_count": 2}), 400, "min_count must be <= max_count"),
        (json!({"availability_zone": "mars"}), 400, "availability zone is not available"),
        (json!({"availability_zone": "nova:node1"}), 403, "forced_host"),
        (json!({"nonsense": 1}), 400, "'nonsense' was unexpected"),
        (json!({"tags": ["a"]}), 400, "'tags' was unexpected"),
        (json!({"block_device_mapping_v2": [{"source_type": "volume", "uuid": none}]}), 400, "Block Device Mapping"),
        (json!({"flavorRef": rows.tiny}), 400, "Flavor's memory is too small"),
    ] {
        let (got, body) = create(&h, &rows, more.clone()).await;
        assert_eq!(got, status, "{more}: {body}");
        assert!(message(&body).contains(says), "{more}: {body}");
    }
    assert_eq!(h.cloud.store.snapshot().all::<Server>().count(), 0, "nothing is left of refused requests");
}

#[tokio::test]
async fn quota_is_exact_and_says_so() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let quota = format!("/compute/v2.1/os-quota-sets/{}", h.demo_project);
    h.ok("PUT", &quota, &h.admin, json!({"quota_set": {"cores": 2}})).await;
    for _ in 0..2 {
        boot(&h, &rows, json!({})).await;
    }
    let (status, body) = create(&h, &rows, json!({})).await;
    let words = "Quota exceeded for cores: Requested 1, but already used 2 of 2 cores";
    assert_eq!((status, body), (403, json!({"forbidden": {"code": 403, "message": words}})));
    let (_, _, detail) = h.ok("GET", &format!("{quota}/detail"), &h.demo, Value::Null).await;
    assert_eq!(detail["quota_set"]["cores"], json!({"limit": 2, "in_use": 2, "reserved": 0}));
    assert_eq!(detail["quota_set"]["instances"]["in_use"], 2);
    let (status, _, body) = h.call("PUT", &quota, &h.admin, json!({"quota_set": {"cores": 1}})).await;
    assert_eq!(status, 400, "{body}");
    assert!(message(&body).contains("must be greater than or equal to already used and reserved 2"));
    h.ok("PUT", &quota, &h.admin, json!({"quota_set": {"cores": 1, "force": true}})).await;
    let (status, _, _) = h.call("PUT", &quota, &h.demo, json!({"quota_set": {"cores": 100}})).await;
    assert_eq!(status, 403);
    let (_, _, limits) = h.ok("GET", "/compute/v2.1/limits", &h.demo, Value::Null).await;
    assert_eq!(limits["limits"]["absolute"]["totalCoresUsed"], 2);
    assert_eq!(limits["limits"]["absolute"]["maxTotalCores"], 1);
}

#[tokio::test]
async fn many_at_once() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let (status, body) =
        create(&h, &rows, json!({"min_count": 2, "max_count": 3, "return_reservation_id": true})).await;
    assert_eq!(status, 202, "{body}");
    assert!(text(&body["reservation_id"]).starts_with("r-"));
    let (_, _, list) = h.ok("GET", SERVERS, &h.demo, Value::Null).await;
    let mut names: Vec<&str> = list["servers"].as_array().unwrap().iter().map(|s| text(&s["name"])).collect();
    names.sort_unstable();
    assert_eq!(names, ["web-1", "web-2", "web-3"]);
    // Three are there, ten may be: as many as fit are made, if that is enough.
    let (status, _) = create(&h, &rows, json!({"min_count": 8})).await;
    assert_eq!(status, 403);
    let (status, _) = create(&h, &rows, json!({"min_count": 1, "max_count": 9})).await;
    assert_eq!(status, 202);
    assert_eq!(h.cloud.store.snapshot().all::<Server>().count(), 10);
}

#[tokio::test]
async fn one_that_ended_by_itself_is_off_and_can_be_started() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let id = boot(&h, &rows, json!({})).await;
    rows.ended(&h, &id).await;
    let off = show(&h, &id).await;
    assert_eq!(
        (&off["status"], &off["OS-EXT-STS:task_state"], &off["OS-EXT-STS:power_state"]),
        (&json!("SHUTOFF"), &Value::Null, &json!(4))
    );
    assert_eq!(act(&h, &id, json!({"os-stop": null})).await.0, 409);
    assert_eq!(act(&h, &id, json!({"os-start": null})).await.0, 202);
    assert_eq!(show(&h, &id).await["OS-EXT-STS:task_state"], "powering-on");
    let wanted = h.cloud.store.snapshot().get::<Server>(&id).unwrap().value.clone();
    assert_eq!((wanted.power, wanted.hard_reboots), (true, 1), "the host starts anew what is counted");
    rows.rebooted(&h, &id).await;
    rows.report(&h, &id, VmPhase::Running).await;
    assert_eq!(show(&h, &id).await["status"], "ACTIVE");
}

#[tokio::test]
async fn power_and_reboots() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let id = boot(&h, &rows, json!({})).await;
    let (status, body) = act(&h, &id, json!({"os-start": null})).await;
    assert_eq!(status, 409);
    assert_eq!(message(&body), format!("Cannot 'start' instance {id} while it is in vm_state active"));
    assert_eq!(act(&h, &id, json!({"os-stop": null})).await.0, 202);
    assert_eq!(show(&h, &id).await["OS-EXT-STS:task_state"], "powering-off");
    let (status, body) = act(&h, &id, json!({"os-stop": null})).await;
    assert_eq!(status, 409);
    assert!(message(&body).contains("task_state powering-off"));
    rows.report(&h, &id, VmPhase::Stopped).await;
    assert_eq!(show(&h, &id).await["status"], "SHUTOFF");
    assert_eq!(act(&h, &id, json!({"os-start": null})).await.0, 202);
    rows.report(&h, &id, VmPhase::Running).await;
    assert_eq!(show(&h, &id).await["status"], "ACTIVE");
    assert_eq!(act(&h, &id, json!({"reboot": {"type": "HARD"}})).await.0, 202);
    assert_eq!(show(&h, &id).await["status"], "HARD_REBOOT");
    rows.rebooted(&h, &id).await;
    assert_eq!(show(&h, &id).await["status"], "ACTIVE");
    assert_eq!(act(&h, &id, json!({"reboot": {"type": "WARM"}})).await.0, 400);
    assert_eq!(act(&h, &id, json!({"pause": null})).await.0, 202);
    rows.report(&h, &id, VmPhase::Paused).await;
    assert_eq!(show(&h, &id).await["status"], "PAUSED");
    assert_eq!(act(&h, &id, json!({"unpause": null})).await.0, 202);
    rows.report(&h, &id, VmPhase::Running).await;
    let (_, _, log) = h.ok("GET", &format!("{SERVERS}/{id}/os-instance-actions"), &h.demo, Value::Null).await;
    let done: Vec<&str> = log["instanceActions"].as_array().unwrap().iter().map(|a| text(&a["action"])).collect();
    assert_eq!(done, ["unpause", "pause", "reboot", "start", "stop", "create"]);
    let request = text(&log["instanceActions"][5]["request_id"]);
    let path = format!("{SERVERS}/{id}/os-instance-actions/{request}");
    let (_, _, one) = h.ok("GET", &path, &h.demo, Value::Null).await;
    assert_eq!(one["instanceAction"]["action"], "create");
    assert_eq!(act(&h, &id, json!({"trigger_crash_dump": null})).await.0, 404);
    assert_eq!(act(&h, &id, json!({"dance": null})).await.0, 400);
}

#[tokio::test]
async fn locks_hold() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let id = boot(&h, &rows, json!({})).await;
    assert_eq!(act(&h, &id, json!({"lock": null})).await.0, 202);
    let (status, body) = act(&h, &id, json!({"os-stop": null})).await;
    assert_eq!((status, message(&body).to_owned()), (409, format!("Instance {id} is locked")));
    let (status, _, _) = h.call("DELETE", &format!("{SERVERS}/{id}"), &h.demo, Value::Null).await;
    assert_eq!(status, 409);
    assert_eq!(act(&h, &id, json!({"unlock": null})).await.0, 202);
    assert_eq!(act(&h, &id, json!({"os-stop": null})).await.0, 202);
}

#[tokio::test]
async fn rebuild_and_resize_are_incarnations() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let id = boot(&h, &rows, json!({})).await;
    let (status, body) =
        act(&h, &id, json!({"rebuild": {"imageRef": rows.image, "name": "again", "metadata": {"r": "1"}}})).await;
    assert_eq!(status, 202, "{body}");
    assert!(body["server"]["adminPass"].is_string());
    assert_eq!(show(&h, &id).await["status"], "REBUILD");
    let (status, _) = act(&h, &id, json!({"rebuild": {"imageRef": rows.image}})).await;
    assert_eq!(status, 409, "one at a time");
    rows.place(&h, &id, "node1", VmPhase::Running).await;
    let server = show(&h, &id).await;
    assert_eq!((&server["status"], &server["name"]), (&json!("ACTIVE"), &json!("again")));

    for (flavor, says) in [
        (json!(rows.small), "must change flavor"),
        (json!(uuid::Uuid::new_v4().to_string()), "could not be found"),
        (json!(""), "not of type"),
        (json!(rows.giant), "No valid host was found"),
    ] {
        let (status, body) = act(&h, &id, json!({"resize": {"flavorRef": flavor}})).await;
        assert_eq!(status, 400, "{body}");
        assert!(message(&body).contains(says), "{body}");
    }
    assert_eq!(show(&h, &id).await["status"], "ACTIVE", "a resize without room leaves it running");

    assert_eq!(act(&h, &id, json!({"resize": {"flavorRef": rows.large}})).await.0, 202);
    assert_eq!(show(&h, &id).await["status"], "RESIZE");
    rows.place(&h, &id, "node1", VmPhase::Running).await;
    let server = show(&h, &id).await;
    assert_eq!((&server["status"], &server["flavor"]["id"]), (&json!("VERIFY_RESIZE"), &json!(rows.large)));
    assert_eq!(act(&h, &id, json!({"revertResize": null})).await.0, 202);
    assert_eq!(show(&h, &id).await["status"], "REVERT_RESIZE");
    rows.place(&h, &id, "node1", VmPhase::Running).await;
    let server = show(&h, &id).await;
    assert_eq!((&server["status"], &server["flavor"]["id"]), (&json!("ACTIVE"), &json!(rows.small)));

    assert_eq!(act(&h, &id, json!({"resize": {"flavorRef": rows.large}})).await.0, 202);
    rows.place(&h, &id, "node1", VmPhase::Running).await;
    assert_eq!(act(&h, &id, json!({"confirmResize": null})).await.0, 204);
    let server = show(&h, &id).await;
    assert_eq!((&server["status"], &server["flavor"]["id"]), (&json!("ACTIVE"), &json!(rows.large)));
    assert_eq!(act(&h, &id, json!({"confirmResize": null})).await.0, 409);
}

#[tokio::test]
async fn an_error_says_why() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let (_, body) = create(&h, &rows, json!({})).await;
    let id = text(&body["server"]["id"]).to_owned();
    rows.edit::<Server>(&h, &id, |s| s.problem = Some("No valid host was found. there is no host".into())).await;
    let server = show(&h, &id).await;
    assert_eq!(server["status"], "ERROR");
    assert_eq!(server["fault"]["message"], "No valid host was found. there is no host");
    let (status, _, body) =
        h.call("POST", &format!("{SERVERS}/{id}/action"), &h.demo, json!({"os-resetState": {"state": "active"}})).await;
    assert_eq!(status, 403, "{body}");
}

#[tokio::test]
async fn lists_filter_sort_and_page() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let mut ids = Vec::new();
    for name in ["alpha", "beta", "gamma"] {
        ids.push(boot(&h, &rows, json!({"name": name})).await);
    }
    act(&h, &ids[1], json!({"os-stop": null})).await;
    rows.report(&h, &ids[1], VmPhase::Stopped).await;
    let list = async |query: &str| -> Vec<String> {
        let (_, _, body) = h.ok("GET", &format!("{SERVERS}?{query}"), &h.demo, Value::Null).await;
        body["servers"].as_array().unwrap().iter().map(|s| text(&s["name"]).to_owned()).collect()
    };
    assert_eq!(list("sort_key=display_name&sort_dir=asc").await, ["alpha", "beta", "gamma"]);
    assert_eq!(list("").await, ["gamma", "beta", "alpha"]);
    for (query, names) in [
        ("name=alph", vec!["alpha"]),
        ("name=.*amma", vec!["gamma"]),
        ("status=SHUTOFF", vec!["beta"]),
        ("status=non_existing_status", vec![]),
        ("flavor=nobody", vec![]),
        ("image=nobody", vec![]),
        ("ip=10.1.0.", vec!["gamma", "beta", "alpha"]),
        ("ip=10.2.0.", vec![]),
        ("changes-since=2051-01-01T12:34:00Z", vec![]),
        ("deleted=True", vec![]),
        ("limit=1", vec!["gamma"]),
        ("limit=0", vec![]),
    ] {
        assert_eq!(list(query).await, names, "{query}");
    }
    let (_, _, page) = h.ok("GET", &format!("{SERVERS}?limit=2"), &h.demo, Value::Null).await;
    let next = text(&page["servers_links"][0]["href"]);
    assert!(next.contains(&format!("marker={}", ids[1])), "{next}");
    for query in ["limit=-1", "limit=abc", "changes-since=2011/01/01", "marker=nobody", "sort_key=nonsense"] {
        let (status, _, body) = h.call("GET", &format!("{SERVERS}?{query}"), &h.demo, Value::Null).await;
        assert_eq!(status, 400, "{query}: {body}");
    }
    let stranger = h.tenant("stranger", "member").await;
    let (_, _, body) = h.ok("GET", &format!("{SERVERS}/detail"), &stranger, Value::Null).await;
    assert_eq!(body["servers"], json!([]));
    let (status, _, _) = h.call("GET", &format!("{SERVERS}/{}", ids[0]), &stranger, Value::Null).await;
    assert_eq!(status, 404);
    let (status, _, _) = h.call("GET", &format!("{SERVERS}?all_tenants=1"), &stranger, Value::Null).await;
    assert_eq!(status, 403);
    let (_, _, body) = h.ok("GET", &format!("{SERVERS}?all_tenants=1"), &h.admin, Value::Null).await;
    assert_eq!(body["servers"].as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn small_parts() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let id = boot(&h, &rows, json!({"metadata": {"a": "1"}})).await;
    let base = format!("{SERVERS}/{id}");
    h.ok("POST", &format!("{base}/metadata"), &h.demo, json!({"metadata": {"b": "2"}})).await;
    h.ok("PUT", &format!("{base}/metadata/a"), &h.demo, json!({"meta": {"a": "3"}})).await;
    let (_, _, all) = h.ok("GET", &format!("{base}/metadata"), &h.demo, Value::Null).await;
    assert_eq!(all, json!({"metadata": {"a": "3", "b": "2"}}));
    assert_eq!(h.call("DELETE", &format!("{base}/metadata/a"), &h.demo, Value::Null).await.0, 204);
    assert_eq!(h.call("DELETE", &format!("{base}/metadata/a"), &h.demo, Value::Null).await.0, 404);

    let (_, _, ips) = h.ok("GET", &format!("{base}/ips"), &h.demo, Value::Null).await;
    assert_eq!(ips, json!({"addresses": {"private": [{"version": 4, "addr": "10.1.0.5"}]}}));
    let (_, _, nics) = h.ok("GET", &format!("{base}/os-interface"), &h.demo, Value::Null).await;
    assert_eq!(nics["interfaceAttachments"][0]["net_id"], rows.network.as_str());
    let (_, _, made) = h
        .ok("POST", &format!("{base}/os-interface"), &h.demo, json!({"interfaceAttachment": {"net_id": rows.network}}))
        .await;
    let port = text(&made["interfaceAttachment"]["port_id"]).to_owned();
    assert_eq!(h.call("DELETE", &format!("{base}/os-interface/{port}"), &h.demo, Value::Null).await.0, 202);
    let (_, _, nics) = h.ok("GET", &format!("{base}/os-interface"), &h.demo, Value::Null).await;
    assert_eq!(nics["interfaceAttachments"].as_array().map(Vec::len), Some(1));

    let tags = format!("{base}/tags");
    let v = [("openstack-api-version", "compute 2.26")];
    assert_eq!(h.call("GET", &tags, &h.demo, Value::Null).await.0, 404, "no tags before 2.26");
    assert_eq!(h.call_with("PUT", &format!("{tags}/red"), &h.demo, &v, Value::Null).await.0, 201);
    assert_eq!(h.call_with("PUT", &format!("{tags}/red"), &h.demo, &v, Value::Null).await.0, 204);
    assert_eq!(h.call_with("GET", &format!("{tags}/red"), &h.demo, &v, Value::Null).await.0, 204);
    let (_, _, set) = h.call_with("PUT", &tags, &h.demo, &v, json!({"tags": ["x", "y"]})).await;
    assert_eq!(set, json!({"tags": ["x", "y"]}));
    assert_eq!(h.call_with("GET", &format!("{tags}/red"), &h.demo, &v, Value::Null).await.0, 404);

    let (_, _, body) =
        h.ok("PUT", &base, &h.demo, json!({"server": {"name": "other", "accessIPv6": "2001:0db8::0001"}})).await;
    assert_eq!((&body["server"]["name"], &body["server"]["accessIPv6"]), (&json!("other"), &json!("2001:db8::1")));
    assert_eq!(h.call("PUT", &base, &h.demo, json!({"server": {"name": ""}})).await.0, 400);
    let (status, _, body) =
        h.call("POST", &format!("{base}/action"), &h.demo, json!({"os-getConsoleOutput": {}})).await;
    assert_eq!(status, 503, "the harness has no hosts: {body}");
}

#[tokio::test]
async fn servers_and_their_security_groups() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let id = boot(&h, &rows, json!({})).await;
    let groups = "/compute/v2.1/os-security-groups";
    let (_, _, made) =
        h.ok("POST", groups, &h.demo, json!({"security_group": {"name": "web", "description": "d"}})).await;
    let group = text(&made["security_group"]["id"]).to_owned();
    assert_eq!(act(&h, &id, json!({"addSecurityGroup": {"name": "web"}})).await.0, 202);
    let (_, _, of) = h.ok("GET", &format!("{SERVERS}/{id}/os-security-groups"), &h.demo, Value::Null).await;
    let names: Vec<&str> = of["security_groups"].as_array().unwrap().iter().map(|g| text(&g["name"])).collect();
    assert!(names.contains(&"web"), "{names:?}");
    let (status, _, body) = h.call("DELETE", &format!("{groups}/{group}"), &h.demo, Value::Null).await;
    assert_eq!(status, 400, "in use: {body}");
    assert_eq!(act(&h, &id, json!({"removeSecurityGroup": {"name": "web"}})).await.0, 202);
    assert_eq!(act(&h, &id, json!({"removeSecurityGroup": {"name": "web"}})).await.0, 404);
    assert_eq!(h.call("DELETE", &format!("{groups}/{group}"), &h.demo, Value::Null).await.0, 202);
}

/// A server refers to its groups before its ports do: it would wait for ports that nobody can make.
#[tokio::test]
async fn a_group_cannot_go_before_the_ports_that_shall_be_in_it() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let body = json!({"security_group": {"name": "g"}});
    let (_, _, group) = h.ok("POST", "/network/v2.0/security-groups", &h.demo, body).await;
    let group = text(&group["security_group"]["id"]).to_owned();
    let body = json!({"server": {"name": "s", "imageRef": rows.image, "flavorRef": rows.small,
        "networks": [{"uuid": rows.network}], "security_groups": [{"name": group}]}});
    let (_, _, server) = h.ok("POST", "/compute/v2.1/servers", &h.demo, body).await;
    let path = format!("/network/v2.0/security-groups/{group}");
    assert_eq!(h.call("DELETE", &path, &h.demo, Value::Null).await.0, 409);
    // Nobody needs it any more once there is nothing left to be made.
    h.ok("DELETE", &format!("/compute/v2.1/servers/{}", text(&server["server"]["id"])), &h.demo, Value::Null).await;
    h.ok("DELETE", &path, &h.demo, Value::Null).await;
}

/// Each filter that is declared lets nothing pass that it says nothing of, to those and from the version for whom it is declared.
#[tokio::test]
async fn no_declared_filter_is_passed_over() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let body = json!({"server": {"name": "seen", "imageRef": rows.image, "flavorRef": rows.small, "networks": "none",
        "tags": ["walked"]}});
    let at = |minor: u16| format!("compute 2.{minor}");
    let (status, _, answer) = h.call_with("POST", SERVERS, &h.demo, &[("openstack-api-version", &at(90))], body).await;
    assert_eq!(status, 202, "{answer}");
    let admin = h.login("admin", common::ADMIN_PASSWORD, "demo").await;
    let list = async |token: &str, minor: u16, query: &str| {
        let version = at(minor);
        let headers = [("openstack-api-version", version.as_str())];
        let (status, _, body) = h.call_with("GET", &format!("{SERVERS}?{query}"), token, &headers, Value::Null).await;
        assert_eq!(status, 200, "{query} in 2.{minor}: {body}");
        body["servers"].as_array().unwrap().len()
    };
    let declared = face_openstack::compute::declared();
    let (_, attrs) = declared.iter().find(|(one, _)| *one == "server").unwrap();
    let mut tried = 0;
    for DeclaredFilter { names, since, admin: for_admins, how } in attrs.iter().flat_map(|attr| &attr.filters) {
        for name in *names {
            let value = match *how {
                "at or after" => "2999-01-01",
                "at or before" => "1999-01-01",
                "not all of" | "none of" => "walked",
                "boolean" => "true",
                "number" => "99",
                _ => "nobodys",
            };
            let query = format!("{name}={value}");
            assert_eq!(list(&admin, 104, &query).await, 0, "{query}");
            assert_eq!(list(&h.demo, 104, &query).await, usize::from(*for_admins), "{query} of a member");
            if *since > (2, 1) {
                assert_eq!(list(&admin, since.1 - 1, &query).await, 1, "{query} before {since:?}");
            }
            tried += 1;
        }
    }
    assert!(tried >= 25, "{tried}");
    assert_eq!(list(&admin, 104, "ip=nobodys&ip6=nobodys").await, 0);
    // What nothing is sorted by is refused, whatever the list has.
    let (status, _, body) =
        h.call("GET", &format!("{SERVERS}?name=nobodys&sort_key=nothing"), &h.demo, Value::Null).await;
    assert_eq!(status, 400, "{body}");
}
