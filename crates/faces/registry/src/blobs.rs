//! Blobs of a repository: those that its manifests refer to, and no others, so that a digest that leaked opens nothing.

use std::io::SeekFrom;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{Method, StatusCode, header};
use model::OciManifest;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::{Call, Refusal, Registry, Result, empty, put, sha256_of};

impl Registry {
    pub(crate) async fn blob(&self, call: Call, digest: &str) -> Result<Response> {
        if !matches!(*call.request.method(), Method::GET | Method::HEAD) {
            return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "blobs go with their manifests"));
        }
        let unknown = || Refusal::unknown("BLOB_UNKNOWN", digest);
        let hex = sha256_of(digest).ok_or_else(unknown)?;
        let size = self.blobs.claim(hex).filter(|_| self.holds(&call, digest)).ok_or_else(unknown)?;
        let range =
            call.request.headers().get(header::RANGE).and_then(|r| r.to_str().ok()).and_then(|r| range(r, size));
        let (first, length) = range.unwrap_or((0, size));
        let mut response = if call.request.method() == Method::HEAD {
            empty(StatusCode::OK)
        } else {
            let what = |source| blob::BlobFault::Io { what: format!("reading blob {hex}"), source };
            let mut file = tokio::fs::File::open(self.blobs.path(hex)).await.map_err(what)?;
            file.seek(SeekFrom::Start(first)).await.map_err(what)?;
            Response::new(stream(file, length))
        };
        if range.is_some() {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let text = format!("bytes {first}-{}/{size}", first + length - 1);
            put(response.headers_mut(), header::CONTENT_RANGE, &text);
        }
        let headers = response.headers_mut();
        put(headers, header::CONTENT_TYPE, "application/octet-stream");
        put(headers, header::CONTENT_LENGTH, &length.to_string());
        put(headers, header::HeaderName::from_static("docker-content-digest"), digest);
        Ok(response)
    }

    /// Whether a manifest of the repository refers to the digest.
    fn holds(&self, call: &Call, digest: &str) -> bool {
        let snapshot = self.store.snapshot();
        let prefix = format!("{}@", call.repository);
        let realm = call.realm();
        let mut manifests = snapshot.names::<OciManifest>(&realm, &prefix, None);
        manifests.any(|m| m.digest == digest || m.refers.iter().any(|d| d == digest))
    }
}

/// A file's next bytes as a body.
fn stream(file: tokio::fs::File, length: u64) -> Body {
    let state = (file, length);
    Body::from_stream(futures_util::stream::unfold(state, |(mut file, left)| async move {
        if left == 0 {
            return None;
        }
        let mut buffer = vec![0u8; left.min(256 << 10) as usize];
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

/// First byte and length of `bytes=a-b`; anything else is the whole.
fn range(text: &str, size: u64) -> Option<(u64, u64)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let first: u64 = first.parse().ok()?;
    let last: u64 = if last.is_empty() { size.checked_sub(1)? } else { last.parse().ok()? };
    let last = last.min(size.checked_sub(1)?);
    (first <= last).then(|| (first, last - first + 1))
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn ranges() {
        assert_eq!(range("bytes=0-9", 100), Some((0, 10)));
        assert_eq!(range("bytes=90-", 100), Some((90, 10)));
        assert_eq!(range("bytes=90-500", 100), Some((90, 10)));
        assert_eq!(range("bytes=100-", 100), None);
        assert_eq!(range("bytes=-5", 100), None);
        assert_eq!(range("bytes=0-0", 0), None);
    }
}
