//! Servers and pods from their rows to hosts and back to nothing, by the planners alone: the test plays the agent.

use std::time::Duration;

use model::*;
use plan::Planner;
use serde_json::json;

const PLANNERS: [&Planner; 3] = [&plan::port::PLANNER, &plan::server::PLANNER, &plan::schedule::PLANNER];

/// A store of the test's own: a snapshot and the ledger of its claims.
#[derive(Default)]
struct World {
    snapshot: Snapshot,
    ledger: Ledger,
    now: i64,
}

impl World {
    fn now(&self) -> Time {
        Time::from_second(1_800_000_000 + self.now).unwrap()
    }

    fn commit(&mut self, change: &Change) -> Result<(), Refused> {
        assert!(change.writes.len() <= 4096, "no store takes a change of {} rows", change.writes.len());
        let delta = self.snapshot.prepare(change)?;
        let exists = |key: &Key| self.snapshot.row(key).is_some() || change.writes.iter().any(|w| w.key() == *key);
        self.ledger.check(&delta, exists)?;
        self.ledger.apply(&delta);
        self.snapshot.apply(self.snapshot.revision() + 1, &change.writes);
        Ok(())
    }

    fn add(&mut self, object: impl Into<Object>) {
        self.commit(&Change::from(object)).unwrap();
    }

    fn edit<T: Resource>(&mut self, id: &str, edit: impl FnOnce(&mut T))
    where
        Object: From<T>,
    {
        let mut change = Change::new();
        change.edit(self.snapshot.get::<T>(id).unwrap(), edit);
        self.commit(&change).unwrap();
    }

    /// Plans until there is nothing left to do. Every plan is committed twice, the second time stale: nothing may come of it.
    fn settle(&mut self) {
        for _ in 0..100 {
            let mut busy = false;
            for planner in PLANNERS {
                let stale = self.snapshot.clone();
                for change in planner.scan(&stale, self.now()) {
                    busy |= self.commit(&change).is_ok();
                }
                let rows = self.snapshot.len();
                for change in planner.scan(&stale, self.now()) {
                    assert!(self.commit(&change).is_err(), "a stale plan was accepted twice: {change:?}");
                }
                assert_eq!(rows, self.snapshot.len());
            }
            if !busy {
                return;
            }
        }
        panic!("the planners never come to rest");
    }

    fn vm(&self, id: &str) -> Option<Vm> {
        self.snapshot.get::<Vm>(id).map(|vm| vm.value.clone())
    }

    /// What the agent would say.
    fn report(&mut self, vm: &str, phase: VmPhase) {
        self.edit::<Vm>(vm, |v| v.status.phase = phase);
    }

    fn used(&self, pool: &str) -> u64 {
        self.ledger.pool(pool).used
    }
}

fn world(hosts: &[(&str, u64)]) -> World {
    let mut w = World::default();
    let now = w.now();
    w.add(Domain {
        id: "default".into(),
        name: "Default".into(),
        description: String::new(),
        enabled: true,
        tags: vec![],
        options: Default::default(),
    });
    w.add(Project::new("p", "demo", "default"));
    w.add(Quota::new("p"));
    w.add(network(now));
    w.add(subnet(now));
    for (name, memory) in hosts {
        w.add(host(name, *memory, now));
    }
    w
}

fn network(now: Time) -> Network {
    Network::new("net", "p", 1, now)
}

fn subnet(now: Time) -> Subnet {
    Subnet {
        gateway_ip: Some("10.0.0.1".parse().unwrap()),
        pools: vec![("10.0.0.2".parse().unwrap(), "10.0.0.9".parse().unwrap())],
        ..Subnet::new("sub", &network(now), ("10.0.0.0".parse().unwrap(), 24), now)
    }
}

fn host(name: &str, memory_mib: u64, now: Time) -> Host {
    Host {
        cpu_milli: 8000,
        memory_mib,
        disk_gib: 100,
        cores: 4,
        status: HostStatus { heartbeat: Some(now), ..HostStatus::default() },
        ..Host::new(name, now)
    }
}

fn flavor(name: &str, ram: u64) -> Flavor {
    Flavor::new(name, name, 1, ram, 1)
}

