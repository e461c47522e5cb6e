//! Uploads of blobs: in one request, in a stream, or in chunks that come in order. What is under way is counted against
//! the project's limit beside what it has, and each project has its own share of uploads at once, so that nobody can take
//! another's. An upload that nobody finishes is forgotten.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::Response;
use blob::Writer;
use http::{Method, StatusCode, header};
use http_body_util::BodyExt;
use model::{Change, Fault, OciBlob, Resource, Time, quota};
use tokio::sync::watch;

use crate::digest::{Algorithm, algorithm};
use crate::names::may_read;
use crate::refusal::{Refusal, Result};
use crate::{Call, DIGEST, Registry, empty, number, put};

/// The largest blob.
const MAX_BLOB: u64 = 64 << 30;
/// Uploads of one project at once.
const EACH: usize = 32;
/// An upload to which nothing was added for this long is forgotten.
const PATIENCE: Duration = Duration::from_secs(3600);
/// A client that sends nothing for this long has gone; its upload, if none of its requests is under way, makes room for another.
const SILENCE: Duration = Duration::from_secs(60);
/// The resource that limits a project's bytes.
pub const BYTES: &str = "registry_size_total";

/// Uploads under way, by their id.
#[derive(Default)]
pub struct Uploads(Mutex<HashMap<String, Upload>>);

struct Upload {
    repository: String,
    project: String,
    shared: Arc<Shared>,
    news: Instant,
}

struct Shared {
    /// Empty once finished.
    writer: tokio::sync::Mutex<Option<Writer>>,
    size: AtomicU64,
    /// Whether it was given up. Its bytes count for nobody then: whoever still adds to it is stopped.
    gone: watch::Sender<bool>,
}

impl Drop for Upload {
    /// What is no upload any more counts for nobody, so nobody adds to it.
    fn drop(&mut self) {
        self.shared.gone.send_replace(true);
    }
}

impl Uploads {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Upload>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of a project's uploads under way.
    fn pending(&self, project: &str) -> u64 {
        let all = self.all();
        all.values().filter(|u| u.project == project).map(|u| u.shared.size.load(Ordering::Relaxed)).sum()
    }

    /// Forgets an upload, and stops whoever adds to it.
    fn forget(&self, id: &str) {
        // With what is dropped here it is given up.
        drop(self.all().remove(id));
    }

    /// Adds an upload to those of its project; whether there was a place. One that its client has left gives up its own.
    fn admit(&self, id: &str, upload: Upload, now: Instant) -> bool {
        let idle = |of: &Upload| now.saturating_duration_since(of.news);
        let mut all = self.all();
        all.retain(|_, of| idle(of) < PATIENCE);
        if all.values().filter(|of| of.project == upload.project).count() >= EACH {
            let left = all.iter().filter(|(_, of)| {
                of.project == upload.project && idle(of) >= SILENCE && of.shared.writer.try_lock().is_ok()
            });
            let Some(left) = left.max_by_key(|(_, of)| idle(of)).map(|(id, _)| id.clone()) else { return false };
            all.remove(&left);
        }
        all.insert(id.to_owned(), upload);
        true
    }
}

/// Forgets an upload of which its client knows nothing, however its one request ends.
struct Forgotten<'a>(&'a Uploads, &'a str);

impl Drop for Forgotten<'_> {
    fn drop(&mut self) {
        self.0.forget(self.1);
    }
}

/// Where a chunk begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Chunk {
    first: u64,
    last: u64,
}

impl Chunk {
    /// `0-99`, as the specification has it, or `bytes 0-99/*`, as HTTP has it.
    fn read(text: &str) -> Option<Self> {
        let text = text.strip_prefix("bytes ").unwrap_or(text);
        let (first, last) = text.split('/').next()?.split_once('-')?;
        let (first, last) = (number(first)?, number(last)?);
        (first <= last && last < MAX_BLOB).then_some(Self { first, last })
    }
}

