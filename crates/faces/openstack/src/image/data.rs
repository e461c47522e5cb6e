//! The bytes of an image, streamed both ways: memory is bounded by a few chunks, whatever the image's size.

use std::io::SeekFrom;

use axum::body::{Body, HttpBody};
use blob::{BlobFault, Blobs, Digest};
use bytes::Bytes;
use http_body_util::BodyExt;
use model::{Change, Fault, Image, ImageStatus, Resource, Staged};
use store::{Interest, Store};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::fault::refusal;
use super::inspect::{self, Found};
use super::{access, imports, view};
use crate::call::{Call, Reply};

/// The largest image: Glance's own limit, 1 TiB.
pub const MAX_SIZE: u64 = 1 << 40;
/// Bytes between the network and the disk.
const BATCH: usize = 1 << 20;
const CHUNK: u64 = 256 << 10;

/// `PUT /v2/images/{image_id}/file`
pub async fn upload(mut call: Call) -> Result<Reply, Fault> {
    check_type(&call)?;
    check_store(&call)?;
    let (digest, found) = take(&mut call, "saving").await?;
    call.renew().await?;
    let (who, id) = (call.who()?, call.param("image_id"));
    call.cloud
        .store
        .transact(|snapshot| {
            let entry = access::own(snapshot, who, id, "upload_image").map_err(|fault| match fault {
                Fault::NotFound { .. } => lost(id),
                other => other,
            })?;
            ready(&entry, "saving")?;
            check_format(&entry, &found)?;
            let mut change = Change::new();
            change.edit(entry, |image| {
                image.updated_at = call.now;
                fill(image, &digest, &found);
            });
            Ok((change, ()))
        })
        .await?;
    Ok(Reply::empty(204))
}

/// `PUT /v2/images/{image_id}/stage`
pub async fn stage(mut call: Call) -> Result<Reply, Fault> {
    check_type(&call)?;
    check_store(&call)?;
    let (digest, found) = take(&mut call, "uploading").await?;
    call.renew().await?;
    let (who, id) = (call.who()?, call.param("image_id"));
    call.cloud
        .store
        .transact(|snapshot| {
            let entry = access::own(snapshot, who, id, "modify_image")?;
            ready(&entry, "uploading")?;
            check_format(&entry, &found)?;
            let mut change = Change::new();
            change.edit(entry, |image| {
                let mut filled = image.clone();
                fill(&mut filled, &digest, &found);
                image.staged = Some(Staged {
                    blob: digest.sha256.clone(),
                    size: digest.size,
                    virtual_size: filled.virtual_size,
                    checksum: digest.md5.clone(),
                    os_hash_value: digest.sha512.clone(),
                });
                image.status = ImageStatus::Uploading;
                image.updated_at = call.now;
            });
            Ok((change, ()))
        })
        .await?;
    Ok(Reply::empty(204))
}

/// The bytes that a client sends for an image that shall become `next`, durable, and what their head tells.
async fn take(call: &mut Call, next: &str) -> Result<(Digest, Found), Fault> {
    let said = announced(call)?;
    let body = call.take_body();
    let expected = said.or_else(|| body.size_hint().exact());
    let id = call.param("image_id");
    let image = access::own(&call.snapshot, call.who()?, id, "upload_image")?;
    ready(&image, next)?;
    let _place = call.cloud.uploads.begin(&image.project_id, id)?;
    // The commit counts what came; until then it is nobody's, and has an end.
    let room = imports::room(&call.snapshot, &image.project_id);
    if expected.is_some_and(|size| size > room) {
        return Err(too_large(room));
    }
    call.cloud.blobs.admit(expected.unwrap_or(0)).map_err(blob_fault)?;
    let (digest, found) = tokio::select! {
        received = receive(&call.cloud.blobs, room, body) => received?,
        () = deleted(&call.cloud.store, &image) => return Err(lost(id)),
    };
    if said.is_some_and(|size| size != digest.size) {
        return Err(Fault::Invalid(format!("{} bytes came instead of those announced.", digest.size)));
    }
    Ok((digest, found))
}

fn lost(id: &str) -> Fault {
    Fault::Expired(format!(
        "Image {id} could not be found after upload. The image may have been deleted during the upload."
    ))
}

/// Returns when there is no such image any more: nobody wants the rest of its bytes.
async fn deleted(store: &Store, image: &Image) {
    let key = image.key();
    let interest = Interest::Rows { kind: key.kind, realm: Some(key.realm.clone()), prefix: key.name.to_string() };
    loop {
        let rows = store.snapshot();
        if rows.row(&key).is_none() {
            return;
        }
        // One that is too far behind begins anew.
        if let Ok(mut watch) = store.watch_part(rows.revision(), interest.clone()) {
            _ = watch.next().await;
        }
    }
}

