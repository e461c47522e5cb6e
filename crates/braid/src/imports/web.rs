//! Fetches what a member named, without lending them the cloud's place in the network: a name is looked up once, and the
//! connection goes to the address that was judged ([`model::reach`]); a redirect is judged like the URI that was asked for.
//! A sender who is silent or slow is left, and so is one who sends more than the project may keep.
//!
//! What clusters' webhooks are asked goes the same way ([`Web::post`]).
//!
//! Refused: a client library that looks up and connects by itself; proxies from the environment, which would do both
//! elsewhere; encodings of content, whose size is not that of the bytes that are kept.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use blob::{Blobs, Digest};
use bytes::Bytes;
use face_openstack::image::data::receive;
use face_openstack::image::inspect::Found;
use http::{Request, Response, StatusCode, header, request};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use model::reach::{Range, Reach, Target};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::listen::upload::{SILENCE, Upload};

/// As curl's and browsers' bounds go, a small number.
const REDIRECTS: usize = 5;
/// To look up a name, to connect to one address, to agree on keys, and until the head of an image's answer has come: each.
const PATIENCE: Duration = Duration::from_secs(20);
/// For all of it, however long its bytes go on to come.
const LONGEST: Duration = Duration::from_secs(6 * 3600);
/// So many names at once: each takes a thread, of which there are some hundred for everything that may block.
const LOOK_UPS: usize = 64;
/// Who signs the certificates of the Internet's servers; SSL_CERT_FILE names another file, as for other programs.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What fetches.
#[derive(Clone)]
pub struct Web {
    reach: Arc<Reach>,
    /// The addresses that this machine has at the moment.
    own: fn() -> Vec<IpAddr>,
    authorities: String,
    silence: Duration,
    /// Names that are looked up at the moment.
    look_ups: Arc<Semaphore>,
}

impl Web {
    pub fn new(reach: Arc<Reach>, own: fn() -> Vec<IpAddr>) -> Self {
        let authorities = std::env::var("SSL_CERT_FILE").unwrap_or_else(|_| AUTHORITIES.into());
        Self { reach, own, authorities, silence: SILENCE, look_ups: Arc::new(Semaphore::new(LOOK_UPS)) }
    }

