//! The driver with a real containerd, in a directory of its own. This program is also the CNI plugin that containerd
//! calls, hence a main of its own.
#![allow(clippy::print_stderr)]

#[path = "common/registry.rs"]
mod registry;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use driver::suite::{self, PodBench};
use driver::{ContainerState, DriverFault, PodDriver, SeenPod, StreamRequest};
use driver_cri::{CniAddress, CniHandler, CniPlugged, CniRequest, CniVerb, Config, Cri, Registry, cni_main, serve_cni};
use model::wanted::{Generation, WantedContainer, WantedPod};

/// Here nothing is older than anything else.
const NOW: Generation = Generation(1);
const IMAGE: &str = "braid.local/tiny:latest";

fn main() -> ExitCode {
    if std::env::var_os("CNI_COMMAND").is_some() {
        return cni_main();
    }
    // What nextest asks of a test binary before it runs its tests.
    let asked = |arg: &str| std::env::args().any(|a| a == arg);
    if asked("--list") {
        if !asked("--ignored") {
            say("pods_run_in_containerd: test");
        }
        return ExitCode::SUCCESS;
    }
    let layout = Path::new("/var/cache/braid/images/tiny-oci.tar");
    let installed = |name: &str| Path::new("/usr/bin").join(name).exists();
    if !layout.exists() || !nix::unistd::geteuid().is_root() || !installed("containerd") {
        eprintln!("skipped: needs root, containerd and {}", layout.display());
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let registry = registry::start(layout);
    let config = config(dir.path(), &registry);
    let run = || runtime.block_on(scenario(&registry, dir.path(), config.clone()));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    if result.is_ok() {
        return ExitCode::SUCCESS;
    }
    let cleaned = runtime.block_on(async { Cri::new(config).purge().await });
    eprintln!("FAILED; clean-up: {cleaned:?}");
    ExitCode::FAILURE
}

#[allow(clippy::print_stdout)]
fn say(line: &str) {
    println!("{line}");
}

/// Plugs pods by itself, and remembers what it was asked.
struct Network(Mutex<Vec<(CniVerb, String)>>);

#[async_trait]
impl CniHandler for Network {
    async fn add(&self, request: &CniRequest) -> driver::Result<CniPlugged> {
        let mut asked = self.0.lock().expect("asked");
        asked.push((request.verb, request.pod_uid.clone()));
        if asked.len() == 1 {
            return Err(DriverFault::NotReady("the port is not there yet".to_owned()));
        }
        let script = format!(
            "ip link add {0} type veth peer name peer0 && ip addr add 10.9.0.2/24 dev {0} && ip link set {0} up",
            request.ifname
        );
        let netns = format!("--net={}", request.netns.display());
        let done = Command::new("nsenter").args([&netns, "sh", "-c", &script]).status().expect("nsenter");
        assert!(done.success(), "{script}");
        let address = CniAddress { address: "10.9.0.2/24".to_owned(), gateway: Some("10.9.0.1".to_owned()) };
        Ok(CniPlugged { ips: vec![address], mac: "02:00:00:00:00:01".to_owned() })
    }
    async fn del(&self, request: &CniRequest) -> driver::Result<()> {
        self.0.lock().expect("asked").push((request.verb, request.pod_uid.clone()));
        Ok(())
    }
    async fn check(&self, _: &CniRequest) -> driver::Result<()> {
        Ok(())
    }
}

fn shell(name: &str, script: &str) -> WantedContainer {
    WantedContainer {
        name: name.to_owned(),
        image: IMAGE.to_owned(),
        pull: "IfNotPresent".to_owned(),
        command: vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()],
        env: vec![("COLOUR".to_owned(), "green".to_owned())],
        memory_limit: 64 << 20,
        cpu_limit_milli: 500,
        oom_score_adj: -997,
        ..WantedContainer::default()
    }
}

fn pod(uid: &str, host_network: bool, containers: Vec<WantedContainer>) -> WantedPod {
    WantedPod {
        generation: NOW,
        uid: uid.to_owned(),
        name: format!("pod-{uid}"),
        namespace: "default".to_owned(),
        cluster_id: "cluster-1".to_owned(),
        hostname: "web-0".to_owned(),
        fqdn: String::new(),
        host_aliases: Vec::new(),
        dns_servers: vec!["10.9.0.1".parse().expect("an address")],
        dns_search: vec!["default.svc.cluster.local".to_owned()],
        dns_options: vec!["ndots:5".to_owned()],
        labels: [("app".to_owned(), "web".to_owned())].into(),
        host_network,
        grace_seconds: 1,
        containers,
        share_pid: false,
        run_as_user: None,
        run_as_group: None,
        fs_group: None,
        supplemental_groups: vec![],
        sysctls: Default::default(),
    }
}

