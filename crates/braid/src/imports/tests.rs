//! Imports against servers on this machine, whose addresses are told apart within 127.0.0.0/8.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use model::reach::{Range, Reach};
use model::{Change, ImageStatus, Task, TaskStatus};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// A server that answers every request with the same text and then waits; how often it was asked.
struct Server {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, text: &str) {
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => asked.push(byte),
            Err(_) => return,
        }
    }
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.flush().await;
    // Until the client has gone.
    let _ = stream.read_u8().await;
}

impl Server {
    async fn new(ip: [u8; 4], answers: impl Fn(SocketAddr) -> String) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::from(ip), 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, text) = (Arc::new(AtomicUsize::new(0)), answers(address));
        let counter = asked.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::Relaxed);
                let text = text.clone();
                tokio::spawn(async move { answer(stream, &text).await });
            }
        });
        Self { address, asked }
    }

    fn uri(&self) -> String {
        format!("http://{}/disk", self.address)
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn redirect(to: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
}

/// One that may reach these servers' ports, and a part of what is inside.
fn web(servers: &[&Server], allowed: &str) -> Web {
    let ports = servers.iter().map(|server| server.address.port()).collect();
    let allowed = Range::parse(allowed).into_iter().collect();
    Web::new(Arc::new(Reach { ports, allowed }), Vec::new)
}

async fn fetched(web: &Web, uri: &str, dir: &Path, most: u64) -> Result<Vec<u8>, String> {
    let blobs = Blobs::new(dir);
    let (digest, _) = web.fetch(uri, &[], &blobs, most).await?;
    Ok(blobs.read(&digest.sha256, most).unwrap())
}

fn refused(result: Result<Vec<u8>, String>, words: &str) {
    let why = result.expect_err("it was fetched");
    assert!(why.contains(words), "{why}");
}

#[tokio::test]
async fn bytes_come_through_redirects_that_are_judged_alike() {
    let dir = tempfile::tempdir().unwrap();
    let inside = Server::new([127, 0, 0, 3], |_| ok("secret")).await;
    let outside = Server::new([127, 0, 0, 2], |_| ok("image")).await;
    let to_outside = Server::new([127, 0, 0, 2], |_| redirect(&outside.uri())).await;
    let to_inside = Server::new([127, 0, 0, 2], |_| redirect(&inside.uri())).await;
    let to_itself = Server::new([127, 0, 0, 2], |_| redirect("/again")).await;
    let to_file = Server::new([127, 0, 0, 2], |_| redirect("file:///etc/passwd")).await;
    let web = web(&[&inside, &outside, &to_outside, &to_inside, &to_itself, &to_file], "127.0.0.2");
    assert_eq!(fetched(&web, &outside.uri(), dir.path(), 100).await.unwrap(), b"image");
    assert_eq!(fetched(&web, &to_outside.uri(), dir.path(), 100).await.unwrap(), b"image");
    refused(fetched(&web, &to_inside.uri(), dir.path(), 100).await, "may not be reached: its address is loopback");
    refused(fetched(&web, &inside.uri(), dir.path(), 100).await, "may not be reached");
    let named = format!("http://localhost:{}/", inside.address.port());
    refused(fetched(&web, &named, dir.path(), 100).await, "there is no address for localhost that may be reached");
    assert_eq!(inside.asked.load(Ordering::Relaxed), 0, "not even connected to");
    refused(fetched(&web, &to_itself.uri(), dir.path(), 100).await, "more than 5 redirects");
    refused(fetched(&web, &to_file.uri(), dir.path(), 100).await, "neither http nor https");
}

#[tokio::test]
async fn the_clouds_own_addresses_are_not_reached() {
    let dir = tempfile::tempdir().unwrap();
    let mut web = Web::new(Arc::new(Reach::default()), || vec![IpAddr::from([198, 41, 0, 4])]);
    refused(fetched(&web, "http://198.41.0.4/", dir.path(), 9).await, "its address is the cloud's own");
    web = Web::new(Arc::new(Reach::default()), Vec::new);
    let public = [Range::parse("198.41.0.0/24").unwrap()];
    let why = web.fetch("http://198.41.0.4/", &public, &Blobs::new(dir.path()), 9).await.unwrap_err();
    assert!(why.contains("the cloud's own"), "{why}");
}

#[tokio::test]
async fn no_more_is_taken_than_may_be_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (long, chunked) =
        (ok("0123456789"), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n");
    let long = Server::new([127, 0, 0, 1], |_| long.clone()).await;
    let chunked = Server::new([127, 0, 0, 1], |_| chunked.into()).await;
    let gone = Server::new([127, 0, 0, 1], |_| "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into()).await;
    let packed = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx";
    let packed = Server::new([127, 0, 0, 1], |_| packed.into()).await;
    let web = web(&[&long, &chunked, &gone, &packed], "127.0.0.0/8");
    refused(fetched(&web, &long.uri(), dir.path(), 9).await, "it has 10 bytes, and 9 are left");
    refused(fetched(&web, &chunked.uri(), dir.path(), 9).await, "exceeds the size of 9 bytes");
    assert_eq!(fetched(&web, &chunked.uri(), dir.path(), 10).await.unwrap(), b"0123456789");
    refused(fetched(&web, &gone.uri(), dir.path(), 9).await, "404 Not Found");
    refused(fetched(&web, &packed.uri(), dir.path(), 9).await, "encoded as gzip");
}

#[tokio::test]
async fn a_silent_sender_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let silent = Server::new([127, 0, 0, 1], |_| "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n0".into()).await;
    let web = web(&[&silent], "127.0.0.0/8").patient(Duration::from_millis(1));
    refused(fetched(&web, &silent.uri(), dir.path(), 9).await, "nothing was sent for");
    assert_eq!(std::fs::read_dir(dir.path().join("parts")).unwrap().count(), 0, "of what came nothing is left");
}

#[tokio::test]
async fn who_cannot_show_a_certificate_is_not_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (port, certificate) = tls_server(ok("image")).await;
    let authorities = dir.path().join("authorities");
    std::fs::write(&authorities, certificate).unwrap();
    let mut web =
        Web::new(Arc::new(Reach { ports: vec![port], allowed: vec![Range::parse("127.0.0.0/8").unwrap()] }), Vec::new);
    let uri = format!("https://localhost:{port}/disk");
    web.trust(&authorities);
    assert_eq!(fetched(&web, &uri, dir.path(), 9).await.unwrap(), b"image");
    refused(fetched(&web, &uri.replace("localhost", "127.0.0.1"), dir.path(), 9).await, "certificate");
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&authorities, other.cert.pem()).unwrap();
    refused(fetched(&web, &uri, dir.path(), 9).await, "certificate");
}

