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
