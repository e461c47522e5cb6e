//! The faces, asked by requests. An input is a request: a line `METHOD PATH CONTENT-TYPE TOKEN`, which may go on with OpenStack's
//! header of a version (`compute 2.104`), then the body. `PROJECT`,
//! `CLUSTER` and `TOKEN` stand for what the cloud of this run has.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use face_kube::Kube;
use face_openstack::service::{Property, Takes};
use face_openstack::{Cloud, HostAnswer, HostStreams};
use face_registry::Registry;
use gate::{Gate, NamedRef, Proof, ScopeRequest};
use http::Request;
use http_body_util::BodyExt;
use model::{Change, Cluster, Fault, Network, Project, Time};
use serde_json::{Map, Value, json};
use store::Store;
use tower::ServiceExt;

/// A cloud that has answered so often is replaced: what was made in it would slow it down.
const ANSWERS: u32 = 1000;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How the answer to server-side apply begins that is a 500 on purpose.
const SENTENCE: &[u8] = b"failed to create typed patch object";

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

struct World {
    runtime: tokio::runtime::Runtime,
    kube: Router,
    openstack: Router,
    registry: Router,
    project: String,
    cluster: String,
    token: String,
    answers: u32,
    _dir: tempfile::TempDir,
}

struct NoHosts;

impl HostStreams for NoHosts {
    fn get<'a>(&'a self, endpoint: &'a str, _: &'a str, _: usize) -> HostAnswer<'a> {
        Box::pin(async move { Err(Fault::Unavailable(format!("no host answers at {endpoint}"))) })
    }
}

impl World {
    fn new() -> Result<Self, String> {
        let text = |e: &dyn std::fmt::Display| e.to_string();
        // Blobs are written by threads that may block, which need a runtime of several.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|e| text(&e))?;
        let dir = tempfile::tempdir().map_err(|e| text(&e))?;
        let store = Store::memory();
        let gate = Arc::new(Gate::with_cost(store.clone(), 4));
        let blobs = blob::Blobs::new(dir.path().join("blobs"));
        let _entered = runtime.enter();
        let (project, cluster, token) = runtime.block_on(async {
            gate.bootstrap("admin", "demo").await.map_err(|e| text(&e))?;
            let project = store.snapshot().all::<Project>().find(|p| p.name == "demo").map(|p| p.id.clone());
            let project = project.ok_or("there is no project demo")?;
            let (network, cluster) = (network(&project), cluster(&project));
            let mut change = Change::from(network);
            face_kube::cluster_rows(&cluster, Time::now()).into_iter().for_each(|row| _ = change.create(row));
            let cluster_id = cluster.id.clone();
            change.create(cluster);
            store.commit(&change).await.map_err(|e| text(&e))?;
            let token = login(&gate).await.map_err(|e| text(&e))?;
            Ok::<_, String>((project, cluster_id, token))
        })?;
        let cloud = Cloud {
            store: store.clone(),
            blobs: blobs.clone(),
            gate: gate.clone(),
            base_url: "https://127.0.0.1:8443".into(),
            region: "RegionOne".into(),
            streams: Arc::new(NoHosts),
            uploads: Default::default(),
            reach: Default::default(),
        };
        let kube = face_kube::router(Kube::new(store.clone(), gate.clone()));
        let registry = face_registry::router(Registry::new(store, blobs, gate));
        let openstack = face_openstack::router(cloud);
        drop(_entered);
        Ok(Self { runtime, kube, openstack, registry, project, cluster, token, answers: 0, _dir: dir })
    }

    /// The request of an input; none if HTTP itself forbids it.
    fn request(&self, input: &[u8]) -> Option<Request<Body>> {
        let end = input.iter().position(|b| *b == b'\n').unwrap_or(input.len());
        let head = String::from_utf8_lossy(&input[..end]);
        let head =
            head.replace("PROJECT", &self.project).replace("CLUSTER", &self.cluster).replace("TOKEN", &self.token);
        let mut words = head.split(' ');
        let (method, path, media) = (words.next()?, words.next()?, words.next().unwrap_or(""));
        let token = words.next().unwrap_or("");
        let version = words.collect::<Vec<_>>().join(" ");
        let request = Request::builder().method(method).uri(path).header("content-type", media);
        let request = request.header("x-auth-token", token).header("authorization", format!("Bearer {token}"));
        let request = if version.is_empty() { request } else { request.header("openstack-api-version", version) };
        request.body(Body::from(input.get(end + 1..).unwrap_or_default().to_vec())).ok()
    }

