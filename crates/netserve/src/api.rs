//! The API of a cluster for its pods: the service `kubernetes` is answered in the namespace itself, by this process, so that
//! guests need no way to the host for it. What is said on a connection is for the one who answers alone (TLS).

use std::sync::Arc;

use driver::ClusterApi;
use tokio::net::TcpListener;

use crate::sockets::connections;

/// Connections of one cluster's guests on this host.
const CONNECTIONS: usize = 512;

/// Hands connections over until it is dropped.
pub async fn serve(listener: TcpListener, cluster_id: String, api: Arc<dyn ClusterApi>) {
    connections(listener, CONNECTIONS, |stream, _| {
        let (api, cluster_id) = (api.clone(), cluster_id.clone());
        async move {
            if let Ok(stream) = stream.into_std() {
                api.serve(&cluster_id, stream).await;
            }
        }
    })
    .await;
}
