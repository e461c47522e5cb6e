//! The API of a cluster as its pods see it: `https://kubernetes.default.svc`, with a certificate for the cluster's own names
//! and without the part of the path that tells clusters apart outside. The network driver hands connections over.

use std::collections::HashMap;
use std::net::{IpAddr, TcpStream};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use model::{Cluster, KubeObject};
use store::Store;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::listen::{LIMITS, Places, Seated, converse};
use crate::paths::Dir;
use crate::{Problem, tls};

/// What a certificate was made for.
type Made = (Vec<String>, Arc<rustls::ServerConfig>);

/// Serves the clusters' APIs to their pods.
pub struct Door {
    dir: Dir,
    store: Store,
    router: Router,
    certificates: Mutex<HashMap<String, Made>>,
    places: Arc<Places<String>>,
}

impl Door {
    pub fn new(dir: Dir, store: Store, router: Router) -> Self {
        Self { dir, store, router, certificates: Mutex::default(), places: Places::new() }
    }

    /// The names by which pods know the API: the service's, in every length, and its addresses.
    fn names(&self, cluster_id: &str) -> Option<Vec<String>> {
        let snapshot = self.store.snapshot();
        let cluster = snapshot.get::<Cluster>(cluster_id)?;
        let service =
            snapshot.at::<KubeObject>(&KubeObject::key_of(cluster_id, "", "services", "default", "kubernetes"))?;
        let mut names: Vec<String> =
            ["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned).into();
        names.push(format!("kubernetes.default.svc.{}", cluster.domain.trim_end_matches('.')));
        let ips = service.body["spec"]["clusterIPs"].as_array().into_iter().flatten().filter_map(|ip| ip.as_str());
        names.extend(ips.filter(|ip| ip.parse::<IpAddr>().is_ok()).map(str::to_owned));
        Some(names)
    }

    fn config(&self, cluster_id: &str) -> Result<Arc<rustls::ServerConfig>, Problem> {
        let gone = || Problem::words(format!("the cluster {cluster_id} is gone"));
        let names = self.names(cluster_id).ok_or_else(gone)?;
        let mut made = self.certificates.lock().expect("no panic under this lock");
        match made.get(cluster_id) {
            Some((of, config)) if *of == names => Ok(config.clone()),
            _ => {
                let config = tls::cluster_config(&self.dir, &names)?;
                made.insert(cluster_id.to_owned(), (names, config.clone()));
                Ok(config)
            }
        }
    }
}

#[async_trait]
impl driver::ClusterApi for Door {
    async fn serve(&self, cluster_id: &str, stream: TcpStream) {
        let config = match self.config(cluster_id) {
            Ok(config) => config,
            Err(why) => return tracing::warn!("a pod cannot be answered: {why}"),
        };
        let Ok(stream) = tokio::net::TcpStream::from_std(stream) else { return };
        let Some(place) = self.places.take(cluster_id.to_owned()) else { return };
        let Some(stream) = Seated::greet(stream, place, &TlsAcceptor::from(config)).await else { return };
        let prefix = format!("/clusters/{cluster_id}");
        let rewritten = self.router.clone().map_request(move |mut request: axum::extract::Request| {
            if let Some(uri) = below(&prefix, request.uri()) {
                *request.uri_mut() = uri;
            }
            request
        });
        converse(stream, Router::new().fallback_service(rewritten), LIMITS).await;
    }
}

/// The address that the face knows; `None`: it is one already (documents link to each other so).
fn below(prefix: &str, uri: &http::Uri) -> Option<http::Uri> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let known = path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
    if known { None } else { format!("{prefix}{path}").parse().ok() }
}

#[cfg(test)]
mod tests {
    #[test]
    fn paths_lead_to_the_cluster() {
        let below = |uri: &str| super::below("/clusters/c", &uri.parse().expect("a URI")).map(|uri| uri.to_string());
        assert_eq!(below("/api/v1/pods?watch=1").as_deref(), Some("/clusters/c/api/v1/pods?watch=1"));
        assert_eq!(below("https://kubernetes.default.svc/version").as_deref(), Some("/clusters/c/version"));
        assert_eq!(below("/clusters/c/openapi/v3"), None);
        assert_eq!(below("/clusters/cd/version").as_deref(), Some("/clusters/c/clusters/cd/version"));
    }
}
