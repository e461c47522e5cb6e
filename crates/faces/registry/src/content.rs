//! What a manifest says: OCI's, or Docker's second. It is somebody's text of up to 4 MiB, so nothing of it is kept but what is
//! needed, and lists end where they are longer than they may be: as a tree, such a text took a hundred times its length. A
//! field that comes twice is refused: clients would disagree on which is meant.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::digest::well_formed;
use crate::refusal::{Refusal, Result};

/// What one manifest may be made of: rows name each of them.
const MAX_PARTS: usize = 1024;
/// Bytes of annotations that lists of referrers repeat.
const MAX_ANNOTATIONS: usize = 16 << 10;
/// Characters of a media type, by RFC 6838.
const MAX_TYPE: usize = 255;

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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Text {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<List>,
    /// Of artifact manifests, which were a draft of 1.1.
    blobs: Option<List>,
    manifests: Option<List>,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    annotations: Option<Annotations>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: Option<String>,
    media_type: Option<String>,
    urls: Option<Vec<IgnoredAny>>,
}

impl Descriptor {
    fn digest(&self) -> Result<String> {
        let digest = self.digest.as_deref().unwrap_or_default();
        if well_formed(digest) { Ok(digest.to_owned()) } else { Err(invalid(format!("{digest:?} is not a digest"))) }
    }

    /// Whether clients may get it elsewhere, and need not push it.
    fn is_elsewhere(&self) -> bool {
        let foreign = |kind: &String| kind.contains(".nondistributable.") || kind.contains(".rootfs.foreign.");
        self.urls.as_ref().is_some_and(|urls| !urls.is_empty()) || self.media_type.as_ref().is_some_and(foreign)
    }
}

/// Descriptors, no more than a manifest may be made of.
#[derive(Default)]
struct List(Vec<Descriptor>);

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Bounded;
        impl<'de> Visitor<'de> for Bounded {
            type Value = List;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MAX_PARTS} descriptors")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> std::result::Result<List, A::Error> {
                let mut list = Vec::new();
                while let Some(descriptor) = all.next_element()? {
                    if list.len() == MAX_PARTS {
                        return Err(A::Error::custom(too_many()));
                    }
                    list.push(descriptor);
                }
                Ok(List(list))
            }
        }
        deserializer.deserialize_seq(Bounded)
    }
}

/// Annotations as far as lists of referrers may repeat them.
#[derive(Default)]
struct Annotations {
    all: BTreeMap<String, String>,
    size: usize,
}

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Bounded;
        impl<'de> Visitor<'de> for Bounded {
            type Value = Annotations;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("annotations, each of them a text")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Annotations, A::Error> {
                let mut annotations = Annotations::default();
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    annotations.size += key.len() + value.len();
                    if annotations.size <= MAX_ANNOTATIONS {
                        annotations.all.insert(key, value);
                    }
                }
                Ok(annotations)
            }
        }
        deserializer.deserialize_map(Bounded)
    }
}

pub fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::bad("MANIFEST_INVALID", message)
}

fn too_many() -> String {
    format!("it is made of more than {MAX_PARTS} parts")
}

impl Content {
    /// Of a manifest or index; `told` is the request's content type.
    pub fn read(bytes: &[u8], told: Option<&str>) -> Result<Self> {
        let text: Text = serde_json::from_slice(bytes).map_err(|e| invalid(format!("not a manifest: {e}")))?;
        if text.schema_version != Some(2) {
            return Err(invalid("schemaVersion must be 2"));
        }
        let mut content = Self { media_type: media_type(text.media_type, told)?, ..Self::default() };
        let config_type = text.config.as_ref().and_then(|config| config.media_type.clone());
        let parts = [text.layers, text.blobs].into_iter().flatten().flat_map(|list| list.0);
        for part in text.config.into_iter().chain(parts) {
            if part.is_elsewhere() { &mut content.foreign } else { &mut content.blobs }.push(part.digest()?);
        }
        let children = text.manifests.unwrap_or_default().0;
        content.children = children.iter().map(Descriptor::digest).collect::<Result<_>>()?;
        if content.blobs.len() + content.foreign.len() + content.children.len() > MAX_PARTS {
            return Err(invalid(too_many()));
        }
        content.subject = text.subject.map(|subject| subject.digest()).transpose()?;
        content.artifact_type = text.artifact_type.filter(|kind| !kind.is_empty()).or(config_type);
        if let Some(kind) = content.artifact_type.as_ref().filter(|kind| !is_type(kind)) {
            return Err(invalid(format!("{:?} is not a media type", kind.chars().take(MAX_TYPE).collect::<String>())));
        }
        if content.subject.is_some() {
            let annotations = text.annotations.unwrap_or_default();
            if annotations.size > MAX_ANNOTATIONS {
                return Err(invalid(format!("more than {MAX_ANNOTATIONS} bytes of annotations")));
            }
            content.annotations = annotations.all;
        }
        Ok(content)
    }

    /// Digests of all that it is made of.
    pub fn refers(&self) -> Vec<String> {
        self.blobs.iter().chain(&self.foreign).chain(&self.children).cloned().collect()
    }
}