    fn ask(&self, router: &Router, input: &[u8]) -> Result<u16, String> {
        let Some(request) = self.request(input) else { return Ok(400) };
        // A watch goes on until its client goes away; this one does at once.
        let watches = request.uri().query().is_some_and(|query| query.contains("watch") || query.contains("follow"));
        let asked = async {
            let Ok(answer) = router.clone().oneshot(request).await;
            let status = answer.status().as_u16();
            let bytes = if watches { None } else { answer.into_body().collect().await.ok() };
            (status, bytes.map(|bytes| bytes.to_bytes()).unwrap_or_default())
        };
        let answered = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, asked).await });
        let (status, bytes) = answered.map_err(|_| "it hangs")?;
        match status {
            // Not implemented, and no host: both are true here.
            501 | 503 => Ok(status),
            // So answers the real API server to a configuration that it cannot merge.
            500 if bytes.windows(SENTENCE.len()).any(|part| part == SENTENCE) => Ok(status),
            500.. => Err(format!("it answers {status}: {}", String::from_utf8_lossy(&bytes))),
            _ => Ok(status),
        }
    }
}

/// Asks one of the faces; its status.
fn ask(input: &[u8], router: fn(&World) -> &Router) -> Result<u16, String> {
    // Taken out for the time of the request: one that panics takes its cloud with it.
    let world = WORLD.take().filter(|world| world.answers < ANSWERS);
    let mut world = world.map_or_else(World::new, Ok)?;
    let result = world.ask(router(&world), input);
    world.answers += 1;
    WORLD.set(Some(world));
    result
}

pub fn kube(input: &[u8]) -> Result<(), String> {
    ask(input, |world| &world.kube).map(drop)
}

pub fn openstack(input: &[u8]) -> Result<(), String> {
    ask(input, |world| &world.openstack).map(drop)
}

pub fn registry(input: &[u8]) -> Result<(), String> {
    ask(input, |world| &world.registry).map(drop)
}

async fn login(gate: &Gate) -> Result<String, Fault> {
    let named = |name: &str| NamedRef {
        name: Some(name.into()),
        domain: gate::DomainRef { id: Some("default".into()), name: None },
        ..NamedRef::default()
    };
    let proof = Proof::Password { user: named("admin"), password: "admin".into() };
    Ok(gate.login(vec![proof], ScopeRequest::Project(named("demo")), gate::Client::UNKNOWN).await?.0)
}

fn network(project: &str) -> Network {
    Network { name: "n".into(), ..Network::new(NETWORK, project, 5, Time::UNIX_EPOCH) }
}

fn cluster(project: &str) -> Cluster {
    Cluster { name: "one".into(), service_prefix: 24, ..Cluster::new("c-one", &network(project), Time::UNIX_EPOCH) }
}

const NETWORK: &str = "11111111-1111-4111-8111-111111111111";
const JSON: &str = "application/json";

fn input(method: &str, path: &str, media: &str, body: &Value) -> Vec<u8> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    format!("{method} {path} {media} TOKEN\n{body}").into_bytes()
}

