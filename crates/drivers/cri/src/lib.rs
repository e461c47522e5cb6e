//! Pods, run by containerd over CRI: an engine that others keep, through the contract that kubelets use. Refused: a
//! container runtime of our own; Docker, which has no CRI; the system's containerd, see [`daemon`].
//!
//! * [`daemon`]: our own containerd: configured, started, adopted, ended
//! * [`client`]: the connection to it
//! * [`pods`]: [`driver::PodDriver`]; [`spec`] says to CRI what a pod is, [`seen`] reads from it what there is,
//!   [`image`] pulls
//! * [`cni`]: the plugin that containerd calls for a pod's network, and the agent's end of it
//! * [`pause`]: the image of the process that holds a pod's namespaces

mod client;
mod cni;
mod daemon;
#[doc(hidden)]
pub mod hostile;
mod image;
mod pause;
mod pods;
mod seen;
mod spec;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use driver::generation::Generations;
use driver::{DriverFault, Result, process};
use model::wanted::WantedPod;

pub use cni::{CniAddress, CniHandler, CniPlugged, CniRequest, CniVerb, cni_main, serve_cni};
pub use daemon::missing;

use client::Client;
use daemon::Paths;

/// The user and password with which a pod's images are pulled from our registry.
pub type Credentials = Arc<dyn Fn(&WantedPod) -> Option<(String, String)> + Send + Sync>;

/// Whether a pod may have an image of our registry, by its name there without tag and digest.
pub type Readable = Arc<dyn Fn(&WantedPod, &str) -> bool + Send + Sync>;

/// A registry that is reached by another address than its name says.
#[derive(Clone, Debug)]
pub struct Registry {
    /// As images name it: `braid.local`.
    pub name: String,
    /// `https://host:port`.
    pub url: String,
    /// The certificate of the authority to trust, if not one of the system's.
    pub ca: Option<PathBuf>,
}

#[derive(Clone)]
pub struct Config {
    /// All that containerd and we write is below it. Its path must be short, since a socket is in it.
    pub dir: PathBuf,
    /// The control group, at the root of the host's, below which all pods are. Unique on the host.
    pub prefix: String,
    pub registry: Option<Registry>,
    pub credentials: Option<Credentials>,
    /// Without one, every pod may have every image that is on the host.
    pub readable: Option<Readable>,
    /// Has our program in it, by the names `braid-cni` and `loopback`.
    pub cni_bin_dir: PathBuf,
    /// Where the agent answers the plugin: [`serve_cni`].
    pub cni_socket: PathBuf,
}

/// The driver. Cheap to make; keeps nothing that it could not find out again.
pub struct Cri {
    config: Config,
    paths: Paths,
    client: Client,
    memory: tokio::sync::Mutex<daemon::Memory>,
    pulls: image::Pulls,
    statuses: std::sync::Mutex<HashMap<String, seen::Known>>,
    generations: Generations,
}

impl Cri {
    /// A driver whose containerd is started, or adopted, when first needed. Must be called within a tokio runtime.
    pub fn new(config: Config) -> Self {
        let paths = Paths::new(&config.dir);
        let client = Client::new(&paths.socket);
        Self {
            generations: Generations::new(&paths.dir),
            config,
            paths,
            client,
            memory: Default::default(),
            pulls: Default::default(),
            statuses: Default::default(),
        }
    }

    /// A driver whose containerd answers already.
    pub async fn start(config: Config) -> Result<Self> {
        let cri = Self::new(config);
        cri.up().await?;
        Ok(cri)
    }

    /// The connection, once containerd answers.
    async fn up(&self) -> Result<&Client> {
        let mut memory = self.memory.lock().await;
        daemon::up(&self.config, &self.paths, &self.client, &mut memory).await?;
        Ok(&self.client)
    }

    /// Brings an OCI layout (a tar) into containerd, without a registry; its image is called `base:tag` afterwards,
    /// where the tag is the one that the layout has.
    pub async fn import(&self, file: &Path, base: &str, tag: &str) -> Result<()> {
        daemon::import(&self.paths, self.up().await?, file, base, tag).await
    }

    /// Ends containerd and all pods, their processes and their mounts. Images and logs stay.
    pub async fn stop(&self) -> Result<()> {
        if self.paths.process().is_some() {
            // Through containerd, so that the pods' networks are taken down in order; by force what is left.
            let polite = tokio::time::timeout(Duration::from_secs(60), self.remove_all()).await;
            if !matches!(polite, Ok(Ok(()))) {
                tracing::warn!(?polite, "pods are ended by force");
            }
        }
        let mut memory = self.memory.lock().await;
        *memory = daemon::Memory::default();
        daemon::stop(&self.paths, &self.group()).await
    }

    /// [`Cri::stop`], and removes the directory.
    pub async fn purge(&self) -> Result<()> {
        self.stop().await?;
        match fs::remove_dir_all(&self.paths.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed(format!("cannot remove {}", self.paths.dir.display()), error))
            }
            _ => Ok(()),
        }
    }

    /// The control group of all pods.
    fn group(&self) -> String {
        format!("/{}", self.config.prefix)
    }
}

/// A fault of the host, with what was tried.
fn failed(what: String, error: io::Error) -> DriverFault {
    DriverFault::Failed(format!("{what}: {error}"))
}
