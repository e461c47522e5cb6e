//! What a host may know, made of the rows: [`model::host_view`] says why that is little. Each thing is made for itself, when
//! it is asked for: its cost depends on that thing alone.

use std::collections::BTreeSet;

use model::host_view::{HostView, PodView, VmView, Wanted};
use model::pod_security::{containers, list};
use model::{
    Aggregate, Aggregates, Cluster, Entry, Fault, Host, Image, Index, KubeObject, Port, Realm, Server, Setting,
    Snapshot, Vm, VmPhase,
};
use serde_json::Value;

/// The host itself.
pub fn host(rows: &Snapshot, host: &str) -> HostView {
    let cloud = Setting::cloud_id(rows).map(str::to_owned);
    HostView { cloud, host: rows.get::<Host>(host).map(|host| host.value.clone()) }
}

/// The VMs that it shall have, and those that it shall end.
pub fn vms(rows: &Snapshot, host: &str) -> Vec<Wanted> {
    let wanted = |vm: Entry<'_, Vm>| {
        let server = rows.get::<Server>(&vm.server_id);
        let ports = server.iter().flat_map(|server| Port::of_server(rows, server)).map(|port| port.row.modified);
        let made_of = [vm.row.modified].into_iter().chain(server.map(|server| server.row.modified)).chain(ports);
        Wanted {
            id: Vm::id(&vm.server_id, vm.incarnation),
            rows: made_of.collect(),
            saving: saving(rows, vm.value).is_some(),
        }
    };
    rows.find::<Vm>(Index::Host, host).map(wanted).collect()
}

/// A VM of the host.
pub fn vm(rows: &Snapshot, host: &str, id: &str) -> Option<VmView> {
    let vm = rows.get::<Vm>(id).filter(|vm| vm.host.as_deref() == Some(host))?;
    let server = rows.get::<Server>(&vm.server_id);
    let mut ports: Vec<Port> =
        server.iter().flat_map(|server| Port::of_server(rows, server)).map(|port| port.value.clone()).collect();
    ports.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    Some(VmView {
        vm: vm.value.clone(),
        server: server.map(|server| server.value.clone()),
        ports,
        zone: Aggregate::zone_of(rows, host).to_owned(),
        saving: saving(rows, vm.value).map(|image| image.value.clone()),
    })
}

/// The newest VM behind a port, if that is on the host.
pub fn vm_of_port(rows: &Snapshot, host: &str, port: &str) -> Option<VmView> {
    let port = rows.get::<Port>(port)?;
    let server = rows.at::<Server>(port.holder.as_ref()?.key())?;
    let newest =
        rows.find::<Vm>(Index::Owner, &server.id).filter(|vm| vm.host.is_some()).max_by_key(|vm| vm.incarnation)?;
    vm(rows, host, &Vm::id(&newest.server_id, newest.incarnation))
}

/// The image to be made from a VM's disk, one at a time. A server that is being shelved is stopped first.
fn saving<'a>(rows: &'a Snapshot, vm: &Vm) -> Option<Entry<'a, Image>> {
    if vm.deleting || matches!(vm.status.phase, VmPhase::Unknown | VmPhase::Starting | VmPhase::Gone) {
        return None;
    }
    let image = rows.find::<Image>(Index::Owner, &vm.server_id).min_by_key(|image| image.row.created)?;
    let server = rows.get::<Server>(&vm.server_id)?;
    let shelving = server.shelved.as_deref() == Some(&image.id);
    (!shelving || vm.status.phase == VmPhase::Stopped).then_some(image)
}

/// The pods that it shall have, and those that it shall end.
pub fn pods(rows: &Snapshot, host: &str) -> Vec<Wanted> {
    let wanted = |pod: Entry<'_, KubeObject>| {
        let port = Port::of_pod(rows, pod.uid()).map(|port| port.row.modified);
        Wanted { id: pod.uid().to_owned(), rows: [pod.row.modified].into_iter().chain(port).collect(), saving: false }
    };
    rows.find::<KubeObject>(Index::Host, host).filter(|object| object.is_pod()).map(wanted).collect()
}