pub fn kube_seeds() -> Vec<Vec<u8>> {
    let space = "/clusters/CLUSTER/api/v1/namespaces/default";
    let apps = "/clusters/CLUSTER/apis/apps/v1/namespaces/default/deployments";
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"x": "y"}}, "spec": {
        "containers": [{"name": "c", "image": "i:1", "ports": [{"containerPort": 80}], "env": [{"name": "E", "value": "1"}],
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}, "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            "livenessProbe": {"httpGet": {"port": 80, "path": "/"}}}],
        "volumes": [{"name": "v", "configMap": {"name": "m"}}], "restartPolicy": "Always",
        "tolerations": [{"key": "k", "operator": "Exists"}]}});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "replicas": 2, "selector": {"matchLabels": {"x": "y"}}, "strategy": {"rollingUpdate": {"maxSurge": "25%"}},
        "template": {"metadata": {"labels": {"x": "y"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {
        "selector": {"x": "y"}, "ports": [{"port": 80, "targetPort": "http", "protocol": "TCP"}], "type": "ClusterIP"}});
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"k": "v"}});
    let json_patch = json!([{"op": "add", "path": "/metadata/labels/z", "value": "1"}, {"op": "test", "path": "/kind", "value": "Pod"},
        {"op": "move", "from": "/metadata/labels/z", "path": "/metadata/labels/w"}]);
    let strategic = json!({"metadata": {"labels": {"z": null}}, "spec": {"containers": [{"name": "c", "image": "i:2",
        "$patch": "merge"}], "$setElementOrder/containers": [{"name": "c"}], "volumes": [{"$patch": "delete", "name": "v"}]}});
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "gs.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "gs", "kind": "G"}, "versions": [{"name": "v1", "served": true, "storage": true,
            "additionalPrinterColumns": [{"name": "A", "type": "string",
                "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"}],
            "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"}},
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "required": ["a"],
                "properties": {"a": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 9, "enum": ["x", "y"]},
                    "n": {"type": "integer", "minimum": 0, "default": 1}, "p": {"x-kubernetes-int-or-string": true},
                    "l": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                        "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}}}},
                    "m": {"type": "object", "additionalProperties": {"type": "number", "multipleOf": 0.5}},
                    "o": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    "e": {"type": "string", "nullable": true, "anyOf": [{"maxLength": 3}, {"pattern": "^z"}]}}}}}}}]}});
    let custom = json!({"apiVersion": "example.com/v1", "kind": "G", "metadata": {"name": "g"}, "spec": {"a": "x", "n": 2,
        "p": "50%", "l": [{"k": "1"}, {"k": "2"}], "m": {"q": 1.5}, "o": {"w": [{"u": null}]}, "e": null}});
    let gs = "/clusters/CLUSTER/apis/example.com/v1/namespaces/default/gs";
    let definitions = "/clusters/CLUSTER/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let apply = format!("{apps}/d?fieldManager=f&force=true");
    let cluster = "/clusters/CLUSTER";
    // The field 2 of `Unknown` is the object: a ConfigMap named "p" with a label.
    let raw = b"\n\x11\n\x01p\x12\0\x1a\0\"\0Z\x06\n\x01x\x12\x01y\x12\x06\n\x01k\x12\x01v";
    let protobuf =
        [b"k8s\0\n\x0f\n\x02v1\x12\x09ConfigMap\x12".as_slice(), &[raw.len() as u8], raw, b"\x1a\0\"\0"].concat();
    let head = format!("POST {space}/configmaps application/vnd.kubernetes.protobuf TOKEN\n");
    vec![
        input("POST", &format!("{space}/pods"), JSON, &pod),
        input("POST", apps, JSON, &deployment),
        input("POST", &format!("{space}/services?fieldValidation=Strict"), JSON, &service),
        input("POST", &format!("{space}/configmaps?dryRun=All"), JSON, &map),
        input("PUT", &format!("{space}/configmaps/m"), JSON, &map),
        [head.as_bytes(), &protobuf].concat(),
        input("PATCH", &format!("{space}/pods/a"), "application/json-patch+json", &json_patch),
        input(
            "PATCH",
            &format!("{space}/pods/a"),
            "application/merge-patch+json",
            &json!({"metadata": {"labels": {"q": "r"}}}),
        ),
        input("PATCH", &format!("{space}/pods/a"), "application/strategic-merge-patch+json", &strategic),
        input("PATCH", &apply, "application/apply-patch+yaml", &deployment),
        input("PATCH", &format!("{apps}/d/scale"), "application/merge-patch+json", &json!({"spec": {"replicas": 3}})),
        input(
            "GET",
            &format!("{space}/pods?labelSelector=x%3Dy,z+in+(a,b),!w&fieldSelector=spec.nodeName%3Dn&limit=2"),
            JSON,
            &Value::Null,
        ),
        input(
            "GET",
            &format!("{space}/pods?watch=1&resourceVersion=1&allowWatchBookmarks=true&timeoutSeconds=1"),
            JSON,
            &Value::Null,
        ),
        input("GET", &format!("{space}/pods/a/log?tailLines=1&sinceSeconds=2"), JSON, &Value::Null),
        input("GET", &format!("{cluster}/openapi/v3/api/v1"), JSON, &Value::Null),
        input("GET", &format!("{cluster}/apis"), JSON, &Value::Null),
        input("POST", definitions, JSON, &definition),
        input("POST", gs, JSON, &custom),
        input("PATCH", &format!("{gs}/g?fieldManager=f&force=true"), "application/apply-patch+yaml", &custom),
        input("PATCH", &format!("{gs}/g/scale"), "application/merge-patch+json", &json!({"spec": {"replicas": 3}})),
        input("GET", &format!("{cluster}/openapi/v3/apis/example.com/v1"), JSON, &Value::Null),
        input(
            "PATCH",
            &format!("{definitions}/gs.example.com"),
            "application/merge-patch+json",
            &json!({"spec": {"names": {"shortNames": ["x"]}}}),
        ),
        input(
            "DELETE",
            &format!("{space}/pods?labelSelector=x=y&propagationPolicy=Foreground"),
            JSON,
            &json!({"gracePeriodSeconds": 1}),
        ),
        input(
            "DELETE",
            &format!("{apps}/d"),
            JSON,
            &json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "u"}}),
        ),
        input(
            "POST",
            &format!("{space}/serviceaccounts/default/token"),
            JSON,
            &json!({"spec": {"expirationSeconds": 3600, "audiences": ["a"]}}),
        ),
        input(
            "POST",
            &format!("{cluster}/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"),
            JSON,
            &json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}),
        ),
    ]
}

