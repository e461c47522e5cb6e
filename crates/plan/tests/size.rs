//! One more of what there is many of: what planners look at and do for it is the same in a cloud of ten times as many hosts,
//! clusters and pods. Counted, not timed; `crates/sim/examples/scale` has the times.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use model::*;
use plan::{Agenda, PLANNERS, Seen};
use serde_json::{Value, json};

fn at(seconds: i64) -> Time {
    Time::from_second(1_800_000_000 + seconds).unwrap()
}

/// What was done by a planner: items that it planned, changes, rows that were written.
type Done = BTreeMap<&'static str, [usize; 3]>;

struct World {
    rows: Snapshot,
    ledger: Ledger,
    agenda: Agenda,
    news: Vec<Committed>,
}

impl World {
    /// So many hosts and clusters, each with a ReplicaSet of so many pods, all placed.
    fn new(hosts: usize, clusters: usize, pods: usize) -> Self {
        let rows = Snapshot::default();
        let mut world = Self { agenda: Agenda::new(&rows), rows, ledger: Ledger::default(), news: Vec::new() };
        let mut change = Change::new();
        for n in 0..hosts {
            let mut host = Host::new(&format!("host-{n:04}"), at(0));
            (host.cpu_milli, host.memory_mib, host.disk_gib) = (64_000, 64_000, 1000);
            host.status.heartbeat = Some(at(0));
            change.create(host);
        }
        for n in 0..clusters {
            let project = format!("p-{n}");
            let network = Network::new(format!("net-{n}"), &project, n as u32 + 1, at(0));
            let pools = vec![(Ipv4Addr::new(10, 0, 0, 2).into(), Ipv4Addr::new(10, 0, 255, 254).into())];
            let base = (Ipv4Addr::new(10, 0, 0, 0).into(), 16);
            change.create(Domain {
                id: project.clone(),
                name: project.clone(),
                description: String::new(),
                enabled: true,
                tags: Vec::new(),
                options: Default::default(),
            });
            change.create(Project::new(&project, &project, &project));
            change.create(Subnet { pools, ..Subnet::new(format!("subnet-{n}"), &network, base, at(0)) });
            change.create(Cluster::new(format!("c-{n}"), &network, at(0)));
            change.create(network);
            change.create(object(n, "", "namespaces", "n", json!({})));
            let labels = json!({"app": "a"});
            let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c"}]}});
            let spec = json!({"replicas": pods, "selector": {"matchLabels": labels}, "template": template});
            let set = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "spec": spec});
            change.create(object(n, "apps", "replicasets", "set", set));
        }
        world.commit(&change).unwrap();
        world.rest();
        assert_eq!(world.placed(), clusters * pods, "all have a host");
        world
    }

    fn placed(&self) -> usize {
        let pods = self.rows.all::<KubeObject>().filter(|object| object.is_pod());
        pods.filter(|pod| pod.body["spec"]["nodeName"].is_string()).count()
    }

    fn commit(&mut self, change: &Change) -> Result<(), Refused> {
        let delta = self.rows.prepare(change)?;
        let made: Vec<Key> = change.writes.iter().map(Write::key).collect();
        self.ledger.check(&delta, |key| self.rows.row(key).is_some() || made.contains(key))?;
        self.ledger.apply(&delta);
        let revision = self.rows.revision() + 1;
        self.news.push(self.rows.apply(revision, &change.writes));
        Ok(())
    }

    /// Plans until nothing is due, and says what was done.
    fn rest(&mut self) -> Done {
        let mut done = Done::new();
        loop {
            let mut busy = false;
            for (n, planner) in PLANNERS.iter().enumerate() {
                for commit in std::mem::take(&mut self.news) {
                    commit.events.iter().for_each(|event| self.agenda.touch(&self.rows, event, at(0)));
                }
                let items = self.agenda.take(n, at(0));
                if items.is_empty() {
                    continue;
                }
                busy = true;
                let plan = (planner.plan)(&Seen { rows: &self.rows, ledger: &self.ledger }, &items, at(0));
                self.agenda.planned(n, &plan);
                let counts = done.entry(planner.name).or_default();
                counts[0] += items.len();
                for step in plan.steps {
                    counts[1] += 1;
                    counts[2] += step.change.writes.len();
                    if let Err(refused) = self.commit(&step.change) {
                        self.agenda.refused(n, &step.items, &refused, at(0));
                    }
                }
                self.agenda.landed(n, &items, &self.rows);
            }
            if !busy {
                return done;
            }
        }
    }

    /// What is done for one more pod, and when it goes.
    fn one_more(&mut self) -> [Done; 2] {
        let body = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "c"}]}});
        let (pod, before) = (object(1, "", "pods", "more", body), self.placed());
        self.commit(&pod.clone().into()).unwrap();
        let comes = self.rest();
        assert_eq!(self.placed(), before + 1);
        let mut change = Change::new();
        change.delete(self.rows.at::<KubeObject>(&pod.key()).unwrap());
        self.commit(&change).unwrap();
        [comes, self.rest()]
    }
}

fn object(cluster: usize, group: &str, resource: &str, name: &str, mut body: Value) -> KubeObject {
    body["metadata"]["name"] = json!(name);
    body["metadata"]["uid"] = json!(format!("{cluster}/{resource}/{name}"));
    KubeObject {
        cluster_id: format!("c-{cluster}"),
        project_id: format!("p-{cluster}"),
        group: group.into(),
        resource: resource.into(),
        namespace: if resource == "namespaces" { "" } else { "n" }.into(),
        name: name.into(),
        body,
    }
}

#[test]
fn one_more_pod_is_the_same_work_in_a_cloud_of_ten_times_the_size() {
    let few = World::new(20, 3, 5).one_more();
    // Made, placed, given a port: each by one change; nobody else has anything to do.
    let steps = |done: &Done| done.iter().filter(|(_, n)| n[1] > 0).map(|(name, n)| (*name, n[1])).collect::<Vec<_>>();
    assert_eq!(steps(&few[0]), [("port", 1), ("schedule", 1)]);
    assert_eq!(World::new(200, 3, 5).one_more(), few, "hosts");
    assert_eq!(World::new(20, 30, 5).one_more(), few, "clusters");
    assert_eq!(World::new(20, 3, 50).one_more(), few, "pods");
}