fn server(id: &str, now: Time) -> Server {
    Server {
        user_id: "u".into(),
        nics: vec![NicRequest { network_id: Some("net".into()), ..NicRequest::default() }],
        incarnation: 0,
        ..Server::new(id, "p", id, flavor("small", 1000), now)
    }
}

#[test]
fn a_server_lives_and_leaves_nothing() {
    let mut w = world(&[("one", 4000)]);
    w.add(server("s", w.now()));
    w.settle();
    let vm = w.vm("s.0").unwrap();
    assert_eq!(vm.host.as_deref(), Some("one"));
    assert_eq!(vm.decision.len(), 1);
    let port = w.snapshot.all::<Port>().find(|port| port.is_of_server("s")).unwrap().value.clone();
    assert_eq!(port.fixed_ips[0].ip.to_string(), "10.0.0.2");
    assert_eq!(port.host.as_deref(), Some("one"));
    assert_eq!(port.security_groups.len(), 1, "the project's default group was made for it");
    assert_eq!(w.used("room/one/memory"), 1000 + Vm::OVERHEAD_MIB);

    w.report("s.0", VmPhase::Running);
    w.settle();
    assert!(w.snapshot.get::<Server>("s").unwrap().launched_at.is_some());

    w.edit::<Server>("s", |s| s.deleting = true);
    w.settle();
    assert!(w.vm("s.0").unwrap().deleting);
    assert!(w.snapshot.get::<Port>(&port.id).is_some(), "its port stays as long as it may run");
    w.report("s.0", VmPhase::Gone);
    w.settle();
    assert!(w.snapshot.get::<Server>("s").is_none());
    assert_eq!(w.snapshot.all::<Port>().count() + w.snapshot.all::<Vm>().count(), 0);
    for pool in ["room/one/memory", "quota/p/ram", "quota/p/port", "quota/p/instances"] {
        assert_eq!(w.used(pool), 0, "{pool}");
    }
}

#[test]
fn a_server_with_a_long_log_and_many_neighbours_goes() {
    let mut w = world(&[("a", 8192)]);
    w.add(server("s", w.now()));
    for n in 0..5000 {
        w.add(ServerAction {
            server_id: "s".into(),
            project_id: "p".into(),
            request_id: format!("req-{n}"),
            user_id: "u".into(),
            action: "lock".into(),
            start_time: w.now(),
            message: None,
        });
    }
    for n in 0..9 {
        w.add(Server { different_host: vec!["s".into()], ..server(&format!("n{n}"), w.now()) });
    }
    w.settle();
    w.edit::<Server>("s", |s| s.deleting = true);
    w.settle();
    assert!(w.snapshot.get::<Server>("s").is_none() && w.snapshot.all::<ServerAction>().next().is_none());
    assert!(w.snapshot.all::<Server>().all(|other| other.different_host.is_empty()));
}

#[test]
fn what_a_server_took_is_known_for_a_time() {
    let mut w = world(&[("one", 4000)]);
    w.add(server("s", w.now()));
    w.add(server("never", w.now()));
    w.settle();
    w.report("s.0", VmPhase::Running);
    w.settle();
    let started = w.snapshot.get::<Server>("s").unwrap().launched_at.unwrap();
    let past = |id: &str, ended: Time| ServerUsage {
        server_id: id.into(),
        project_id: "p".into(),
        name: id.into(),
        flavor: "small".into(),
        vcpus: 1,
        ram: 1,
        disk: 1,
        started: ended,
        ended,
        terminated: true,
    };
    let old = w.now() - ServerUsage::KEEP;
    w.add(past("old", old - Duration::from_secs(60)));
    w.add(past("young", old + Duration::from_secs(3600)));
    w.settle();
    assert_eq!(w.snapshot.all::<ServerUsage>().count(), 2, "they go when others come");
    for id in ["s", "never"] {
        w.edit::<Server>(id, |s| s.deleting = true);
        w.settle();
        w.report(&format!("{id}.0"), VmPhase::Gone);
        w.settle();
    }
    let known: Vec<_> = w.snapshot.all::<ServerUsage>().map(|usage| usage.value.clone()).collect();
    assert_eq!(known.iter().map(|usage| usage.server_id.as_str()).collect::<Vec<_>>(), ["young", "s"]);
    assert_eq!((known[1].vcpus, known[1].ram, known[1].started, known[1].terminated), (1, 1000, started, true));
    assert!(known[1].ended >= started);

    for n in 0..=ServerUsage::MOST {
        w.add(past(&n.to_string(), old + Duration::from_secs(7200 + n as u64)));
    }
    w.add(server("more", w.now()));
    w.edit::<Server>("more", |s| s.deleting = true);
    w.settle();
    let names: Vec<_> = w.snapshot.all::<ServerUsage>().map(|usage| usage.server_id.clone()).collect();
    assert_eq!((names.len(), names[0].as_str()), (ServerUsage::MOST, "2"), "the oldest went");
}

