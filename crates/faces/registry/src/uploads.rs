//! Uploads of blobs: in one request, or in parts. An upload that nobody finishes is forgotten.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::Response;
use blob::Writer;
use http::{Method, StatusCode, header};
use http_body_util::BodyExt;

use crate::{Call, Refusal, Registry, Result, empty, put};

/// The largest blob.
const MAX_BLOB: u64 = 64 << 30;
/// Uploads at once, over all clients.
const MOST: usize = 64;
/// An upload without news for this long is forgotten.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Uploads under way, by their id.
#[derive(Default)]
pub struct Uploads(Mutex<HashMap<String, Upload>>);

struct Upload {
    repository: String,
    writer: Arc<tokio::sync::Mutex<Option<Writer>>>,
    news: Instant,
}

impl Registry {
    pub(crate) async fn upload(&self, call: Call, id: &str) -> Result<Response> {
        match (call.request.method().clone(), id.is_empty()) {
            (Method::POST, true) => self.begin(call).await,
            (Method::GET, false) => {
                let size = self.writer(&call, id)?.lock().await.as_ref().map_or(0, Writer::size);
                Ok(progress(&call.repository, id, size, StatusCode::NO_CONTENT))
            }
            (Method::PATCH, false) => {
                let writer = self.writer(&call, id)?;
                let repository = call.repository.clone();
                let size = receive(&writer, call.request.into_body()).await?;
                Ok(progress(&repository, id, size, StatusCode::ACCEPTED))
            }
            (Method::PUT, false) => {
                let writer = self.writer(&call, id)?;
                self.finish(call, id, writer).await
            }
            (Method::DELETE, false) => {
                self.writer(&call, id)?;
                self.forget(id);
                Ok(empty(StatusCode::NO_CONTENT))
            }
            _ => Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "not a verb for uploads")),
        }
    }

    async fn begin(&self, call: Call) -> Result<Response> {
        let id = uuid::Uuid::new_v4().to_string();
        let writer = Arc::new(tokio::sync::Mutex::new(Some(self.blobs.writer(MAX_BLOB)?)));
        {
            let mut all = self.uploads.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            all.retain(|_, upload| upload.news.elapsed() < PATIENCE);
            if all.len() >= MOST {
                return Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", "too many uploads at once"));
            }
            let upload = Upload { repository: call.repository.clone(), writer: writer.clone(), news: Instant::now() };
            all.insert(id.clone(), upload);
        }
        if call.query("digest").is_some() {
            return self.finish(call, &id, writer).await;
        }
        Ok(progress(&call.repository, &id, 0, StatusCode::ACCEPTED))
    }

    fn writer(&self, call: &Call, id: &str) -> Result<Arc<tokio::sync::Mutex<Option<Writer>>>> {
        let mut all = self.uploads.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let upload = all.get_mut(id).filter(|u| u.repository == call.repository);
        let upload = upload.ok_or_else(|| Refusal::unknown("BLOB_UPLOAD_UNKNOWN", id))?;
        upload.news = Instant::now();
        Ok(upload.writer.clone())
    }

    fn forget(&self, id: &str) {
        self.uploads.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(id);
    }

    async fn finish(&self, call: Call, id: &str, writer: Arc<tokio::sync::Mutex<Option<Writer>>>) -> Result<Response> {
        let wanted = call.query("digest").unwrap_or_default();
        let repository = call.repository.clone();
        let received = receive(&writer, call.request.into_body()).await;
        self.forget(id);
        received?;
        let taken = writer.lock().await.take().ok_or_else(|| Refusal::unknown("BLOB_UPLOAD_UNKNOWN", id))?;
        let written = tokio::task::spawn_blocking(move || taken.finish()).await;
        let written =
            written.map_err(|e| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", e.to_string()))??;
        let digest = format!("sha256:{}", written.sha256);
        if digest != wanted {
            // The bytes stay until the next sweep; nothing refers to them.
            return Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                "DIGEST_INVALID",
                format!("the digest of what came is {digest}"),
            ));
        }
        let mut response = empty(StatusCode::CREATED);
        put(response.headers_mut(), header::LOCATION, &format!("/v2/{repository}/blobs/{digest}"));
        put(response.headers_mut(), header::HeaderName::from_static("docker-content-digest"), &digest);
        Ok(response)
    }
}

/// Adds a body to an upload; how much there is now.
async fn receive(writer: &tokio::sync::Mutex<Option<Writer>>, mut body: Body) -> Result<u64> {
    let mut slot = writer.lock().await;
    let writer = slot.as_mut().ok_or_else(|| Refusal::unknown("BLOB_UPLOAD_UNKNOWN", "the upload"))?;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Refusal::new(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", e.to_string()))?;
        if let Some(data) = frame.data_ref() {
            tokio::task::block_in_place(|| writer.write(data))?;
        }
    }
    Ok(writer.size())
}

fn progress(repository: &str, id: &str, size: u64, status: StatusCode) -> Response {
    let mut response = empty(status);
    let headers = response.headers_mut();
    put(headers, header::LOCATION, &format!("/v2/{repository}/blobs/uploads/{id}"));
    put(headers, header::RANGE, &format!("0-{}", size.saturating_sub(1)));
    put(headers, header::HeaderName::from_static("docker-upload-uuid"), id);
    response
}
