//! `braid up`: wires the crates together and serves. The order matters only for what must exist first; everything else
//! waits for rows.

use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use agent::Agent;
use clap::{Args, ValueEnum};
use gate::Gate;
use model::reach::Reach;
use model::{Fault, KubeObject, Time};
use store::{EtcdTls, Store};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::bootstrap::{self, Ranges};
use crate::control::{self, About};
use crate::env::{Access, quoted};
use crate::listen::{self, Faces};
use crate::paths::{Dir, Who, read_text, write_private};
use crate::{DirArg, Problem, holder, imports, ranges, say, streams, tls};

mod detach;
pub mod host;
mod images;
mod log;
mod sweep;

/// Where a cloud listens that was never told.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8443);

/// How VMs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Accel {
    Kvm,
    Tcg,
}

#[derive(Args, Clone)]
pub struct UpArgs {
    #[command(flatten)]
    pub dir: DirArg,
    /// The address and port of the APIs; without it, those of the last start, or 127.0.0.1:8443
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = parse_listen)]
    pub listen: Option<SocketAddr>,
    /// Go to the background when ready; a cloud that another build of braid runs in the background goes on with this one
    #[arg(long)]
    pub detach: bool,
    /// Run nothing for real: simulated VMs, pods and networks, no root needed
    #[arg(long)]
    pub sim: bool,
    /// How VMs run; without it, KVM if it really executes guests
    #[arg(long)]
    pub accel: Option<Accel>,
    /// Where rows are kept, instead of a file in the folder: etcd://HOST:PORT[,HOST:PORT...][/PREFIX], or etcds:// for
    /// TLS. Several processes on one etcd are one cloud
    #[arg(long)]
    pub store: Option<String>,
    /// The authority that etcd's certificate is from, for etcds://
    #[arg(long, value_name = "FILE")]
    pub store_ca: Option<PathBuf>,
    /// A certificate to show to etcd
    #[arg(long, value_name = "FILE", requires = "store_key")]
    pub store_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "store_cert")]
    pub store_key: Option<PathBuf>,
    /// This host's name in the cloud; without it, the machine's
    #[arg(long, value_name = "NAME", value_parser = parse_host_name)]
    pub host_name: Option<String>,
    /// Where the bytes of images lie, instead of in the folder: processes of one cloud share it
    #[arg(long, value_name = "DIR")]
    pub blobs: Option<PathBuf>,
    /// The addresses that face the outside, for the first start; without it, 172.24.4.0/24 or the next that this machine does
    /// not use
    #[arg(long, value_name = "RANGE", value_parser = parse_range)]
    pub public: Option<(Ipv4Addr, u8)>,
    /// Each VM's QEMU runs as a user of its own: one of the 65536 from this one on; without it, the folder's own
    #[arg(long, value_name = "UID", value_parser = clap::value_parser!(u32).range(1000..=4_000_000_000))]
    pub vm_users: Option<u32>,
    /// So many things that are in no row of the store are put aside within an hour; more wait for `braid confirm`
    #[arg(long, value_name = "NUMBER", default_value_t = 5)]
    pub max_removals: usize,
    /// Hours after which what was put aside is destroyed; sooner, the oldest first, if room is short
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=8760))]
    pub keep_trash: u32,
    /// How long a token is valid, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = gate::LIFETIME.as_secs(), value_parser = clap::value_parser!(i64).range(60..=31_536_000))]
    pub token_lifetime: i64,
    /// Addresses that images may be imported from though they are not of the Internet, or are this machine's own; may be
    /// repeated
    #[arg(long, value_name = "RANGE", value_parser = parse_reach)]
    pub import_allow: Vec<model::reach::Range>,
    /// A port that images may be imported from; without it, 80 and 443; may be repeated
    #[arg(long, value_name = "PORT")]
    pub import_port: Vec<u16>,
    /// Where images for the first start lie: tiny.img, tiny.vmlinuz, tiny.initrd, tiny-oci.tar
    #[arg(long, env = "BRAID_IMAGES", default_value = "/var/cache/braid/images")]
    pub images: PathBuf,
}

fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "an IP address of this machine and a port, please: 127.0.0.1:8443, 0.0.0.0:8443, [::1]:8443".into()
    })
}