#[test]
fn what_stands_as_it_shall_is_launched() {
    for (phase, power, launched) in [
        (VmPhase::Starting, true, false),
        (VmPhase::Running, true, true),
        (VmPhase::Paused, true, true),
        (VmPhase::Stopped, true, false),
        (VmPhase::Stopped, false, true),
    ] {
        let mut w = world(&[("one", 4000)]);
        w.add(server("s", w.now()));
        w.settle();
        w.edit::<Server>("s", |s| {
            s.power = power;
            s.problem = Some("there was no host".into());
        });
        w.report("s.0", phase);
        w.settle();
        let server = w.snapshot.get::<Server>("s").unwrap();
        assert_eq!(server.launched_at.is_some(), launched, "{phase:?}, power {power}");
        assert_eq!(server.problem.is_none(), launched, "{phase:?}, power {power}: an old problem stays");
    }
}

fn image(id: &str, now: Time, of: Option<&str>) -> Image {
    let source = of.map(|server| ImageSource {
        server_id: server.into(),
        project_id: "p".into(),
        request_id: "req".into(),
        rotation: None,
    });
    serde_json::from_value(json!({
        "id": id, "project_id": "p", "name": id, "visibility": "private", "status": "queued", "disk_format": "qcow2",
        "container_format": "bare", "min_disk": 0, "min_ram": 0, "protected": false, "os_hidden": false, "tags": [],
        "properties": {}, "members": {}, "blob": null, "size": null, "virtual_size": null, "checksum": null,
        "os_hash_value": null, "source": source, "created_at": now, "updated_at": now,
    }))
    .unwrap()
}

/// What the host does when it has copied the disk.
fn complete(w: &mut World, id: &str) {
    w.edit::<Image>(id, |image| {
        image.status = ImageStatus::Active;
        image.blob = Some("b".repeat(64));
        image.source = None;
    });
}

/// Of a flavor without a disk the image says how large the disk is, and whoever made the image says that.
#[test]
fn a_flavor_without_a_disk_takes_the_images_size() {
    let mut w = world(&[("one", 4000)]);
    for (id, gib, placed) in [("huge", 8 << 10, false), ("fits", 60, true), ("no-more", 60, false)] {
        w.add(image(id, w.now(), None));
        complete(&mut w, id);
        w.edit::<Image>(id, |image| image.virtual_size = Some(gib << 30));
        let flavor = Flavor { disk: 0, ..flavor("diskless", 100) };
        w.add(Server { image_id: Some(id.into()), flavor, ..server(id, w.now()) });
        w.settle();
        let vm = w.vm(&format!("{id}.0")).unwrap();
        assert_eq!((vm.disk_gib, vm.host.is_some()), (gib, placed), "{id}: {:?}", vm.decision);
    }
}

#[test]
fn a_shelved_server_takes_no_room_and_comes_back() {
    let mut w = world(&[("one", 4000)]);
    w.add(server("s", w.now()));
    w.settle();
    w.report("s.0", VmPhase::Running);
    w.settle();
    w.add(image("shelf", w.now(), Some("s")));
    w.edit::<Server>("s", |s| s.shelved = Some("shelf".into()));
    w.settle();
    assert!(!w.vm("s.0").unwrap().deleting, "the image is not complete");
    complete(&mut w, "shelf");
    w.settle();
    assert!(w.vm("s.0").unwrap().deleting);
    w.report("s.0", VmPhase::Gone);
    w.settle();
    assert_eq!((w.vm("s.0"), w.used("room/one/memory")), (None, 0));
    assert_eq!(w.used("quota/p/instances"), 1);

    w.edit::<Server>("s", |s| {
        s.incarnation = 1;
        s.unshelving = s.shelved.take();
        s.launched_at = None;
    });
    w.settle();
    let vm = w.vm("s.1").unwrap();
    assert_eq!((vm.host.as_deref(), vm.source.unwrap().blob), (Some("one"), "b".repeat(64)));
    w.report("s.1", VmPhase::Running);
    w.settle();
    assert_eq!(w.snapshot.get::<Server>("s").unwrap().unshelving, None);
    assert!(w.snapshot.get::<Image>("shelf").is_none(), "its image is not needed any more");
}

