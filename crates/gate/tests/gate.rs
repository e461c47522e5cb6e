//! The gate over a store in memory: what a token costs and stands for, and the Kubernetes side.

use gate::{Client, Gate, NamedRef, Principal, Proof, Scope, ScopeRequest};
use model::{Change, Cluster, DEFAULT_DOMAIN, Fault, KubeObject, Network, Project, Revocation, Time};
use serde_json::json;
use store::Store;

async fn gate() -> (Store, Gate) {
    let store = Store::memory();
    let gate = Gate::with_cost(store.clone(), 4);
    assert!(gate.bootstrap("admin", "demo").await.unwrap());
    assert!(!gate.bootstrap("other", "other").await.unwrap(), "only once");
    (store, gate)
}

fn in_default(name: &str) -> NamedRef {
    let domain = gate::DomainRef { id: Some(DEFAULT_DOMAIN.into()), name: None };
    NamedRef { id: None, name: Some(name.into()), domain }
}

async fn login(gate: &Gate, user: &str, asked: ScopeRequest) -> Result<(String, Principal), Fault> {
    let proof = Proof::Password { user: in_default(user), password: user.into() };
    gate.login(vec![proof], asked, Client::UNKNOWN).await
}

/// A cluster of the project with this name.
async fn cluster(store: &Store, project: &str) -> Cluster {
    let snapshot = store.snapshot();
    let project_id = snapshot.all::<Project>().find(|p| p.value.name == project).unwrap().id.clone();
    let now = Time::now();
    let network = Network {
        name: "net".into(),
        ..Network::new(gate::new_id(), project_id.clone(), 100 + u32::try_from(snapshot.revision()).unwrap(), now)
    };
    let id = gate::new_id();
    let authority = Some(gate::new_authority(&id).unwrap());

    let cluster = Cluster { name: "one".into(), authority, ..Cluster::new(id, &network, now) };
    let mut change = Change::from(network);
    change.create(cluster.clone());
    store.commit(&change).await.unwrap();
    cluster
}

/// A service account, and its uid.
async fn service_account(store: &Store, cluster: &Cluster, name: &str) -> String {
    let object = |resource: &str, namespace: &str, name: &str| KubeObject {
        cluster_id: cluster.id.clone(),
        project_id: cluster.project_id.clone(),
        group: String::new(),
        resource: resource.into(),
        namespace: namespace.into(),
        name: name.into(),
        body: json!({"metadata": {"name": name, "uid": format!("uid-of-{name}")}}),
    };
    let mut change = Change::from(object("namespaces", "", "apps"));
    change.create(object("serviceaccounts", "apps", name));
    store.commit(&change).await.unwrap();
    format!("uid-of-{name}")
}

#[tokio::test]
async fn bootstrap_makes_the_accounts_of_the_first_day() {
    let (_, gate) = gate().await;
    for project in ["admin", "demo"] {
        let (_, who) = login(&gate, "admin", ScopeRequest::Project(in_default(project))).await.unwrap();
        assert!(who.is_admin());
    }
    assert!(login(&gate, "admin", ScopeRequest::System).await.unwrap().1.is_admin());
    let (token, who) = login(&gate, "demo", ScopeRequest::Default).await.unwrap();
    assert!(who.is_member() && !who.is_admin());
    assert!(matches!(&who.scope, Scope::Project { name, .. } if name == "demo"));
    assert_eq!(gate.inspect(&token).await.unwrap(), who);
    assert!(matches!(login(&gate, "demo", ScopeRequest::System).await, Err(Fault::Unauthorized(_))));
    assert!(matches!(
        login(&gate, "demo", ScopeRequest::Project(in_default("admin"))).await,
        Err(Fault::Unauthorized(_))
    ));
}

#[tokio::test]
async fn an_openstack_token_reaches_the_clusters_of_its_project_only() {
    let (store, gate) = gate().await;
    let cluster = cluster(&store, "demo").await;
    let (demo, _) = login(&gate, "demo", ScopeRequest::Default).await.unwrap();
    let who = gate.inspect_bearer(&demo, &cluster.id).await.unwrap();
    assert!(who.kube_groups.contains(&"openstack:member".to_owned()));
    assert!(who.kube_groups.contains(&"system:authenticated".to_owned()));
    let (system, _) = login(&gate, "admin", ScopeRequest::System).await.unwrap();
    assert!(gate.inspect_bearer(&system, &cluster.id).await.is_ok());
    let (other, _) = login(&gate, "admin", ScopeRequest::Project(in_default("admin"))).await.unwrap();
    let foreign = gate.inspect_bearer(&other, &cluster.id).await.unwrap_err();
    assert!(matches!(foreign, Fault::NotFound { .. }));
    assert!(matches!(gate.inspect_bearer(&demo, "nowhere").await.unwrap_err(), Fault::NotFound { .. }));
    assert!(matches!(gate.inspect_bearer("x", &cluster.id).await.unwrap_err(), Fault::Unauthorized(_)));
}