fn parse_range(text: &str) -> Result<(Ipv4Addr, u8), String> {
    let (base, prefix) = text.split_once('/').ok_or("a range like 172.24.4.0/24, please")?;
    let base: Ipv4Addr = base.parse().map_err(|_| format!("{base} is not an IPv4 address"))?;
    let prefix: u8 = prefix.parse().map_err(|_| format!("{prefix} is not a prefix length"))?;
    if !(8..=29).contains(&prefix) || u32::from(base) & ((1u32 << (32 - u32::from(prefix))) - 1) != 0 {
        return Err(format!("{text} is not a range of 8 to 2^24 addresses"));
    }
    Ok((base, prefix))
}

fn parse_reach(text: &str) -> Result<model::reach::Range, String> {
    model::reach::Range::parse(text).ok_or_else(|| format!("{text} is not a range like 10.0.0.0/8 or fd00::/8"))
}

fn parse_host_name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    match text.len() <= 63 && text.chars().all(fits) && ends(text.chars().next()) && ends(text.chars().last()) {
        true => Ok(text.to_owned()),
        false => Err("a name of lower-case letters, digits, dots and dashes, please".into()),
    }
}

pub fn run(args: UpArgs) -> Result<ExitCode, Problem> {
    let dir = Dir::create(&args.dir.dir)?;
    if args.detach {
        return detach::run(&dir, &args);
    }
    let started = Instant::now();
    let lock = holder::hold(&dir)?;
    stays_what_it_is(&dir, args.sim)?;
    if !args.sim && !nix::unistd::geteuid().is_root() {
        let words = "VMs, pods and networks need root: sudo braid up. Without it there is `braid up --sim`";
        return Err(Problem::words(format!("{words}, which runs nothing for real")));
    }
    let missing = if args.sim { Vec::new() } else { host::missing() };
    missing.iter().for_each(say);
    log_to_stderr();
    tls::install_provider();
    let (work, faces) = (runtime("work")?, runtime("faces")?);
    let planners = planners::threads().map_err(Problem::io("starting"))?;
    let threads = Threads { faces: faces.handle().clone(), planners: planners.handle().clone() };
    let result = work.block_on(serve(args, dir, started, missing, threads));
    faces.shutdown_timeout(Duration::from_secs(2));
    planners.shutdown_timeout(Duration::from_secs(2));
    work.shutdown_timeout(Duration::from_secs(2));
    drop(lock);
    result
}

/// A simulated host takes what rows say for done: real VMs would be forgotten by it, and simulated ones lost by a real one.
fn stays_what_it_is(dir: &Dir, sim: bool) -> Result<(), Problem> {
    let was = Access::read(dir).ok().and_then(|access| access.simulated).or(host::is_real(dir).then_some(false));
    let (path, advice) = (dir.path().display(), "give the other cloud a folder of its own: --dir");
    match was {
        Some(true) if !sim => {
            Err(Problem::words(format!("the cloud in {path} is simulated: start it with --sim, or {advice}")))
        }
        Some(false) if sim => Err(Problem::words(format!(
            "the cloud in {path} has real VMs and pods: start it without --sim, or {advice}"
        ))),
        _ => Ok(()),
    }
}

/// Threads beside those that set up the cloud and run its agent.
struct Threads {
    faces: Handle,
    planners: Handle,
}

/// Threads for tasks. Those of clients have their own: the planners and the agent compute and wait for disks for
/// milliseconds, and a request that came meanwhile would wait for the thread that was to read it.
fn runtime(name: &str) -> Result<Runtime, Problem> {
    Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8)))
        .thread_name(name)
        .enable_all()
        .build()
        .map_err(Problem::io("starting"))
}

fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("BRAID_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // It would say on stderr that stderr cannot be written to, and panic: the log may lie on the disk that is full.
    let _ = log.log_internal_errors(false).try_init();
}