#[test]
fn a_server_that_cannot_be_shelved_goes_on() {
    let mut w = world(&[("one", 4000)]);
    w.add(server("s", w.now()));
    w.settle();
    w.edit::<Server>("s", |s| s.shelved = Some("never made".into()));
    w.settle();
    assert_eq!(w.snapshot.get::<Server>("s").unwrap().shelved, None);
    assert!(!w.vm("s.0").unwrap().deleting);
}

#[test]
fn images_in_the_making_go_with_their_server() {
    let mut w = world(&[("one", 4000)]);
    w.add(server("s", w.now()));
    w.settle();
    w.add(image("snap", w.now(), Some("s")));
    w.add(image("done", w.now(), None));
    w.edit::<Server>("s", |s| s.deleting = true);
    w.settle();
    w.report("s.0", VmPhase::Gone);
    w.settle();
    assert!(w.snapshot.get::<Server>("s").is_none());
    assert_eq!(w.snapshot.all::<Image>().map(|i| i.id.clone()).collect::<Vec<_>>(), ["done"]);
}

#[test]
fn a_new_incarnation_waits_until_the_old_one_is_gone() {
    // There is no room for both.
    let mut w = world(&[("one", 1500 + Vm::OVERHEAD_MIB), ("two", 1500 + Vm::OVERHEAD_MIB)]);
    w.add(server("s", w.now()));
    w.settle();
    let first = w.vm("s.0").unwrap().host.unwrap();
    w.report("s.0", VmPhase::Running);
    w.edit::<Server>("s", |s| {
        s.incarnation = 1;
        s.keep_disk = true;
        s.old_flavor = Some(s.flavor.clone());
        s.flavor = flavor("large", 1400);
    });
    w.settle();
    assert!(w.vm("s.0").unwrap().deleting);
    assert_eq!(w.vm("s.1").unwrap().host, None);
    w.report("s.0", VmPhase::Gone);
    w.settle();
    assert_eq!(w.vm("s.0"), None);
    assert_eq!(w.vm("s.1").unwrap().host, Some(first));
    // Confirmed: a smaller flavor gives room back only then.
    w.edit::<Server>("s", |s| {
        s.old_flavor = None;
        s.flavor = flavor("small", 1000);
    });
    w.settle();
    assert_eq!(w.vm("s.1").unwrap().memory_mib, 1000 + Vm::OVERHEAD_MIB);
}

#[test]
fn no_room_is_said_once_and_in_words() {
    let mut w = world(&[("one", 500)]);
    w.add(server("s", w.now()));
    w.settle();
    assert_eq!(w.vm("s.0").unwrap().decision, ["one: not enough memory: asked 1256 MiB, free 500 MiB"]);
    assert_eq!(w.snapshot.get::<Server>("s").unwrap().problem, None);
    w.now += 15;
    w.settle();
    let problem = w.snapshot.get::<Server>("s").unwrap().problem.clone().unwrap();
    assert!(problem.starts_with("No valid host was found."), "{problem}");
    // It starts as soon as there is room.
    w.edit::<Host>("one", |h| h.memory_mib = 2000);
    w.settle();
    assert_eq!(w.vm("s.0").unwrap().host.as_deref(), Some("one"));
    assert_eq!(w.snapshot.get::<Server>("s").unwrap().problem, None);
}

#[test]
fn addresses_run_out_in_words() {
    let mut w = world(&[("one", 64000)]);
    w.edit::<Quota>("p", |q| {
        q.limits.insert("cores".into(), None);
    });
    for n in 0..10 {
        w.add(server(&format!("s{n}"), w.now()));
    }
    w.settle();
    let problems: Vec<_> = w.snapshot.all::<Server>().filter_map(|s| s.problem.clone()).collect();
    assert_eq!(problems.len(), 2);
    assert!(problems.iter().all(|p| p == "No more IP addresses available on network net."), "{problems:?}");
}

