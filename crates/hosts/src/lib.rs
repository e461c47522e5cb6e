//! The control plane's side of its hosts: what each may know, and what becomes of what it says. Both are decided in
//! `plan::host_view` and `plan::host_report`, which are pure; here they meet the store. Hosts in the same process as
//! the control plane are served by a call; a wire for others serves the same two.

use std::sync::Arc;

use agent::cloud::{Cloud, Follow, View};
use jiff::SignedDuration;
use model::host_report::{Heard, Report};
use model::host_view::{HostView, PodView, VmView, Wanted};
use model::hostnet::HostNetwork;
use model::wanted::Generation;
use model::{Event, Fault, Index, Key, Kind, KubeObject, Resource, Server, Snapshot, Time, Vm};
use store::{Concern, Interest, Store, Watch};

/// Makes tokens of Kubernetes service accounts.
pub trait Tokens: Send + Sync {
    /// A token of the account, valid until `expires` at most.
    fn service_account(&self, account: &KubeObject, expires: Time) -> Result<String, Fault>;
}

/// The cloud of a host in the process of the control plane.
#[derive(Clone)]
pub struct Local {
    store: Store,
    host: Arc<str>,
    clock: fn() -> Time,
    tokens: Option<Arc<dyn Tokens>>,
}

impl Local {
    /// The cloud of the host with this name; without `tokens` its pods get none.
    pub fn new(store: Store, host: &str, clock: fn() -> Time, tokens: Option<Arc<dyn Tokens>>) -> Arc<Self> {
        Arc::new(Self { store, host: host.into(), clock, tokens })
    }

    fn seen(&self, rows: Snapshot) -> Arc<dyn View> {
        Arc::new(LocalView { rows, host: self.host.clone() })
    }
}

#[async_trait::async_trait]
impl Cloud for Local {
    fn view(&self) -> Arc<dyn View> {
        self.seen(self.store.snapshot())
    }

    async fn fresh(&self) -> Result<Arc<dyn View>, Fault> {
        Ok(self.seen(self.store.fresh().await?))
    }

    async fn report(&self, report: Report) -> Result<Heard, Fault> {
        let now = (self.clock)();
        self.store.transact(|rows| plan::host_report::change(rows, &self.host, &report, now)).await
    }

    async fn beat(&self, at: Time) -> Result<(), Fault> {
        Ok(self.store.beat(&self.host, at).await?)
    }

    async fn token(&self, pod: &str, seconds: i64) -> Result<String, Fault> {
        let rows = self.store.snapshot();
        let account = plan::host_view::account(&rows, &self.host, pod)?;
        let none = || Fault::invalid("a service account's token is not supported here");
        let tokens = self.tokens.as_ref().ok_or_else(none)?;
        let expires = (self.clock)().checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Time::MAX);
        tokens.service_account(account.value, expires)
    }

    fn follow(&self) -> Result<Box<dyn Follow>, Fault> {
        let watch = self.store.watch_part(self.store.snapshot().revision(), NEWS)?;
        Ok(Box::new(LocalNews { watch, store: self.store.clone(), host: self.host.clone() }))
    }
}

struct LocalView {
    rows: Snapshot,
    host: Arc<str>,
}

impl View for LocalView {
    fn generation(&self) -> Generation {
        Generation::of(&self.rows)
    }

    fn host(&self) -> HostView {
        plan::host_view::host(&self.rows, &self.host)
    }

    fn vms(&self) -> Vec<Wanted> {
        plan::host_view::vms(&self.rows, &self.host)
    }

    fn vm(&self, id: &str) -> Option<VmView> {
        plan::host_view::vm(&self.rows, &self.host, id)
    }

    fn vm_of_port(&self, port: &str) -> Option<VmView> {
        plan::host_view::vm_of_port(&self.rows, &self.host, port)
    }

    fn pods(&self) -> Vec<Wanted> {
        plan::host_view::pods(&self.rows, &self.host)
    }

    fn pod(&self, uid: &str) -> Option<PodView> {
        plan::host_view::pod(&self.rows, &self.host, uid)
    }

    fn network(&self) -> HostNetwork {
        plan::hostnet::compile(&self.rows, &self.host)
    }
}

struct LocalNews {
    watch: Watch,
    store: Store,
    host: Arc<str>,
}

#[async_trait::async_trait]
impl Follow for LocalNews {
    async fn next(&mut self) -> Result<bool, Fault> {
        loop {
            let commits = self.watch.next().await?;
            let rows = self.store.snapshot();
            let events = || commits.iter().flat_map(|commit| &commit.events);
            if events().any(|event| is_for(&rows, event, &self.host)) {
                return Ok(events().any(|event| of_network(&event.key)));
            }
        }
    }
}

/// What concerns hosts. Whatever else a pod depends on is noticed by the next look anyway.
const NEWS: Interest = Interest::Concern(Concern { name: "hosts", rule: concerns });

/// How names of rows of pods begin.
const PODS: &str = "/pods/";

fn concerns(event: &Event) -> bool {
    matches!(event.key.kind, Kind::Server | Kind::Vm | Kind::Image) || is_pod(&event.key) || of_network(&event.key)
}

fn is_pod(key: &Key) -> bool {
    key.kind == Kind::KubeObject && key.name.starts_with(PODS)
}

/// A host's network may be made of it.
fn of_network(key: &Key) -> bool {
    match key.kind {
        Kind::KubeObject => {
            let parts = ["/services/", "/namespaces/", "discovery.k8s.io/endpointslices/"];
            parts.iter().any(|part| key.name.starts_with(part))
        }
        Kind::Server
        | Kind::Image
        | Kind::Port
        | Kind::Network
        | Kind::Subnet
        | Kind::SubnetPool
        | Kind::Router
        | Kind::FloatingIp
        | Kind::PortForwarding
        | Kind::Trunk
        | Kind::SecurityGroup
        | Kind::SecurityGroupRule
        | Kind::AddressGroup
        | Kind::QosPolicy
        | Kind::Cluster => true,
        _ => false,
    }
}

/// An event is news for a host: a pod, VM or server is not if it is somebody else's.
fn is_for(rows: &Snapshot, event: &Event, host: &str) -> bool {
    let here = |vm: &Vm| vm.host.as_deref() == Some(host);
    let mut values = event.before.iter().chain(&event.after);
    match event.key.kind {
        Kind::Vm => values.any(|row| Vm::of(&row.object).is_some_and(here)),
        Kind::Server => values.any(|row| {
            Server::of(&row.object)
                .is_some_and(|server| rows.find::<Vm>(Index::Owner, &server.id).any(|vm| here(vm.value)))
        }),
        _ if is_pod(&event.key) => {
            values.any(|row| KubeObject::of(&row.object).is_some_and(|pod| pod.body["spec"]["nodeName"] == host))
        }
        _ => true,
    }
}
