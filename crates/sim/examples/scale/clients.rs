//! A tenant's clients: the real handlers of both faces, asked at a steady rate by a thread of their own, as `braid` has one for
//! them. Without sockets and TLS, which `scripts/bench` measures.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::body::Body;
use face_kube::Kube;
use face_openstack::{Cloud, HostAnswer, HostStreams};
use gate::{Client, DomainRef, Gate, NamedRef, Proof, ScopeRequest};
use http::Request;
use http_body_util::BodyExt;
use model::Time;
use serde_json::{Value, json};
use store::Store;
use tokio::runtime::Runtime;
use tower::ServiceExt;

use crate::rows::host;

/// How often a host says that it lives.
const BEAT: Duration = Duration::from_secs(10);

/// The time between two requests.
const EVERY: Duration = Duration::from_millis(5);

struct NoHosts;

impl HostStreams for NoHosts {
    fn get<'a>(&'a self, endpoint: &'a str, _path: &'a str, _limit: usize) -> HostAnswer<'a> {
        Box::pin(async move { Err(model::Fault::Unavailable(format!("no host answers at {endpoint}"))) })
    }
}

/// Both faces, and a token of the user `demo`.
#[derive(Clone)]
pub struct Faces {
    router: axum::Router,
    token: String,
}

impl Faces {
    pub async fn new(store: &Store, gate: Arc<Gate>, kube: Kube) -> Result<Self, Box<dyn Error>> {
        let domain = || DomainRef { id: Some("default".into()), name: None };
        let named = || NamedRef { name: Some("demo".into()), domain: domain(), ..NamedRef::default() };
        let proof = Proof::Password { user: named(), password: "demo-secret".into() };
        let (token, _) = gate.login(vec![proof], ScopeRequest::Project(named()), Client::UNKNOWN).await?;
        let store = store.for_requests();
        let kube = face_kube::router(kube);
        let openstack = face_openstack::router(Cloud {
            store,
            blobs: blob::Blobs::new("/nonexistent"),
            gate,
            base_url: "https://127.0.0.1:8443".into(),
            region: "RegionOne".into(),
            streams: Arc::new(NoHosts),
            uploads: Default::default(),
            reach: Default::default(),
        });
        Ok(Self { router: kube.merge(openstack), token })
    }

    async fn get(&self, path: &str) -> Result<u16, Box<dyn Error>> {
        let request = Request::get(path)
            .header("authorization", format!("Bearer {}", self.token))
            .header("x-auth-token", &self.token);
        let answer = self.router.clone().oneshot(request.body(Body::empty())?).await?;
        let status = answer.status().as_u16();
        answer.into_body().collect().await?;
        Ok(status)
    }
}

/// Each host says that it lives, for ever: by a thread beside the planners' own, as what comes by a socket is heard by another.
pub fn hosts(store: Store, hosts: usize) -> std::io::Result<()> {
    ticks("hosts", hosts, async move |n| store.beat(&host(n), Time::now()).await.is_ok())
}

/// As many ticks of a thread as hosts' signs of life, for nothing: what of those is the thread's waking up.
pub fn baseline(hosts: usize) -> std::io::Result<()> {
    ticks("ticks alone", hosts, async |_| true)
}

/// Does something for each host in turns, each time after a tick, as long as it returns true.
fn ticks(name: &str, hosts: usize, each: impl AsyncFn(usize) -> bool + Send + 'static) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let work = move || {
        runtime.block_on(async {
            let mut ticks = tokio::time::interval(BEAT / hosts.max(1) as u32);
            for n in (0..hosts).cycle() {
                ticks.tick().await;
                if !each(n).await {
                    return;
                }
            }
        });
    };
    std::thread::Builder::new().name(name.into()).spawn(work).map(drop)
}

/// Milliseconds of each request.
#[derive(Default)]
struct Asked {
    /// From when the handler was called until its answer was there.
    took: Vec<f64>,
    /// From when the request was due: how long the thread had to wait for a processor is in it.
    since_due: Vec<f64>,
}

pub struct Clients {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Asked>, String>>,
    what: &'static [(&'static str, &'static str)],
}

impl Clients {
    /// Asks for these, by name and path, in turns.
    pub fn start(faces: Faces, what: &'static [(&'static str, &'static str)]) -> std::io::Result<Self> {
        let ends = Arc::new(AtomicBool::new(false));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (end, all) = (ends.clone(), what);
        let work = move || ask(&runtime, &faces, all, &end).map_err(|e| e.to_string());
        let thread = std::thread::Builder::new().name("clients".into()).spawn(work)?;
        Ok(Self { ends, thread, what })
    }

    /// What was measured until now.
    pub fn end(self) -> Result<Value, Box<dyn Error>> {
        self.ends.store(true, Ordering::Relaxed);
        let asked = self.thread.join().map_err(|_| "the clients' thread panicked")??;
        let mut all = serde_json::Map::new();
        for ((name, _), asked) in self.what.iter().zip(asked) {
            let figures = json!({"ms": part(asked.took), "ms since due": part(asked.since_due)});
            all.insert((*name).to_owned(), figures);
        }
        Ok(Value::Object(all))
    }
}

/// The thread sleeps by itself: the runtime's timers are rounded to milliseconds, which a socket's news are not.
fn ask(
    runtime: &Runtime,
    faces: &Faces,
    what: &[(&str, &str)],
    end: &AtomicBool,
) -> Result<Vec<Asked>, Box<dyn Error>> {
    let mut all: Vec<Asked> = what.iter().map(|_| Asked::default()).collect();
    let mut due = Instant::now();
    while !end.load(Ordering::Relaxed) {
        for ((_, path), asked) in what.iter().zip(&mut all) {
            due += EVERY;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let before = Instant::now();
            let status = runtime.block_on(faces.get(path))?;
            if status != 200 {
                return Err(format!("GET {path}: {status}").into());
            }
            asked.took.push(before.elapsed().as_secs_f64() * 1000.0);
            asked.since_due.push(due.elapsed().as_secs_f64() * 1000.0);
        }
    }
    Ok(all)
}

/// The middle one, the one that one of a hundred is above, and the largest.
fn part(mut all: Vec<f64>) -> Value {
    all.sort_by(f64::total_cmp);
    let at = |part: f64| all.get((all.len() as f64 * part) as usize).or(all.last()).map(|ms| crate::rounded(*ms));
    json!({"p50": at(0.5), "p99": at(0.99), "most": at(1.0), "requests": all.len()})
}