async fn serve(
    args: UpArgs,
    dir: Dir,
    started: Instant,
    missing: Vec<String>,
    threads: Threads,
) -> Result<ExitCode, Problem> {
    let last = || Access::read(&dir).ok().and_then(|access| access.listen);
    let listen = args.listen.or_else(last).unwrap_or(LISTEN);
    let listener = std::net::TcpListener::bind(listen)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(Problem::io(format!(
            "listening on {listen} (another cloud or program there? choose with --listen)"
        )))?;
    let address = listener.local_addr().map_err(Problem::io("listening"))?;
    // What other programs on this machine connect to.
    let authority =
        if address.ip().is_unspecified() { format!("127.0.0.1:{}", address.port()) } else { address.to_string() };
    let store = open_store(&args, &dir).await?;
    tls::share(&dir, &store).await?;
    tls::ensure(&dir, &server_names(address))?;
    let plans_here = Arc::new(AtomicBool::new(false));
    let about = Arc::new(About {
        store: store.clone(),
        dir: dir.path().to_owned(),
        ours: (!args.sim).then(|| dir.prefix()),
        missing,
        started,
        authority: authority.clone(),
        ready_ms: Default::default(),
        plans_here: plans_here.clone(),
        agent: Default::default(),
    });
    control::serve(&dir, about.clone()).await?;

    let now = Time::now();
    let lifetime = jiff::SignedDuration::from_secs(args.token_lifetime);
    let gate = Arc::new(Gate::new(store.clone()).with_lifetime(lifetime));
    let fresh = first_password(&dir, &gate).await?;
    let cluster_id = bootstrap::run(&store, &Ranges { public: public(&args, &dir, &store)? }, now).await?;
    face_kube::renew(&store).await?;
    gate.ensure_authorities().await?;
    let blobs = blob::Blobs::new(args.blobs.clone().unwrap_or_else(|| dir.join("blobs")));
    let name = args.host_name.clone().unwrap_or_else(host::name);
    host::register(&store, &name, &dir, now).await?;
    let (project, simulated) = ("demo".to_owned(), Some(args.sim));
    Access { authority: authority.clone(), project, listen: Some(address), cluster_id, simulated }.write(&dir)?;

    let asked = store.for_requests();
    let reach = Arc::new(reach(&args));
    let web = imports::Web::new(reach.clone(), host::all_addresses);
    let hooks = Arc::new(crate::hooks::WebHooks { web: web.clone(), store: store.clone() });
    let kube_face = face_kube::Kube::new(asked.clone(), gate.clone()).with_hooks(hooks);
    let kube = face_kube::router(kube_face.clone());
    let door = crate::door::Door::new(dir.clone(), store.clone(), kube.clone());
    let tokens = Arc::new(ServiceTokens(gate.clone()));
    let cloud = hosts::Local::new(store.clone(), &name, Time::now, Some(tokens));
    let made = host::drivers(&args, &dir, &store, cloud.clone(), &authority, Arc::new(door), &gate)?;
    let agent = Agent::new(
        agent::Config {
            host: name,
            dir: dir.path().to_owned(),
            max_removals: args.max_removals,
            keep_aside: jiff::SignedDuration::from_hours(args.keep_trash.into()),
            prefix: dir.prefix(),
            endpoint: format!("unix:{}", dir.host_socket().display()),
            blobs: blobs.clone(),
            clock: Time::now,
        },
        cloud,
        made,
    );
    host::serve(&dir, &agent)?;
    let _ = about.agent.set(agent.clone());
    let registry = face_registry::Registry::new(asked.clone(), blobs.clone(), gate.clone());
    face_registry::adopt(&registry).await?;
    let faces = Faces {
        openstack: face_openstack::router(face_openstack::Cloud {
            store: asked.clone(),
            blobs: blobs.clone(),
            gate: gate.clone(),
            base_url: format!("https://{authority}"),
            region: "RegionOne".into(),
            streams: Arc::new(streams::Streams),
            uploads: Default::default(),
            reach,
        }),
        kube,
        registry: face_registry::router(registry.clone()),
    };
    threads.faces.spawn(listen::serve(listener, tls::server_config(&dir)?, faces.router()));
    tokio::spawn(log::keep_short(dir.log()));
    threads.planners.spawn(planners::run(asked, kube_face, plans_here));
    tokio::spawn(imports::run(store.clone(), blobs.clone(), web));
    let holding = agent.clone();
    tokio::spawn(sweep::run(store.clone(), blobs.clone(), move || holding.holds()));
    tokio::spawn(agent.run());
    tokio::spawn(rotate_keys(gate.clone()));
    images::import(&store, &blobs, &registry, &args.images).await?;

    let ms = started.elapsed().as_millis();
    let _ = about.ready_ms.set(ms);
    say(format_args!(
        "braid is up at https://{authority} after {ms} ms; log in with: eval \"$(braid env --dir {})\"",
        quoted(&dir.path().to_string_lossy())
    ));
    if fresh {
        // Never in what may be a log.
        let file = dir.password(Who::Admin);
        match std::io::stdout().is_terminal() {
            true => say(format_args!(
                "first start: the password of the user admin is {} (kept in {})",
                read_text(&file)?.trim(),
                file.display()
            )),
            false => say(format_args!("first start: the password of the user admin is in {}", file.display())),
        }
    }
    wait_for_end(args.sim).await;
    store.close().await;
    Ok(ExitCode::SUCCESS)
}