#[test]
fn a_server_that_waited_gets_no_port_on_what_is_shared_no_more() {
    let mut w = world(&[("a", 8192)]);
    let (theirs, now) = (Network::new("theirs", "q", 4242, w.now()), w.now());
    let range = ("10.9.0.0".parse().unwrap(), 24);
    let pools = vec![("10.9.0.5".parse().unwrap(), "10.9.0.9".parse().unwrap())];
    let subnet = Subnet { pools, ..Subnet::new("their-subnet", &theirs, range, now) };
    let key = theirs.key();
    w.add(theirs);
    w.add(subnet);
    let policy = RbacPolicy {
        id: "shared".into(),
        target: "p".into(),
        ..RbacPolicy::for_all(key.clone(), "q", RbacAction::Shared, now)
    };
    w.add(policy);
    let on = |id: &str, by_admin: bool| {
        let nic = NicRequest { network_id: Some("theirs".into()), by_admin, ..NicRequest::default() };
        Server { nics: vec![nic], ..server(id, now) }
    };
    w.add(on("early", false));
    w.settle();
    assert_eq!(w.snapshot.all::<Port>().filter(|port| port.network_id == "theirs").count(), 1);

    // Planned while it is shared, written when that has been taken back.
    w.add(on("late", false));
    let stale = plan::port::PLANNER.scan(&w.snapshot, now);
    w.edit::<RbacPolicy>("shared", |policy| policy.closing = true);
    assert!(stale.iter().all(|change| w.commit(change).is_err()));
    w.settle();
    let late = w.snapshot.get::<Server>("late").unwrap();
    assert_eq!(late.problem.as_deref(), Some("Network theirs could not be found."));
    w.add(on("ordered", true));
    w.settle();
    assert_eq!(w.snapshot.all::<Port>().filter(|port| port.network_id == "theirs").count(), 2);
    w.edit::<RbacPolicy>("shared", |policy| policy.closing = false);
    w.settle();
    assert_eq!(w.snapshot.get::<Server>("late").unwrap().problem, None);
}

#[test]
fn a_port_of_ones_own_survives_its_server() {
    let mut w = world(&[("one", 4000)]);
    w.add(server("other", w.now()));
    w.settle();
    let template = w.snapshot.all::<Port>().next().unwrap().value.clone();
    let mut port = Port { id: "own".into(), holder: None, ..template };
    port.owned = false;
    port.host = None;
    port.mac = "fa:16:3e:00:00:01".into();
    port.fixed_ips[0].ip = "10.0.0.50".parse().unwrap();
    w.add(port);
    let mut s = server("s", w.now());
    s.nics = vec![NicRequest { port_id: Some("own".into()), ..NicRequest::default() }];
    w.add(s);
    w.settle();
    let port = w.snapshot.get::<Port>("own").unwrap();
    assert_eq!((port.device_id().as_str(), port.host.as_deref()), ("s", Some("one")));
    w.edit::<Server>("s", |s| s.deleting = true);
    w.settle();
    w.report("s.0", VmPhase::Gone);
    w.settle();
    let port = w.snapshot.get::<Port>("own").unwrap();
    assert_eq!((port.device_id().as_str(), port.host.as_deref()), ("", None));
    assert!(w.snapshot.get::<Server>("s").is_none());
}

/// A trunk whose parent is the port, with one subport that is on the network as well.
fn trunk(w: &mut World, parent: &str) {
    let parent = w.snapshot.get::<Port>(parent).unwrap().value.clone();
    let now = w.now();
    let mut sub = Port::new("sub-port", &network(now), now);
    let trunk = Trunk {
        id: "trunk".into(),
        project_id: "p".into(),
        name: String::new(),
        description: String::new(),
        port: parent.key(),
        admin_state_up: true,
        sub_ports: vec![SubPort { port: sub.key(), vlan: 100 }],
        tags: Vec::new(),
        created_at: now,
        updated_at: now,
    };
    sub.hold(trunk.as_holder());
    let mut change = Change::from(trunk);
    change.create(sub);
    w.commit(&change).unwrap();
}