/// A pod of the host.
pub fn pod(rows: &Snapshot, host: &str, uid: &str) -> Option<PodView> {
    let pod = row_of_pod(rows, host, uid)?;
    let (cluster, namespace) = (pod.cluster_id.as_str(), pod.namespace.as_str());
    let data = named_by(&pod.body).into_iter().filter_map(|(resource, name)| {
        let key = KubeObject::key_of(cluster, "", resource, namespace, name);
        rows.at::<KubeObject>(&key).map(|object| object.value.clone())
    });
    Some(PodView {
        pod: pod.value.clone(),
        admitted: Aggregates::of(rows).admits(host, &pod.project_id),
        port: Port::of_pod(rows, uid).map(|port| port.value.clone()),
        domain: rows.get::<Cluster>(cluster).map(|cluster| cluster.domain.clone()),
        data: data.collect(),
        services: services(rows, pod.value),
    })
}

/// The row by which a host has a pod.
pub(crate) fn row_of_pod<'a>(rows: &'a Snapshot, host: &str, uid: &str) -> Option<Entry<'a, KubeObject>> {
    let mut found = rows.find::<KubeObject>(Index::Name, uid);
    found.find(|object| object.is_pod() && object.body["spec"]["nodeName"] == host)
}

/// The services of the pod's namespace, unless the pod wants none; the API's own always.
fn services(rows: &Snapshot, pod: &KubeObject) -> Vec<KubeObject> {
    let links = pod.body["spec"]["enableServiceLinks"].as_bool().unwrap_or(true);
    let prefix = KubeObject::prefix("", "services", &pod.namespace);
    let own = rows.names::<KubeObject>(&Realm::cluster(&pod.cluster_id), &prefix, None);
    let mut all: Vec<KubeObject> = if links { own.map(|service| service.value.clone()).collect() } else { Vec::new() };
    if !(links && pod.namespace == "default") {
        let api = KubeObject::key_of(&pod.cluster_id, "", "services", "default", "kubernetes");
        all.extend(rows.at::<KubeObject>(&api).map(|api| api.value.clone()));
    }
    all
}

/// The ConfigMaps and Secrets that a pod names, by plural and name: no others are its host's to read.
fn named_by(pod: &Value) -> BTreeSet<(&'static str, &str)> {
    const MAPS: &str = "configmaps";
    const SECRETS: &str = "secrets";
    let spec = &pod["spec"];
    let mut named: Vec<(&'static str, &Value)> = Vec::new();
    named.extend(list(spec, "imagePullSecrets").map(|secret| (SECRETS, &secret["name"])));
    for volume in list(spec, "volumes") {
        named.extend([(MAPS, &volume["configMap"]["name"]), (SECRETS, &volume["secret"]["secretName"])]);
        for source in list(&volume["projected"], "sources") {
            named.extend([(MAPS, &source["configMap"]["name"]), (SECRETS, &source["secret"]["name"])]);
        }
    }
    for container in containers(spec) {
        for source in list(container, "envFrom") {
            named.extend([(MAPS, &source["configMapRef"]["name"]), (SECRETS, &source["secretRef"]["name"])]);
        }
        for source in list(container, "env").map(|variable| &variable["valueFrom"]) {
            named.extend([(MAPS, &source["configMapKeyRef"]["name"]), (SECRETS, &source["secretKeyRef"]["name"])]);
        }
    }
    named.into_iter().filter_map(|(resource, name)| Some((resource, name.as_str()?))).collect()
}

/// The service account of a pod of the host.
pub fn account<'a>(rows: &'a Snapshot, host: &str, uid: &str) -> Result<Entry<'a, KubeObject>, Fault> {
    let pod = row_of_pod(rows, host, uid).ok_or_else(|| Fault::invalid(format!("there is no pod {uid} on {host}")))?;
    let name = pod.body["spec"]["serviceAccountName"].as_str().unwrap_or("default");
    let key = KubeObject::key_of(&pod.cluster_id, "", "serviceaccounts", &pod.namespace, name);
    rows.at::<KubeObject>(&key).ok_or_else(|| Fault::invalid(format!("serviceaccount \"{name}\" not found")))
}
