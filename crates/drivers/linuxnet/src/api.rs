//! The API of a cluster for its pods: the service `kubernetes` is answered in the namespace itself, by this process, so that
//! guests need no way to the host for it. What is said on a connection is for the one who answers alone (TLS).

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use driver::ClusterApi;
use nix::sys::socket::{Backlog, SockType, listen};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Connections of one cluster's guests on this host; more wait.
const CONNECTIONS: usize = 512;

/// Opens the listener; runs in the namespace.
pub fn open(address: IpAddr, port: u16) -> io::Result<std::net::TcpListener> {
    let fd = crate::dns::bound(address, SockType::Stream, port)?;
    listen(&fd, Backlog::new(128)?)?;
    Ok(fd.into())
}

/// Hands connections over until it is dropped.
pub async fn serve(listener: TcpListener, cluster_id: String, api: Arc<dyn ClusterApi>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        if connections.len() >= CONNECTIONS {
            connections.join_next().await;
        }
        let Ok(stream) = stream.into_std() else { continue };
        let (api, cluster_id) = (api.clone(), cluster_id.clone());
        connections.spawn(async move { api.serve(&cluster_id, stream).await });
    }
}
