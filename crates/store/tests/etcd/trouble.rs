//! An etcd that is slow, small, away, or forgetful.

use std::time::Duration;

use model::{Change, Fault, Setting, Time};
use store::{EtcdTls, Store, StoreFault};
use tokio::time::timeout;

use crate::proxy::Proxy;
use crate::server::{Certificates, Server};

const SOON: Duration = Duration::from_secs(60);

fn setting(name: &str, value: usize) -> Change {
    Setting { name: name.into(), value: value.into() }.into()
}

/// A commit whose answer is lost is neither lost nor done twice, and never refused for what it did itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers() {
    let server = Server::start(&[]).await;
    let proxy = Proxy::start(server.port()).await;
    let store = Store::open_etcd(&format!("etcd://127.0.0.1:{}/test", proxy.port)).await.unwrap();
    let start = store.snapshot().revision();
    let committer = |n: usize| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut revisions = Vec::new();
            for i in 0..40 {
                revisions.push(store.commit(&setting(&format!("s{n}-{i}"), i)).await.unwrap());
            }
            revisions
        })
    };
    let tasks: Vec<_> = (0..4).map(committer).collect();
    let breaking = async {
        loop {
            proxy.lose_answers(Duration::from_millis(fastrand::u64(1..30))).await;
            tokio::time::sleep(Duration::from_millis(fastrand::u64(50..400))).await;
        }
    };
    let all = async {
        let mut revisions = Vec::new();
        for task in tasks {
            revisions.extend(task.await.unwrap());
        }
        revisions
    };
    let mut revisions = tokio::select! {
        () = breaking => unreachable!("it goes on for ever"),
        revisions = timeout(Duration::from_secs(200), all) => revisions.unwrap(),
    };
    revisions.sort_unstable();
    let direct = Store::open_etcd(&server.url()).await.unwrap();
    assert_eq!(direct.snapshot().len(), 160);
    assert!(direct.snapshot().rows().all(|row| row.created == row.modified));
    let mut watch = store.watch(start).unwrap();
    let mut seen = Vec::new();
    while seen.len() < 160 {
        seen.extend(timeout(SOON, watch.next()).await.unwrap().unwrap().iter().map(|c| c.revision));
    }
    assert_eq!(seen, revisions, "every commit once, with the revision that its committer was told");
}

/// etcd is killed and started again: reads go on, writes wait or fail, nothing that was acknowledged is lost, and
/// everything works afterwards by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_etcd() {
    let mut server = Server::start(&[]).await;
    let store = Store::open_etcd(&server.url()).await.unwrap();
    let mut watch = store.watch(store.snapshot().revision()).unwrap();
    store.commit(&setting("before", 1)).await.unwrap();
    assert_eq!(watch.next().await.unwrap().len(), 1);
    server.kill();
    assert_eq!(store.snapshot().len(), 1);
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.commit(&setting("meanwhile", 1)).await }
    });
    assert!(store.fresh().await.is_err(), "nobody can say what is newest");
    server.restart().await;
    let revision = timeout(SOON, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(timeout(SOON, watch.next()).await.unwrap().unwrap()[0].revision, revision);
    store.commit(&setting("after", 1)).await.unwrap();
    assert_eq!(store.fresh().await.unwrap().len(), 3);
}

/// What was compacted while the connection was lost is loaded anew; watches that missed it expire, none misses silently.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compacted_while_away() {
    let server = Server::start(&[]).await;
    let mut proxy = Proxy::start(server.port()).await;
    let store = Store::open_etcd(&format!("etcd://127.0.0.1:{}/test", proxy.port)).await.unwrap();
    let direct = Store::open_etcd(&server.url()).await.unwrap();
    store.commit(&setting("before", 1)).await.unwrap();
    let mut watch = store.watch(store.snapshot().revision()).unwrap();
    let mut part = store.watch_part(store.snapshot().revision(), store::Interest::kind(model::Kind::Setting)).unwrap();
    proxy.away(true);
    direct.commit(&setting("missed", 1)).await.unwrap();
    let newest = direct.commit(&setting("missed too", 1)).await.unwrap();
    direct.compact(newest).await.unwrap();
    proxy.away(false);
    assert!(matches!(timeout(SOON, watch.next()).await.unwrap(), Err(Fault::Expired(_))));
    assert!(matches!(timeout(SOON, part.next()).await.unwrap(), Err(Fault::Expired(_))));
    assert_eq!(store.fresh().await.unwrap().len(), 3);
    let mut watch = store.watch(store.snapshot().revision()).unwrap();
    let mut part = store.watch_part(store.snapshot().revision(), store::Interest::kind(model::Kind::Setting)).unwrap();
    direct.commit(&setting("after", 1)).await.unwrap();
    assert_eq!(timeout(SOON, watch.next()).await.unwrap().unwrap().len(), 1);
    assert_eq!(timeout(SOON, part.next()).await.unwrap().unwrap().len(), 1);
}

