//! Nova's own view of images, which ended with 2.35. The rows are Glance's.

use gate::View;
use model::{Entry, Fault, Image, ImageStatus};
use serde_json::{Value, json};

use super::fault::missing;
use super::wire::{bookmark, links, list, page, time};
use crate::call::{Call, Reply};
use crate::image::access::sees;

/// The image with this id, if the caller may use it.
pub fn find<'a>(view: &View<'a>, id: &str) -> Option<Entry<'a, Image>> {
    view.snapshot.get::<Image>(id).filter(|image| sees(view.who, image))
}

fn brief(call: &Call, image: &Image) -> Value {
    let path = format!("/images/{}", image.id);
    let mut links = json!(links(&call.url(""), &path));
    if let Some(list) = links.as_array_mut() {
        list.push(json!({
            "rel": "alternate", "type": "application/vnd.openstack.image",
            "href": format!("{}{}/images/{}", call.base_url(), crate::image::SERVICE.prefix, image.id),
        }));
    }
    json!({"id": image.id, "name": image.name, "links": links})
}

fn detail(call: &Call, image: &Image) -> Value {
    let (status, progress) = match image.status {
        ImageStatus::Active => ("ACTIVE", 100),
        ImageStatus::Queued => ("SAVING", 25),
        ImageStatus::Saving | ImageStatus::Uploading | ImageStatus::Importing => ("SAVING", 50),
        ImageStatus::Deactivated => ("UNKNOWN", 0),
    };
    let mut out = brief(call, image);
    out["status"] = json!(status);
    out["progress"] = json!(progress);
    out["created"] = json!(time(image.created_at));
    out["updated"] = json!(time(image.updated_at));
    out["minDisk"] = json!(image.min_disk);
    out["minRam"] = json!(image.min_ram);
    out["metadata"] = json!(image.properties);
    out["OS-EXT-IMG-SIZE:size"] = json!(image.size.unwrap_or(0));
    if let Some(server) = image.properties.get("instance_uuid") {
        let path = format!("/servers/{server}");
        out["server"] = json!({"id": server, "links": [
            {"rel": "self", "href": super::wire::href(call, &path)}, bookmark(&call.url(""), &path)]});
    }
    out
}

fn listing(call: Call, show: fn(&Call, &Image) -> Value) -> Result<Reply, Fault> {
    let view = call.view()?;
    let mut images: Vec<&Image> = call.snapshot.all::<Image>().map(|e| e.value).filter(|i| sees(view.who, i)).collect();
    images.retain(|image| {
        let name = call.query("name").is_none_or(|name| image.name.as_deref() == Some(name));
        let status = call.query("status").is_none_or(|s| detail(&call, image)["status"] == s.to_uppercase());
        // A server is named by its id or by its address.
        let of_server = call.query("server").is_none_or(|named| {
            let id = named.rsplit('/').next().unwrap_or(named);
            image.properties.get("instance_uuid").is_some_and(|uuid| uuid == id)
        });
        let kind = call.query("type").is_none_or(|kind| {
            let own = image.properties.get("image_type").map_or("base", String::as_str);
            own.eq_ignore_ascii_case(kind)
        });
        name && status && of_server && kind && !image.os_hidden
    });
    images.sort_by_key(|image| (std::cmp::Reverse(image.created_at), image.id.clone()));
    let page = page(&call, images, |image| image.id.clone())?;
    let next = page.more.then(|| page.items.last().map(|image| image.id.clone())).flatten();
    let items = page.items.into_iter().map(|image| show(&call, image)).collect();
    Ok(Reply::ok(list(&call, "images", items, next)))
}

/// `GET /images`
pub async fn index(call: Call) -> Result<Reply, Fault> {
    listing(call, brief)
}

/// `GET /images/detail`
pub async fn index_detail(call: Call) -> Result<Reply, Fault> {
    listing(call, detail)
}

/// `GET /images/{id}`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    let view = call.view()?;
    let image = find(&view, call.param("id")).ok_or_else(|| missing("Image not found."))?;
    Ok(Reply::ok(json!({"image": detail(&call, &image)})))
}

/// `DELETE /images/{id}`
pub async fn delete(call: Call) -> Result<Reply, Fault> {
    crate::image::remove(&call, call.param("id")).await
}
