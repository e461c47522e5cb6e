//! Manifests and tags. A manifest is taken when the project has everything that it is made of.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::response::Response;
use http::{Method, StatusCode, header};
use model::{Change, Fault, Key, Kind, OciBlob, OciManifest, OciTag, Realm, Resource, Snapshot, Time};
use serde_json::Value;

use crate::digest::{Algorithm, algorithm, well_formed};
use crate::names::Repository;
use crate::refusal::{Refusal, Result};
use crate::{Call, DIGEST, Registry, empty, put};

/// The largest manifest, as in other registries.
pub const MAX_MANIFEST: u64 = 4 << 20;
/// What one manifest may be made of: rows name each of them.
const MAX_PARTS: usize = 1024;
/// Bytes of annotations that lists of referrers repeat.
const MAX_ANNOTATIONS: usize = 16 << 10;
/// Tags of one project.
const MAX_TAGS: usize = 20_000;

/// What a manifest says.
#[derive(Debug, Default, PartialEq)]
pub struct Content {
    pub media_type: String,
    /// Config and layers.
    pub blobs: Vec<String>,
    /// Layers that may be elsewhere.
    pub foreign: Vec<String>,
    pub children: Vec<String>,
    pub subject: Option<String>,
    pub artifact_type: Option<String>,
    pub annotations: BTreeMap<String, String>,
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::bad("MANIFEST_INVALID", message)
}

impl Content {
    /// Of a manifest or index, OCI's or Docker's second; `told` is the request's content type.
    pub fn read(value: &Value, told: Option<&str>) -> Result<Self> {
        if value["schemaVersion"] != 2 {
            return Err(invalid("schemaVersion must be 2"));
        }
        let told = told.map(|told| told.split(';').next().unwrap_or("").trim()).filter(|told| !told.is_empty());
        let media_type = match (value["mediaType"].as_str(), told) {
            (Some(own), Some(told)) if own != told => {
                return Err(invalid(format!("its mediaType is {own}, its Content-Type {told}")));
            }
            (Some(media_type), _) | (None, Some(media_type)) => media_type,
            (None, None) => return Err(invalid("neither it nor the request says what media type it has")),
        };
        let mut content = Self { media_type: media_type.to_owned(), ..Self::default() };
        let single = |name: &str| value.get(name).filter(|v| !v.is_null());
        let list = |name: &str| match value.get(name) {
            None | Some(Value::Null) => Ok(&[][..]),
            Some(Value::Array(list)) => Ok(list.as_slice()),
            Some(_) => Err(invalid(format!("{name} is no list"))),
        };
        for part in single("config").into_iter().chain(list("layers")?).chain(list("blobs")?) {
            let elsewhere = part["urls"].as_array().is_some_and(|urls| !urls.is_empty());
            if elsewhere { &mut content.foreign } else { &mut content.blobs }.push(digest_of(part)?);
        }
        content.children = list("manifests")?.iter().map(digest_of).collect::<Result<_>>()?;
        if content.blobs.len() + content.foreign.len() + content.children.len() > MAX_PARTS {
            return Err(invalid(format!("it is made of more than {MAX_PARTS} parts")));
        }
        content.subject = single("subject").map(digest_of).transpose()?;
        let kind = value["artifactType"].as_str().filter(|kind| !kind.is_empty());
        content.artifact_type = kind.or(value["config"]["mediaType"].as_str()).map(str::to_owned);
        if content.subject.is_some() {
            content.annotations = annotations(&value["annotations"])?;
        }
        Ok(content)
    }

    /// Digests of all that it is made of.
    pub fn refers(&self) -> Vec<String> {
        self.blobs.iter().chain(&self.foreign).chain(&self.children).cloned().collect()
    }
}

fn digest_of(descriptor: &Value) -> Result<String> {
    let digest = descriptor["digest"].as_str().unwrap_or_default();
    if well_formed(digest) { Ok(digest.to_owned()) } else { Err(invalid(format!("{digest:?} is not a digest"))) }
}