async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn seen(cri: &Cri, uid: &str) -> Option<SeenPod> {
    cri.list().await.expect("a list").into_iter().find(|p| p.uid == uid)
}

async fn run(cri: &Cri, pod: &WantedPod) {
    cri.ensure_sandbox(pod).await.expect("a sandbox");
    for container in &pod.containers {
        cri.ensure_image(pod, &container.name).await.expect("an image");
        cri.ensure_container(pod, &container.name).await.expect("a container");
    }
}

async fn output(cri: &Cri, id: &str, script: &str) -> String {
    let command = ["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()];
    let output = cri.exec(id, &command, Duration::from_secs(60)).await.expect("exec");
    assert_eq!(output.code, 0, "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn container_id(pod: &SeenPod, name: &str, attempt: u32) -> String {
    pod.containers.iter().find(|c| c.name == name && c.attempt == attempt).expect("the container").id.clone()
}

async fn scenario(registry: &registry::Registry, dir: &Path, config: Config) {
    let network = Arc::new(Network(Mutex::default()));
    let (socket, handler) = (config.cni_socket.clone(), network.clone());
    let agent = tokio::spawn(async move { serve_cni(&socket, handler).await });

    let started = Instant::now();
    let cri = Cri::start(config.clone()).await.expect("containerd");
    eprintln!("containerd is up in {:?}", started.elapsed());
    let health = cri.health().await;
    assert_eq!(health.problem, "");
    assert!(health.version.starts_with("containerd "), "{}", health.version);

    images(&cri, registry).await;
    host_network(&cri).await;
    own_network(&cri, &network).await;
    suite::pods(&Common(config.clone())).await;
    suite::old_orders_for_pods(&Common(config.clone())).await;
    attempts(&cri).await;
    let survivor = adoption(&cri, config.clone()).await;
    measure(&cri).await;
    purge(&cri, dir, &config.prefix, &survivor).await;
    agent.abort();
    eprintln!("ok");
}

fn config(dir: &Path, registry: &registry::Registry) -> Config {
    let bin = dir.join("bin");
    std::fs::create_dir(&bin).expect("a directory");
    for name in ["braid-cni", "loopback"] {
        std::os::unix::fs::symlink(std::env::current_exe().expect("a program"), bin.join(name)).expect("a link");
    }
    Config {
        dir: dir.join("cri"),
        prefix: format!("braid-test-{}", std::process::id()),
        registry: Some(Registry {
            name: "braid.local".to_owned(),
            url: format!("http://{}", registry.address),
            ca: None,
        }),
        readable: Some(Arc::new(|pod, name| pod.uid != "stranger" || name != "tiny")),
        credentials: Some(Arc::new(|pod| {
            Some((if pod.uid == "stranger" { "stranger" } else { "user" }.to_owned(), "secret".to_owned()))
        })),
        cni_bin_dir: bin,
        cni_socket: dir.join("cni.sock"),
    }
}

async fn images(cri: &Cri, registry: &registry::Registry) {
    let mine = pod("images", true, vec![shell("main", "true")]);
    let stranger = pod("stranger", true, vec![shell("main", "true")]);
    let text = cri.ensure_image(&stranger, "main").await.expect_err("a refusal").to_string();
    assert!(text.starts_with("ErrImagePull: ") && text.contains("401"), "{text}");
    let asked = registry.asked.load(Ordering::SeqCst);
    let two = [cri.ensure_image(&mine, "main"), cri.ensure_image(&mine, "main")];
    let [first, second] = futures_util::future::join_all(two).await.try_into().expect("two");
    let first = first.expect("pulled");
    assert!(first.starts_with("braid.local/tiny@sha256:"), "{first}");
    assert_eq!(Ok(first), second);
    // A pull may ask for the name more than once (HEAD, GET); two pulls would ask twice as often.
    let for_one = registry.asked.load(Ordering::SeqCst) - asked;
    let mut always = mine.clone();
    always.containers[0].pull = "Always".to_owned();
    cri.ensure_image(&always, "main").await.expect("pulled again");
    let again = registry.asked.load(Ordering::SeqCst) - asked - for_one;
    assert!(again > 0 && for_one <= again + 1, "{for_one} questions for two pulls at once, {again} for one");
    // That it is on the host now opens it to nobody else.
    let text = cri.ensure_image(&stranger, "main").await.expect_err("a refusal").to_string();
    assert!(text.starts_with("ErrImagePull: ") && text.contains("401"), "{text}");

    let refusal = async |image: &str, pull: &str| {
        let mut container = shell("main", "true");
        container.image = image.to_owned();
        container.pull = pull.to_owned();
        cri.ensure_image(&pod("images", true, vec![container]), "main").await.expect_err("a refusal").to_string()
    };
    let text = refusal("braid.local/absent", "Never").await;
    assert!(text.starts_with("ErrImageNeverPull: "), "{text}");
    let text = refusal("127.0.0.1:1/absent", "IfNotPresent").await;
    assert!(text.starts_with("ErrImagePull: "), "{text}");
    let text = refusal("Not A Name", "Always").await;
    assert!(text.starts_with("InvalidImageName: "), "{text}");
}

async fn host_network(cri: &Cri) {
    let mut user = shell("user", "id -u; id -G; exec sleep 1000");
    user.run_as_user = Some(1000);
    user.run_as_group = Some(1001);
    user.run_as_non_root = true;
    let mut wanted = pod("host", true, vec![shell("main", "echo $COLOUR; exec sleep 1000"), user]);
    wanted.fs_group = Some(2000);
    run(cri, &wanted).await;
    // Everything may be said twice.
    run(cri, &wanted).await;
    let there = seen(cri, "host").await.expect("the pod");
    assert_eq!(
        (there.name.as_str(), there.namespace.as_str(), there.cluster_id.as_str()),
        ("pod-host", "default", "cluster-1")
    );
    assert!(there.ready && there.created.is_some());
    assert_eq!(there.containers.len(), 2);
    let main = &there.containers[0];
    assert!(matches!(main.state, ContainerState::Running { .. }), "{:?}", main.state);
    until("a line in the log", async || {
        std::fs::read_to_string(&main.log_path).is_ok_and(|l| l.contains("stdout F green\n")).then_some(())
    })
    .await;
    until("the user's lines", async || {
        let log = std::fs::read_to_string(&there.containers[1].log_path).ok()?;
        (log.contains("F 1000\n") && log.contains("1001 2000\n")).then_some(())
    })
    .await;
    // A long log is put aside, and writing goes on in a new one.
    let zeros = "head -c 11000000 /dev/zero | tr '\\0' 'z' | fold -w 1000 >/proc/1/fd/1; echo last >/proc/1/fd/1";
    output(cri, &main.id, zeros).await;
    let aside = main.log_path.with_extension("log.1");
    until("the long log", async || std::fs::metadata(&main.log_path).is_ok_and(|m| m.len() > 11_000_000).then_some(()))
        .await;
    cri.list().await.expect("a list");
    output(cri, &main.id, "echo more >/proc/1/fd/1").await;
    until("the new log", async || std::fs::read_to_string(&main.log_path).ok()?.contains("F more\n").then_some(()))
        .await;
    assert!(aside.exists());
    let slow = cri.exec(&main.id, &["/bin/sleep".to_owned(), "100".to_owned()], Duration::from_millis(10)).await;
    assert!(slow.is_err_and(|f| f.to_string().contains("timed out")));
    let command = ["/bin/sh".to_owned(), "-c".to_owned(), "exit 7".to_owned()];
    let code = cri.exec(&main.id, &command, Duration::from_secs(60));
    assert_eq!(code.await.expect("exec").code, 7);
    let command = vec!["/bin/sh".to_owned()];
    let container_id = main.id.clone();
    let exec = StreamRequest::Exec { container_id, command, stdin: true, stdout: true, stderr: true, tty: true };
    assert!(cri.stream(&exec).await.expect("a stream").starts_with("http://127.0.0.1:"));
    let mut root = pod("root", true, vec![shell("main", "true")]);
    root.containers[0].run_as_non_root = true;
    cri.ensure_sandbox(&root).await.expect("a sandbox");
    let refusal = cri.ensure_container(&root, "main").await.expect_err("root");
    assert!(matches!(&refusal, DriverFault::Refused(text) if text.contains("will run as root")), "{refusal}");
    cri.remove("root", Duration::ZERO, NOW).await.expect("removed");
    cri.remove("host", Duration::ZERO, NOW).await.expect("removed");
    assert!(seen(cri, "host").await.is_none());
    assert!(!main.log_path.exists());
}

async fn own_network(cri: &Cri, network: &Network) {
    let shared = tempfile::tempdir().expect("a directory");
    let mut main = shell("main", "exec sleep 1000");
    main.mounts = vec![(shared.path().to_owned(), "/data".to_owned(), true)];
    std::fs::write(shared.path().join("file"), "content").expect("a file");
    let mut wanted = pod("net", false, vec![main]);
    wanted.share_pid = true;
    run(cri, &wanted).await;
    let id = container_id(&seen(cri, "net").await.expect("the pod"), "main", 0);
    assert!(output(cri, &id, "ip addr show lo; ip addr show eth0").await.contains("127.0.0.1/8"));
    assert!(output(cri, &id, "ip addr show eth0").await.contains("10.9.0.2/24"));
    assert_eq!(output(cri, &id, "hostname; cat /data/file").await, "web-0\ncontent");
    assert!(output(cri, &id, "cat /etc/hosts").await.contains("10.9.0.2\tweb-0\n"));
    let resolver = output(cri, &id, "cat /etc/resolv.conf").await;
    assert_eq!(resolver, "search default.svc.cluster.local\nnameserver 10.9.0.1\noptions ndots:5\n");
    assert!(output(cri, &id, "cat /proc/1/comm").await.contains("pause"));
    let read_only = output(cri, &id, "touch /data/other 2>&1 || true").await;
    assert!(read_only.contains("Read-only"), "{read_only}");
    cri.remove("net", Duration::ZERO, NOW).await.expect("removed");
    let asked = network.0.lock().expect("asked").clone();
    let verbs: Vec<CniVerb> = asked.iter().map(|(verb, _)| *verb).collect();
    assert_eq!(verbs[..3], [CniVerb::Add, CniVerb::Add, CniVerb::Del], "the first was told to come again");
    assert!(asked.iter().all(|(_, uid)| uid == "net"));
}

/// The cases that every driver of pods must pass.
struct Common(Config);

impl PodBench for Common {
    fn driver(&self) -> Box<dyn PodDriver> {
        Box::new(Cri::new(self.0.clone()))
    }
    fn pod(&self, uid: &str) -> WantedPod {
        pod(uid, true, vec![shell("main", "exec sleep 1000")])
    }
}

async fn attempts(cri: &Cri) {
    let mut wanted = pod("again", true, vec![shell("main", "echo attempt; exit 3")]);
    cri.ensure_sandbox(&wanted).await.expect("a sandbox");
    for attempt in 0..3 {
        wanted.containers[0].attempt = attempt;
        cri.ensure_container(&wanted, "main").await.expect("a container");
        let exited = until("its end", async || {
            let pod = seen(cri, "again").await?;
            let last = pod.containers.iter().find(|c| c.attempt == attempt)?.clone();
            matches!(last.state, ContainerState::Exited { .. }).then_some(last)
        })
        .await;
        let ContainerState::Exited { code, reason, started, finished, .. } = &exited.state else { unreachable!() };
        assert_eq!((*code, reason.as_str()), (3, "Error"));
        assert!(started <= finished);
        assert!(exited.log_path.ends_with(format!("main/{attempt}.log")));
    }
    let kept: Vec<u32> = seen(cri, "again").await.expect("the pod").containers.iter().map(|c| c.attempt).collect();
    assert_eq!(kept, [1, 2], "the one before the last is kept for its log");
    wanted.containers[0] = shell("main", "exec sleep 1000");
    wanted.containers[0].attempt = 3;
    cri.ensure_container(&wanted, "main").await.expect("a container");
    let id = container_id(&seen(cri, "again").await.expect("the pod"), "main", 3);
    cri.stop_container(&id, Duration::ZERO).await.expect("stopped");
    cri.stop_container(&id, Duration::ZERO).await.expect("stopped twice");
    cri.stop_container("never-was", Duration::ZERO).await.expect("stopped what never was");
    wanted.containers[0].attempt = 4;
    wanted.containers[0].command = vec!["/no/such/program".to_owned()];
    let refusal = cri.ensure_container(&wanted, "main").await.expect_err("no program").to_string();
    assert!(refusal.contains("no such file"), "{refusal}");
    let pod = seen(cri, "again").await.expect("the pod");
    let failed = pod.containers.iter().find(|c| c.attempt == 4).expect("the attempt");
    assert!(matches!(&failed.state, ContainerState::Exited { code: 128, reason, .. } if reason == "StartError"));
    cri.remove("again", Duration::ZERO, NOW).await.expect("removed");
    cri.remove("again", Duration::ZERO, NOW).await.expect("removed twice");
}

/// containerd dies, its pods do not, and a new driver finds them.
async fn adoption(cri: &Cri, config: Config) -> String {
    let wanted = pod("stays", true, vec![shell("main", "exec sleep 1000")]);
    run(cri, &wanted).await;
    let before = seen(cri, "stays").await.expect("the pod");
    let main_pid = |cri_dir: &Path| read_pid(&cri_dir.join("containerd.pid"));
    let first = main_pid(&config.dir);
    let second_driver = Cri::start(config.clone()).await.expect("adopted");
    assert_eq!(main_pid(&config.dir), first, "the running containerd was adopted");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), nix::sys::signal::Signal::SIGKILL).expect("killed");
    let after = until("its return", async || {
        let pods = second_driver.list().await.ok()?;
        pods.into_iter().find(|p| p.uid == "stays")
    })
    .await;
    assert_ne!(main_pid(&config.dir), first);
    assert_eq!(after, before);
    // The first driver notices by itself.
    let seen_by_first = until("the first driver", async || cri.list().await.ok()).await;
    assert_eq!(seen_by_first.len(), 1);
    let id = container_id(&after, "main", 0);
    assert_eq!(output(cri, &id, "echo alive").await, "alive\n");
    id
}

