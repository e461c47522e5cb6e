//! What is asked of a container over a connection to it: a page by HTTP or HTTPS, its health by gRPC. As with kubelets
//! nobody's certificate is verified: what is asked is whether somebody answers, at an address that is the pod's own. Of
//! gRPC one call is needed, so hyper's HTTP/2 and two messages do; a whole client (tonic) was refused.

use std::sync::{Arc, LazyLock};

use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::HTTPGetAction;
use prost::Message;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, IpAddr, Ipv4Addr, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Why it did not succeed, in words.
pub type Outcome = Result<(), String>;

/// What probes and hooks call themselves.
const USER_AGENT: &str = "kube-probe/braid";
/// The longest answer that is read of a health check.
const LONGEST: usize = 64 << 10;

/// A GET that must be answered with a status below 400. `host`: what the header `Host` says unless the action does.
pub async fn http(mut stream: impl AsyncRead + AsyncWrite + Unpin, get: &HTTPGetAction, host: &str) -> Outcome {
    let path = get.path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/");
    let headers = get.http_headers.as_deref().unwrap_or_default();
    let clean = |text: &str| text.replace(['\r', '\n'], "");
    let own = headers.iter().find(|h| h.name.eq_ignore_ascii_case("host")).map(|h| clean(&h.value));
    let mut request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {USER_AGENT}\r\nConnection: close\r\n",
        clean(path).replace(' ', "%20"),
        own.as_deref().unwrap_or(host),
    );
    for header in headers.iter().filter(|h| !h.name.eq_ignore_ascii_case("host")) {
        request.push_str(&format!("{}: {}\r\n", clean(&header.name), clean(&header.value)));
    }
    request.push_str("\r\n");
    let mut head = [0u8; 12];
    let asked = async {
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        stream.read_exact(&mut head).await
    };
    asked.await.map_err(|e| format!("GET {path}: {e}"))?;
    let status = std::str::from_utf8(&head).ok().and_then(|h| h.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok());
    match status {
        Some(200u16..400) => Ok(()),
        Some(status) => Err(format!("HTTP probe failed with statuscode: {status}")),
        None => Err(format!("GET {path}: the answer is not HTTP")),
    }
}

/// TLS over a connection, with whoever is there.
pub async fn tls(stream: TcpStream) -> Result<TlsStream<TcpStream>, String> {
    static CONFIG: LazyLock<Result<Arc<ClientConfig>, String>> = LazyLock::new(|| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let schemes = provider.signature_verification_algorithms.supported_schemes();
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|e| e.to_string())?.dangerous();
        Ok(Arc::new(config.with_custom_certificate_verifier(Arc::new(Anybody(schemes))).with_no_client_auth()))
    });
    let config = CONFIG.clone()?;
    // The name of an address is never sent.
    let name = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([0, 0, 0, 0])));
    TlsConnector::from(config).connect(name, stream).await.map_err(|e| format!("TLS: {e}"))
}

/// Takes every certificate.
#[derive(Debug)]
struct Anybody(Vec<SignatureScheme>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(enumeration = "ServingStatus", tag = "1")]
    status: i32,
}

/// `grpc.health.v1.HealthCheckResponse.ServingStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
enum ServingStatus {
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
    ServiceUnknown = 3,
}

/// `grpc.health.v1.Health/Check` over HTTP/2 without TLS, which must be answered with `SERVING`.
pub async fn grpc(stream: TcpStream, authority: &str, service: &str) -> Outcome {
    let failed = |why: &dyn std::fmt::Display| format!("error: health rpc probe failed: {why}");
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|e| failed(&e))?;
    // Ends with this call.
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(connection);
    let request = http::Request::post(format!("http://{authority}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", USER_AGENT)
        .body(Full::new(bytes::Bytes::from(framed(&HealthCheckRequest { service: service.to_owned() }))))
        .map_err(|e| failed(&e))?;
    let (head, body) = sender.send_request(request).await.map_err(|e| failed(&e))?.into_parts();
    if head.status != http::StatusCode::OK {
        return Err(failed(&format!("the answer has the HTTP status {}", head.status)));
    }
    let body = Limited::new(body, LONGEST).collect().await.map_err(|e| failed(&e))?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    let said = |name: &str| trailers.get(name).or_else(|| head.headers.get(name)).and_then(|v| v.to_str().ok());
    match said("grpc-status") {
        Some("0") => serving(&body.to_bytes()).map_err(|e| failed(&e))?,
        // Unimplemented.
        Some("12") => Err(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
            said("grpc-message").unwrap_or("")
        )),
        code => {
            let (code, message) = (code.unwrap_or("missing"), said("grpc-message").unwrap_or(""));
            Err(failed(&format!("rpc error: code = {code} desc = {message}")))
        }
    }
}

/// A message as gRPC sends it: whether it is compressed, its length, itself.
fn framed(message: &impl Message) -> Vec<u8> {
    let content = message.encode_to_vec();
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0][..], &length, &content].concat()
}