/// An etcd with its default limits serves ordinary changes and says what it needs for larger ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn default_limits() {
    let server = Server::start(&["--max-txn-ops=128", "--max-request-bytes=1572864"]).await;
    let store = Store::open_etcd(&server.url()).await.unwrap();
    let mut change = Change::new();
    (0..127).for_each(|n| _ = change.create(Setting { name: format!("s{n}"), value: n.into() }));
    store.commit(&change).await.unwrap();
    let mut change = Change::new();
    (0..128).for_each(|n| _ = change.create(Setting { name: format!("t{n}"), value: n.into() }));
    let told = store.commit(&change).await.unwrap_err();
    assert!(matches!(&told, StoreFault::TooLarge(text) if text.contains("--max-txn-ops")), "{told}");
    for megabytes in [2, 4] {
        let large = Setting { name: "large".into(), value: "x".repeat(megabytes << 20).into() };
        let told = store.commit(&large.into()).await.unwrap_err();
        assert!(matches!(&told, StoreFault::TooLarge(text) if text.contains("--max-request-bytes")), "{told}");
    }
    assert_eq!(store.fresh().await.unwrap().len(), 127);
}

/// What is not there is said within seconds, not waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_there() {
    let url = format!("etcd://127.0.0.1:{}", crate::server::free_port());
    let told = timeout(SOON, Store::open_etcd(&url)).await.unwrap().err().unwrap();
    assert!(matches!(told, StoreFault::Broken(_)), "{told}");
    assert!(Store::open_etcd("postgres://somewhere").await.is_err());
}

/// With TLS, strangers on either side are refused, and said to be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls() {
    let (mut server, certificates) = Server::start_tls(&[]).await;
    let store = Store::open_etcd_tls(&server.url(), &certificates.client(true)).await.unwrap();
    store.commit(&setting("over TLS", 1)).await.unwrap();
    server.kill();
    server.restart().await;
    store.commit(&setting("over a new connection", 1)).await.unwrap();

    let words = async |tls: &EtcdTls| {
        let told = timeout(SOON, Store::open_etcd_tls(&server.url(), tls)).await.unwrap();
        told.err().expect("strangers are refused").to_string()
    };
    let told = words(&Certificates::new().client(true)).await;
    assert!(told.contains("invalid peer certificate"), "{told}");
    // Whether etcd's reason gets through before the connection ends is a matter of chance.
    words(&certificates.client(false)).await;
    let told = words(&EtcdTls { ca: "no certificate".into(), identity: None }).await;
    assert!(told.contains("certificate"), "{told}");
    assert!(Store::open_etcd(&server.url()).await.is_err(), "an authority is needed");
    let plain = server.url().replace("etcds://", "etcd://");
    assert!(Store::open_etcd_tls(&plain, &certificates.client(true)).await.is_err(), "TLS that would not be used");
}

/// Another process of a newer release commits a row of a kind that is unknown here: it is left alone, and all goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_newer_release_are_carried() {
    let server = Server::start(&[]).await;
    let url = format!("etcd://127.0.0.1:{}/test", server.port());
    let store = Store::open_etcd(&url).await.unwrap();
    store.commit(&setting("a", 1)).await.unwrap();
    // As a commit of its own, by etcd's JSON.
    let script = r#"
        b() { printf %s "$1" | base64 -w0; }
        put() { printf '{"requestPut":{"key":"%s","value":"%s"}}' "$(b "$1")" "$(b "$2")"; }
        row=$(put /test/data/row/cloud/novelty/n '{"kind":"novelty","row":{"name":"n"}}')
        curl -sS --fail -d "{\"success\":[$row,$(put /test/data/head somebody)]}" "http://127.0.0.1:$1/v3/kv/txn""#;
    let mut shell = std::process::Command::new("sh");
    let output = shell.args(["-c", script, "sh", &server.port().to_string()]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    // Who reads sees all that was committed before, and who follows goes on.
    timeout(SOON, store.fresh()).await.unwrap().unwrap();
    timeout(SOON, store.commit(&setting("b", 2))).await.unwrap().unwrap();
    assert_eq!(store.snapshot().len(), 2);
    // So does who begins, and nothing is lost.
    let other = Store::open_etcd(&url).await.unwrap();
    assert_eq!(other.snapshot().len(), 2);
    let script = r#"curl -sS --fail -d "{\"key\":\"$(printf %s /test/data/row/cloud/novelty/n | base64 -w0)\"}" \
        "http://127.0.0.1:$1/v3/kv/range""#;
    let mut shell = std::process::Command::new("sh");
    let output = shell.args(["-c", script, "sh", &server.port().to_string()]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains(r#""count":"1""#), "{output:?}");
}

/// Signs of life reach every process, write nothing after the first, and end with the process that gave them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signs_of_life() {
    let server = Server::start(&[]).await;
    let url = format!("etcd://127.0.0.1:{}/test", server.port());
    let (one, two) = (Store::open_etcd(&url).await.unwrap(), Store::open_etcd(&url).await.unwrap());
    one.beat("h", Time::now()).await.unwrap();
    let heard = async |store: &Store| {
        while store.last_beat("h").is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, heard(&two)).await.expect("the other process hears it");
    let revision = async || {
        let mut curl = std::process::Command::new("curl");
        let url = format!("http://127.0.0.1:{}/v3/kv/range", server.port());
        let output = curl.args(["-sS", "--fail", "-d", r#"{"key":"YQ=="}"#, &url]).output().unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        answer["header"]["revision"].clone()
    };
    let before = revision().await;
    for _ in 0..5 {
        one.beat("h", Time::now()).await.unwrap();
    }
    assert_eq!(revision().await, before);
    // Who begins knows at once who lives.
    assert!(Store::open_etcd(&url).await.unwrap().last_beat("h").is_some());
    one.close().await;
    drop(one);
    let gone = async {
        while Store::open_etcd(&url).await.unwrap().last_beat("h").is_some() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    timeout(SOON, gone).await.expect("nothing is heard of who is gone");
}
