//! Images from servers, and suspend, rescue and shelve, through Nova's API; the test plays planners and the host.

mod common;
#[path = "common/cloud.rs"]
mod rows;

use common::{Harness, text};
use model::{Image, ImageStatus, Index, Server, Vm, VmPhase};
use rows::Rows;
use serde_json::{Value, json};

const SERVERS: &str = "/compute/v2.1/servers";

async fn boot(h: &Harness, rows: &Rows) -> String {
    let server = json!({"name": "web", "imageRef": rows.image, "flavorRef": rows.small});
    let (_, _, body) = h.ok("POST", SERVERS, &h.demo, json!({"server": server})).await;
    let id = text(&body["server"]["id"]).to_owned();
    rows.place(h, &id, "node1", VmPhase::Running).await;
    id
}

async fn act(h: &Harness, id: &str, body: Value) -> (u16, Value) {
    let (status, _, body) = h.call("POST", &format!("{SERVERS}/{id}/action"), &h.demo, body).await;
    (status, body)
}

/// Status, vm_state and task_state.
async fn state(h: &Harness, id: &str) -> [String; 3] {
    let (_, _, body) = h.ok("GET", &format!("{SERVERS}/{id}"), &h.demo, Value::Null).await;
    ["status", "OS-EXT-STS:vm_state", "OS-EXT-STS:task_state"]
        .map(|field| body["server"][field].as_str().unwrap_or("-").to_owned())
}

fn image_of(h: &Harness, server: &str) -> Image {
    h.cloud.store.snapshot().find::<Image>(Index::Owner, server).next().expect("an image").value.clone()
}

async fn complete(h: &Harness, rows: &Rows, id: &str) {
    rows.edit::<Image>(h, id, |image| {
        image.status = ImageStatus::Active;
        image.blob = Some("11".into());
        image.source = None;
    })
    .await;
}

#[tokio::test]
async fn an_image_of_a_server() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    rows.edit::<Image>(&h, &rows.image, |image| {
        image.properties =
            [("os_command_line", "quiet"), ("image_type", "base")].map(|(k, v)| (k.into(), v.into())).into();
    })
    .await;
    let id = boot(&h, &rows).await;
    let path = format!("{SERVERS}/{id}/action");
    for bad in [json!({}), json!({"name": ""}), json!({"name": "x", "more": 1}), json!({"name": "x", "metadata": [1]})]
    {
        assert_eq!(act(&h, &id, json!({"createImage": bad})).await.0, 400, "{bad}");
    }
    let body = json!({"createImage": {"name": "snap", "metadata": {"mine": "yes"}}});
    let (status, headers, _) = h.call("POST", &path, &h.demo, body.clone()).await;
    assert_eq!(status, 202);
    let image = image_of(&h, &id);
    assert!(text(&json!(headers["location"].to_str().unwrap())).ends_with(&format!("/images/{}", image.id)));
    assert_eq!(image.project_id, h.demo_project);
    let property = |name: &str| image.properties[name].as_str();
    assert_eq!((property("instance_uuid"), property("base_image_ref")), (id.as_str(), rows.image.as_str()));
    assert_eq!((property("image_type"), property("mine")), ("snapshot", "yes"));
    assert_eq!(property("os_command_line"), "quiet");

    assert_eq!(state(&h, &id).await, ["ACTIVE", "active", "image_snapshot_pending"]);
    assert_eq!(act(&h, &id, body.clone()).await.0, 409, "one at a time");
    assert_eq!(act(&h, &id, json!({"os-stop": null})).await.0, 409, "the disk is needed");
    let upload = format!("/image/v2/images/{}/file", image.id);
    let octets = [("content-type", "application/octet-stream")];
    assert_eq!(h.raw("PUT", &upload, &h.demo, &octets, b"mine".to_vec()).await.0, 409, "its host fills it");
    rows.edit::<Image>(&h, &image.id, |image| image.status = ImageStatus::Saving).await;
    assert_eq!(state(&h, &id).await[2], "image_uploading");
    let (_, _, shown) = h.ok("GET", &format!("/image/v2/images/{}", image.id), &h.demo, Value::Null).await;
    assert_eq!((&shown["status"], shown.get("source")), (&json!("saving"), None));
    complete(&h, &rows, &image.id).await;
    assert_eq!(state(&h, &id).await[2], "-");
    let tasks = format!("/image/v2/images/{}/tasks", image.id);
    assert_eq!(h.ok("GET", &tasks, &h.demo, Value::Null).await.2, json!({"tasks": []}));
    let old = format!("/compute/v2.1/images/{}", image.id);
    assert_eq!(h.call("DELETE", &old, &h.demo, Value::Null).await.0, 204);
    assert_eq!(h.call("DELETE", &old, &h.demo, Value::Null).await.0, 404);

    let (status, _, body) =
        h.call_with("POST", &path, &h.demo, &[("openstack-api-version", "compute 2.45")], body).await;
    assert_eq!((status, text(&body["image_id"])), (202, image_of(&h, &id).id.as_str()));
}

