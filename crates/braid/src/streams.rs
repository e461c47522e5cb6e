//! How the OpenStack face reaches a host's streams: through the endpoint that the Host row names.

use std::path::Path;
use std::pin::Pin;

use model::Fault;

use crate::client;

/// Reaches hosts of this process by their unix sockets.
pub struct Streams;

impl face_openstack::HostStreams for Streams {
    fn get<'a>(
        &'a self,
        endpoint: &'a str,
        path: &'a str,
        limit: usize,
    ) -> Pin<Box<dyn Future<Output = Result<(u16, Vec<u8>), Fault>> + Send + 'a>> {
        Box::pin(async move {
            let unreachable =
                |why: String| Fault::Unavailable(format!("the host at {endpoint} does not answer: {why}"));
            let socket =
                endpoint.strip_prefix("unix:").ok_or_else(|| unreachable("no such kind of endpoint".into()))?;
            let request = client::get(path).map_err(|e| unreachable(e.to_string()))?;
            let mut answer = client::unix(Path::new(socket), request).await.map_err(|e| unreachable(e.to_string()))?;
            answer.body.truncate(limit);
            Ok((answer.status, answer.body))
        })
    }
}