/// What an answer says, if it can be read.
fn serving(answer: &[u8]) -> Result<Outcome, String> {
    let (head, content) = answer.split_at_checked(5).ok_or("the answer is cut off")?;
    if head[0] != 0 || head[1..] != u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes() {
        return Err("the answer is not one message without compression".to_owned());
    }
    let answer = HealthCheckResponse::decode(content).map_err(|e| e.to_string())?;
    let name = match ServingStatus::try_from(answer.status) {
        Ok(ServingStatus::Serving) => return Ok(Ok(())),
        Ok(ServingStatus::Unknown) => "UNKNOWN",
        Ok(ServingStatus::NotServing) => "NOT_SERVING",
        Ok(ServingStatus::ServiceUnknown) => "SERVICE_UNKNOWN",
        Err(_) => "a status that is not known",
    };
    Ok(Err(format!("service unhealthy (responded with {name:?})")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http_body_util::StreamBody;
    use hyper::body::{Frame, Incoming};
    use std::convert::Infallible;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    /// A server for one connection; gives what the client has of it.
    async fn serve<F: Future<Output = ()> + Send + 'static>(
        server: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a connection");
            server(stream).await;
        });
        TcpStream::connect(address).await.expect("connects")
    }

    /// Reads a request's head and answers it; gives what was asked.
    async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, status: u16) -> String {
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            let byte = stream.read_u8().await.expect("a request");
            asked.push(byte);
        }
        let said = format!("HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(said.as_bytes()).await.expect("answers");
        stream.flush().await.expect("answers");
        String::from_utf8(asked).expect("text")
    }

    #[tokio::test]
    async fn a_page_over_tls_of_whoever() {
        let made = rcgen::generate_simple_self_signed(["elsewhere.example".to_owned()]).expect("a certificate");
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("a server");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        for (status, fine) in [(200, true), (302, true), (503, false)] {
            let acceptor = acceptor.clone();
            let (told, asked) = tokio::sync::oneshot::channel();
            let stream = serve(move |stream| async move {
                let stream = acceptor.accept(stream).await.expect("a handshake");
                assert_eq!(stream.get_ref().1.server_name(), None);
                told.send(answer(stream, status).await).expect("somebody listens");
            })
            .await;
            let get = HTTPGetAction { path: Some("/healthz".to_owned()), ..Default::default() };
            let outcome = http(tls(stream).await.expect("a handshake"), &get, "10.0.0.9").await;
            assert_eq!(outcome.is_ok(), fine, "{outcome:?}");
            assert!(asked.await.expect("asked").starts_with("GET /healthz HTTP/1.1\r\nHost: 10.0.0.9\r\n"));
        }
        let plain = serve(|mut stream| async move {
            drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await);
        });
        let plain = plain.await;
        assert!(tls(plain).await.is_err_and(|why| why.starts_with("TLS: ")));
    }

    /// A health server that answers like this: the message, the status, whether with a body.
    async fn health(message: Vec<u8>, code: &'static str) -> Outcome {
        let stream = serve(move |stream| async move {
            let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
                let message = message.clone();
                async move {
                    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                    assert_eq!(request.headers()["content-type"], "application/grpc");
                    let body = request.into_body().collect().await.expect("a body").to_bytes();
                    let asked = HealthCheckRequest::decode(&body[5..]).expect("a message");
                    assert_eq!(asked.service, "db");
                    let trailers = http::HeaderMap::from_iter([
                        (http::HeaderName::from_static("grpc-status"), http::HeaderValue::from_static(code)),
                        (http::HeaderName::from_static("grpc-message"), http::HeaderValue::from_static("because")),
                    ]);
                    let frames = [Frame::data(Bytes::from(message)), Frame::trailers(trailers)];
                    let frames = frames.map(Ok::<_, Infallible>);
                    Ok::<_, Infallible>(http::Response::new(StreamBody::new(futures_util::stream::iter(frames))))
                }
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            drop(server.serve_connection(TokioIo::new(stream), service).await);
        })
        .await;
        grpc(stream, "10.0.0.9:50051", "db").await
    }

    #[tokio::test]
    async fn health_by_grpc() {
        let said = |status: i32| framed(&HealthCheckResponse { status });
        assert_eq!(health(said(1), "0").await, Ok(()));
        let unhealthy = "service unhealthy (responded with \"NOT_SERVING\")";
        assert_eq!(health(said(2), "0").await, Err(unhealthy.to_owned()));
        assert!(health(said(77), "0").await.is_err_and(|why| why.contains("not known")));
        assert!(health(said(1), "12").await.is_err_and(|why| why.contains("does not implement")));
        assert!(health(said(1), "5").await.is_err_and(|why| why.contains("code = 5 desc = because")));
        for broken in [vec![], vec![0, 0, 0], vec![1, 0, 0, 0, 0], vec![0, 0, 0, 0, 9, 8], vec![0, 0, 0, 0, 1, 0xff]] {
            assert!(health(broken.clone(), "0").await.is_err_and(|why| why.contains("probe failed")), "{broken:?}");
        }
    }

    #[tokio::test]
    async fn who_speaks_another_protocol_is_not_healthy() {
        let stream = serve(|mut stream| async move {
            drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await);
        })
        .await;
        assert!(grpc(stream, "10.0.0.9:1", "").await.is_err());
    }
}
