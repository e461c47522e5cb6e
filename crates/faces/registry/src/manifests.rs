//! Manifests and tags.

use axum::body::Body;
use axum::response::Response;
use http::{Method, StatusCode, header};
use model::{Change, Fault, Key, Kind, OciManifest, OciTag, Realm, Time};
use serde_json::{Value, json};

use crate::{Call, Refusal, Registry, Result, empty, put, sha256_of};

/// The largest manifest, as in other registries.
pub const MAX_MANIFEST: u64 = 4 << 20;

impl Registry {
    pub(crate) async fn manifest(&self, call: Call, reference: &str) -> Result<Response> {
        match call.request.method().clone() {
            Method::GET | Method::HEAD => self.get_manifest(&call, reference),
            Method::PUT => self.put_manifest(call, reference).await,
            Method::DELETE => {
                let (realm, repository) = (call.realm(), call.repository);
                self.delete_manifest(realm, &repository, reference).await
            }
            _ => Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "not a verb for manifests")),
        }
    }

    fn get_manifest(&self, call: &Call, reference: &str) -> Result<Response> {
        let snapshot = self.store.snapshot();
        let unknown = || Refusal::unknown("MANIFEST_UNKNOWN", &format!("{}:{reference}", call.repository));
        let digest = match sha256_of(reference) {
            Some(_) => reference.to_owned(),
            None => {
                let key = Key::new(Kind::OciTag, call.realm(), format!("{}:{reference}", call.repository));
                snapshot.at::<OciTag>(&key).ok_or_else(unknown)?.digest.clone()
            }
        };
        let key = Key::new(Kind::OciManifest, call.realm(), format!("{}@{digest}", call.repository));
        let manifest = snapshot.at::<OciManifest>(&key).ok_or_else(unknown)?;
        let head = call.request.method() == Method::HEAD;
        let mut response = match (head, sha256_of(&digest)) {
            (false, Some(hex)) => Response::new(Body::from(self.blobs.read(hex, MAX_MANIFEST)?)),
            _ => empty(StatusCode::OK),
        };
        let headers = response.headers_mut();
        put(headers, header::CONTENT_TYPE, &manifest.media_type);
        put(headers, header::CONTENT_LENGTH, &manifest.size.to_string());
        put(headers, header::HeaderName::from_static("docker-content-digest"), &digest);
        Ok(response)
    }

    async fn put_manifest(&self, call: Call, reference: &str) -> Result<Response> {
        let (parts, body) = (call.request.headers().clone(), call.request.into_body());
        let bytes = axum::body::to_bytes(body, MAX_MANIFEST as usize).await.map_err(|_| {
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", "a manifest of more than 4 MiB")
        })?;
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|e| Refusal::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", format!("not JSON: {e}")))?;
        let told = parts.get(header::CONTENT_TYPE).and_then(|t| t.to_str().ok()).map(str::to_owned);
        let media_type = value["mediaType"].as_str().map(str::to_owned).or(told).unwrap_or_default();
        let written = self.blobs.put(&bytes)?;
        let digest = format!("sha256:{}", written.sha256);
        if sha256_of(reference).is_some() && reference != digest {
            return Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                "DIGEST_INVALID",
                format!("the manifest's digest is {digest}"),
            ));
        }
        let manifest = OciManifest {
            project_id: call.project.clone(),
            repository: call.repository.clone(),
            digest: digest.clone(),
            media_type,
            size: written.size,
            refers: refers(&value),
            created_at: Time::now(),
        };
        for needed in &manifest.refers {
            if sha256_of(needed).is_none_or(|hex| self.blobs.claim(hex).is_none()) {
                return Err(Refusal::unknown("MANIFEST_BLOB_UNKNOWN", needed));
            }
        }
        let tag = sha256_of(reference).is_none().then(|| reference.to_owned());
        self.record(manifest, tag).await?;
        let mut response = empty(StatusCode::CREATED);
        put(response.headers_mut(), header::LOCATION, &format!("/v2/{}/manifests/{digest}", call.repository));
        put(response.headers_mut(), header::HeaderName::from_static("docker-content-digest"), &digest);
        Ok(response)
    }

    /// Writes the rows of a manifest whose bytes are there.
    pub(crate) async fn record(&self, manifest: OciManifest, tag: Option<String>) -> Result<()> {
        if let Some(tag) = &tag {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
            if tag.is_empty() || tag.len() > 128 || !tag.bytes().all(fits) {
                return Err(Refusal::new(StatusCode::BAD_REQUEST, "TAG_INVALID", format!("'{tag}' is not a tag")));
            }
        }
        self.store
            .transact(|snapshot| {
                let mut change = Change::new();
                if snapshot.row(&model::Resource::key(&manifest)).is_none() {
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
                    match snapshot.at::<OciTag>(&model::Resource::key(&row)) {
                        Some(old) => change.update(old, row),
                        None => change.create(row),
                    };
                }
                Ok((change, ()))
            })
            .await?;
        Ok(())
    }

    async fn delete_manifest(&self, realm: Realm, repository: &str, reference: &str) -> Result<Response> {
        let tag = Key::new(Kind::OciTag, realm.clone(), format!("{}:{reference}", repository));
        let manifest = Key::new(Kind::OciManifest, realm.clone(), format!("{}@{reference}", repository));
        self.store
            .transact(|snapshot| {
                let mut change = Change::new();
                if let Some(row) = snapshot.at::<OciTag>(&tag) {
                    change.delete(row);
                } else if let Some(row) = snapshot.at::<OciManifest>(&manifest) {
                    let prefix = format!("{}:", repository);
                    let tags = snapshot.names::<OciTag>(&realm, &prefix, None);
                    for tag in tags.filter(|t| t.digest == row.digest) {
                        change.delete(tag);
                    }
                    change.delete(row);
                } else {
                    return Err(Fault::not_found(Kind::OciManifest, reference));
                }
                Ok((change, ()))
            })
            .await?;
        Ok(empty(StatusCode::ACCEPTED))
    }

    pub(crate) fn tags(&self, call: &Call) -> Result<Response> {
        let snapshot = self.store.snapshot();
        let prefix = format!("{}:", call.repository);
        let tags: Vec<String> = snapshot.names::<OciTag>(&call.realm(), &prefix, None).map(|t| t.tag.clone()).collect();
        if tags.is_empty() {
            return Err(Refusal::unknown("NAME_UNKNOWN", &call.repository));
        }
        let last = call.query("last");
        let rest = tags.into_iter().filter(|t| last.as_ref().is_none_or(|last| t > last));
        let most = call.query("n").and_then(|n| n.parse().ok()).unwrap_or(1000);
        let page: Vec<String> = rest.take(most).collect();
        let mut response = Response::new(Body::from(json!({"name": call.repository, "tags": page}).to_string()));
        put(response.headers_mut(), header::CONTENT_TYPE, "application/json");
        Ok(response)
    }
}

/// Digests of what a manifest or index is made of.
pub fn refers(manifest: &Value) -> Vec<String> {
    let config = manifest["config"]["digest"].as_str();
    let lists = [&manifest["layers"], &manifest["manifests"]];
    let parts = lists.into_iter().flat_map(|l| l.as_array().into_iter().flatten()).filter_map(|p| p["digest"].as_str());
    config.into_iter().chain(parts).map(str::to_owned).collect()
}
