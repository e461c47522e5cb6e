//! The referee: the real kubectl against this face over TLS on the loopback.

#![allow(clippy::print_stdout, reason = "what it did is shown when it fails or measures")]

mod common;

use std::process::Stdio;
use std::sync::Arc;

use common::World;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::Command;

/// The kubectl to test with; another version than the installed one by the variable KUBECTL.
fn kubectl() -> String {
    std::env::var("KUBECTL").unwrap_or_else(|_| "kubectl".to_owned())
}

struct Referee {
    world: World,
    url: String,
    home: tempfile::TempDir,
}

impl Referee {
    /// `None` where there is no kubectl.
    async fn new() -> Option<Self> {
        Command::new(kubectl()).arg("version").arg("--client").stdout(Stdio::null()).status().await.ok()?;
        let world = World::new().await;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(
                vec![key.cert.der().clone()],
                rustls::pki_types::PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into()),
            )
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}{}", listener.local_addr().unwrap(), world.path(""));
        let router = world.router.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, router) = (acceptor.clone(), router.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let service = TowerToHyperService::new(router);
                    let _ = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
                });
            }
        });
        Some(Self { world, url, home: tempfile::tempdir().unwrap() })
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(kubectl());
        command
            .args(["--server", &self.url, "--insecure-skip-tls-verify", "--token", &self.world.token])
            .args(line.split_whitespace())
            .env("HOME", self.home.path())
            .env("KUBECONFIG", "/dev/null")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn feed(&self, line: &str, input: &str) -> (bool, String) {
        let mut child = self.command(line).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
        let output = child.wait_with_output().await.unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), text)
    }

    /// Runs kubectl, which must succeed, and gives what it prints.
    async fn run(&self, line: &str) -> String {
        self.with(line, "").await
    }

    async fn with(&self, line: &str, input: &str) -> String {
        let (done, text) = self.feed(line, input).await;
        assert!(done, "kubectl {line}: {text}");
        println!("$ kubectl {line}\n{text}");
        text
    }

    /// Runs kubectl, which must fail.
    async fn fails(&self, line: &str, input: &str) -> String {
        let (done, text) = self.feed(line, input).await;
        assert!(!done, "kubectl {line} should fail: {text}");
        println!("$ kubectl {line} (fails)\n{text}");
        text
    }
}

#[tokio::test]
async fn a_kind_that_is_not_there_is_named() {
    let Some(referee) = Referee::new().await else { return };
    let input = "apiVersion: example.com/v1\nkind: Gadget\nmetadata: {name: x}\n";
    let text = referee.fails("apply -f -", input).await;
    assert!(text.contains("no matches for kind \"Gadget\" in version \"example.com/v1\""), "{text}");
}

const DEPLOYMENT: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: "nginx:1", ports: [{containerPort: 80}]}
      - {name: side, image: "busybox:1"}