fn read_pid(pidfile: &Path) -> i32 {
    let text = std::fs::read_to_string(pidfile).expect("a pidfile");
    text.split(' ').next().and_then(|p| p.parse().ok()).expect("a pid")
}

async fn measure(cri: &Cri) {
    let mut times: [Vec<Duration>; 4] = Default::default();
    for n in 0..8 {
        let uid = format!("timed-{n}");
        let wanted = pod(&uid, false, vec![shell("main", "exec sleep 1000")]);
        let mut clock = Instant::now();
        let mut lap = |slot: usize| times[slot].push(std::mem::replace(&mut clock, Instant::now()).elapsed());
        cri.ensure_sandbox(&wanted).await.expect("a sandbox");
        lap(0);
        cri.ensure_container(&wanted, "main").await.expect("a container");
        lap(1);
        let id = container_id(&seen(cri, &uid).await.expect("the pod"), "main", 0);
        output(cri, &id, "true").await;
        lap(2);
        cri.remove(&uid, Duration::ZERO, NOW).await.expect("removed");
        lap(3);
    }
    for (name, mut laps) in ["sandbox", "container", "list and exec", "remove"].into_iter().zip(times) {
        laps.sort();
        eprintln!("{name}: median of 8 {:?}, slowest {:?}", laps[4], laps[7]);
    }
}

/// Nothing is left: no process, no mount, no control group, no file.
async fn purge(cri: &Cri, dir: &Path, prefix: &str, survivor: &str) {
    let mine = |text: String| text.contains(&dir.display().to_string()) || text.contains(survivor);
    let processes = || -> Vec<PathBuf> {
        let all = std::fs::read_dir("/proc").expect("/proc").flatten().map(|e| e.path());
        all.filter(|p| std::fs::read(p.join("cmdline")).is_ok_and(|c| mine(String::from_utf8_lossy(&c).into_owned())))
            .collect()
    };
    assert!(!processes().is_empty());
    cri.purge().await.expect("purged");
    assert_eq!(processes(), Vec::<PathBuf>::new());
    assert!(!std::fs::read_to_string("/proc/self/mounts").expect("mounts").contains(&dir.display().to_string()));
    assert!(!dir.join("cri").exists());
    for place in ["/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified"] {
        assert!(!Path::new(place).join(prefix).exists(), "a control group is left in {place}");
    }
    cri.purge().await.expect("purged twice");
}