/// The media type that a manifest will be served with: its own, which must be what its request says.
fn media_type(own: Option<String>, told: Option<&str>) -> Result<String> {
    let told = told.map(|told| told.split(';').next().unwrap_or("").trim()).filter(|told| !told.is_empty());
    let media_type = match (own, told) {
        (Some(own), Some(told)) if own != told => {
            return Err(invalid(format!("its mediaType is {own:?}, its Content-Type {told:?}")));
        }
        (Some(own), _) => own,
        (None, Some(told)) => told.to_owned(),
        (None, None) => return Err(invalid("neither it nor the request says what media type it has")),
    };
    // Served as a page, it would run in the browser of whoever opens it.
    if !is_type(&media_type) || !media_type.starts_with("application/") {
        return Err(invalid("its media type is none of an application"));
    }
    Ok(media_type)
}

/// Whether a text is a media type, by its characters and length.
fn is_type(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"!#$&-^_.+/".contains(&b);
    text.len() <= MAX_TYPE && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const OCI: &str = "application/vnd.oci.image.manifest.v1+json";

    fn read(value: &Value, told: Option<&str>) -> Result<Content> {
        Content::read(value.to_string().as_bytes(), told)
    }

    #[test]
    fn what_a_manifest_is_made_of() {
        let layer = json!({"digest": A, "mediaType": "application/vnd.oci.image.layer.v1.tar+zstd"});
        let elsewhere = json!({"digest": A.replace('a', "b"), "urls": ["https://example.org"]});
        let foreign = json!({"digest": A.replace('a', "e"), "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar"});
        let config = json!({"digest": A.replace('a', "c"), "mediaType": "application/vnd.oci.empty.v1+json"});
        let value = json!({"schemaVersion": 2, "config": config, "layers": [layer, elsewhere, foreign], "manifests": null,
            "subject": {"digest": A.replace('a', "d")}, "annotations": {"k": "v"}, "more": {"x": [1]}});
        let content = read(&value, Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8")).unwrap();
        assert_eq!(content.media_type, OCI);
        assert_eq!(content.blobs, [A.replace('a', "c"), A.to_owned()]);
        assert_eq!(content.foreign, [A.replace('a', "b"), A.replace('a', "e")]);
        assert_eq!(content.subject, Some(A.replace('a', "d")));
        assert_eq!(content.artifact_type.as_deref(), Some("application/vnd.oci.empty.v1+json"));
        assert_eq!(content.annotations["k"], "v");
        // Annotations that no list repeats may be long.
        let long = json!({"schemaVersion": 2, "annotations": {"k": "v".repeat(MAX_ANNOTATIONS)}});
        assert!(read(&long, Some(OCI)).unwrap().annotations.is_empty());
    }

    #[test]
    fn what_is_none() {
        let many = vec![json!({"digest": A}); MAX_PARTS + 1];
        for (value, told) in [
            (json!({}), Some(OCI)),
            (json!([]), Some(OCI)),
            (json!({"schemaVersion": 1}), Some(OCI)),
            (json!({"schemaVersion": 2}), None),
            (json!({"schemaVersion": 2, "mediaType": "other"}), Some(OCI)),
            (json!({"schemaVersion": 2, "mediaType": "text/html"}), None),
            (json!({"schemaVersion": 2}), Some("text/html")),
            (json!({"schemaVersion": 2, "mediaType": "application/a\r\nb"}), None),
            (json!({"schemaVersion": 2, "artifactType": "x".repeat(MAX_TYPE + 1)}), Some(OCI)),
            (json!({"schemaVersion": 2, "artifactType": "a b"}), Some(OCI)),
            (json!({"schemaVersion": 2, "layers": [{"digest": "sha256:1"}]}), Some(OCI)),
            (json!({"schemaVersion": 2, "layers": [{}]}), Some(OCI)),
            (json!({"schemaVersion": 2, "layers": {}}), Some(OCI)),
            (json!({"schemaVersion": 2, "config": "x"}), Some(OCI)),
            (json!({"schemaVersion": 2, "subject": {"digest": "x"}}), Some(OCI)),
            (json!({"schemaVersion": 2, "layers": many.clone()}), Some(OCI)),
            (json!({"schemaVersion": 2, "layers": &many[1..], "config": {"digest": A}}), Some(OCI)),
            (json!({"schemaVersion": 2, "annotations": {"k": 1}}), Some(OCI)),
            (
                json!({"schemaVersion": 2, "subject": {"digest": A}, "annotations": {"k": "v".repeat(MAX_ANNOTATIONS)}}),
                Some(OCI),
            ),
        ] {
            let refusal = read(&value, told).unwrap_err();
            assert_eq!((refusal.status.as_u16(), refusal.code), (400, "MANIFEST_INVALID"), "{value}");
        }
        let twice = format!("{{\"schemaVersion\": 2, \"layers\": [{{\"digest\": \"{A}\"}}], \"layers\": []}}");
        assert_eq!(Content::read(twice.as_bytes(), Some(OCI)).unwrap_err().code, "MANIFEST_INVALID");
    }
}
