//! The connection to containerd: CRI over its unix socket. It is made when first used and again after containerd was
//! restarted. Every call has a limit in time.

use std::path::Path;
use std::time::Duration;

use driver::{DriverFault, Result};
use hyper_util::rt::TokioIo;
use k8s_cri::v1;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};

/// As large as containerd sends.
const LARGEST_MESSAGE: usize = 16 << 20;
/// For calls that only look.
const LOOK_LIMIT: Duration = Duration::from_secs(20);

#[derive(Clone)]
pub struct Client {
    channel: Channel,
}

impl Client {
    /// Connects when first used. Must be called within a tokio runtime.
    pub fn new(socket: &Path) -> Self {
        let socket = socket.to_owned();
        let connector = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
        });
        // The address is for form's sake; the connector knows the socket.
        Self { channel: Endpoint::from_static("http://containerd").connect_with_connector_lazy(connector) }
    }

    pub fn runtime(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel.clone())
            .max_decoding_message_size(LARGEST_MESSAGE)
            .max_encoding_message_size(LARGEST_MESSAGE)
    }

    pub fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_MESSAGE)
    }

    pub async fn version(&self) -> Result<String> {
        let request = v1::VersionRequest { version: "0.1.0".to_owned() };
        let limit = Duration::from_secs(5);
        let answer = within(limit, "version", self.runtime().version(request)).await?;
        Ok(format!("{} {}", answer.runtime_name, answer.runtime_version))
    }

    /// The image that is here under this name, if it is.
    pub async fn image(&self, name: &str) -> Result<Option<v1::Image>> {
        let image = Some(v1::ImageSpec { image: name.to_owned(), ..Default::default() });
        let request = v1::ImageStatusRequest { image, verbose: false };
        let answer = look(&format!("look for image {name}"), self.images().image_status(request)).await?;
        Ok(answer.image)
    }

    pub async fn sandboxes(&self, filter: Option<v1::PodSandboxFilter>) -> Result<Vec<v1::PodSandbox>> {
        let request = v1::ListPodSandboxRequest { filter };
        Ok(look("list pods", self.runtime().list_pod_sandbox(request)).await?.items)
    }

    pub async fn containers(&self, filter: Option<v1::ContainerFilter>) -> Result<Vec<v1::Container>> {
        let request = v1::ListContainersRequest { filter };
        Ok(look("list containers", self.runtime().list_containers(request)).await?.containers)
    }
}

/// A call that only looks.
pub async fn look<T>(
    what: &str,
    call: impl Future<Output = std::result::Result<tonic::Response<T>, Status>>,
) -> Result<T> {
    within(LOOK_LIMIT, what, call).await
}

/// A call with a limit in time, its error in words. `what` completes "cannot ...".
pub async fn within<T>(
    limit: Duration,
    what: &str,
    call: impl Future<Output = std::result::Result<tonic::Response<T>, Status>>,
) -> Result<T> {
    let begun = std::time::Instant::now();
    let answer = tokio::time::timeout(limit, call).await;
    tracing::trace!(what, took = ?begun.elapsed(), "asked containerd");
    match answer {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(fault(what, &status)),
        Err(_) => Err(DriverFault::Unavailable(format!("cannot {what}: containerd did not answer within {limit:?}"))),
    }
}

/// What a status of containerd means to us.
pub fn fault(what: &str, status: &Status) -> DriverFault {
    let said = &without_ids(status.message());
    match status.code() {
        Code::Unavailable => DriverFault::Unavailable(format!("cannot {what}: containerd does not answer ({said})")),
        // A request that we gave up on is still being worked on.
        _ if said.contains("is reserved for") => DriverFault::NotReady(format!("cannot {what} yet: {said}")),
        Code::InvalidArgument => DriverFault::Refused(format!("cannot {what}: {said}")),
        _ => DriverFault::Failed(format!("cannot {what}: {said}")),
    }
}

/// Leaves the ids of sandboxes and containers out. The next attempt has others, and what changes in a status wakes all who
/// look at it, the one who tries again first of all.
fn without_ids(text: &str) -> String {
    let is_id = |word: &&str| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let words: Vec<&str> = text.split('"').filter(|word| !is_id(word)).collect();
    if words.len() == text.split('"').count() { text.to_owned() } else { words.join("").replace("  ", " ") }
}

/// Success if what was to go away is gone already.
pub fn gone_is_fine(result: std::result::Result<(), Status>, what: &str) -> Result<()> {
    match result {
        Err(status) if status.code() != Code::NotFound => Err(fault(what, &status)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_two_attempts_are_the_same() {
        let said = |id: char| {
            let id = id.to_string().repeat(64);
            fault("make it", &Status::internal(format!("failed to setup network for sandbox \"{id}\": no bridge")))
        };
        assert_eq!(said('a'), said('b'));
        assert_eq!(said('a').to_string(), "cannot make it: failed to setup network for sandbox : no bridge");
        let plain = fault("make it", &Status::internal("a \"quoted\" word"));
        assert_eq!(plain.to_string(), "cannot make it: a \"quoted\" word");
    }
}