impl Registry {
    pub(crate) async fn upload(&self, call: &Call, body: Body, id: &str) -> Result<Response> {
        match (call.request.method.clone(), id.is_empty()) {
            (Method::POST, true) => self.begin(call, body).await,
            (Method::GET, false) => {
                let size = self.known(call, id)?.size.load(Ordering::Relaxed);
                Ok(progress(call, id, size, StatusCode::NO_CONTENT))
            }
            (Method::PATCH, false) => {
                let shared = self.known(call, id)?;
                let size = self.receive(call, body, id, &shared).await?;
                Ok(progress(call, id, size, StatusCode::ACCEPTED))
            }
            (Method::PUT, false) => {
                let shared = self.known(call, id)?;
                self.finish(call, body, id, shared).await
            }
            (Method::DELETE, false) => {
                self.known(call, id)?;
                self.uploads.forget(id);
                Ok(empty(StatusCode::NO_CONTENT))
            }
            _ => Err(call.unsupported()),
        }
    }

    async fn begin(&self, call: &Call, body: Body) -> Result<Response> {
        if let Some(digest) = call.query("mount")
            && self.mount(call, &digest).await?
        {
            return Ok(created(call, &digest));
        }
        if let Some(digest) = call.query("digest") {
            algorithm(&digest)?;
        }
        // All that the registry knows are computed anyhow.
        if let Some(name) = call.query("digest-algorithm") {
            Algorithm::named(&name)?;
        }
        let id = uuid::Uuid::new_v4().to_string();
        let writer = tokio::sync::Mutex::new(Some(self.blobs.writer(MAX_BLOB)?));
        let shared = Arc::new(Shared { writer, size: AtomicU64::default(), gone: watch::Sender::new(false) });
        let upload = Upload {
            repository: call.repository.name.clone(),
            project: call.repository.project.clone(),
            shared: shared.clone(),
            news: Instant::now(),
        };
        if !self.uploads.admit(&id, upload, Instant::now()) {
            let message = format!("{EACH} uploads to the project's repositories are under way");
            let mut refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", message);
            put(&mut refusal.headers, header::RETRY_AFTER, &SILENCE.as_secs().to_string());
            return Err(refusal);
        }
        if call.query("digest").is_some() {
            let _forgotten = Forgotten(&self.uploads, &id);
            return self.finish(call, body, &id, shared).await;
        }
        Ok(progress(call, &id, 0, StatusCode::ACCEPTED))
    }

    /// Gives the project a blob that it has already, or that stands in a repository which the caller may read. What may
    /// not be read is not there: the client uploads then, which shows that it has the bytes.
    async fn mount(&self, call: &Call, digest: &str) -> Result<bool> {
        let target = &call.repository.project;
        if self.row(target, digest).is_some() {
            return Ok(true);
        }
        let Some(from) = call.query("from").and_then(|from| self.repository(&from, call.who.as_ref()).ok()) else {
            return Ok(false);
        };
        let readable = from.project.is_empty() || may_read(call.who.as_ref(), &from.project);
        let source = self.row(&from.project, digest).filter(|row| readable && self.blobs.claim(row.file()).is_some());
        let Some(source) = source else { return Ok(false) };
        let repository = Some(call.repository.name.clone());
        self.keep(OciBlob { project_id: target.clone(), repository, created_at: Time::now(), ..source }).await?;
        Ok(true)
    }

    /// Writes the row of a blob whose bytes are there.
    async fn keep(&self, row: OciBlob) -> std::result::Result<(), Fault> {
        self.store
            .transact(|snapshot| {
                let mut change = Change::new();
                if snapshot.row(&row.key()).is_none() {
                    change.create(row.clone());
                }
                Ok((change, ()))
            })
            .await
    }

    fn known(&self, call: &Call, id: &str) -> Result<Arc<Shared>> {
        let all = self.uploads.all();
        let upload = all.get(id).filter(|upload| {
            upload.repository == call.repository.name
                && upload.project == call.repository.project
                && upload.news.elapsed() < PATIENCE
        });
        upload.map(|upload| upload.shared.clone()).ok_or_else(|| Refusal::unknown("BLOB_UPLOAD_UNKNOWN", id))
    }