#[tokio::test]
async fn a_service_account_lives_in_its_cluster_and_no_longer_than_itself() {
    let (store, gate) = gate().await;
    let cluster = cluster(&store, "demo").await;
    let uid = service_account(&store, &cluster, "robot").await;
    let hour = Time::now() + jiff::SignedDuration::from_hours(1);
    let token = gate.service_account_token(&cluster.id, "apps", "robot", &uid, hour).unwrap();
    let who = gate.inspect_bearer(&token, &cluster.id).await.unwrap();
    assert_eq!(who.user_name, "system:serviceaccount:apps:robot");
    assert_eq!(who.kube_cluster.as_deref(), Some(cluster.id.as_str()));
    assert_eq!(who.project_id(), Some(cluster.project_id.as_str()));
    assert!(who.roles.is_empty() && who.kube_groups.contains(&"system:serviceaccounts:apps".to_owned()));
    // Not for OpenStack, not for another cluster, not changed, not expired, not unsigned.
    assert!(gate.inspect(&token).await.is_err());
    let (head, signature) = token.rsplit_once('.').unwrap();
    let flipped = format!("{head}x.{signature}");
    let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", head.split_once('.').unwrap().1);
    let past = gate.service_account_token(&cluster.id, "apps", "robot", &uid, Time::UNIX_EPOCH).unwrap();
    let other_uid = gate.service_account_token(&cluster.id, "apps", "robot", "another", hour).unwrap();
    for bad in [flipped.as_str(), &unsigned, &past, &other_uid, "a.b.c", ".."] {
        assert!(matches!(gate.inspect_bearer(bad, &cluster.id).await, Err(Fault::Unauthorized(_))), "{bad}");
    }
    assert!(gate.inspect_bearer(&token, "nowhere").await.is_err());
    for enabled in [false, true] {
        let snapshot = store.snapshot();
        let domain = snapshot.get::<model::Domain>(DEFAULT_DOMAIN).unwrap();
        let mut change = Change::new();
        change.update(domain, model::Domain { enabled, ..domain.value.clone() });
        store.commit(&change).await.unwrap();
        assert_eq!(gate.inspect_bearer(&token, &cluster.id).await.is_ok(), enabled, "as its domain");
    }
    let snapshot = store.snapshot();
    let mut change = Change::new();
    let key = KubeObject::key_of(&cluster.id, "", "serviceaccounts", "apps", "robot");
    change.delete(snapshot.at::<KubeObject>(&key).unwrap());
    store.commit(&change).await.unwrap();
    assert!(gate.inspect_bearer(&token, &cluster.id).await.is_err());
}

#[tokio::test]
async fn a_certificate_is_a_user_of_one_cluster() {
    let (store, gate) = gate().await;
    let cluster = cluster(&store, "demo").await;
    let other = self::cluster(&store, "admin").await;
    let certificate =
        |authority: &model::Authority, name: &str, usage| signed(authority, name, "system:masters", usage);
    let own = cluster.authority.as_ref().unwrap();
    let clients = rcgen::ExtendedKeyUsagePurpose::ClientAuth;
    let ann = certificate(own, "ann", clients.clone());
    let who = gate.certificate(&ann, &cluster.id).unwrap();
    assert_eq!(who.user_name, "ann");
    assert_eq!(who.kube_groups, ["system:masters", "system:authenticated"]);
    assert_eq!(who.kube_cluster.as_deref(), Some(cluster.id.as_str()));
    assert!(!who.is_reader());
    // What one cluster's authority signed is nothing to another, nor what is for servers, or names others.
    assert!(gate.certificate(&ann, &other.id).is_err());
    assert!(
        gate.certificate(&certificate(other.authority.as_ref().unwrap(), "ann", clients.clone()), &cluster.id).is_err()
    );
    assert!(
        gate.certificate(&certificate(own, "ann", rcgen::ExtendedKeyUsagePurpose::ServerAuth), &cluster.id).is_err()
    );
    for name in ["", "system:serviceaccount:default:x", "openstack:default/admin"] {
        assert!(gate.certificate(&certificate(own, name, clients.clone()), &cluster.id).is_err(), "{name}");
        assert!(gate.certificate(&signed(own, "ann", name, clients.clone()), &cluster.id).is_err() || name.is_empty());
    }
    assert!(gate.certificate(&ann, "nowhere").is_err());
    assert!(gate.certificate(&ann[..ann.len() - 1], &cluster.id).is_err());
    assert!(!format!("{cluster:?}").contains("PRIVATE KEY"), "no log may have it");
}

#[tokio::test]
async fn clusters_of_before_get_authorities() {
    let (store, gate) = gate().await;
    let cluster = cluster(&store, "demo").await;
    let mut change = Change::new();
    change.edit(store.snapshot().get::<Cluster>(&cluster.id).unwrap(), |cluster| cluster.authority = None);
    store.commit(&change).await.unwrap();
    assert!(gate.certificate(&[], &cluster.id).is_err());
    let authority = async || {
        gate.ensure_authorities().await.unwrap();
        store.snapshot().get::<Cluster>(&cluster.id).unwrap().authority.clone().unwrap()
    };
    let made = authority().await;
    assert_eq!(authority().await, made, "once");
    let ann = signed(&made, "ann", "team", rcgen::ExtendedKeyUsagePurpose::ClientAuth);
    assert_eq!(gate.certificate(&ann, &cluster.id).unwrap().kube_groups, ["team", "system:authenticated"]);
}

