//! Interoperable import: an image's bytes are what was staged for it (`glance-direct`), or what lies at a URI
//! (`web-download`).
//!
//! What was staged was looked at then, so the one commit that accepts its import makes it the image's. A URI is only noted
//! in the image's row, in one commit with the task that tells about it: the process that fetches images is not one that
//! answers clients (`braid`'s `imports`), it finds in the rows what is to be fetched, and ends each by [`ended`]. An image
//! whose import failed is queued again, as it was before.
//!
//! Refused: a URI that fails only when somebody fetches it where the text alone tells ([`model::reach`]); copies between
//! stores and from other Glances, since there is one store.

use blob::Digest;
use model::{
    Change, Entry, Fault, Image, ImageStatus, Realm, Snapshot, Task, TaskStatus, Time, WebDownload, free_place,
};
use serde_json::{Map, Value, json};
use store::Store;

use super::inspect::Found;
use super::view::STORE;
use super::{access, data};
use crate::call::{Call, Reply};

/// The ways of import that are offered.
pub const METHODS: [&str; 2] = ["glance-direct", "web-download"];

/// The most characters of why an import failed.
const LONGEST_REASON: usize = 1000;

/// What an import is asked to do.
enum ImportMethod {
    Staged,
    Web(String),
}

/// `POST /v2/images/{image_id}/import`
pub async fn import(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    data::check_store(&call)?;
    let (said, method) = read(&body)?;
    if let ImportMethod::Web(uri) = &method {
        let refused = |why| Fault::Invalid(format!("URI for web-download does not pass filtering: {uri} ({why})"));
        call.cloud.reach.target(uri).map_err(refused)?;
    }
    let id = call.param("image_id");
    let task_id = uuid::Uuid::new_v4().to_string();
    call.cloud
        .store
        .transact(|snapshot| {
            let image = access::own(snapshot, call.who()?, id, "import_image")?;
            importable(&image, &method)?;
            let mut change = Change::new();
            let mut task = new_task(&call, snapshot, &image, &task_id, &said, &mut change)?;
            if matches!(method, ImportMethod::Staged) {
                task.end(None, call.now);
            }
            change.create(task);
            change.edit(image, |image| begin(image, &method, &task_id, call.now));
            Ok((change, ()))
        })
        .await?;
    Ok(Reply::empty(202))
}

/// The method with what it was told, and what that means.
fn read(body: &Value) -> Result<(Value, ImportMethod), Fault> {
    let invalid = |text: String| Err(Fault::Invalid(text));
    let none = Map::new();
    let all = body.as_object().unwrap_or(&none);
    if let Some(odd) =
        all.keys().find(|key| !["method", "stores", "all_stores", "all_stores_must_succeed"].contains(&key.as_str()))
    {
        return invalid(format!("Import request has no field '{odd}'."));
    }
    let method = all.get("method").ok_or_else(|| Fault::invalid("Import request requires a 'method' field."))?;
    let name = method.get("name").ok_or_else(|| Fault::invalid("Import request requires a 'name' field."))?;
    for flag in ["all_stores", "all_stores_must_succeed"] {
        if all.get(flag).is_some_and(|value| !value.is_boolean()) {
            return invalid(format!("'{flag}' must be boolean value only"));
        }
    }
    if let Some(stores) = all.get("stores") {
        let names: Option<Vec<&str>> = stores.as_array().and_then(|all| all.iter().map(Value::as_str).collect());
        match names.as_deref() {
            None => return invalid("'stores' is a list of stores.".into()),
            Some([_, ..]) if all.get("all_stores") == Some(&json!(true)) => {
                return invalid("All_stores parameter can't be used with stores parameter".into());
            }
            Some(names) if names.iter().any(|name| *name != STORE) => {
                return Err(Fault::Conflict(format!("There is one store, '{STORE}'; '{stores}' has others.")));
            }
            Some(_) => {}
        }
    }
    let allowed: &[&str] = if name == "web-download" { &["name", "uri"] } else { &["name"] };
    let named = |known: &str| name == known;
    match method.as_object().and_then(|method| method.keys().find(|key| !allowed.contains(&key.as_str()))) {
        Some(odd) if METHODS.iter().any(|known| named(known)) => {
            return invalid(format!("Import method {name} takes no '{odd}'."));
        }
        _ => {}
    }
    match (name.as_str(), method.get("uri")) {
        (Some("glance-direct"), _) => Ok((json!({"name": name}), ImportMethod::Staged)),
        (Some("web-download"), Some(Value::String(uri))) => {
            Ok((json!({"name": name, "uri": uri}), ImportMethod::Web(uri.clone())))
        }
        (Some("web-download"), _) => invalid("URI is required for 'web-download' import method.".into()),
        (Some(name), _) => invalid(format!("Unknown import method name '{name}'.")),
        (None, _) => invalid(format!("Unknown import method name '{name}'.")),
    }
}