    async fn finish(&self, call: &Call, body: Body, id: &str, shared: Arc<Shared>) -> Result<Response> {
        let digest = call.query("digest").unwrap_or_default();
        let algorithm = algorithm(&digest)?;
        let size = self.receive(call, body, id, &shared).await?;
        let taken = shared.writer.lock().await.take().ok_or_else(|| Refusal::unknown("BLOB_UPLOAD_UNKNOWN", id))?;
        let came = algorithm.written(&taken);
        if came != digest {
            self.uploads.forget(id);
            return Err(Refusal::bad("DIGEST_INVALID", format!("the digest of what came is {came}")));
        }
        if let Err(lost) = self.still(call).await {
            self.uploads.forget(id);
            return Err(lost);
        }
        let written = tokio::task::spawn_blocking(move || taken.finish()).await;
        let kept = match written {
            Ok(Ok(written)) => {
                let row = OciBlob {
                    project_id: call.repository.project.clone(),
                    sha256: (algorithm != Algorithm::Sha256).then_some(written.sha256),
                    repository: Some(call.repository.name.clone()),
                    digest: digest.clone(),
                    size,
                    created_at: Time::now(),
                };
                self.keep(row).await.map_err(Refusal::from)
            }
            Ok(Err(fault)) => Err(fault.into()),
            Err(e) => Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", e.to_string())),
        };
        self.uploads.forget(id);
        kept.map(|()| created(call, &digest))
    }

    /// Adds a request's body to an upload; how much there is now.
    async fn receive(&self, call: &Call, mut body: Body, id: &str, shared: &Shared) -> Result<u64> {
        let busy = || Refusal::new(StatusCode::CONFLICT, "BLOB_UPLOAD_INVALID", "another request adds to this upload");
        let silent = || Refusal::new(StatusCode::REQUEST_TIMEOUT, "BLOB_UPLOAD_INVALID", "nothing came for a minute");
        let unknown = || Refusal::unknown("BLOB_UPLOAD_UNKNOWN", id);
        let mut slot = tokio::time::timeout(SILENCE, shared.writer.lock()).await.map_err(|_| busy())?;
        let writer = slot.as_mut().ok_or_else(unknown)?;
        let chunk = in_order(call, id, writer.size())?;
        let project = &call.repository.project;
        let room = self.room(project);
        let mut gone = shared.gone.subscribe();
        loop {
            let frame = tokio::select! {
                biased;
                () = async { _ = gone.wait_for(|gone| *gone).await } => return Err(unknown()),
                frame = tokio::time::timeout(SILENCE, body.frame()) => frame.map_err(|_| silent())?,
            };
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|e| Refusal::bad("BLOB_UPLOAD_INVALID", e.to_string()))?;
            let Some(data) = frame.data_ref() else { continue };
            if chunk.is_some_and(|chunk| writer.size() + data.len() as u64 > chunk.last + 1) {
                return Err(Refusal::bad("SIZE_INVALID", "more came than the chunk's range says"));
            }
            shared.size.store(writer.size() + data.len() as u64, Ordering::Relaxed);
            if self.uploads.pending(project) > room {
                let asked = shared.size.load(Ordering::Relaxed);
                self.uploads.forget(id);
                return Err(self.exceeded(project, asked));
            }
            tokio::task::block_in_place(|| writer.write(data))?;
            if let Some(upload) = self.uploads.all().get_mut(id) {
                upload.news = Instant::now();
            }
        }
        if chunk.is_some_and(|chunk| writer.size() != chunk.last + 1) {
            return Err(Refusal::bad("SIZE_INVALID", "less came than the chunk's range says"));
        }
        Ok(writer.size())
    }

    /// How many bytes a project may add to what its repositories have.
    pub(crate) fn room(&self, project: &str) -> u64 {
        if project.is_empty() {
            return u64::MAX;
        }
        let pool = self.store.pool(&quota::pool(project, BYTES));
        pool.limit.map_or(u64::MAX, |limit| limit.saturating_sub(pool.used))
    }

    /// The refusal of bytes for which a project has no room, as a commit words it.
    pub(crate) fn exceeded(&self, project: &str, asked: u64) -> Refusal {
        let name = quota::pool(project, BYTES);
        let pool = self.store.pool(&name);
        let (used, limit) = (pool.used, pool.limit.unwrap_or(u64::MAX));
        Fault::from(model::Refused::Exceeded { pool: name, asked, used, limit }).into()
    }
}