#[tokio::test]
async fn a_backup_says_how_many_are_kept() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let id = boot(&h, &rows).await;
    for bad in [json!({"name": "b"}), json!({"name": "b", "backup_type": "daily", "rotation": -1})] {
        assert_eq!(act(&h, &id, json!({"createBackup": bad})).await.0, 400, "{bad}");
    }
    let body = json!({"createBackup": {"name": "b", "backup_type": "daily", "rotation": 2}});
    assert_eq!(act(&h, &id, body).await.0, 202);
    let image = image_of(&h, &id);
    assert_eq!(image.properties["backup_type"], "daily");
    assert_eq!(image.source.unwrap().rotation, Some(2));
}

#[tokio::test]
async fn suspended_and_resumed() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let id = boot(&h, &rows).await;
    assert_eq!(act(&h, &id, json!({"resume": null})).await.0, 409);
    assert_eq!(act(&h, &id, json!({"suspend": null})).await.0, 202);
    assert_eq!(state(&h, &id).await, ["ACTIVE", "active", "suspending"]);
    rows.report(&h, &id, VmPhase::Suspended).await;
    assert_eq!(state(&h, &id).await, ["SUSPENDED", "suspended", "-"]);
    assert_eq!(act(&h, &id, json!({"os-stop": null})).await.0, 409);
    assert_eq!(act(&h, &id, json!({"resume": null})).await.0, 202);
    assert_eq!(state(&h, &id).await, ["SUSPENDED", "suspended", "resuming"]);
    rows.report(&h, &id, VmPhase::Running).await;
    assert_eq!(state(&h, &id).await, ["ACTIVE", "active", "-"]);
}

#[tokio::test]
async fn rescued_and_back() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let id = boot(&h, &rows).await;
    let none = uuid::Uuid::new_v4().to_string();
    assert_eq!(act(&h, &id, json!({"rescue": {"rescue_image_ref": none}})).await.0, 400);
    let (status, body) = act(&h, &id, json!({"rescue": {"adminPass": "secret"}})).await;
    assert_eq!((status, body), (200, json!({"adminPass": "secret"})));
    assert_eq!(state(&h, &id).await, ["ACTIVE", "active", "rescuing"]);
    let needed = face_openstack::image::needed_blobs(&h.cloud.store.snapshot());
    assert!(needed.contains("00"), "the image may be deleted meanwhile");
    let vm = Vm::id(&id, 1);
    rows.edit::<Vm>(&h, &vm, |vm| vm.status.rescued = true).await;
    assert_eq!(state(&h, &id).await, ["RESCUE", "rescued", "-"]);
    assert_eq!(act(&h, &id, json!({"pause": null})).await.0, 409);
    assert_eq!(act(&h, &id, json!({"unrescue": null})).await.0, 202);
    assert_eq!(state(&h, &id).await, ["RESCUE", "rescued", "unrescuing"]);
    rows.edit::<Vm>(&h, &vm, |vm| vm.status.rescued = false).await;
    assert_eq!(state(&h, &id).await, ["ACTIVE", "active", "-"]);
}