    /// Servers may be silent for so long.
    #[cfg(test)]
    pub fn patient(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// Servers' certificates are from the authorities in this file.
    #[cfg(test)]
    pub fn trust(&mut self, authorities: &std::path::Path) {
        self.authorities = authorities.display().to_string();
    }

    /// The bytes at a URI, at most `most`, durable in the store of blobs; `public` are the cloud's ranges. Else why not.
    pub async fn fetch(
        &self,
        uri: &str,
        public: &[Range],
        blobs: &Blobs,
        most: u64,
    ) -> Result<(Digest, Found), String> {
        let all = async {
            let answer = self.open(uri, public).await?;
            let announced = answer.headers().get(header::CONTENT_LENGTH).and_then(|n| n.to_str().ok()?.parse().ok());
            if announced.is_some_and(|size: u64| size > most) {
                let size = announced.unwrap_or_default();
                return Err(format!("it has {size} bytes, and {most} are left for the images of the project"));
            }
            let body = Upload::answered(answer.into_body(), self.silence);
            receive(blobs, most, body).await.map_err(|fault| fault.to_string())
        };
        match timeout(LONGEST, all).await {
            Ok(fetched) => fetched,
            Err(_) => Err(format!("it was not complete after {} hours", LONGEST.as_secs() / 3600)),
        }
        .map_err(|why| format!("Task failed due to Unable to import {uri}: {why}"))
    }

    /// The answer that has the bytes.
    async fn open(&self, uri: &str, public: &[Range]) -> Result<Response<Incoming>, String> {
        let mut target = self.reach.target(uri)?;
        for _ in 0..=REDIRECTS {
            let answer = self.ask(&target, public, None, get(&target)?, PATIENCE).await?;
            match answer.status() {
                StatusCode::OK => return plain(answer),
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => target = self.redirected(&target, &answer)?,
                status => return Err(format!("the server answers {status}")),
            }
        }
        Err(format!("more than {REDIRECTS} redirects"))
    }

    fn redirected(&self, from: &Target, answer: &Response<Incoming>) -> Result<Target, String> {
        let location = answer.headers().get(header::LOCATION).and_then(|text| text.to_str().ok());
        let location = location.ok_or("the server redirects to nowhere")?;
        let scheme = if from.tls { "https" } else { "http" };
        let uri = match location {
            path if path.starts_with("//") => format!("{scheme}:{path}"),
            path if path.starts_with('/') => format!("{scheme}://{}{path}", from.authority()),
            uri => uri.to_owned(),
        };
        let target = self.reach.target(&uri).map_err(|why| format!("the server redirects to {uri}: {why}"))?;
        match from.tls && !target.tls {
            true => Err(format!("the server redirects to {uri}, which is not encrypted")),
            false => Ok(target),
        }
    }

    /// The answer to a body that is sent to a URL, which must be encrypted: at most `most` bytes of it. Its server's certificate
    /// is from those authorities (in PEM), or from one that everybody trusts. Redirects are not followed: whoever named the URL
    /// can name the other one.
    pub async fn post(
        &self,
        url: &str,
        authorities: Option<&[u8]>,
        body: Bytes,
        most: usize,
        patience: Duration,
        public: &[Range],
    ) -> Result<Bytes, String> {
        let target = self.reach.target(url)?;
        if !target.tls {
            return Err("it is not encrypted".into());
        }
        let request = of(&target, Request::post(&target.path), "application/json")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body))
            .map_err(|e| format!("{} cannot be sent to: {e}", target.path))?;
        let answer = plain(self.ask(&target, public, authorities, request, patience).await?)?;
        if answer.status() != StatusCode::OK {
            return Err(format!("the server answers {}", answer.status()));
        }
        let read = Limited::new(answer.into_body(), most).collect().await;
        Ok(read.map_err(|e| format!("its answer cannot be read: {e}"))?.to_bytes())
    }

    async fn ask(
        &self,
        target: &Target,
        public: &[Range],
        authorities: Option<&[u8]>,
        request: Request<Body>,
        patience: Duration,
    ) -> Result<Response<Incoming>, String> {
        let stream = self.connect(target, public).await?;
        if !target.tls {
            return send(TokioIo::new(stream), target, request, patience).await;
        }
        let name = ServerName::try_from(target.host.clone()).map_err(|_| format!("{} is not a name", target.host))?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(self.tls(authorities)?));
        let stream = timeout(PATIENCE, connector.connect(name, stream)).await;
        let stream =
            stream.map_err(|_| slow("agree on keys", PATIENCE))?.map_err(|e| format!("{}: {e}", target.host))?;
        send(TokioIo::new(stream), target, request, patience).await
    }

    /// A connection to one of the addresses that the host has and that may be reached.
    async fn connect(&self, target: &Target, public: &[Range]) -> Result<TcpStream, String> {
        let host = &target.host;
        let found = timeout(PATIENCE, self.look_up(host.clone(), target.port)).await;
        let found = found.map_err(|_| slow("be found by its name", PATIENCE))?;
        // What the resolver says besides is nobody's business, nor is whether a name is known inside.
        let none = || format!("there is no address for {host} that may be reached");
        let found: Vec<SocketAddr> = found.ok_or_else(none)?;
        let single = |ip: IpAddr| Range { base: ip, prefix: if ip.is_ipv4() { 32 } else { 128 } };
        let own: Vec<Range> = public.iter().copied().chain((self.own)().into_iter().map(single)).collect();
        let mut problem = none();
        for address in found {
            if let Some(why) = self.reach.refuses(address.ip(), &own) {
                if host.parse::<IpAddr>().is_ok() {
                    problem = format!("{host} may not be reached: its address is {why}");
                }
                continue;
            }
            match timeout(PATIENCE, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(e)) => problem = format!("{host} does not answer: {e}"),
                Err(_) => problem = slow("connect", PATIENCE),
            }
        }
        Err(problem)
    }

    /// The addresses of a name. It takes a thread for as long as the resolver takes, also when nobody waits for it any more.
    async fn look_up(&self, host: String, port: u16) -> Option<Vec<SocketAddr>> {
        let place = self.look_ups.clone().acquire_owned().await.ok()?;
        let looked_up = tokio::task::spawn_blocking(move || {
            let found = (host.as_str(), port).to_socket_addrs();
            drop(place);
            found
        });
        Some(looked_up.await.ok()?.ok()?.collect())
    }

    fn tls(&self, authorities: Option<&[u8]>) -> Result<ClientConfig, String> {
        let mut roots = RootCertStore::empty();
        let none = |why: &str| format!("no server can be trusted: {why}");
        match authorities {
            Some(pem) => _ = roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).flatten()),
            None => {
                let read = CertificateDer::pem_file_iter(&self.authorities);
                let all = read.map_err(|e| none(&format!("{}: {e}", self.authorities)))?;
                roots.add_parsable_certificates(all.flatten());
            }
        }
        if roots.is_empty() {
            return Err(none("there are no certificates of authorities"));
        }
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn slow(what: &str, patience: Duration) -> String {
    format!("the server took more than {} seconds to {what}", patience.as_secs())
}

/// Content that is encoded though nobody asked for that is not the image.
fn plain(answer: Response<Incoming>) -> Result<Response<Incoming>, String> {
    match answer.headers().get(header::CONTENT_ENCODING).map(|text| text.to_str().unwrap_or("?").to_owned()) {
        Some(coding) if coding != "identity" => Err(format!("the server sends it encoded as {coding}")),
        _ => Ok(answer),
    }
}

/// What every request says.
fn of(target: &Target, request: request::Builder, accept: &'static str) -> request::Builder {
    request
        .header(header::HOST, target.authority())
        .header(header::USER_AGENT, concat!("braid/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, accept)
        .header(header::ACCEPT_ENCODING, "identity")
}

fn get(target: &Target) -> Result<Request<Body>, String> {
    let request = of(target, Request::get(&target.path), "*/*").body(Body::empty());
    request.map_err(|e| format!("{} cannot be asked for: {e}", target.path))
}

async fn send<S>(
    stream: S,
    target: &Target,
    request: Request<Body>,
    patience: Duration,
) -> Result<Response<Incoming>, String>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let asked = async {
        let broken = |e: hyper::Error| format!("{}: {e}", target.host);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.map_err(broken)?;
        // It ends with the answer's body, or when that is dropped.
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(broken)
    };
    timeout(patience, asked).await.map_err(|_| slow("answer", patience))?
}