"#;

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: p}}
spec:
  containers: [{name: c, image: "busybox:1", resources: {requests: {cpu: "1"}}}]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_works_unmodified() {
    let Some(k) = Referee::new().await else { return };
    let resources = k.run("api-resources").await;
    for word in ["deployments", "deploy", "apps/v1", "endpointslices", "clusterrolebindings", "leases"] {
        assert!(resources.contains(word), "{word}: {resources}");
    }
    assert!(k.run("version").await.contains("Server Version: v1.35"));
    assert!(k.run("get ns").await.contains("kube-system"));
    let service = k.run("get svc -o wide").await;
    assert!(service.contains("10.96.0.1") && service.contains("443/TCP"), "{service}");

    assert!(k.with("apply -f -", POD).await.contains("pod/p created"));
    assert!(k.with("apply -f -", POD).await.contains("pod/p unchanged"));
    let wide = k.run("get pods -o wide").await;
    assert!(wide.contains("NOMINATED NODE") && wide.contains("Pending") && wide.contains("0/1"), "{wide}");
    k.run("label pod p tier=front").await;
    k.run("annotate pod p note=hello").await;
    assert!(k.run("get pods -l tier=front,app=p -o name").await.contains("pod/p"));
    assert!(k.run("get pods --field-selector status.phase=Pending -o name").await.contains("pod/p"));
    assert!(k.run("describe pod p").await.contains("busybox:1"));
    let unknown = POD.replace("image:", "imagge: x, image:");
    assert!(k.fails("apply -f -", &unknown).await.contains("unknown field \"spec.containers[0].imagge\""));

    assert!(k.with("apply -f -", DEPLOYMENT).await.contains("created"));
    k.run("scale deployment web --replicas=5").await;
    assert_eq!(k.run("get deploy web -o jsonpath={.spec.replicas}").await, "5");
    let changed = DEPLOYMENT.replace("nginx:1", "nginx:2").replace("      - {name: side, image: \"busybox:1\"}\n", "");
    assert!(k.with("apply -f -", &changed).await.contains("configured"));
    assert_eq!(k.run("get deploy web -o jsonpath={.spec.template.spec.containers[*].image}").await, "nginx:2");
    k.run("set image deployment/web c=nginx:3").await;
    assert!(k.run("get deploy -o wide").await.contains("nginx:3"));
    k.run(r#"patch deploy web --type=json -p [{"op":"replace","path":"/spec/replicas","value":3}]"#).await;
    k.run(r#"patch deploy web --type=merge -p {"spec":{"paused":true}}"#).await;
    k.run(r#"patch deploy web -p {"spec":{"template":{"spec":{"containers":[{"name":"c","env":[{"name":"A","value":"b"}]}]}}}}"#).await;
    assert_eq!(k.run("get deploy web -o jsonpath={.spec.template.spec.containers[0].env[0].value}").await, "b");

    let taken = k.fails("apply --server-side -f -", &DEPLOYMENT.replace("nginx:1", "nginx:9")).await;
    assert!(taken.contains("conflict") && taken.contains(".image"), "{taken}");
    k.with("apply --server-side --force-conflicts -f -", &DEPLOYMENT.replace("nginx:1", "nginx:9")).await;
    assert!(k.run("get deploy web --show-managed-fields -o yaml").await.contains("operation: Apply"));
    assert!(k.with("diff -f -", POD).await.is_empty());

    assert!(k.run("explain deployment.spec.strategy").await.contains("rollingUpdate"));
    assert!(k.run("explain pod.spec.containers").await.contains("imagePullPolicy"));
    assert!(k.run("get pod p -o yaml").await.contains("qosClass: Burstable"));
    assert!(k.run("auth can-i create pods").await.contains("yes"));
    assert!(k.run("auth whoami").await.contains("demo"));
    k.run("create configmap settings --from-literal=a=b").await;
    k.run("create secret generic hidden --from-literal=a=b").await;
    assert_eq!(k.run("get secret hidden -o jsonpath={.data.a}").await, "Yg==");
    k.run("create namespace other").await;
    k.run("create serviceaccount robot -n other").await;
    assert_eq!(k.run("create token robot -n other").await.split('.').count(), 3);
    k.run("create deployment made --image=nginx:1 --replicas=1").await;
    k.run("expose deployment made --port=80").await;
    assert!(k.run("get svc made").await.contains("10.96.0.2"));
    k.run("create role viewer --verb=get,list --resource=pods").await;
    k.run("create rolebinding viewers --role=viewer --serviceaccount=other:robot").await;
    assert!(k.run("auth can-i list pods --as=system:serviceaccount:other:robot").await.contains("yes"));
    assert!(k.fails("auth can-i list pods --as=x", "").await.contains("no"));
    k.run("run runner --image=busybox:1 --restart=Never -- sleep 1").await;

    assert!(k.fails("get pods missing", "").await.contains("pods \"missing\" not found"));
    assert!(k.with("get pods --chunk-size=1", "").await.contains("runner"));
    assert!(k.run("delete pod p runner").await.contains("deleted"));
    assert!(k.run("delete deploy --all").await.contains("web"));
    assert!(k.run("get all").await.contains("service/kubernetes"));
}

const GADGETS: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: gadgets, kind: Gadget, shortNames: [gd], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}, scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}
    additionalPrinterColumns: [{name: Color, type: string, jsonPath: .spec.color}]
    schema:
      openAPIV3Schema:
        type: object
        description: What the workshop makes.
        properties:
          spec:
            type: object
            required: [color]
            properties:
              color: {type: string, description: How it is painted., enum: [red, green]}
              replicas: {type: integer, minimum: 0, default: 1}
          status: {type: object, properties: {replicas: {type: integer}}}
"#;

const GADGET: &str = "apiVersion: example.com/v1\nkind: Gadget\nmetadata: {name: g}\nspec: {color: red}\n";

#[tokio::test(flavor = "multi_thread")]
async fn kinds_are_defined_used_and_removed() {
    let Some(k) = Referee::new().await else { return };
    k.with("apply -f -", GADGETS).await;
    k.run("wait --for=condition=Established crd/gadgets.example.com --timeout=60s").await;
    assert!(k.with("apply -f -", GADGETS).await.contains("unchanged"));
    assert!(k.run("api-resources --api-group=example.com").await.contains("gadgets"));
    assert!(k.with("apply -f -", GADGET).await.contains("gadget.example.com/g created"));
    let text = k.run("get gd").await;
    assert!(text.contains("COLOR") && text.contains("red"), "{text}");
    assert!(k.run("get all").await.contains("gadget.example.com/g"));
    let text = k.run("explain gadget.spec").await;
    assert!(text.contains("How it is painted.") && text.contains("red, green"), "{text}");
    k.run("scale gadget g --replicas=3").await;
    assert_eq!(k.run("get gadget g -o jsonpath={.spec.replicas}").await, "3");
    let text = k.fails("apply -f -", &GADGET.replace("red", "blue")).await;
    assert!(text.contains("Unsupported value: \"blue\""), "{text}");
    let text = k.fails("apply -f -", &GADGET.replace("color:", "colour: red, color:")).await;
    assert!(text.contains("unknown field \"spec.colour\""), "{text}");
    k.with("apply --server-side --force-conflicts -f -", &GADGET.replace("red", "green")).await;
    k.run(r#"patch gadget g --type=merge -p {"spec":{"color":"red"}}"#).await;
    k.run("create serviceaccount robot").await;
    assert!(k.fails("auth can-i list gadgets --as=system:serviceaccount:default:robot", "").await.contains("no"));
    k.run("create role painter --verb=get,list --resource=gadgets.example.com").await;
    k.run("create rolebinding painters --role=painter --serviceaccount=default:robot").await;
    assert!(k.run("get gadgets --as=system:serviceaccount:default:robot").await.contains("red"));
    assert!(k.fails("delete gadget g --as=system:serviceaccount:default:robot", "").await.contains("forbidden"));
    k.run("delete crd gadgets.example.com").await;
    let text = k.fails("get gadgets.example.com", "").await;
    assert!(text.contains("doesn't have a resource type") || text.contains("could not find"), "{text}");
    assert!(!k.run("get all").await.contains("gadget"));
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_watches_and_waits() {
    let Some(k) = Referee::new().await else { return };
    let mut watcher = k.command("get pods -w").spawn().unwrap();
    let waiter = k.command("wait --for=jsonpath={.status.phase}=Running pod/p --timeout=60s").spawn();
    drop(waiter);
    k.with("apply -f -", POD).await;
    let waiter = k.command("wait --for=condition=Ready pod/p --timeout=60s").spawn().unwrap();
    k.run(r#"patch pod p --subresource=status --type=merge -p {"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}"#).await;
    let waited = waiter.wait_with_output().await.unwrap();
    assert!(waited.status.success(), "{}", String::from_utf8_lossy(&waited.stderr));
    k.run("delete pod p").await;
    let mut lines = tokio::io::BufReader::new(watcher.stdout.take().unwrap());
    let mut all = String::new();
    let seen = async {
        use tokio::io::AsyncBufReadExt;
        while !(all.contains("Pending") && all.contains("Running")) {
            if lines.read_line(&mut all).await.unwrap() == 0 {
                break;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), seen).await.unwrap_or_else(|_| panic!("watched: {all}"));
    watcher.kill().await.unwrap();
}

const NIGHT: &str = "apiVersion: batch/v1
kind: CronJob
metadata: {name: night}
spec:
  schedule: 30 2 * * *
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: busybox}]}}}}
";