fn importable(image: &Image, method: &ImportMethod) -> Result<(), Fault> {
    let conflict = |text: &str| Err(Fault::Conflict(text.to_owned()));
    match (image.status, method) {
        (ImageStatus::Active, _) => return conflict("Image with status active cannot be target for import"),
        (ImageStatus::Queued, ImportMethod::Web(_)) if image.source.is_none() => {}
        (_, ImportMethod::Web(_)) => {
            return conflict("Image needs to be in 'queued' state to use 'web-download' method");
        }
        (ImageStatus::Uploading, ImportMethod::Staged) => {}
        (_, ImportMethod::Staged) => {
            return conflict("Image needs to be staged before 'glance-direct' method can be used");
        }
    }
    for (name, value) in [("disk_format", &image.disk_format), ("container_format", &image.container_format)] {
        if value.is_none() {
            return Err(Fault::Invalid(format!("'{name}' needs to be set before import")));
        }
    }
    Ok(())
}

fn begin(image: &mut Image, method: &ImportMethod, task_id: &str, now: Time) {
    image.updated_at = now;
    image.import_failed = false;
    match method {
        ImportMethod::Web(uri) => {
            image.status = ImageStatus::Importing;
            image.download = Some(WebDownload { uri: uri.clone(), task_id: task_id.to_owned() });
        }
        ImportMethod::Staged => {
            let Some(staged) = image.staged.take() else { return };
            image.status = ImageStatus::Active;
            image.blob = Some(staged.blob);
            image.size = Some(staged.size);
            image.virtual_size = staged.virtual_size;
            image.checksum = Some(staged.checksum);
            image.os_hash_value = Some(staged.os_hash_value);
        }
    }
}

/// A task in a place of its own; the oldest that has ended makes room where there is none.
fn new_task(
    call: &Call,
    snapshot: &Snapshot,
    image: &Image,
    id: &str,
    method: &Value,
    change: &mut Change,
) -> Result<Task, Fault> {
    let all: Vec<Entry<'_, Task>> = snapshot.within::<Task>(&Realm::project(&image.project_id)).collect();
    let place = match free_place(all.iter().map(|task| task.place), Task::MOST) {
        Some(place) => place,
        None => {
            let oldest = all.into_iter().filter(|task| task.status.is_final()).min_by_key(|task| task.updated_at);
            let text = format!("A project has at most {} tasks; wait for one to end.", Task::MOST);
            let oldest = oldest.ok_or(Fault::TooLarge(text))?;
            let place = oldest.place;
            change.delete(oldest);
            place
        }
    };
    let user_id = call.who()?.user_id.clone();
    Ok(Task {
        id: id.to_owned(),
        project_id: image.project_id.clone(),
        image_id: image.id.clone(),
        user_id,
        request_id: call.request_id.clone(),
        method: method.clone(),
        status: TaskStatus::Pending,
        message: String::new(),
        place,
        created_at: call.now,
        updated_at: call.now,
        expires_at: None,
    })
}

/// How many bytes a project's images may still take: a download ends there, not only when all of it has come.
pub fn room(snapshot: &Snapshot, project: &str) -> u64 {
    let Some(resource) = model::quota::limited("image_size_total") else { return data::MAX_SIZE };
    let quota = snapshot.get::<model::Quota>(project);
    let Some(limit) = quota.and_then(|quota| quota.limit(resource)) else { return data::MAX_SIZE };
    let taken = |image: Entry<'_, Image>| image.size.or(image.staged.as_ref().map(|staged| staged.size)).unwrap_or(0);
    let used = snapshot.within::<Image>(&Realm::project(project)).map(taken).fold(0, u64::saturating_add);
    limit.saturating_mul(resource.scale).saturating_sub(used).min(data::MAX_SIZE)
}

