//! The one HTTPS port: a place ([`places`]), TLS, then each path to its face ([`conversation`]).

mod conversation;
mod places;
pub mod upload;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

pub use conversation::{LIMITS, converse};
pub use places::{Places, Seated};

/// Where each path goes.
#[derive(Clone)]
pub struct Faces {
    pub openstack: Router,
    pub kube: Router,
    pub registry: Router,
}

impl Faces {
    /// One router for all: by the first part of the path.
    pub fn router(self) -> Router {
        Router::new().fallback(move |request: Request| {
            let faces = self.clone();
            async move {
                let path = request.uri().path();
                let face = match path.split('/').nth(1).unwrap_or("") {
                    "clusters" => faces.kube,
                    "v2" => faces.registry,
                    "" => return root().into_response(),
                    "healthz" => return "ok".into_response(),
                    _ => faces.openstack,
                };
                face.oneshot(request).await.into_response()
            }
        })
    }
}

fn root() -> impl IntoResponse {
    let openstack = face_openstack::SERVICES.iter().map(|service| service.prefix);
    let services: Vec<&str> = openstack.chain(["/clusters/<id>", "/v2/"]).collect();
    crate::control::json_response(
        http::StatusCode::OK,
        serde_json::json!({
            "name": "braid", "version": env!("CARGO_PKG_VERSION"),
            "services": services,
        }),
    )
}

/// Serves until the process ends.
pub async fn serve(listener: std::net::TcpListener, tls: Arc<rustls::ServerConfig>, router: Router) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(e) => return tracing::error!("no client can be served: {e}"),
    };
    let acceptor = TlsAcceptor::from(tls);
    let places = Places::new();
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(e) => {
                // Out of file descriptors, most likely: others must end first.
                tracing::warn!("accepting a connection: {e}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let client = gate::Client::at(address.ip());
        let Some(place) = places.take(client) else { continue };
        let (acceptor, router) = (acceptor.clone(), router.clone());
        tokio::spawn(async move {
            let Some(stream) = Seated::greet(stream, place, &acceptor).await else { return };
            let certificate = peer(stream.get_ref().1);
            let router = router.layer(axum::Extension(client));
            let router = match certificate {
                Some(certificate) => router.layer(axum::Extension(certificate)),
                None => router,
            };
            converse(stream, router, LIMITS).await;
        });
    }
}

/// The client's certificate, if it showed one.
fn peer(connection: &rustls::ServerConnection) -> Option<face_kube::ClientCertificate> {
    Some(face_kube::ClientCertificate(connection.peer_certificates()?.first()?.to_vec().into()))
}