#[test]
fn subports_are_where_their_parent_is_and_keep_it() {
    let mut w = world(&[("one", 4000)]);
    w.add(server("s", w.now()));
    w.settle();
    let parent = w.snapshot.all::<Port>().find(|port| port.is_of_server("s")).unwrap().id.clone();
    trunk(&mut w, &parent);
    let host = |w: &World| w.snapshot.get::<Port>("sub-port").unwrap().host.clone();
    assert_eq!(host(&w), None);
    w.settle();
    assert_eq!(host(&w).as_deref(), Some("one"));
    w.edit::<Port>("sub-port", |port| port.status = PortStatus::Active);
    w.settle();
    assert_eq!(w.snapshot.get::<Port>("sub-port").unwrap().status, PortStatus::Active);
    // The port was made for the server and would have gone with it; the trunk needs it.
    w.edit::<Server>("s", |s| s.deleting = true);
    w.settle();
    w.report("s.0", VmPhase::Gone);
    w.settle();
    assert!(w.snapshot.get::<Server>("s").is_none());
    let left = w.snapshot.get::<Port>(&parent).unwrap().value.clone();
    assert_eq!((left.holder, left.host, left.owned), (None, None, false));
    let sub = w.snapshot.get::<Port>("sub-port").unwrap().value.clone();
    assert_eq!((sub.host, sub.status), (None, PortStatus::Down));
    assert!(matches!(sub.holder, Some(Holder::Trunk(_))));
}

#[test]
fn silent_and_disabled_hosts_get_nothing() {
    let mut w = world(&[("one", 4000), ("two", 4000)]);
    w.edit::<Host>("one", |h| h.enabled = false);
    w.edit::<Host>("two", |h| h.status.silent = true);
    w.add(server("s", w.now()));
    w.settle();
    let lines = w.vm("s.0").unwrap().decision;
    assert_eq!(lines, ["one: disabled by an administrator", "two: has not reported lately"]);
}

/// An aggregate of hosts.
fn aggregate(id: &str, hosts: &[&str], metadata: &[(&str, &str)]) -> Aggregate {
    Aggregate {
        id: id.into(),
        uuid: id.into(),
        name: id.into(),
        hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
        metadata: metadata.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect(),
        created_at: Time::UNIX_EPOCH,
        updated_at: None,
    }
}

#[test]
fn reserved_hosts_zones_and_flavors_decide() {
    let all = [("one", 8000), ("two", 8000), ("three", 8000)];
    // What a server asks for beside its aggregates, and where it is then; the project is p.
    type Edit = fn(&mut Server);
    let plain: Edit = |_| {};
    let forced: Edit = |s| s.requested_host = Some("one".into());
    let east: Edit = |s| s.availability_zone = Some("east".into());
    let ssd: Edit = |s| _ = s.flavor.extra_specs.insert("aggregate_instance_extra_specs:disk".into(), "ssd".into());
    let no: Result<&str, &str> = Err("one: is not for this project: hosts are reserved");
    for (aggregates, asks, expected) in [
        // Reserved for p: its servers go there and nowhere else, wherever they ask to be.
        (vec![aggregate("1", &["two"], &[("filter_tenant_id", "p")])], plain, Ok("two")),
        (vec![aggregate("1", &["two"], &[("filter_tenant_id", "x,p")])], forced, no),
        // Reserved for others.
        (vec![aggregate("1", &["one", "two"], &[("filter_tenant_id9", "x")])], plain, Ok("three")),
        (vec![aggregate("1", &["one"], &[("filter_tenant_id", "x")])], forced, no),
        (vec![aggregate("1", &["three"], &[("availability_zone", "east")])], east, Ok("three")),
        (vec![], east, Err("one: is in another availability zone")),
        (vec![aggregate("1", &["two"], &[("disk", "ssd, nvme")])], ssd, Ok("two")),
        (
            vec![aggregate("1", &["two"], &[("disk", "hdd")])],
            ssd,
            Err("one: is in no aggregate with the disk that is asked for"),
        ),
    ] {
        let mut w = world(&all);
        for aggregate in &aggregates {
            w.add(aggregate.clone());
        }
        let mut s = server("s", w.now());
        asks(&mut s);
        w.add(s);
        w.settle();
        let vm = w.vm("s.0").unwrap();
        let first = |line: &&String| line.starts_with("one");
        match expected {
            Ok(host) => assert_eq!(vm.host.as_deref(), Some(host), "{aggregates:?}: {:?}", vm.decision),
            Err(why) => assert_eq!((vm.host, vm.decision.iter().find(first).map(String::as_str)), (None, Some(why))),
        }
    }
}

