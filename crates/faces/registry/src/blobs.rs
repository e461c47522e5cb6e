//! Blobs of a repository: those that its project has a row for.

use std::io::SeekFrom;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{Method, StatusCode, header};
use model::{Change, Fault, Kind, OciBlob};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::digest::algorithm;
use crate::refusal::{Refusal, Result};
use crate::{Call, DIGEST, Registry, empty, number, put};

impl Registry {
    pub(crate) async fn blob(&self, call: &Call, digest: &str) -> Result<Response> {
        let unknown = || Refusal::unknown("BLOB_UNKNOWN", digest);
        algorithm(digest)?;
        match call.request.method {
            Method::DELETE => self.delete_blob(call, digest).await,
            Method::GET | Method::HEAD => {
                let row = self.row(&call.repository.project, digest).ok_or_else(unknown)?;
                let size = self.blobs.claim(row.file()).ok_or_else(unknown)?;
                self.read_blob(call, digest, row.file(), size).await
            }
            _ => Err(call.unsupported()),
        }
    }

    /// A blob that a project has.
    pub(crate) fn row(&self, project: &str, digest: &str) -> Option<OciBlob> {
        self.store.snapshot().at::<OciBlob>(&OciBlob::key_of(project, digest)).map(|row| row.value.clone())
    }

    async fn read_blob(&self, call: &Call, digest: &str, hex: &str, size: u64) -> Result<Response> {
        let part = call.header(header::RANGE).map_or(Part::Whole, |text| Part::of(text, size));
        let (first, length) = match part {
            Part::Whole => (0, size),
            Part::Of(first, length) => (first, length),
            Part::Nothing => {
                let message = format!("the blob has {size} bytes");
                let mut refusal = Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, "SIZE_INVALID", message);
                put(&mut refusal.headers, header::CONTENT_RANGE, &format!("bytes */{size}"));
                return Err(refusal);
            }
        };
        let mut response = if call.request.method == Method::HEAD {
            empty(StatusCode::OK)
        } else {
            let what = |source| blob::BlobFault::Io { what: format!("reading blob {hex}"), source };
            let mut file = tokio::fs::File::open(self.blobs.path(hex)).await.map_err(what)?;
            file.seek(SeekFrom::Start(first)).await.map_err(what)?;
            Response::new(stream(file, length))
        };
        if matches!(part, Part::Of(..)) {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let text = format!("bytes {first}-{}/{size}", first + length - 1);
            put(response.headers_mut(), header::CONTENT_RANGE, &text);
        }
        let headers = response.headers_mut();
        put(headers, header::CONTENT_TYPE, "application/octet-stream");
        put(headers, header::CONTENT_LENGTH, &length.to_string());
        put(headers, header::ACCEPT_RANGES, "bytes");
        put(headers, DIGEST, digest);
        Ok(response)
    }

    async fn delete_blob(&self, call: &Call, digest: &str) -> Result<Response> {
        let key = OciBlob::key_of(&call.repository.project, digest);
        let deleted = self.store.transact(|snapshot| {
            let mut change = Change::new();
            change.delete(snapshot.at::<OciBlob>(&key).ok_or_else(|| Fault::not_found(Kind::OciBlob, digest))?);
            Ok((change, ()))
        });
        match deleted.await {
            Ok(()) => Ok(empty(StatusCode::ACCEPTED)),
            Err(Fault::NotFound { .. }) => Err(Refusal::unknown("BLOB_UNKNOWN", digest)),
            Err(Fault::Conflict(_)) => {
                let message = "manifests of the project name this blob; it goes with the last of them";
                Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message))
            }
            Err(other) => Err(other.into()),
        }
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

/// What a Range header asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Whole,
    /// First byte and length.
    Of(u64, u64),
    Nothing,
}

impl Part {
    /// `bytes=a-b`, `bytes=a-` or `bytes=-n`. One that ends before it begins is refused, as HTTP allows; anything else is the
    /// whole.
    fn of(text: &str, size: u64) -> Self {
        let Some((first, last)) = text.strip_prefix("bytes=").and_then(|r| r.split_once('-')) else {
            return Self::Whole;
        };
        let bounds = match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => Some((first, last.min(size.saturating_sub(1)))),
            (Some(_), Some(_)) => return Self::Nothing,
            (Some(first), None) if last.is_empty() => Some((first, size.saturating_sub(1))),
            (None, Some(last)) if first.is_empty() => {
                Some((size.saturating_sub(last), size.saturating_sub(1))).filter(|_| last > 0).or(Some((size, size)))
            }
            _ => None,
        };
        match bounds {
            None => Self::Whole,
            Some((first, last)) if first < size && first <= last => Self::Of(first, last - first + 1),
            Some(_) => Self::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Part;

    #[test]
    fn ranges() {
        for (text, size, part) in [
            ("bytes=0-9", 100, Part::Of(0, 10)),
            ("bytes=90-", 100, Part::Of(90, 10)),
            ("bytes=90-500", 100, Part::Of(90, 10)),
            ("bytes=-5", 100, Part::Of(95, 5)),
            ("bytes=-500", 100, Part::Of(0, 100)),
            ("bytes=100-", 100, Part::Nothing),
            ("bytes=-0", 100, Part::Nothing),
            ("bytes=0-0", 0, Part::Nothing),
            ("bytes=9-0", 100, Part::Nothing),
            ("bytes=+9-10", 100, Part::Whole),
            ("bytes=0-1,5-6", 100, Part::Whole),
            ("bytes=0-99999999999999999999", 100, Part::Whole),
            ("bytes=-", 100, Part::Whole),
            ("bytes=a-b", 100, Part::Whole),
            ("lines=0-9", 100, Part::Whole),
        ] {
            assert_eq!(Part::of(text, size), part, "{text}");
        }
    }
}
