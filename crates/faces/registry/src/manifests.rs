//! Manifests and tags. A manifest is taken when the project has everything that it is made of.

use axum::body::Body;
use axum::response::Response;
use http::{Method, StatusCode, header};
use model::{Change, Fault, Key, Kind, OciBlob, OciManifest, OciTag, Resource, Snapshot, Time};

use crate::content::Content;
use crate::digest::{Algorithm, algorithm};
use crate::names::Repository;
use crate::refusal::{Refusal, Result};
use crate::{Call, DIGEST, Registry, empty, put};

/// The largest manifest, as in other registries.
pub const MAX_MANIFEST: u64 = 4 << 20;
/// Tags of one project.
const MAX_TAGS: usize = 20_000;
/// Tags that go in one commit with their manifest.
const TAGS_IN_A_COMMIT: usize = 1000;
/// Tags that one request gives; the specification asks for ten.
const MAX_TAGS_AT_ONCE: usize = 64;

impl Registry {
    pub(crate) async fn manifest(&self, call: &Call, body: Body, reference: &str) -> Result<Response> {
        match call.request.method {
            Method::GET | Method::HEAD => self.get_manifest(call, reference),
            Method::PUT => self.put_manifest(call, body, reference).await,
            Method::DELETE => self.delete_manifest(call, reference).await,
            _ => Err(call.unsupported()),
        }
    }

    fn get_manifest(&self, call: &Call, reference: &str) -> Result<Response> {
        let snapshot = self.store.snapshot();
        let Repository { asked, name, .. } = &call.repository;
        let unknown = || Refusal::unknown("MANIFEST_UNKNOWN", &format!("{asked}:{reference}"));
        let digest = if reference.contains(':') {
            reference.to_owned()
        } else {
            let key = Key::new(Kind::OciTag, call.realm(), format!("{name}:{reference}"));
            snapshot.at::<OciTag>(&key).ok_or_else(unknown)?.digest.clone()
        };
        let key = Key::new(Kind::OciManifest, call.realm(), format!("{name}@{digest}"));
        let manifest = snapshot.at::<OciManifest>(&key).ok_or_else(unknown)?;
        let mut response = if call.request.method == Method::HEAD {
            empty(StatusCode::OK)
        } else {
            let bytes = self.row(&call.repository.project, &digest).ok_or_else(unknown)?;
            Response::new(Body::from(self.blobs.read(bytes.file(), MAX_MANIFEST)?))
        };
        let headers = response.headers_mut();
        put(headers, header::CONTENT_TYPE, &manifest.media_type);
        put(headers, header::CONTENT_LENGTH, &manifest.size.to_string());
        put(headers, DIGEST, &digest);
        Ok(response)
    }

    async fn put_manifest(&self, call: &Call, body: Body, reference: &str) -> Result<Response> {
        let bytes = axum::body::to_bytes(body, MAX_MANIFEST as usize).await.map_err(|_| {
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", "a manifest of more than 4 MiB")
        })?;
        self.still(call).await?;
        let content = Content::read(&bytes, call.header(header::CONTENT_TYPE))?;
        let by_tag = !reference.contains(':');
        let algorithm = if by_tag { Algorithm::Sha256 } else { algorithm(reference)? };
        let tags = tags_of(call, reference)?;
        let parts = self.parts(&self.store.snapshot(), &call.repository, &content)?;
        let size = bytes.len() as u64;
        if size > self.room(&call.repository.project) {
            return Err(self.exceeded(&call.repository.project, size));
        }
        let digest = algorithm.of(&bytes);
        if !by_tag && reference != digest {
            return Err(Refusal::bad("DIGEST_INVALID", format!("the manifest's digest is {digest}")));
        }
        let written = self.blobs.put(&bytes)?;
        let manifest = manifest(&call.repository, &digest, size, &content, parts);
        let own = OciBlob {
            project_id: call.repository.project.clone(),
            digest,
            sha256: (algorithm != Algorithm::Sha256).then_some(written.sha256),
            repository: Some(call.repository.name.clone()),
            size,
            created_at: manifest.created_at,
        };
        let (digest, subject) = (own.digest.clone(), manifest.subject.clone());
        self.record(manifest, &tags, vec![own]).await?;
        let mut response = empty(StatusCode::CREATED);
        let headers = response.headers_mut();
        put(headers, header::LOCATION, &format!("/v2/{}/manifests/{digest}", call.repository.asked));
        put(headers, DIGEST, &digest);
        for tag in tags.iter().filter(|_| !by_tag) {
            if let Ok(tag) = tag.parse() {
                headers.append(header::HeaderName::from_static("oci-tag"), tag);
            }
        }
        if let Some(subject) = subject {
            put(headers, header::HeaderName::from_static("oci-subject"), &subject);
        }
        Ok(response)
    }

    /// The blobs that a manifest is made of, all of which the project has. An index may name manifests that are not in its
    /// repository: that is how some of an image's platforms are kept under the digest of the whole. An image without its
    /// layers is refused: whoever left one out because it was there a moment ago learns that it is gone.
    fn parts(&self, snapshot: &Snapshot, repository: &Repository, content: &Content) -> Result<Vec<String>> {
        let has = |digest: &String| snapshot.at::<OciBlob>(&OciBlob::key_of(&repository.project, digest)).is_some();
        if let Some(missing) = content.blobs.iter().find(|digest| !has(digest)) {
            return Err(Refusal::unknown("MANIFEST_BLOB_UNKNOWN", missing));
        }
        let present = content.foreign.iter().chain(&content.children).filter(|digest| has(digest));
        Ok(content.blobs.iter().chain(present).cloned().collect())
    }