/// The bytes are what the image says, and depend on nothing else.
pub fn check_format(image: &Image, found: &Found) -> Result<(), Fault> {
    if found.depends {
        return Err(Fault::MediaType("Image failed safety checks: it refers to other files".into()));
    }
    let said = |format: &Option<String>| format.clone().unwrap_or_default();
    if !found.is_of(&said(&image.disk_format), &said(&image.container_format)) {
        let (is, said) = (found.format.unwrap_or("of no known format"), said(&image.disk_format));
        return Err(Fault::MediaType(format!("Image content is {is}, which is not its disk_format {said}")));
    }
    Ok(())
}

/// There is one store, which a client may name.
pub fn check_store(call: &Call) -> Result<(), Fault> {
    match call.headers.get("x-image-meta-store") {
        Some(name) if name != view::STORE => {
            let name = String::from_utf8_lossy(name.as_bytes());
            Err(Fault::Invalid(format!("Store {name} is not one of those of this site: {}", view::STORE)))
        }
        _ => Ok(()),
    }
}

/// The bytes become the image's.
pub fn fill(image: &mut Image, digest: &Digest, found: &Found) {
    let bare = image.container_format.as_deref() == Some("bare");
    image.status = ImageStatus::Active;
    image.blob = Some(digest.sha256.clone());
    image.size = Some(digest.size);
    image.checksum = Some(digest.md5.clone());
    image.os_hash_value = Some(digest.sha512.clone());
    image.virtual_size = match image.disk_format.as_deref() {
        Some("raw") if bare => Some(digest.size),
        // In whatever it is said to be contained: what boots it has this size.
        Some("qcow2") => found.virtual_size,
        _ => None,
    };
}

fn check_type(call: &Call) -> Result<(), Fault> {
    let content_type = call.headers.get(http::header::CONTENT_TYPE).and_then(|c| c.to_str().ok()).unwrap_or("");
    if content_type.split(';').next().unwrap_or_default().trim() == "application/octet-stream" {
        return Ok(());
    }
    Err(Fault::MediaType(format!("Invalid content type {content_type}")))
}

/// The size that the client says the bytes will have.
fn announced(call: &Call) -> Result<Option<u64>, Fault> {
    let Some(size) = call.headers.get("x-openstack-image-size") else { return Ok(None) };
    let size = size.to_str().ok().and_then(|s| s.trim().parse().ok());
    let size: u64 = size.ok_or_else(|| Fault::invalid("Invalid or missing image size in request headers."))?;
    if size > MAX_SIZE {
        return Err(too_large(MAX_SIZE));
    }
    Ok(Some(size))
}

fn too_large(limit: u64) -> Fault {
    Fault::TooLarge(format!("The incoming image is too large: Image exceeds the size of {limit} bytes"))
}

/// The image can take bytes and become `next`: it waits for them, and its formats are known.
fn ready(image: &Image, next: &str) -> Result<(), Fault> {
    // One that a server's host shall fill waits for nobody else.
    if image.status != ImageStatus::Queued || image.source.is_some() {
        let status = view::status(image.status);
        return Err(Fault::Conflict(format!("Image status transition from {status} to {next} is not allowed")));
    }
    match (&image.disk_format, &image.container_format) {
        (Some(_), Some(_)) => Ok(()),
        (None, Some(_)) => Err(Fault::invalid("Property disk_format must be set prior to saving data.")),
        (Some(_), None) => Err(Fault::invalid("Property container_format must be set prior to saving data.")),
        (None, None) => {
            Err(Fault::invalid("Properties disk_format, container_format must be set prior to saving data."))
        }
    }
}

fn blob_fault(fault: BlobFault) -> Fault {
    let full = || {
        let text = "Image storage media is full: There is not enough disk space on the image storage media.";
        Fault::TooLarge(text.into())
    };
    match &fault {
        BlobFault::TooLarge(limit) => too_large(*limit),
        BlobFault::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => full(),
        BlobFault::Short { .. } => {
            tracing::warn!("bytes of an image are refused: {fault}");
            full()
        }
        other => Fault::Internal(other.to_string()),
    }
}