/// The port of a server that answers in TLS, by a certificate of its own, or never if it has no words; and the certificate.
async fn tls_server(text: String) -> (u16, String) {
    crate::tls::install_provider();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    let config = Arc::new(config.with_single_cert(vec![made.cert.der().clone()], key).unwrap());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, text) = (tokio_rustls::TlsAcceptor::from(config.clone()), text.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    if text.is_empty() {
                        std::future::pending::<()>().await;
                    }
                    answer(stream, &text).await;
                }
            });
        }
    });
    (port, made.cert.pem())
}

#[tokio::test]
async fn webhooks_are_reached_as_images_are() {
    let (port, authority) = tls_server(ok("yes")).await;
    let (elsewhere, other) = tls_server(redirect("https://example.com/")).await;
    let (never, silent) = tls_server(String::new()).await;
    let url = format!("https://localhost:{port}/check");
    let may = |allowed: &str| {
        let allowed = Range::parse(allowed).into_iter().collect();
        Web::new(Arc::new(Reach { ports: vec![port, elsewhere, never], allowed }), Vec::new)
    };
    let post = async |web: &Web, url: &str, authority: Option<&str>, most: usize| {
        web.post(url, authority.map(str::as_bytes), "{}".into(), most, Duration::from_secs(30), &[]).await
    };
    let web = may("127.0.0.0/8");
    assert_eq!(post(&web, &url, Some(&authority), 10).await.unwrap(), "yes");
    let refused = |result: Result<bytes::Bytes, String>, words: &str| {
        let why = result.expect_err("it was asked");
        assert!(why.contains(words), "{why}");
    };
    refused(post(&web, &url, Some(&authority), 2).await, "cannot be read");
    let slow = format!("https://localhost:{never}/");
    let late = web.post(&slow, Some(silent.as_bytes()), "{}".into(), 10, Duration::from_secs(1), &[]).await;
    refused(late, "took more than 1 seconds to answer");
    refused(post(&web, &url, Some(&other), 10).await, "certificate");
    refused(post(&web, &url, None, 10).await, "certificate");
    refused(post(&web, &url, Some("nothing"), 10).await, "no certificates");
    refused(post(&web, &url.replace("https", "http"), Some(&authority), 10).await, "not encrypted");
    refused(post(&web, &format!("https://localhost:{elsewhere}/"), Some(&other), 10).await, "302");
    refused(post(&may("10.0.0.0/8"), &url, Some(&authority), 10).await, "no address for localhost that may be reached");
    let address = url.replace("localhost", "127.0.0.1");
    refused(post(&may("10.0.0.0/8"), &address, Some(&authority), 10).await, "its address is loopback");
}