fn annotations(value: &Value) -> Result<BTreeMap<String, String>> {
    let Some(all) = value.as_object() else { return Ok(BTreeMap::new()) };
    let text = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    let all: Option<BTreeMap<String, String>> = all.iter().map(text).collect();
    let all = all.ok_or_else(|| invalid("an annotation is no text"))?;
    if all.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > MAX_ANNOTATIONS {
        return Err(invalid(format!("more than {MAX_ANNOTATIONS} bytes of annotations")));
    }
    Ok(all)
}

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
        let value: Value = serde_json::from_slice(&bytes).map_err(|e| invalid(format!("not JSON: {e}")))?;
        let content = Content::read(&value, call.header(header::CONTENT_TYPE))?;
        let by_tag = !reference.contains(':');
        let algorithm = if by_tag {
            valid_tag(reference)?;
            Algorithm::Sha256
        } else {
            algorithm(reference)?
        };
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
            size,
            created_at: manifest.created_at,
        };
        let (digest, subject) = (own.digest.clone(), manifest.subject.clone());
        self.record(manifest, by_tag.then(|| reference.to_owned()), vec![own]).await?;
        let mut response = empty(StatusCode::CREATED);
        let headers = response.headers_mut();
        put(headers, header::LOCATION, &format!("/v2/{}/manifests/{digest}", call.repository.asked));
        put(headers, DIGEST, &digest);
        if let Some(subject) = subject {
            put(headers, header::HeaderName::from_static("oci-subject"), &subject);
        }
        Ok(response)
    }

    /// The blobs that a manifest is made of, all of which the project has.
    fn parts(&self, snapshot: &Snapshot, repository: &Repository, content: &Content) -> Result<Vec<String>> {
        let project = &repository.project;
        let has = |digest: &String| snapshot.at::<OciBlob>(&OciBlob::key_of(project, digest)).is_some();
        let missing = content.blobs.iter().find(|digest| !has(digest)).or_else(|| {
            content.children.iter().find(|digest| {
                let key = Key::new(Kind::OciManifest, Realm::project(project), format!("{}@{digest}", repository.name));
                snapshot.at::<OciManifest>(&key).is_none() && !has(digest)
            })
        });
        if let Some(missing) = missing {
            return Err(Refusal::unknown("MANIFEST_BLOB_UNKNOWN", missing));
        }
        let present = content.foreign.iter().chain(&content.children).filter(|digest| has(digest));
        Ok(content.blobs.iter().chain(present).cloned().collect())
    }

    /// Writes the rows of a manifest and of blobs whose bytes are there.
    pub(crate) async fn record(&self, manifest: OciManifest, tag: Option<String>, blobs: Vec<OciBlob>) -> Result<()> {
        let written = self.store.transact(|snapshot| {
            let mut change = Change::new();
            for row in blobs.iter().filter(|row| snapshot.row(&row.key()).is_none()) {
                change.create(row.clone());
            }
            if snapshot.row(&manifest.key()).is_none() {
                change.create(manifest.clone());
            }
            if let Some(tag) = &tag {
                let row = OciTag {
                    project_id: manifest.project_id.clone(),
                    repository: manifest.repository.clone(),
                    tag: tag.clone(),
                    digest: manifest.digest.clone(),
                    updated_at: manifest.created_at,
                };
                match snapshot.at::<OciTag>(&row.key()) {
                    Some(old) => change.update(old, row),
                    None if snapshot.within::<OciTag>(&row.realm()).count() >= MAX_TAGS => {
                        return Err(Fault::Forbidden(format!("a project has at most {MAX_TAGS} tags")));
                    }
                    None => change.create(row),
                };
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
        let (realm, name) = (call.realm(), &call.repository.name);
        let deleted = self.store.transact(|snapshot| {
            let mut change = Change::new();
            let tag = Key::new(Kind::OciTag, realm.clone(), format!("{name}:{reference}"));
            let manifest = Key::new(Kind::OciManifest, realm.clone(), format!("{name}@{reference}"));
            if let Some(row) = snapshot.at::<OciTag>(&tag).filter(|_| !reference.contains(':')) {
                change.delete(row);
            } else if let Some(row) = snapshot.at::<OciManifest>(&manifest) {
                let tags = snapshot.names::<OciTag>(&realm, &format!("{name}:"), None);
                for tag in tags.filter(|t| t.digest == row.digest) {
                    change.delete(tag);
                }
                change.delete(row);
            } else {
                return Err(Fault::not_found(Kind::OciManifest, reference));
            }
            Ok((change, ()))
        });
        match deleted.await {
            Ok(()) => Ok(empty(StatusCode::ACCEPTED)),
            Err(Fault::NotFound { .. }) => Err(Refusal::unknown("MANIFEST_UNKNOWN", reference)),
            Err(other) => Err(other.into()),
        }
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

fn valid_tag(tag: &str) -> Result<()> {
    let first = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if tag.len() <= 128 && tag.as_bytes().first().is_some_and(first) && tag.bytes().all(fits) {
        return Ok(());
    }
    Err(Refusal::bad("TAG_INVALID", format!("'{tag}' is not a tag")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const OCI: &str = "application/vnd.oci.image.manifest.v1+json";

    #[test]
    fn what_a_manifest_is_made_of() {
        let layer = json!({"digest": A, "mediaType": "application/vnd.oci.image.layer.v1.tar+zstd"});
        let elsewhere = json!({"digest": A.replace('a', "b"), "urls": ["https://example.org"]});
        let config = json!({"digest": A.replace('a', "c"), "mediaType": "application/vnd.oci.empty.v1+json"});
        let value = json!({"schemaVersion": 2, "config": config, "layers": [layer, elsewhere],
            "subject": {"digest": A.replace('a', "d")}, "annotations": {"k": "v"}});
        let content = Content::read(&value, Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8")).unwrap();
        assert_eq!(content.media_type, OCI);
        assert_eq!(content.blobs, [A.replace('a', "c"), A.to_owned()]);
        assert_eq!(content.foreign, [A.replace('a', "b")]);
        assert_eq!(content.subject, Some(A.replace('a', "d")));
        assert_eq!(content.artifact_type.as_deref(), Some("application/vnd.oci.empty.v1+json"));
        assert_eq!(content.annotations["k"], "v");
    }

    #[test]
    fn what_is_none() {
        for (value, told) in [
            (json!({}), Some(OCI)),
            (json!({"schemaVersion": 1}), Some(OCI)),
            (json!({"schemaVersion": 2}), None),
            (json!({"schemaVersion": 2, "mediaType": "other"}), Some(OCI)),
            (json!({"schemaVersion": 2, "layers": [{"digest": "sha256:1"}]}), Some(OCI)),
            (json!({"schemaVersion": 2, "layers": {}}), Some(OCI)),
            (json!({"schemaVersion": 2, "config": "x"}), Some(OCI)),
            (json!({"schemaVersion": 2, "layers": vec![json!({"digest": A}); MAX_PARTS + 1]}), Some(OCI)),
            (
                json!({"schemaVersion": 2, "subject": {"digest": A}, "annotations": {"k": "v".repeat(MAX_ANNOTATIONS)}}),
                Some(OCI),
            ),
        ] {
            let refusal = Content::read(&value, told).unwrap_err();
            assert_eq!((refusal.status.as_u16(), refusal.code), (400, "MANIFEST_INVALID"), "{value}");
        }
    }
}