/// Of a placement and a reservation that are made from one snapshot, the later is refused, whichever it is.
#[test]
fn a_placement_planned_before_a_reservation_is_stale_after_it() {
    for change in [aggregate("1", &["two"], &[("filter_tenant_id", "x")]), aggregate("1", &[], &[])] {
        let mut w = world(&[("two", 8000)]);
        w.add(server("s", w.now()));
        while w.vm("s.0").is_none() {
            for change in plan::port::PLANNER.scan(&w.snapshot, w.now()) {
                w.commit(&change).unwrap();
            }
            for change in plan::server::PLANNER.scan(&w.snapshot, w.now()) {
                w.commit(&change).unwrap();
            }
        }
        let planned = plan::schedule::PLANNER.scan(&w.snapshot, w.now());
        assert!(planned.len() == 1 && planned[0].writes.iter().any(|w| w.key().kind == Kind::Vm), "{planned:?}");
        let mut reserve = Change::from(change.clone());
        Aggregate::changed(&w.snapshot, &mut reserve);
        w.commit(&reserve).unwrap();
        assert!(w.commit(&planned[0]).is_err(), "placed although aggregates changed");
        w.settle();
        let expected = change.hosts.is_empty().then_some("two");
        assert_eq!(w.vm("s.0").unwrap().host.as_deref(), expected, "{change:?}");
    }
}

#[test]
fn hints_put_servers_near_and_away_from_others() {
    let mut w = world(&[("a", 9000), ("b", 9000)]);
    let now = w.now();
    w.add(Server { requested_host: Some("b".into()), ..server("first", now) });
    // Both are placed in the round in which the first is.
    w.add(Server { same_host: Some(vec!["first".into()]), ..server("near", now) });
    w.add(Server { different_host: vec!["first".into()], ..server("away", now) });
    w.settle();
    let at = |w: &World, id: &str| w.vm(&format!("{id}.0")).and_then(|vm| vm.host);
    assert_eq!([at(&w, "near").as_deref(), at(&w, "away").as_deref()], [Some("b"), Some("a")]);

    w.edit::<Server>("first", |s| s.deleting = true);
    w.settle();
    w.report("first.0", VmPhase::Gone);
    w.settle();
    assert!(w.snapshot.get::<Server>("first").is_none(), "hints hold nothing back");
    let near = w.snapshot.get::<Server>("near").unwrap();
    assert_eq!((&near.same_host, at(&w, "near").as_deref()), (&Some(vec![]), Some("b")));
    assert!(w.snapshot.get::<Server>("away").unwrap().different_host.is_empty());
    // Nothing is left to be near to.
    w.edit::<Server>("near", |s| s.deleting = true);
    w.add(Server { same_host: Some(vec![]), ..server("late", now) });
    w.settle();
    w.now += 60;
    w.settle();
    let problem = w.snapshot.get::<Server>("late").unwrap().problem.clone().unwrap_or_default();
    assert!(problem.contains("b: the hints same_host and different_host forbid it"), "{problem}");
}

#[test]
fn groups_keep_apart_and_together() {
    for (policy, hosts) in [("anti-affinity", 2), ("affinity", 1)] {
        let mut w = world(&[("one", 9000), ("two", 9000)]);
        w.add(ServerGroup {
            id: "g".into(),
            project_id: "p".into(),
            user_id: "u".into(),
            name: "g".into(),
            policy: policy.into(),
            max_server_per_host: None,
        });
        for id in ["a", "b", "c"] {
            let mut s = server(id, w.now());
            s.server_group_id = Some("g".into());
            w.add(s);
        }
        w.settle();
        let used: std::collections::BTreeSet<_> = w.snapshot.all::<Vm>().filter_map(|vm| vm.host.clone()).collect();
        assert_eq!(used.len(), hosts, "{policy}");
        let placed = w.snapshot.all::<Vm>().filter(|vm| vm.host.is_some()).count();
        assert_eq!(placed, if hosts == 2 { 2 } else { 3 }, "{policy}");
    }
}