/// The chunk that a request says it brings. One that does not begin where the upload ends is refused; nothing of it is read.
/// Where the upload ends is told, so that a client whose answer was lost can go on there.
fn in_order(call: &Call, id: &str, size: u64) -> Result<Option<Chunk>> {
    let Some(text) = call.header(header::CONTENT_RANGE) else { return Ok(None) };
    let chunk = Chunk::read(text)
        .ok_or_else(|| Refusal::bad("BLOB_UPLOAD_INVALID", format!("{text:?} says not where the chunk belongs")))?;
    if chunk.first != size {
        let message = format!("the chunk begins at byte {}, the upload ends at {size}", chunk.first);
        let mut refusal = Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID", message);
        *refusal.headers = progress(call, id, size, StatusCode::OK).headers().clone();
        return Err(refusal);
    }
    let length = call.header(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    match length {
        Some(length) if length != chunk.last - chunk.first + 1 => {
            Err(Refusal::bad("SIZE_INVALID", format!("the chunk {text} has {length} bytes")))
        }
        _ => Ok(Some(chunk)),
    }
}

fn progress(call: &Call, id: &str, size: u64, status: StatusCode) -> Response {
    let mut response = empty(status);
    let headers = response.headers_mut();
    put(headers, header::LOCATION, &format!("/v2/{}/blobs/uploads/{id}", call.repository.asked));
    put(headers, header::RANGE, &format!("0-{}", size.saturating_sub(1)));
    put(headers, header::HeaderName::from_static("docker-upload-uuid"), id);
    response
}

fn created(call: &Call, digest: &str) -> Response {
    let mut response = empty(StatusCode::CREATED);
    put(response.headers_mut(), header::LOCATION, &format!("/v2/{}/blobs/{digest}", call.repository.asked));
    put(response.headers_mut(), DIGEST, digest);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(project: &str) -> Upload {
        let writer = tokio::sync::Mutex::new(None);
        let shared = Arc::new(Shared { writer, size: AtomicU64::default(), gone: watch::Sender::new(false) });
        Upload { repository: "r".into(), project: project.into(), shared, news: Instant::now() }
    }

    #[test]
    fn an_upload_that_its_client_left_makes_room() {
        let uploads = Uploads::default();
        let busy = upload("demo");
        let shared = busy.shared.clone();
        assert!(uploads.admit("busy", busy, Instant::now()));
        let _adds = shared.writer.try_lock().unwrap();
        let idle = upload("demo");
        let oldest = idle.shared.clone();
        assert!(uploads.admit("idle", idle, Instant::now()));
        for n in 2..EACH {
            assert!(uploads.admit(&format!("{n}"), upload("demo"), Instant::now()));
        }
        assert!(!uploads.admit("more", upload("demo"), Instant::now()), "all are new");
        assert!(uploads.admit("theirs", upload("other"), Instant::now()), "another's share");
        let later = Instant::now() + SILENCE;
        assert!(!*oldest.gone.borrow());
        assert!(uploads.admit("more", upload("demo"), later));
        assert!(*oldest.gone.borrow() && !*shared.gone.borrow(), "who comes to it now is stopped");
        assert_eq!(uploads.all().values().filter(|of| of.project == "demo").count(), EACH);
        assert!(
            ["busy", "more", "theirs"].iter().all(|id| uploads.all().contains_key(*id)),
            "one to which somebody adds stays"
        );
    }

    #[test]
    fn chunks() {
        for (text, chunk) in [
            ("0-5", Some((0, 5))),
            ("bytes 6-10/*", Some((6, 10))),
            ("6-5", None),
            ("-5", None),
            ("a-b", None),
            ("+0-5", None),
            ("0-+5", None),
            ("-", None),
            ("0-18446744073709551615", None),
        ] {
            assert_eq!(Chunk::read(text).map(|c| (c.first, c.last)), chunk, "{text}");
        }
    }
}