/// A certificate in DER.
fn signed(authority: &model::Authority, name: &str, group: &str, usage: rcgen::ExtendedKeyUsagePurpose) -> Vec<u8> {
    let key = rcgen::KeyPair::from_pem(&authority.key).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&authority.certificate, key).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.distinguished_name.push(rcgen::DnType::OrganizationName, group);
    params.extended_key_usages = vec![usage];
    params.signed_by(&rcgen::KeyPair::generate().unwrap(), &issuer).unwrap().der().to_vec()
}

/// What is remembered must be cheaper than what is looked up, on every build; the figures themselves depend on the machine
/// and are logged.
#[tokio::test]
async fn the_cost_of_a_validation() {
    let (store, gate) = gate().await;
    let (token, first) = login(&gate, "demo", ScopeRequest::Default).await.unwrap();
    let rounds = 2000;
    let begin = std::time::Instant::now();
    for _ in 0..rounds {
        assert_eq!(gate.inspect(&token).await.unwrap().user_id, first.user_id);
    }
    let remembered = begin.elapsed() / rounds;
    let begin = std::time::Instant::now();
    let mut commits = std::time::Duration::ZERO;
    for n in 0..rounds {
        let before = std::time::Instant::now();
        store.commit(&Change::from(model::Setting { name: format!("s{n}"), value: json!(n) })).await.unwrap();
        commits += before.elapsed();
        assert_eq!(gate.inspect(&token).await.unwrap().user_id, first.user_id);
    }
    let fresh = (begin.elapsed() - commits) / rounds;
    tracing::info!(?remembered, ?fresh, "cost of a validation");
    assert!(remembered < fresh, "remembered {remembered:?}, looked up {fresh:?}");
}

#[tokio::test]
async fn every_log_in_costs_one_hash() {
    let (_, gate) = gate().await;
    let computed = || gate.passwords().computed();
    let stranger = Client::at([192, 0, 2, 1].into());
    let password = |user: &str, text: &str| Proof::Password { user: in_default(user), password: text.into() };
    let long = "x".repeat(100);
    for (user, text) in [("demo", "demo"), ("demo", "wrong"), ("nobody", "wrong"), ("demo", &long), ("nobody", &long)] {
        let before = computed();
        let result = gate.login(vec![password(user, text)], ScopeRequest::Unscoped, stranger).await;
        assert_eq!(result.is_ok(), text == "demo", "{user}");
        assert_eq!(computed() - before, 1, "{user} {}", text.len());
    }
    // Several proofs are not several guesses.
    let before = computed();
    let many = vec![password("demo", "a"), password("demo", "b"), password("demo", "demo")];
    assert!(gate.login(many, ScopeRequest::Unscoped, stranger).await.is_err());
    assert_eq!(computed() - before, 0);
    // Whoever must wait pays the same, is not let in, and does not wait longer for it; others are let in.
    for _ in 0..20 {
        assert!(gate.login(vec![password("demo", "wrong")], ScopeRequest::Unscoped, stranger).await.is_err());
    }
    let before = computed();
    assert!(gate.login(vec![password("demo", "demo")], ScopeRequest::Unscoped, stranger).await.is_err());
    assert_eq!(computed() - before, 1);
    let owner = Client::at([192, 0, 2, 2].into());
    assert!(gate.login(vec![password("demo", "demo")], ScopeRequest::Unscoped, owner).await.is_ok());
}

/// Each voided token is a row: of tokens that are made of a token, there is an end to them.
#[tokio::test]
async fn many_tokens_of_one_are_voided_together() {
    let (store, gate) = gate().await;
    let (first, _) = login(&gate, "demo", ScopeRequest::Project(in_default("demo"))).await.unwrap();
    let (other, _) = login(&gate, "demo", ScopeRequest::Project(in_default("demo"))).await.unwrap();
    let next = async || {
        let proof = Proof::Token(first.clone());
        gate.login(vec![proof], ScopeRequest::Project(in_default("demo")), Client::UNKNOWN)
            .await
            .map(|(token, _)| token)
    };
    let void = async |token: &str| {
        let of = gate.inspect(token).await.unwrap();
        let mut change = Change::new();
        gate::revoke::token(&mut change, &store.snapshot(), &of, Time::now(), gate.lifetime());
        store.commit(&change).await.unwrap();
        assert!(gate.inspect(token).await.is_err());
    };
    for _ in 0..gate::revoke::MOST_OF_ONE {
        void(&next().await.unwrap()).await;
    }
    let last = next().await.unwrap();
    assert_eq!(store.snapshot().all::<Revocation>().count(), gate::revoke::MOST_OF_ONE);
    void(&last).await;
    assert_eq!(store.snapshot().all::<Revocation>().count(), 1);
    assert!(next().await.is_err() && gate.inspect(&first).await.is_err(), "all of the chain is void");
    void(&other).await;
}