/// Where images may be imported from, and webhooks be.
fn reach(args: &UpArgs) -> Reach {
    let usual = Reach::default();
    let ports = if args.import_port.is_empty() { usual.ports } else { args.import_port.clone() };
    Reach { ports, allowed: args.import_allow.clone() }
}

/// The range of the external network, should this be the first start.
fn public(args: &UpArgs, dir: &Dir, store: &Store) -> Result<(Ipv4Addr, u8), Problem> {
    let is_first = !args.sim && !bootstrap::is_done(&store.snapshot());
    let (routes, ours) = (if is_first { ranges::routes() } else { Vec::new() }, dir.prefix());
    let Some(range) = args.public else {
        let none =
            "every range from 172.24.4.0/24 to 172.24.254.0/24 is in use on this machine: choose one with --public";
        return ranges::free(&routes, &ours).ok_or_else(|| Problem::words(none));
    };
    match ranges::problem(range, &routes, &ours) {
        Some(words) => Err(Problem::words(format!("{words}: choose others with --public, or leave it out"))),
        None => Ok(range),
    }
}

/// What the store keeps free of its disk, for deletions and what hosts say when it is full.
const SPARE_BYTES: u32 = 16 << 20;

async fn open_store(args: &UpArgs, dir: &Dir) -> Result<Store, Problem> {
    let tls = etcd_tls(args)?;
    match (&args.store, tls) {
        (None, None) => Ok(Store::open_sqlite_keeping(dir.store(), SPARE_BYTES).await?),
        (None, Some(_)) => Err(Problem::words("--store-ca, --store-cert and --store-key go with --store etcds://...")),
        (Some(url), None) => Ok(Store::open_etcd(url).await?),
        (Some(url), Some(tls)) => Ok(Store::open_etcd_tls(url, &tls).await?),
    }
}

fn etcd_tls(args: &UpArgs) -> Result<Option<EtcdTls>, Problem> {
    let identity = match (&args.store_cert, &args.store_key) {
        (Some(certificate), Some(key)) => Some((read_text(certificate)?, read_text(key)?)),
        _ => None,
    };
    match &args.store_ca {
        Some(ca) => Ok(Some(EtcdTls { ca: read_text(ca)?, identity })),
        None if identity.is_some() => Err(Problem::words("--store-cert needs --store-ca as well")),
        None => Ok(None),
    }
}

/// Makes the first users with random passwords; whether this was the first start. Who joins a cloud that others have
/// made does not know the passwords, and keeps none.
async fn first_password(dir: &Dir, gate: &Gate) -> Result<bool, Problem> {
    let new: Vec<_> =
        [Who::Admin, Who::Member].map(|who| dir.password(who)).into_iter().filter(|f| !f.exists()).collect();
    for file in &new {
        write_private(file, format!("{}\n", random_password()).as_bytes())?;
    }
    let password = |who| read_text(&dir.password(who));
    let (admin, demo) = (password(Who::Admin)?, password(Who::Member)?);
    let first = gate.bootstrap(admin.trim(), demo.trim()).await?;
    for file in new.iter().filter(|_| !first) {
        std::fs::remove_file(file).map_err(Problem::io("removing a password that is not the cloud's"))?;
    }
    Ok(first)
}

fn random_password() -> String {
    // A version 4 UUID has 122 random bits from the system's source.
    uuid::Uuid::new_v4().simple().to_string()
}

/// Names and addresses by which clients may know the server.
fn server_names(address: SocketAddr) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned(), host::name()];
    if address.ip().is_unspecified() {
        names.extend(host::addresses());
    } else {
        names.push(address.ip().to_string());
    }
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| !name.is_empty() && seen.insert(name.clone()));
    names
}

async fn wait_for_end(simulated: bool) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    tracing::info!("stopping{}", if simulated { "" } else { "; VMs and containers go on running" });
}

/// Keeps the keys of tokens young, until the process ends.
async fn rotate_keys(gate: Arc<Gate>) {
    const EVERY: std::time::Duration = std::time::Duration::from_secs(600);
    loop {
        if let Err(fault) = gate.rotate_keys(Time::now()).await {
            tracing::warn!("the keys of tokens stay as they are: {fault}");
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// The gate's tokens for pods.
struct ServiceTokens(Arc<Gate>);

impl hosts::Tokens for ServiceTokens {
    fn service_account(&self, account: &KubeObject, expires: Time) -> Result<String, Fault> {
        let (cluster, namespace) = (&account.cluster_id, &account.namespace);
        self.0.service_account_token(cluster, namespace, &account.name, account.uid(), expires)
    }
}