/// An image that waits for what lies at a URI.
fn waiting(id: &str, format: &str, uri: &str, place: u32) -> Change {
    let now = Time::now();
    let mut image = Image::new(id, "p", now);
    image.status = ImageStatus::Importing;
    image.disk_format = Some(format.into());
    image.container_format = Some("bare".into());
    image.download = Some(WebDownload { uri: uri.into(), task_id: format!("{id}-task") });
    let mut change = Change::from(image);
    change.create(Task {
        id: format!("{id}-task"),
        project_id: "p".into(),
        image_id: id.into(),
        user_id: "u".into(),
        request_id: "r".into(),
        method: serde_json::json!({"name": "web-download", "uri": uri}),
        status: TaskStatus::Pending,
        message: String::new(),
        place,
        created_at: now,
        updated_at: now,
        expires_at: None,
    });
    change
}

#[tokio::test]
async fn whatever_waits_is_brought_to_an_end() {
    let dir = tempfile::tempdir().unwrap();
    let (store, blobs) = (Store::memory(), Blobs::new(dir.path()));
    let good = Server::new([127, 0, 0, 1], |_| ok("image")).await;
    let silent = Server::new([127, 0, 0, 1], |_| "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n0".into()).await;
    let web = web(&[&good, &silent], "127.0.0.0/8");
    // These were there when the process began; a third comes, and goes.
    store.commit(&waiting("raw", "raw", &good.uri(), 0)).await.unwrap();
    store.commit(&waiting("odd", "qcow2", &good.uri(), 1)).await.unwrap();
    let importer = tokio::spawn(run(store.clone(), blobs.clone(), web));
    store.commit(&waiting("deleted", "raw", &silent.uri(), 2)).await.unwrap();
    let status = |id: &str| store.snapshot().get::<Task>(&format!("{id}-task")).unwrap().status;
    let until = async |what: &str, done: &dyn Fn() -> bool| {
        let begin = std::time::Instant::now();
        while !done() {
            assert!(begin.elapsed() < Duration::from_secs(60), "waiting for: {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    until("both ends", &|| status("raw").is_final() && status("odd").is_final()).await;
    let snapshot = store.snapshot();
    let raw = snapshot.get::<Image>("raw").unwrap();
    assert_eq!((raw.status, raw.size, &raw.download), (ImageStatus::Active, Some(5), &None));
    assert_eq!(blobs.size(raw.blob.as_ref().unwrap()), Some(5));
    assert_eq!(status("raw"), TaskStatus::Success);
    let odd = snapshot.get::<Image>("odd").unwrap();
    assert_eq!((odd.status, odd.import_failed, &odd.download), (ImageStatus::Queued, true, &None));
    let task = snapshot.get::<Task>("odd-task").unwrap();
    assert!(task.status == TaskStatus::Failure && task.message.contains("not its disk_format qcow2"), "{task:?}");

    until("the third begins", &|| silent.asked.load(Ordering::Relaxed) > 0).await;
    let snapshot = store.snapshot();
    let mut change = Change::new();
    change.delete(snapshot.get::<Image>("deleted").unwrap());
    store.commit(&change).await.unwrap();
    until("its end", &|| status("deleted") == TaskStatus::Failure).await;
    importer.abort();
}

#[test]
fn everybody_has_a_share_and_the_oldest_are_first() {
    let at = |second: i64| Time::from_second(1_800_000_000 + second).unwrap();
    let one = |image: &str, second: i64, project: &str| {
        ((image.to_owned(), "t".to_owned()), (at(second), project.to_owned()))
    };
    let wanted: BTreeMap<Id, (Time, String)> =
        [one("a", 1, "p"), one("b", 0, "p"), one("c", 2, "p"), one("d", 3, "q")].into();
    let chosen: Vec<String> = next(&wanted, &HashMap::new()).into_iter().map(|((image, _), _)| image).collect();
    assert_eq!(chosen, ["b", "a", "d"]);
    let wanted: BTreeMap<Id, (Time, String)> = (0..20).map(|n| one(&format!("{n:02}"), n, &format!("p{n}"))).collect();
    assert_eq!(next(&wanted, &HashMap::new()).len(), 20, "nobody's first waits for others");
    let wanted: BTreeMap<Id, (Time, String)> =
        (0..20).map(|n| one(&format!("{n:02}"), n, &format!("p{}", n % 5))).collect();
    assert_eq!(next(&wanted, &HashMap::new()).len(), MOST);
}