/// Each body that is declared: whole, by each way in which it names a row, in the oldest and in the newest version.
fn declared_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for service in face_openstack::SERVICES {
        let micro = service.microversions.as_ref();
        for endpoint in (service.table)() {
            let versions =
                micro.map_or([(0, 0); 2], |micro| [endpoint.since.max(micro.min), endpoint.until.min(micro.max)]);
            for (takes, version) in endpoint.bodies.iter().flat_map(|takes| versions.map(|version| (takes, version))) {
                let header =
                    micro.map(|micro| format!(" {} {}.{}", micro.name, version.0, version.1)).unwrap_or_default();
                let mut parts = endpoint.path.split('/').map(|part| if part.starts_with('{') { NETWORK } else { part });
                let path = format!("{}{}", service.prefix, parts.by_ref().collect::<Vec<_>>().join("/"));
                seeds.extend(
                    bodies(takes, version)
                        .into_iter()
                        .map(|body| format!("{} {path} {JSON} TOKEN{header}\n{body}", endpoint.method).into_bytes()),
                );
            }
        }
    }
    seeds.sort_unstable();
    seeds.dedup();
    seeds
}

/// An object with all its properties, for each way in which one of them names a row.
fn bodies(takes: &Takes, version: (u16, u16)) -> Vec<Value> {
    let here = |property: &&Property| (property.since..=property.until).contains(&version);
    let named = |value: &str| serde_json::from_str(&value.replace('$', NETWORK)).unwrap_or(Value::Null);
    let mut whole = Map::new();
    for property in takes.properties.iter().filter(here) {
        let value = property.refers_to.first().map_or_else(|| property.sample.clone(), |(_, value)| named(value));
        whole.extend((!value.is_null()).then(|| (property.name.to_owned(), value)));
    }
    let others = takes.properties.iter().filter(here).flat_map(|property| {
        property.refers_to.iter().skip(1).map(|(_, value)| (property.name.to_owned(), named(value)))
    });
    let others = others.map(|other| whole.clone().into_iter().chain([other]).collect::<Map<_, _>>());
    let objects = std::iter::once(whole.clone()).chain(others.collect::<Vec<_>>());
    objects
        .map(|object| if takes.name.is_empty() { Value::Object(object) } else { json!({takes.name: object}) })
        .collect()
}