#[tokio::test(flavor = "multi_thread")]
async fn cron_jobs_are_made_shown_and_tried() {
    let Some(k) = Referee::new().await else { return };
    assert!(k.with("apply -f -", NIGHT).await.contains("cronjob.batch/night created"));
    k.run("create cronjob hourly --image=busybox --schedule=@hourly").await;
    let text = k.run("get cj").await;
    for word in ["LAST SCHEDULE", "30 2 * * *", "@hourly", "<none>", "False"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(k.run("get all").await.contains("cronjob.batch/night"));
    let text = k.run("describe cronjob night").await;
    assert!(text.contains("Concurrency Policy:") && text.contains("Allow"), "{text}");
    // One at once, by hand: the client makes a Job of the template.
    k.run("create job now --from=cronjob/night").await;
    assert_eq!(k.run("get job now -o jsonpath={.metadata.ownerReferences[0].kind}").await, "CronJob");
    k.run(r#"patch cronjob night -p {"spec":{"suspend":true}}"#).await;
    assert_eq!(k.run("get cronjob night -o jsonpath={.spec.suspend}").await, "true");
    let text = k.fails("apply -f -", &NIGHT.replace("30 2", "30 25")).await;
    assert!(text.contains("not between 0 and 23: 25"), "{text}");
    let text = k.fails("apply -f -", &NIGHT.replace("schedule:", "timeZone: Europe/Vienna\n  schedule:")).await;
    assert!(text.contains("schedules are in UTC"), "{text}");
    k.run("delete cronjob night hourly").await;
}