fn kube(resource: &str, namespace: &str, name: &str, body: serde_json::Value) -> KubeObject {
    let mut body = body;
    body["metadata"]["uid"] = json!(format!("uid-{name}"));
    KubeObject {
        cluster_id: "c".into(),
        project_id: "p".into(),
        group: String::new(),
        resource: resource.into(),
        namespace: namespace.into(),
        name: name.into(),
        body,
    }
}

fn cluster(w: &mut World) {
    w.add(Cluster::new("c", &network(w.now()), w.now()));
    w.add(kube("namespaces", "", "default", json!({})));
}

fn pod<'a>(w: &'a World, name: &str) -> &'a serde_json::Value {
    let key = KubeObject::key_of("c", "", "pods", "default", name);
    &w.snapshot.at::<KubeObject>(&key).unwrap().value.body
}

#[test]
fn a_pod_gets_host_and_port_and_gives_both_back() {
    let mut w = world(&[("one", 4000)]);
    cluster(&mut w);
    w.add(kube("pods", "default", "web", json!({"spec": {"containers": [{"name": "a"}]}})));
    w.settle();
    assert_eq!(pod(&w, "web")["spec"]["nodeName"], "one");
    assert_eq!(pod(&w, "web")["status"]["conditions"][0]["status"], "True");
    let id = plan::port::pod_port_id("uid-web");
    let port = w.snapshot.get::<Port>(&id).unwrap();
    assert_eq!(port.pod, Some(("default".into(), "c".into())));
    assert_eq!(port.host.as_deref(), Some("one"));
    assert_eq!(w.used("room/one/memory"), 64);

    let key = KubeObject::key_of("c", "", "pods", "default", "web");
    let mut change = Change::new();
    change.delete(w.snapshot.at::<KubeObject>(&key).unwrap());
    w.commit(&change).unwrap();
    w.settle();
    assert!(w.snapshot.get::<Port>(&id).is_none());
    assert_eq!(w.used("quota/p/port"), 0);
}

#[test]
fn pods_are_told_why_they_get_no_port() {
    let mut w = world(&[("one", 64000)]);
    cluster(&mut w);
    for n in 0..10 {
        w.add(kube("pods", "default", &format!("p{n}"), json!({"spec": {"containers": [{"name": "a"}]}})));
    }
    w.settle();
    let events = w.snapshot.all::<KubeObject>().filter(|o| o.resource == "events");
    let told: Vec<_> =
        events.filter(|o| o.body["reason"] == "FailedCreatePort").map(|o| o.body["message"].clone()).collect();
    let words = "The pod gets no port: No more IP addresses available on network net.";
    assert_eq!(told, [words, words]);
}

#[test]
fn nodes_can_refuse_pods() {
    let mut w = world(&[("one", 4000), ("two", 4000)]);
    cluster(&mut w);
    w.add(kube("nodes", "", "one", json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}})));
    w.add(kube("nodes", "", "two", json!({"spec": {"unschedulable": true}})));
    w.add(kube("pods", "default", "plain", json!({"spec": {"containers": [{"name": "a"}]}})));
    let tolerations = json!([{"key": "k", "operator": "Exists"}]);
    w.add(kube(
        "pods",
        "default",
        "brave",
        json!({"spec": {"containers": [{"name": "a"}], "tolerations": tolerations}}),
    ));
    let selector = json!({"kubernetes.io/hostname": "one"});
    let picky = json!({"spec": {"containers": [{"name": "a"}], "tolerations": tolerations, "nodeSelector": selector}});
    w.add(kube("pods", "default", "picky", picky));
    let large =
        json!({"spec": {"containers": [{"resources": {"requests": {"cpu": "9"}}}], "tolerations": tolerations}});
    w.add(kube("pods", "default", "large", large));
    w.settle();
    assert_eq!(
        pod(&w, "plain")["status"]["conditions"][0]["message"],
        "0/2 nodes are available: 1 node(s) had untolerated taint {k: v}, 1 node(s) were unschedulable."
    );
    assert_eq!(pod(&w, "brave")["spec"]["nodeName"], "one");
    assert_eq!(pod(&w, "picky")["spec"]["nodeName"], "one");
    let condition = &pod(&w, "large")["status"]["conditions"][0];
    assert_eq!((condition["reason"].as_str(), condition["status"].as_str()), (Some("Unschedulable"), Some("False")));
    assert_eq!(condition["message"], "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable.");
}