pub fn openstack_seeds() -> Vec<Vec<u8>> {
    let (identity, compute, network, image) = ("/identity/v3", "/compute/v2.1", "/network/v2.0", "/image/v2");
    let post = |path: &str, body: Value| input("POST", path, JSON, &body);
    let get = |path: &str| input("GET", path, JSON, &Value::Null);
    let auth = json!({"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "admin", "password": "admin",
        "domain": {"id": "default"}}}}, "scope": {"project": {"name": "demo", "domain": {"id": "default"}}}}});
    let token = json!({"auth": {"identity": {"methods": ["token"], "token": {"id": "TOKEN"}}, "scope": "unscoped"}});
    let subnet = json!({"subnet": {"network_id": NETWORK, "cidr": "10.0.0.0/24", "ip_version": 4, "gateway_ip": "10.0.0.1",
        "allocation_pools": [{"start": "10.0.0.2", "end": "10.0.0.9"}], "dns_nameservers": ["1.1.1.1"],
        "host_routes": [{"destination": "10.9.0.0/16", "nexthop": "10.0.0.9"}]}});
    let six = json!({"subnet": {"network_id": NETWORK, "cidr": "fd00:1::/64", "ip_version": 6, "ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"}});
    let port = json!({"port": {"network_id": NETWORK, "fixed_ips": [{"ip_address": "10.0.0.7"}], "mac_address": "fa:16:3e:00:00:01",
        "allowed_address_pairs": [{"ip_address": "10.1.0.0/16"}], "extra_dhcp_opts": [{"opt_name": "mtu", "opt_value": "1400"}], "binding:profile": {}}});
    let picture = json!({"name": "i", "disk_format": "raw", "container_format": "bare", "visibility": "private", "min_ram": 1, "tags": ["t"]});
    let image_patch =
        json!([{"op": "replace", "path": "/name", "value": "j"}, {"op": "add", "path": "/k", "value": "v"}]);
    let id = NETWORK;
    let by_hand = vec![
        post(&format!("{identity}/auth/tokens"), auth),
        post(&format!("{identity}/auth/tokens?nocatalog"), token),
        post(
            &format!("{identity}/projects"),
            json!({"project": {"name": "p", "domain_id": "default", "tags": ["a"], "options": {}}}),
        ),
        post(
            &format!("{identity}/users"),
            json!({"user": {"name": "u", "password": "p", "default_project_id": "PROJECT", "enabled": true}}),
        ),
        post(
            &format!("{identity}/users/{id}/application_credentials"),
            json!({"application_credential": {"name": "a", "expires_at": "2030-01-01T00:00:00Z",
            "roles": [{"name": "member"}], "access_rules": [{"path": "/v2.1/servers", "method": "GET", "service": "compute"}]}}),
        ),
        get(&format!("{identity}/role_assignments?user.id={id}&include_names=true&effective")),
        get(&format!("{identity}/projects?name=demo&limit=2&marker={id}&sort_key=name&enabled=true")),
        post(&format!("{compute}/servers/{id}/action"), json!({"reboot": {"type": "SOFT"}})),
        input(
            "PUT",
            &format!("{compute}/os-quota-sets/PROJECT"),
            JSON,
            &json!({"quota_set": {"cores": 5, "instances": "-1", "force": true}}),
        ),
        get(&format!(
            "{compute}/servers/detail?limit=1&marker={id}&sort_key=created_at&sort_dir=asc&changes-since=2020-01-01T00:00:00Z&ip=10.0.&tags=a,b"
        )),
        post(&format!("{network}/networks"), json!({"networks": [{"name": "a"}, {"name": "b"}]})),
        post(&format!("{network}/subnets"), subnet),
        post(&format!("{network}/subnets"), six),
        post(
            &format!("{network}/subnetpools"),
            json!({"subnetpool": {"name": "p", "prefixes": ["10.8.0.0/16"], "default_prefixlen": 26, "min_prefixlen": 24}}),
        ),
        post(&format!("{network}/ports"), port),
        input(
            "PUT",
            &format!("{network}/ports/{id}"),
            JSON,
            &json!({"port": {"security_groups": [id], "fixed_ips": [{"subnet_id": id}]}}),
        ),
        post(
            &format!("{network}/routers"),
            json!({"router": {"name": "r", "external_gateway_info": {"network_id": id, "enable_snat": true,
            "external_fixed_ips": [{"ip_address": "1.2.3.4"}]}}}),
        ),
        input("PUT", &format!("{network}/routers/{id}/add_router_interface"), JSON, &json!({"subnet_id": id})),
        post(&format!("{network}/address-groups"), json!({"address_group": {"addresses": ["10.0.0.0/8", "fd00::/8"]}})),
        input(
            "PUT",
            &format!("{network}/address-groups/{id}/add_addresses"),
            JSON,
            &json!({"addresses": ["10.0.0.1"]}),
        ),
        get(&format!(
            "{network}/ports?fixed_ips=ip_address%3D10.0.0.4&fixed_ips=subnet_id%3D{id}&fields=id&sort_key=name&sort_dir=desc&limit=1&page_reverse=true"
        )),
        post(&format!("{image}/images"), picture),
        input("PATCH", &format!("{image}/images/{id}"), "application/openstack-images-v2.1-json-patch", &image_patch),
        get(&format!(
            "{image}/images?limit=1&sort=name:asc,created_at&visibility=all&size_min=1&tag=a&created_at=gt:2020-01-01T00:00:00Z"
        )),
        input("PUT", &format!("{image}/images/{id}/file"), "application/octet-stream", &json!("bytes")),
        post(
            &format!("{image}/images/{id}/import"),
            json!({"method": {"name": "web-download", "uri": "http://[2600::1]:80/a?b#c"}, "stores": ["blobs"]}),
        ),
        get("/placement/allocation_candidates?resources=VCPU:1,MEMORY_MB:64&required=COMPUTE_NODE&limit=2"),
        get(&format!("/placement/resource_providers?name=a&member_of=in:{id}")),
    ];
    [by_hand, declared_seeds()].concat()
}

