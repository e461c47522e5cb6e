//! Brings an OCI layout (a tar file) into the registry, as the cloud's own repository.

use std::io::Read;
use std::path::Path;

use model::{Key, Kind, OciBlob, OciTag, Realm};
use serde_json::Value;

use crate::Registry;
use crate::content::Content;
use crate::digest::sha256_of;
use crate::manifests::{MAX_MANIFEST, manifest};
use crate::names::Repository;

/// Whether the cloud's own repository has a tag.
pub fn is_known(store: &store::Store, repository: &str, tag: &str) -> bool {
    let key = Key::new(Kind::OciTag, Realm::Cloud, format!("{repository}:{tag}"));
    store.snapshot().at::<OciTag>(&key).is_some()
}

/// Brings the one image of a layout in under a name. The error is in words.
pub async fn import(registry: &Registry, file: &Path, repository: &str, tag: &str) -> Result<(), String> {
    let bad = |why: String| format!("{}: {why}", file.display());
    let index = unpack(registry, file).map_err(bad)?;
    let descriptor = &index["manifests"][0];
    let digest = descriptor["digest"].as_str().unwrap_or_default();
    let hex = sha256_of(digest).ok_or_else(|| bad("its index names no manifest".into()))?;
    let bytes = registry.blobs.read(hex, MAX_MANIFEST).map_err(|e| bad(e.to_string()))?;
    let media_type = descriptor["mediaType"].as_str().unwrap_or("application/vnd.oci.image.manifest.v1+json");
    let content = Content::read(&bytes, Some(media_type)).map_err(|refusal| bad(refusal.message))?;
    let of = Repository { asked: repository.to_owned(), name: repository.to_owned(), project: String::new() };
    let manifest = manifest(&of, digest, bytes.len() as u64, &content, content.refers());
    let mut blobs = Vec::new();
    for digest in &manifest.blobs {
        let size = sha256_of(digest).and_then(|hex| registry.blobs.claim(hex));
        let size = size.ok_or_else(|| bad(format!("it lacks {digest}")))?;
        blobs.push(OciBlob {
            project_id: String::new(),
            digest: digest.clone(),
            sha256: None,
            repository: Some(repository.to_owned()),
            size,
            created_at: manifest.created_at,
        });
    }
    registry.record(manifest, &[tag.to_owned()], blobs).await.map_err(|refusal| bad(refusal.message))
}

/// Puts a layout's blobs into the store; its index.
fn unpack(registry: &Registry, file: &Path) -> Result<Value, String> {
    let text = |e: std::io::Error| e.to_string();
    let mut archive = tar::Archive::new(std::fs::File::open(file).map_err(text)?);
    let mut index = None;
    for entry in archive.entries().map_err(text)? {
        let mut entry = entry.map_err(text)?;
        let path = entry.path().map_err(text)?.to_string_lossy().trim_start_matches("./").to_owned();
        if path == "index.json" {
            let mut bytes = Vec::new();
            (&mut entry).take(MAX_MANIFEST).read_to_end(&mut bytes).map_err(text)?;
            index = Some(serde_json::from_slice(&bytes).map_err(|e| format!("its index: {e}"))?);
        } else if let Some(hex) = path.strip_prefix("blobs/sha256/") {
            let mut writer = registry.blobs.writer(u64::MAX).map_err(|e| e.to_string())?;
            let mut buffer = vec![0u8; 1 << 20];
            loop {
                match entry.read(&mut buffer).map_err(text)? {
                    0 => break,
                    n => writer.write(&buffer[..n]).map_err(|e| e.to_string())?,
                }
            }
            let written = writer.finish().map_err(|e| e.to_string())?;
            if !hex.is_empty() && written.sha256 != hex {
                return Err(format!("its blob {hex} has the digest {}", written.sha256));
            }
        }
    }
    index.ok_or_else(|| "it has no index.json".to_owned())
}