/// Writes a body of at most `limit` bytes to the disk, and returns when all of it is durable. A thread that may block is taken for each batch of
/// bytes and not for as long as the client takes to send them: those threads are everybody's.
pub async fn receive(blobs: &Blobs, limit: u64, mut body: Body) -> Result<(Digest, Found), Fault> {
    let mut writer = blobs.writer(limit).map_err(blob_fault)?;
    let mut header = Vec::with_capacity(inspect::HEADER);
    let mut batch: Vec<Bytes> = Vec::new();
    loop {
        // Dropped, the writer leaves nothing.
        let frame =
            body.frame().await.transpose().map_err(|e| Fault::Invalid(format!("The body could not be read: {e}")))?;
        let ended = frame.is_none();
        if let Some(data) = frame.and_then(|frame| frame.into_data().ok()) {
            let missing = inspect::HEADER - header.len();
            header.extend_from_slice(&data[..data.len().min(missing)]);
            batch.push(data);
        }
        if ended || batch.iter().map(Bytes::len).sum::<usize>() >= BATCH {
            let bytes = std::mem::take(&mut batch);
            writer = blocking(move || {
                bytes.iter().try_for_each(|bytes| writer.write(bytes))?;
                Ok(writer)
            })
            .await?;
        }
        if ended {
            return Ok((blocking(move || writer.finish()).await?, inspect::look(&header)));
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, BlobFault> + Send + 'static) -> Result<T, Fault> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Fault::Internal(format!("writing an image: {e}")))?.map_err(blob_fault)
}

/// `GET /v2/images/{image_id}/file`
pub async fn download(call: Call) -> Result<Reply, Fault> {
    let who = call.who()?;
    let image = access::find(&call.snapshot, who, call.param("image_id"))?;
    if image.status == ImageStatus::Deactivated && !who.is_admin() {
        let text = "The requested image has been deactivated. Image data download is forbidden.";
        return Err(Fault::Forbidden(text.into()));
    }
    let (Some(blob), Some(size)) = (&image.blob, image.size) else { return Ok(Reply::empty(204)) };
    let header = |name: http::HeaderName| call.headers.get(name).map(|h| h.to_str().unwrap_or("?"));
    let range = match header(http::header::RANGE).map(|text| range(text, size)) {
        None => None,
        Some(Ok(range)) => Some(range),
        Some(Err(Unfit::Many)) => {
            return Err(Fault::invalid(
                "Requests with multiple ranges are not supported in Glance. You may make \
                                       multiple single-range requests instead.",
            ));
        }
        Some(Err(Unfit::Outside(text))) => {
            return Ok(refusal(416, &text, header(http::header::ACCEPT).unwrap_or("")));
        }
    };
    let (first, length) = range.unwrap_or((0, size));
    let broken = |e| Fault::Internal(format!("reading blob {blob} of image {}: {e}", image.id));
    let mut file = tokio::fs::File::open(call.cloud.blobs.path(blob)).await.map_err(broken)?;
    file.seek(SeekFrom::Start(first)).await.map_err(broken)?;

    let mut reply = Reply::empty(if range.is_some() { 206 } else { 200 })
        .with("content-type", "application/octet-stream")
        .with("content-length", &length.to_string());
    if range.is_some() {
        reply = reply.with("content-range", &format!("bytes {first}-{}/{size}", first + length - 1));
    }
    if let Some(checksum) = &image.checksum {
        reply = reply.with("content-md5", checksum);
    }
    reply.body = stream(file, length);
    Ok(reply)
}

/// A file's next bytes as a body.
fn stream(file: tokio::fs::File, length: u64) -> Body {
    Body::from_stream(futures_util::stream::unfold((file, length), |(mut file, left)| async move {
        if left == 0 {
            return None;
        }
        let mut buffer = vec![0u8; left.min(CHUNK) as usize];
        match file.read(&mut buffer).await {
            Ok(0) => Some((Err(std::io::Error::other("the blob is shorter than it was")), (file, 0))),
            Ok(n) => {
                buffer.truncate(n);
                Some((Ok(Bytes::from(buffer)), (file, left - n as u64)))
            }
            Err(e) => Some((Err(e), (file, 0))),
        }
    }))
}

#[derive(Debug, PartialEq)]
enum Unfit {
    Many,
    Outside(String),
}

/// First byte and length of `bytes=a-b`, `bytes=a-` or `bytes=-n`.
fn range(text: &str, size: u64) -> Result<(u64, u64), Unfit> {
    if text.contains(',') {
        return Err(Unfit::Many);
    }
    let invalid = || Unfit::Outside("Invalid Range header.".into());
    let (first, last) = text.trim().strip_prefix("bytes=").and_then(|r| r.split_once('-')).ok_or_else(invalid)?;
    let number =
        |text: &str| if text.is_empty() { Ok(None) } else { text.parse::<u64>().map(Some).map_err(|_| invalid()) };
    let (first, last) = match (number(first.trim())?, number(last.trim())?) {
        (None, None) => return Err(invalid()),
        (None, Some(tail)) => (size.saturating_sub(tail), None),
        (Some(first), last) => (first, last),
    };
    if last.is_some_and(|last| last < first) {
        return Err(invalid());
    }
    if first >= size {
        return Err(Unfit::Outside(format!(
            "Invalid start position in Range header. Start position MUST be in the inclusive range [0, {}].",
            size.saturating_sub(1)
        )));
    }
    let end = last.map_or(size, |last| last.saturating_add(1).min(size));
    Ok((first, end - first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(range("bytes=0-9", 100), Ok((0, 10)));
        assert_eq!(range("bytes=90-", 100), Ok((90, 10)));
        assert_eq!(range("bytes=-10", 100), Ok((90, 10)));
        assert_eq!(range("bytes=-500", 100), Ok((0, 100)));
        assert_eq!(range("bytes=90-500", 100), Ok((90, 10)));
        assert_eq!(range("bytes=0-1,4-5", 100), Err(Unfit::Many));
        for bad in ["bytes=100-", "bytes=-", "bytes=9-1", "lines=0-1", "bytes=a-b", "bytes=-0"] {
            assert!(matches!(range(bad, 100), Err(Unfit::Outside(_))), "{bad}");
        }
        assert!(range("bytes=0-0", 0).is_err());
    }
}