pub fn registry_seeds() -> Vec<Vec<u8>> {
    let digest = "sha256:".to_owned() + &"a".repeat(64);
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": 2},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": 3}]});
    let media = "application/vnd.oci.image.manifest.v1+json";
    vec![
        input("GET", "/v2/", JSON, &Value::Null),
        input("GET", "/v2/demo/app/tags/list?n=1&last=a", JSON, &Value::Null),
        input("GET", &format!("/v2/demo/app/manifests/{digest}"), JSON, &Value::Null),
        input("PUT", "/v2/demo/app/manifests/latest", media, &manifest),
        input("HEAD", &format!("/v2/demo/app/blobs/{digest}"), JSON, &Value::Null),
        input("POST", "/v2/demo/app/blobs/uploads/", "application/octet-stream", &Value::Null),
        input("POST", &format!("/v2/demo/app/blobs/uploads/?digest={digest}"), "application/octet-stream", &json!("x")),
        input("POST", &format!("/v2/demo/app/blobs/uploads/?mount={digest}&from=demo/other"), JSON, &Value::Null),
        input(
            "PATCH",
            "/v2/demo/app/blobs/uploads/00000000-0000-4000-8000-000000000000",
            "application/octet-stream",
            &json!("x"),
        ),
        input(
            "PUT",
            &format!("/v2/demo/app/blobs/uploads/00000000-0000-4000-8000-000000000000?digest={digest}"),
            JSON,
            &Value::Null,
        ),
        input("DELETE", &format!("/v2/demo/app/manifests/{digest}"), JSON, &Value::Null),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seeds that are refused at the door would test nothing but the door.
    #[test]
    fn seeds_get_through() {
        type Face = fn(&World) -> &Router;
        let faces: [(_, Face, usize); 3] = [
            (kube_seeds(), |world| &world.kube, 21),
            (openstack_seeds(), |world| &world.openstack, 14),
            (registry_seeds(), |world| &world.registry, 3),
        ];
        for (seeds, router, least) in faces {
            let asked =
                seeds.iter().map(|seed| (ask(seed, router).unwrap(), String::from_utf8_lossy(seed).into_owned()));
            let (through, not): (Vec<_>, Vec<_>) = asked.partition(|(status, _)| *status < 400);
            assert!(through.len() >= least, "{} got through, these did not: {not:#?}", through.len());
        }
    }
}