#[tokio::test]
async fn shelved_and_back() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let id = boot(&h, &rows).await;
    assert_eq!(act(&h, &id, json!({"unshelve": null})).await.0, 409);
    assert_eq!(act(&h, &id, json!({"shelve": null})).await.0, 202);
    let image = image_of(&h, &id);
    assert_eq!(image.name.as_deref(), Some("web-shelved"));
    assert_eq!(state(&h, &id).await, ["ACTIVE", "active", "shelving"]);
    rows.report(&h, &id, VmPhase::Stopped).await;
    assert_eq!(state(&h, &id).await, ["ACTIVE", "active", "shelving_image_uploading"]);
    complete(&h, &rows, &image.id).await;
    rows.edit::<Vm>(&h, &Vm::id(&id, 1), |vm| vm.deleting = true).await;
    assert_eq!(state(&h, &id).await, ["SHELVED", "shelved", "shelving_offloading"]);
    assert_eq!(act(&h, &id, json!({"shelveOffload": null})).await.0, 202);
    let done = h.cloud.store.transact(|snapshot| {
        let mut change = model::Change::new();
        change.delete(rows::at::<Vm>(snapshot, &Vm::id(&id, 1))?);
        Ok((change, ()))
    });
    done.await.unwrap();
    assert_eq!(state(&h, &id).await, ["SHELVED_OFFLOADED", "shelved_offloaded", "-"]);
    assert_eq!(act(&h, &id, json!({"os-start": null})).await.0, 409);
    assert_eq!(act(&h, &id, json!({"unshelve": {"availability_zone": "mars"}})).await.0, 400);
    assert_eq!(act(&h, &id, json!({"unshelve": null})).await.0, 202);
    assert_eq!(state(&h, &id).await[2], "unshelving");
    let kept = h.cloud.store.snapshot().get::<Server>(&id).unwrap().unshelving.clone();
    assert_eq!(kept, Some(image.id));
    rows.place(&h, &id, "node1", VmPhase::Running).await;
    assert_eq!(state(&h, &id).await, ["ACTIVE", "active", "-"]);
}

#[tokio::test]
async fn one_that_ended_by_itself_can_be_started() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let id = boot(&h, &rows).await;
    rows.edit::<Vm>(&h, &Vm::id(&id, 1), |vm| {
        vm.status.phase = VmPhase::Stopped;
        vm.status.ended = true;
        vm.status.message = "the guest powered itself off".into();
    })
    .await;
    assert_eq!(state(&h, &id).await, ["SHUTOFF", "stopped", "-"]);
    assert_eq!(act(&h, &id, json!({"os-start": null})).await.0, 202);
    assert_eq!(h.cloud.store.snapshot().get::<Server>(&id).unwrap().hard_reboots, 1, "the host starts it again");
    assert_eq!(state(&h, &id).await, ["SHUTOFF", "stopped", "powering-on"]);
}

#[tokio::test]
async fn there_is_no_other_host_to_go_to() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let id = boot(&h, &rows).await;
    let migrate = json!({"os-migrateLive": {"host": null, "block_migration": false, "disk_over_commit": false}});
    for (body, says) in [
        (json!({"migrate": null}), "No valid host was found"),
        (migrate, "No valid host was found"),
        (json!({"evacuate": {"onSharedStorage": false}}), "Compute service of node1 is still in use."),
    ] {
        assert_eq!(act(&h, &id, body.clone()).await.0, 403, "{body}");
        let (status, _, answer) = h.call("POST", &format!("{SERVERS}/{id}/action"), &h.admin, body).await;
        assert_eq!(status, 400, "{answer}");
        assert!(text(&answer["badRequest"]["message"]).contains(says), "{answer}");
    }
}