/// Somebody has begun to fetch an image.
pub async fn started(store: &Store, task_id: &str, now: Time) -> Result<(), Fault> {
    store
        .transact(|snapshot| {
            let mut change = Change::new();
            if let Some(task) = snapshot.get::<Task>(task_id).filter(|task| task.status == TaskStatus::Pending) {
                change.edit(task, |task| (task.status, task.updated_at) = (TaskStatus::Processing, now));
            }
            Ok((change, ()))
        })
        .await
}

/// What was fetched becomes the image's, if the image still waits for it; or the image is queued again, and its task says
/// why. An error: neither could be written.
pub async fn ended(
    store: &Store,
    image_id: &str,
    task_id: &str,
    fetched: Result<(Digest, Found), String>,
    now: Time,
) -> Result<(), Fault> {
    let failure = match &fetched {
        Err(why) => Some(why.clone()),
        Ok(fetched) => match write_end(store, image_id, task_id, Ok(fetched), now).await {
            Err(why @ (Fault::Quota { .. } | Fault::MediaType(_) | Fault::TooLarge(_) | Fault::Invalid(_))) => {
                Some(why.to_string())
            }
            other => return other,
        },
    };
    // What a stranger's server says is in it.
    let failure = failure.map(|why| why.chars().take(LONGEST_REASON).collect::<String>());
    match failure {
        Some(why) => write_end(store, image_id, task_id, Err(&why), now).await,
        None => Ok(()),
    }
}

async fn write_end(
    store: &Store,
    image_id: &str,
    task_id: &str,
    fetched: Result<&(Digest, Found), &str>,
    now: Time,
) -> Result<(), Fault> {
    store
        .transact(|snapshot| {
            let mut change = Change::new();
            let waits = |image: &Entry<'_, Image>| image.download.as_ref().is_some_and(|one| one.task_id == task_id);
            let image = snapshot.get::<Image>(image_id).filter(waits);
            let mut failure = fetched.err().map(str::to_owned);
            match image {
                None => failure = Some("The image was deleted meanwhile.".into()),
                Some(image) => {
                    if let Ok((_, found)) = fetched {
                        data::check_format(&image, found)?;
                    }
                    change.edit(image, |image| {
                        image.download = None;
                        image.updated_at = now;
                        match fetched {
                            Ok((digest, found)) => data::fill(image, digest, found),
                            Err(_) => (image.status, image.import_failed) = (ImageStatus::Queued, true),
                        }
                    });
                }
            }
            if let Some(task) = snapshot.get::<Task>(task_id).filter(|task| !task.status.is_final()) {
                change.edit(task, |task| task.end(failure, now));
            }
            Ok((change, ()))
        })
        .await
}

/// Forgets tasks that have ended long ago, and ends those of images that wait for nothing any more.
pub async fn forget(store: &Store, now: Time) -> Result<(), Fault> {
    let orphan = |snapshot: &Snapshot, task: &Task| {
        let image = snapshot.get::<Image>(&task.image_id);
        !task.status.is_final()
            && image.is_none_or(|image| image.download.as_ref().is_none_or(|one| one.task_id != task.id))
    };
    let expired = |task: &Task| task.expires_at.is_some_and(|at| at <= now);
    let snapshot = store.snapshot();
    if !snapshot.all::<Task>().any(|task| expired(&task) || orphan(&snapshot, &task)) {
        return Ok(());
    }
    store
        .transact(|snapshot| {
            let mut change = Change::new();
            for task in snapshot.all::<Task>() {
                if expired(&task) {
                    change.delete(task);
                } else if orphan(snapshot, &task) {
                    change.edit(task, |task| task.end(Some("The image was deleted meanwhile.".into()), now));
                }
            }
            Ok((change, ()))
        })
        .await
}
