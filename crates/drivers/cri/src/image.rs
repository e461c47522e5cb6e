//! Pulls images. What a pull says begins with the word that Kubernetes has for it (`ErrImagePull`, `ErrImageNeverPull`,
//! `InvalidImageName`), then a colon.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use driver::{DriverFault, Result};
use k8s_cri::v1;
use model::wanted::{WantedContainer, WantedPod};
use tokio::sync::OnceCell;
use tonic::{Code, Status};

use crate::{Cri, spec};

/// An image may be large and the way to its registry slow, but not for ever.
const PULL_LIMIT: Duration = Duration::from_secs(30 * 60);

/// Pulls under way: whoever asks for the same image meanwhile waits for the same pull.
#[derive(Default)]
pub struct Pulls(Mutex<HashMap<Pull, Arc<OnceCell<Result<()>>>>>);

/// Pulls are one only if the same image is asked for by the same user.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Pull {
    image: String,
    credentials: Option<(String, String)>,
}

impl Cri {
    /// The image of a container, pulled if need be.
    pub async fn image_of(&self, pod: &WantedPod, container: &WantedContainer) -> Result<v1::Image> {
        let client = self.up().await?;
        let name = &container.image;
        if name.is_empty() {
            return Err(DriverFault::Refused("InvalidImageName: the container names no image".to_owned()));
        }
        let here = client.image(name).await.map_err(|fault| worded(name, fault))?;
        // What another project's pod has brought here is not there for this one: only a pull tells whether it may have it.
        let here = here.filter(|image| !is_id(name, &image.id) && self.may_have(pod, name));
        match (container.pull.as_str(), here) {
            ("Never", None) => {
                let text =
                    format!("ErrImageNeverPull: container image {name:?} is not present with pull policy of Never");
                return Err(DriverFault::Refused(text));
            }
            ("Never" | "IfNotPresent" | "", Some(image)) => return Ok(image),
            ("Always" | "IfNotPresent" | "", _) => {}
            (other, _) => return Err(DriverFault::Refused(format!("there is no pull policy {other:?}"))),
        }
        self.pull_once(pod, container).await?;
        let missing = || DriverFault::Failed(format!("ErrImagePull: image {name:?} was pulled and is gone again"));
        client.image(name).await?.ok_or_else(missing)
    }

    /// Whether a pod may have an image that is on the host.
    fn may_have(&self, pod: &WantedPod, name: &str) -> bool {
        let ours = self.config.registry.as_ref().and_then(|r| name.strip_prefix(&r.name)?.strip_prefix('/'));
        match (ours, &self.config.readable) {
            (Some(path), Some(readable)) => readable(pod, repository(path)),
            _ => true,
        }
    }

    async fn pull_once(&self, pod: &WantedPod, container: &WantedContainer) -> Result<()> {
        let image = &container.image;
        let ours = self.config.registry.as_ref().is_some_and(|r| image.split('/').next() == Some(&r.name));
        let credentials = self.config.credentials.as_ref().filter(|_| ours).and_then(|ask| ask(pod));
        let credentials = container.pull_credentials.clone().or(credentials);
        let key = Pull { image: image.clone(), credentials };
        let cell = self.pulls.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key.clone()).or_default().clone();
        // If whoever pulls gives up, the next in line goes on.
        let result = cell.get_or_init(|| self.pull(pod, &key)).await.clone();
        let mut pulls = self.pulls.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pulls.get(&key).is_some_and(|current| Arc::ptr_eq(current, &cell)) {
            pulls.remove(&key);
        }
        result
    }

    async fn pull(&self, pod: &WantedPod, pull: &Pull) -> Result<()> {
        let auth = pull.credentials.clone().map(|(username, password)| v1::AuthConfig {
            username,
            password,
            ..Default::default()
        });
        let request = v1::PullImageRequest {
            image: Some(v1::ImageSpec { image: pull.image.clone(), ..Default::default() }),
            auth,
            sandbox_config: Some(spec::sandbox(pod, 0, &self.config.prefix, &self.paths.dir)),
        };
        let image = &pull.image;
        match tokio::time::timeout(PULL_LIMIT, self.up().await?.images().pull_image(request)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => Err(refused(image, &status)),
            Err(_) => Err(DriverFault::Failed(format!(
                "ErrImagePull: pulling image {image:?} takes more than {PULL_LIMIT:?}"
            ))),
        }
    }
}

/// A name without its tag and digest.
fn repository(name: &str) -> &str {
    let name = name.split('@').next().unwrap_or(name);
    match name.rfind(':') {
        Some(colon) if !name[colon..].contains('/') => &name[..colon],
        _ => name,
    }
}

/// Whether a text names an image by its id, as the runtime lets one, by the first few digits already: whose image that is,
/// nobody could tell.
fn is_id(name: &str, id: &str) -> bool {
    let bare = |text: &str| text.strip_prefix("sha256:").unwrap_or(text).to_owned();
    bare(id).starts_with(&bare(name))
}

fn refused(image: &str, status: &Status) -> DriverFault {
    let said = status.message();
    match status.code() {
        Code::Unavailable => DriverFault::Unavailable(format!("ErrImagePull: containerd does not answer ({said})")),
        _ => worded(image, DriverFault::Failed(said.to_owned())),
    }
}

/// Recognises what trying again will not mend.
fn worded(image: &str, fault: DriverFault) -> DriverFault {
    let said = fault.to_string();
    if said.contains("invalid reference format") || said.contains("repository name must be") {
        return DriverFault::Refused(format!("InvalidImageName: {image:?} is not a name of an image"));
    }
    match fault {
        DriverFault::Failed(said) => {
            DriverFault::Failed(format!("ErrImagePull: failed to pull image {image:?}: {said}"))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_tag_and_digest() {
        for (name, bare) in [
            ("tiny", "tiny"),
            ("tiny:1", "tiny"),
            ("demo/web:v1@sha256:00", "demo/web"),
            ("demo/web@sha256:00", "demo/web"),
            ("host:5000/web", "host:5000/web"),
        ] {
            assert_eq!(repository(name), bare);
        }
    }

    #[test]
    fn ids_are_no_names() {
        let id = "sha256:cafe0123";
        assert!(["c", "cafe", "sha256:cafe0123", "sha256:ca"].iter().all(|name| is_id(name, id)));
        assert!(["tiny", "braid.local/cafe", "cafe:latest", "sha256:beef"].iter().all(|name| !is_id(name, id)));
    }
}