    /// Writes the rows of a manifest and of blobs whose bytes are there.
    pub(crate) async fn record(&self, manifest: OciManifest, tags: &[String], blobs: Vec<OciBlob>) -> Result<()> {
        let written = self.store.transact(|snapshot| {
            let mut change = Change::new();
            for row in blobs.iter().filter(|row| snapshot.row(&row.key()).is_none()) {
                change.create(row.clone());
            }
            if snapshot.row(&manifest.key()).is_none() {
                change.create(manifest.clone());
            }
            let mut new = 0;
            for tag in tags {
                let row = OciTag {
                    project_id: manifest.project_id.clone(),
                    repository: manifest.repository.clone(),
                    tag: tag.clone(),
                    digest: manifest.digest.clone(),
                    updated_at: manifest.created_at,
                };
                match snapshot.at::<OciTag>(&row.key()) {
                    Some(old) => change.update(old, row),
                    None => {
                        new += 1;
                        change.create(row)
                    }
                };
            }
            if new > 0 && snapshot.within::<OciTag>(&manifest.realm()).count() + new > MAX_TAGS {
                return Err(Fault::Forbidden(format!("a project has at most {MAX_TAGS} tags")));
            }
            Ok((change, ()))
        });
        written.await.map_err(|fault| match fault {
            // A blob went while the manifest came.
            Fault::NotFound { id, .. } => Refusal::unknown("MANIFEST_BLOB_UNKNOWN", &id),
            other => other.into(),
        })
    }

    async fn delete_manifest(&self, call: &Call, reference: &str) -> Result<Response> {
        loop {
            match self.delete_some(call, reference).await {
                Ok(true) => return Ok(empty(StatusCode::ACCEPTED)),
                Ok(false) => {}
                Err(Fault::NotFound { .. }) => return Err(Refusal::unknown("MANIFEST_UNKNOWN", reference)),
                Err(other) => return Err(other.into()),
            }
        }
    }

    /// Deletes a tag, or a manifest with its tags, or of more tags than one commit takes some; whether that was all.
    async fn delete_some(&self, call: &Call, reference: &str) -> std::result::Result<bool, Fault> {
        let (realm, name) = (call.realm(), &call.repository.name);
        let deleted = self.store.transact(|snapshot| {
            let mut change = Change::new();
            let tag = Key::new(Kind::OciTag, realm.clone(), format!("{name}:{reference}"));
            let manifest = Key::new(Kind::OciManifest, realm.clone(), format!("{name}@{reference}"));
            if let Some(row) = snapshot.at::<OciTag>(&tag).filter(|_| !reference.contains(':')) {
                change.delete(row);
            } else if let Some(row) = snapshot.at::<OciManifest>(&manifest) {
                let tags = snapshot.names::<OciTag>(&realm, &format!("{name}:"), None);
                let mut tags = tags.filter(|t| t.digest == row.digest);
                for tag in tags.by_ref().take(TAGS_IN_A_COMMIT) {
                    change.delete(tag);
                }
                if tags.next().is_some() {
                    return Ok((change, false));
                }
                change.delete(row);
            } else {
                return Err(Fault::not_found(Kind::OciManifest, reference));
            }
            Ok((change, true))
        });
        deleted.await
    }
}

/// The row of a manifest. Its own bytes are a blob of the project as well.
pub fn manifest(of: &Repository, digest: &str, size: u64, content: &Content, mut blobs: Vec<String>) -> OciManifest {
    blobs.push(digest.to_owned());
    blobs.sort_unstable();
    blobs.dedup();
    OciManifest {
        project_id: of.project.clone(),
        repository: of.name.clone(),
        digest: digest.to_owned(),
        media_type: content.media_type.clone(),
        size,
        refers: content.refers(),
        blobs,
        subject: content.subject.clone(),
        artifact_type: content.artifact_type.clone(),
        annotations: content.annotations.clone(),
        created_at: Time::now(),
    }
}

/// The tags that a request gives its manifest: the one that it names it by, or those of its query beside a digest.
fn tags_of(call: &Call, reference: &str) -> Result<Vec<String>> {
    let mut tags = call.queries("tag");
    if !reference.contains(':') {
        if !tags.is_empty() {
            return Err(Refusal::bad("UNSUPPORTED", "more tags are given beside a digest, not beside a tag"));
        }
        tags.push(reference.to_owned());
    }
    if tags.len() > MAX_TAGS_AT_ONCE {
        let message = format!("more than {MAX_TAGS_AT_ONCE} tags at once");
        return Err(Refusal::new(StatusCode::URI_TOO_LONG, "TAG_INVALID", message));
    }
    tags.iter().try_for_each(|tag| valid_tag(tag))?;
    tags.sort_unstable();
    tags.dedup();
    Ok(tags)
}

fn valid_tag(tag: &str) -> Result<()> {
    let first = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if tag.len() <= 128 && tag.as_bytes().first().is_some_and(first) && tag.bytes().all(fits) {
        return Ok(());
    }
    Err(Refusal::bad("TAG_INVALID", format!("'{tag}' is not a tag")))
}
