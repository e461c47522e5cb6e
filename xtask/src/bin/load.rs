//! The client of `scripts/bench`: requests on any number of TLS connections, with the server's CPU time beside them, and
//! the delay of a watch. Python did this before and was refused: two of its threads share one lock that is handed over
//! every 5 ms, which is more than what was to be measured.
//!
//! Reads one task as JSON from the standard input, prints one JSON object.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Sender = SendRequest<Full<Bytes>>;

/// One measurement. In paths and bodies `{i}` is the number of the request.
#[derive(Clone, Deserialize)]
struct Task {
    /// The server on 127.0.0.1.
    port: u16,
    /// The file of the CA's certificate.
    ca: String,
    /// The server's process, whose CPU time is taken.
    pid: u32,
    method: String,
    path: String,
    #[serde(default)]
    body: String,
    headers: HashMap<String, String>,
    /// The status that every answer must have.
    good: u16,
    count: usize,
    connections: usize,
    /// The numbers begin here.
    first: usize,
    /// A watch to hold open; then the requests are sent at `rate` a second, and the delay of their events is measured.
    #[serde(default)]
    watch: Option<String>,
    #[serde(default = "hundred")]
    rate: u32,
}

fn hundred() -> u32 {
    100
}

#[derive(Serialize)]
struct Figures {
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    per_second: Option<f64>,
    p50_ms: f64,
    p99_ms: f64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let task: Task = serde_json::from_reader(std::io::stdin())?;
    let figures = match &task.watch {
        None => requests(task).await?,
        Some(path) => watch(&task, path).await?,
    };
    serde_json::to_writer(std::io::stdout(), &figures)?;
    Ok(())
}

async fn requests(task: Task) -> Result<Figures, Error> {
    let (task, next) = (Arc::new(task), Arc::new(AtomicUsize::new(0)));
    let mut senders = Vec::new();
    for _ in 0..task.connections {
        senders.push(connect(&task).await?);
    }
    // The first requests of a connection pay for what the later ones share.
    let warm = 20;
    for (n, sender) in senders.iter_mut().enumerate() {
        for i in 0..warm {
            ask(sender, &task, task.first + n * warm + i).await?;
        }
    }
    let first = task.first + senders.len() * warm;
    let (cpu, begun) = (cpu_seconds(task.pid)?, Instant::now());
    let mut running = tokio::task::JoinSet::new();
    for mut sender in senders {
        let (task, next) = (task.clone(), next.clone());
        running.spawn(async move {
            let mut times = Vec::new();
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= task.count {
                    return Ok::<_, Error>(times);
                }
                let at = Instant::now();
                ask(&mut sender, &task, first + i).await?;
                times.push(at.elapsed());
            }
        });
    }
    let mut times = Vec::new();
    while let Some(done) = running.join_next().await {
        times.extend(done??);
    }
    let wall = begun.elapsed().as_secs_f64();
    let cpu = (cpu_seconds(task.pid)? - cpu) * 1000.0 / task.count as f64;
    let (p50_ms, p99_ms) = percentiles(times);
    let per_second = Some((task.count as f64 / wall).round());
    Ok(Figures { cpu_ms: Some(round(cpu)), per_second, p50_ms, p99_ms })
}

/// From the sending of a write to its event.
async fn watch(task: &Task, path: &str) -> Result<Figures, Error> {
    let mut watcher = connect(task).await?;
    let mut request = Request::get(path);
    for (name, value) in headers(task)? {
        request = request.header(name, value);
    }
    let stream = watcher.send_request(request.body(Full::default())?).await?.into_body();
    let seen = tokio::spawn(events(stream, task.first..task.first + task.count));
    let mut sender = connect(task).await?;
    let mut sent = HashMap::new();
    let mut clock = tokio::time::interval(Duration::from_secs(1) / task.rate);
    for i in task.first..task.first + task.count {
        clock.tick().await;
        sent.insert(i, Instant::now());
        ask(&mut sender, task, i).await?;
    }
    let seen = tokio::time::timeout(Duration::from_secs(30), seen).await???;
    if sent.len() != seen.len() {
        return Err(format!("{} writes, {} events", sent.len(), seen.len()).into());
    }
    let times = sent.iter().filter_map(|(i, at)| Some(seen.get(i)?.duration_since(*at))).collect();
    let (p50_ms, p99_ms) = percentiles(times);
    Ok(Figures { cpu_ms: None, per_second: None, p50_ms, p99_ms })
}

/// When the event of each object with a number in the range came, until the last.
async fn events(mut stream: Incoming, numbers: Range<usize>) -> Result<HashMap<usize, Instant>, Error> {
    let (mut seen, mut text) = (HashMap::new(), Vec::new());
    while let Some(frame) = stream.frame().await {
        let at = Instant::now();
        text.extend_from_slice(frame?.data_ref().map_or(&[][..], |data| data));
        while let Some(end) = text.iter().position(|b| *b == b'\n') {
            let event: serde_json::Value = serde_json::from_slice(&text[..end])?;
            text.drain(..=end);
            let name = event["object"]["metadata"]["name"].as_str().unwrap_or("");
            if let Some(i) = name.rsplit('-').next().and_then(|n| n.parse().ok()).filter(|i| numbers.contains(i)) {
                seen.insert(i, at);
                if i + 1 == numbers.end {
                    return Ok(seen);
                }
            }
        }
    }
    Err("the watch ended".into())
}

async fn connect(task: &Task) -> Result<Sender, Error> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls_pemfile::certs(&mut std::io::BufReader::new(std::fs::File::open(&task.ca)?)) {
        roots.add(certificate?)?;
    }
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(("127.0.0.1", task.port)).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::IpAddress(std::net::IpAddr::from([127, 0, 0, 1]).into());
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

fn headers(task: &Task) -> Result<Vec<(HeaderName, HeaderValue)>, Error> {
    task.headers.iter().map(|(name, value)| Ok((name.parse()?, value.parse()?))).collect()
}

async fn ask(sender: &mut Sender, task: &Task, i: usize) -> Result<(), Error> {
    let number = |text: &str| text.replace("{i}", &i.to_string());
    let path = number(&task.path);
    let mut request = Request::builder().method(task.method.as_str()).uri(&path).header("host", "127.0.0.1");
    for (name, value) in headers(task)? {
        request = request.header(name, value);
    }
    sender.ready().await?;
    let answer = sender.send_request(request.body(Full::from(number(&task.body)))?).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    if status != task.good {
        return Err(format!("{} {path}: {status} {}", task.method, String::from_utf8_lossy(&body)).into());
    }
    Ok(())
}

/// The CPU time of a process, all its threads, from the scheduler's own nanoseconds: ticks are too coarse for a short run.
fn cpu_seconds(pid: u32) -> Result<f64, Error> {
    let mut nanoseconds = 0.0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        nanoseconds += text.split(' ').next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0);
    }
    Ok(nanoseconds / 1e9)
}

fn percentiles(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort();
    let at = |part: f64| times.get(((times.len() as f64 * part) as usize).min(times.len() - 1));
    let ms = |time: Option<&Duration>| round(time.map_or(0.0, Duration::as_secs_f64) * 1000.0);
    (ms(at(0.5)), ms(at(0.99)))
}

fn round(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}
