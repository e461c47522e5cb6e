//! What reads a stranger's bytes, for the crate `fuzz`.

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::cni::{CniAddress, CniHandler, CniPlugged, CniRequest, serve_one};

/// Plugs whatever it is told.
struct Willing;

#[async_trait]
impl CniHandler for Willing {
    async fn add(&self, request: &CniRequest) -> driver::Result<CniPlugged> {
        let address = CniAddress { address: "10.0.0.5/24".to_owned(), gateway: None };
        Ok(CniPlugged { ips: vec![address], mac: request.pod_uid.clone() })
    }
    async fn del(&self, _: &CniRequest) -> driver::Result<()> {
        Ok(())
    }
    async fn check(&self, _: &CniRequest) -> driver::Result<()> {
        Ok(())
    }
}

/// Reads what somebody says on the CNI socket; the answer.
pub async fn cni(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let (mut plugin, agent) = tokio::net::UnixStream::pair()?;
    plugin.write_all(bytes).await?;
    plugin.shutdown().await?;
    serve_one(agent, &Willing).await?;
    let mut answer = Vec::new();
    plugin.read_to_end(&mut answer).await?;
    Ok(answer)
}
