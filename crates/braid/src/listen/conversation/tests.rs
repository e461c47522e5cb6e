//! Clients that behave badly, over sockets.

use axum::routing::{any, get};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const SOON: Duration = Duration::from_millis(50);
/// Longer than any test takes.
const NEVER: Limits = Limits {
    first: Duration::from_secs(3600),
    idle: Duration::from_secs(3600),
    head: Duration::from_secs(3600),
    reading: Duration::from_secs(3600),
};
const BODY: usize = 20 << 20;

/// Serves on an address of its own.
async fn serve(router: Router, limits: Limits) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(converse(stream, router.clone(), limits));
        }
    });
    address
}

fn router() -> Router {
    Router::new()
        .route("/host", get(|headers: http::HeaderMap| async move { headers[header::HOST].as_bytes().to_vec() }))
        .route("/refused", any(|| async { http::StatusCode::UNAUTHORIZED }))
        .route("/slow", get(|| async { tokio::time::sleep(SOON * 4).await }))
}

/// What the server says until it closes.
async fn said(mut stream: TcpStream) -> String {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all).await;
    String::from_utf8_lossy(&all).into_owned()
}

async fn client(address: &str, first: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(first.as_bytes()).await.unwrap();
    stream
}

/// Of the version of HTTP that is asked for.
fn http(two: bool) -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).http2_only(two).build_http()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_is_let_go_of() {
    let address = serve(router(), Limits { first: SOON, ..NEVER }).await;
    assert_eq!(said(client(&address, "").await).await, "");
    assert_eq!(said(client(&address, "GET /host HT").await).await, "", "half a head is no request");
    // HTTP/2: a greeting without a request.
    let greeting = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0";
    said(client(&address, greeting).await).await;

    let address = serve(router(), Limits { head: SOON, ..NEVER }).await;
    said(client(&address, "GET /host HTTP/1.1\r\n").await).await;

    let address = serve(router(), Limits { idle: SOON, ..NEVER }).await;
    let answer = said(client(&address, "GET /host HTTP/1.1\r\nhost: h\r\n\r\n").await).await;
    assert!(answer.ends_with("\r\n\r\nh"), "answered, and then let go of: {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_packed_is_not_taken_for_what_is_in_it() {
    let address = serve(router(), NEVER).await;
    let sent = |coding: &str| {
        format!(
            "PUT /refused HTTP/1.1\r\nhost: h\r\nconnection: close\r\ntransfer-encoding: {coding}\r\n\r\n1\r\nx\r\n0\r\n\r\n"
        )
    };
    for (coding, status) in [("chunked", 401), ("Chunked", 401), ("gzip, chunked", 501), ("chunked, chunked", 501)] {
        let answer = said(client(&address, &sent(coding)).await).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{coding}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_work_is_not_cut() {
    let address = serve(router(), Limits { first: SOON, idle: SOON, head: SOON, reading: SOON }).await;
    for two in [false, true] {
        let answer = http(two).get(format!("http://{address}/slow").parse().unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_heard_by_who_still_sends() {
    let address = serve(router(), NEVER).await;
    for (two, size) in [(false, 13), (true, 13), (false, BODY), (true, BODY)] {
        for _ in 0..10 {
            let request = Request::post(format!("http://{address}/refused"));
            let request = request.body(Full::from(vec![0; size])).unwrap();
            let answer = http(two).request(request).await;
            let answer = answer.unwrap_or_else(|e| panic!("HTTP/2 {two}, {size} bytes: {e:?}"));
            assert_eq!(answer.status(), 401);
        }
    }
    // A client that sends all of it before it listens.
    let mut stream =
        client(&address, &format!("PUT /refused HTTP/1.1\r\nhost: h\r\ncontent-length: {BODY}\r\n\r\n")).await;
    stream.write_all(&vec![0; BODY]).await.unwrap();
    stream.write_all(b"GET /host HTTP/1.1\r\nhost: again\r\nconnection: close\r\n\r\n").await.unwrap();
    let answer = said(stream).await;
    assert!(answer.starts_with("HTTP/1.1 401") && answer.ends_with("again"), "{answer}");
    // One that asks first is told before it sends anything.
    let head = "PUT /refused HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 9999999\r\n\r\n";
    let answer = said(client(&address, head).await).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_is_known_in_both_versions() {
    let address = serve(router(), NEVER).await;
    for two in [false, true] {
        let answer = http(two).get(format!("http://{address}/host").parse().unwrap()).await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, address.as_bytes(), "HTTP/2: {two}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_is_let_go_of() {
    let held = Arc::new(());
    let (gone, kept) = (Arc::downgrade(&held), std::sync::Mutex::new(Some(held)));
    let kept = Arc::new(kept);
    let endless = get(move || async move {
        let held = kept.lock().unwrap().take();
        Body::from_stream(futures_util::stream::repeat_with(move || {
            let _ = &held;
            Ok::<_, Infallible>(Bytes::from_static(&[0; 65536]))
        }))
    });
    let address = serve(Router::new().route("/", endless), Limits { reading: SOON, ..NEVER }).await;
    let _stream = client(&address, "GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
    while gone.strong_count() > 0 {
        tokio::time::sleep(SOON).await;
    }
}
