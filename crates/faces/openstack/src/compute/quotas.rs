//! Limits and quotas. What is counted is counted by claims (see [`model::quota`]); what limits the size of one thing
//! (metadata of a server) is only read where that thing is written.

use model::quota::{self, Limited, Quota, QuotaClass};
use model::{Change, Fault, Pool, Project, Snapshot};
use serde_json::{Map, Value, json};

use super::body::Fields;
use crate::call::{Call, Reply};
use crate::limits::{self, fresh, number, of as row};

/// A resource of Nova's quota sets.
#[derive(Clone, Copy)]
struct QuotaItem {
    name: &'static str,
    /// The limit of a new project; `None`: counted, or kept for compatibility without a limit.
    default: Option<u64>,
    /// The last version that shows it.
    until: (u16, u16),
    /// The claims' resource, where that counts it.
    counted: Option<&'static str>,
}

const ALWAYS: (u16, u16) = (u16::MAX, u16::MAX);
const PROXY: (u16, u16) = (2, 35);
const INJECTED: (u16, u16) = (2, 56);

const fn plain(name: &'static str, default: u64, until: (u16, u16)) -> QuotaItem {
    QuotaItem { name, default: Some(default), until, counted: None }
}
/// What Neutron limits, under Nova's old name.
const fn proxied(name: &'static str, counted: Option<&'static str>) -> QuotaItem {
    QuotaItem { name, default: None, until: PROXY, counted }
}

/// What is limited beside that which the service's own rows claim.
const ENTRIES: &[QuotaItem] = &[
    plain("metadata_items", 128, ALWAYS),
    plain("key_pairs", 100, ALWAYS),
    plain("server_group_members", 10, ALWAYS),
    // Of the networks that Nova had itself. It keeps and shows the number, and nothing is limited by it; ports are.
    proxied("fixed_ips", None),
    proxied("floating_ips", Some("floatingip")),
    proxied("security_groups", Some("security_group")),
    proxied("security_group_rules", Some("security_group_rule")),
    plain("injected_files", 5, INJECTED),
    plain("injected_file_content_bytes", 10240, INJECTED),
    plain("injected_file_path_bytes", 255, INJECTED),
];

/// All that Nova limits, in any version.
fn all(call: &Call) -> impl Iterator<Item = QuotaItem> + use<> {
    limits::shown_by(call.entry.service).map(QuotaItem::claimed).chain(ENTRIES.iter().copied())
}

fn entries(call: &Call) -> impl Iterator<Item = QuotaItem> + use<> {
    let version = call.version;
    all(call).filter(move |entry| version <= entry.until)
}

impl QuotaItem {
    fn claimed(limited: &Limited) -> Self {
        Self { name: limited.name, default: None, until: ALWAYS, counted: Some(limited.name) }
    }

    fn named(name: &str) -> Option<Self> {
        let own = || ENTRIES.iter().copied().find(|entry| entry.name == name);
        own().or_else(|| quota::limited(name).map(Self::claimed))
    }

    fn limited(&self) -> Option<&'static Limited> {
        self.counted.and_then(quota::limited)
    }

    /// The name under which a project's row has the limit.
    fn stated_as(&self) -> &'static str {
        self.counted.unwrap_or(self.name)
    }

    /// The limit in a project's row; `None` is unlimited.
    fn limit(&self, row: &Quota) -> Option<u64> {
        match self.limited() {
            Some(limited) => row.limit(limited),
            None => row.stated(self.name).unwrap_or(self.default),
        }
    }

    /// How much is in use, in Nova's units.
    fn used(&self, call: &Call, project: &str) -> u64 {
        self.limited().map_or(0, |limited| limits::used(&call.cloud.store, project, limited))
    }
}

/// A project's limit of one resource; `None` is unlimited.
pub fn limit(snapshot: &Snapshot, project: &str, name: &str) -> Option<u64> {
    QuotaItem::named(name).and_then(|entry| entry.limit(&row(snapshot, project)))
}

/// The use and limit of a project's claims, in Nova's units.
pub fn pool(call: &Call, project: &str, name: &str) -> Pool {
    let Some(entry) = QuotaItem::named(name) else { return Pool::default() };
    Pool { used: entry.used(call, project), limit: entry.limit(&row(&call.snapshot, project)) }
}

fn set(call: &Call, quota: &Quota, id: Option<&str>) -> Value {
    let mut set: Map<String, Value> =
        entries(call).map(|entry| (entry.name.to_owned(), json!(number(entry.limit(quota))))).collect();
    if let Some(id) = id {
        set.insert("id".into(), json!(id));
    }
    json!({"quota_set": set})
}

/// The project of the path, if the caller may see its quota.
fn project(call: &Call) -> Result<&str, Fault> {
    let (who, id) = (call.who()?, call.param("id"));
    if who.project_id() == Some(id) {
        return Ok(id);
    }
    if !who.is_admin() {
        return Err(Fault::Forbidden("Policy doesn't allow os_compute_api:os-quota-sets:show to be performed.".into()));
    }
    if call.snapshot.get::<Project>(id).is_none() {
        return Err(Fault::Invalid(format!("Project ID {id} is not a valid project.")));
    }
    Ok(id)
}

/// `GET /os-quota-sets/{id}`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    let id = project(&call)?;
    Ok(Reply::ok(set(&call, &row(&call.snapshot, id), Some(id))))
}

/// `GET /os-quota-sets/{id}/defaults`
pub async fn defaults(call: Call) -> Result<Reply, Fault> {
    let id = call.param("id");
    Ok(Reply::ok(set(&call, &fresh(&call.snapshot, id), Some(id))))
}

/// `GET /os-quota-sets/{id}/detail`
pub async fn detail(call: Call) -> Result<Reply, Fault> {
    let id = project(&call)?;
    let quota = row(&call.snapshot, id);
    let mut set: Map<String, Value> = entries(&call)
        .map(|entry| {
            let value = json!({"limit": number(entry.limit(&quota)), "in_use": entry.used(&call, id), "reserved": 0});
            (entry.name.to_owned(), value)
        })
        .collect();
    set.insert("id".into(), json!(id));
    Ok(Reply::ok(json!({"quota_set": set})))
}

/// `PUT /os-quota-sets/{id}`
pub async fn update(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    let fields = Fields::of(&body, "quota_set")?;
    let mut known: Vec<&str> = entries(&call).map(|entry| entry.name).collect();
    known.extend(["force", "tenant_id"]);
    fields.only(&known)?;
    if call.query("user_id").is_some() {
        return Err(super::fault::not_built("A quota of one user"));
    }
    let id = project(&call)?;
    let force = fields.boolean("force")?.unwrap_or(false);
    let mut limits = Vec::new();
    for entry in entries(&call) {
        let Some(value) = fields.integer(entry.name, -1, i64::from(i32::MAX))? else { continue };
        let value = u64::try_from(value).ok();
        let used = entry.used(&call, id);
        if let Some(limit) = value.filter(|limit| !force && *limit < used) {
            return Err(Fault::Invalid(format!(
                "Quota limit {limit} for {} must be greater than or equal to already used and reserved {used}.",
                entry.name
            )));
        }
        limits.push((entry.stated_as(), value));
    }
    let quota = call
        .cloud
        .store
        .transact(|snapshot| {
            let mut quota = row(snapshot, id);
            quota.limits.extend(limits.iter().map(|(name, limit)| ((*name).to_owned(), *limit)));
            let mut change = Change::new();
            match snapshot.get::<Quota>(id) {
                Some(entry) => change.update(entry, quota.clone()),
                None => change.create(quota.clone()),
            };
            Ok((change, quota))
        })
        .await?;
    Ok(Reply::ok(set(&call, &quota, None)))
}

/// `DELETE /os-quota-sets/{id}`: back to the defaults of what the version shows.
pub async fn delete(call: Call) -> Result<Reply, Fault> {
    let id = project(&call)?;
    call.cloud
        .store
        .transact(|snapshot| {
            let mut change = Change::new();
            if let Some(entry) = snapshot.get::<Quota>(id) {
                change.edit(entry, |q| {
                    q.limits.retain(|name, _| !entries(&call).any(|entry| entry.stated_as() == name));
                });
            }
            Ok((change, ()))
        })
        .await?;
    Ok(Reply::empty(202))
}

/// What a class shows and takes of the resources: until 2.49 those that Neutron limits, since 2.50 those of server groups.
fn entries_of_class(call: &Call) -> impl Iterator<Item = QuotaItem> + use<> {
    let version = call.version;
    all(call).filter(move |entry| match entry.name {
        "server_groups" | "server_group_members" => version >= (2, 50),
        _ if entry.until == PROXY => version < (2, 50),
        _ => version <= entry.until,
    })
}

fn class(call: &Call, quota: &Quota, id: Option<&str>) -> Reply {
    let limits = entries_of_class(call).map(|entry| (entry.name.to_owned(), json!(number(entry.limit(quota)))));
    let mut out: Map<String, Value> = limits.collect();
    out.extend(id.map(|id| ("id".to_owned(), json!(id))));
    Reply::ok(json!({"quota_class_set": out}))
}

/// `GET /os-quota-class-sets/{id}`: there is one class, `default`; whatever else is asked for has its limits, as in Nova.
pub async fn show_class(call: Call) -> Result<Reply, Fault> {
    Ok(class(&call, &fresh(&call.snapshot, ""), Some(call.param("id"))))
}

/// `PUT /os-quota-class-sets/default`: at once the limits of every project that has none of its own. Nova keeps other
/// classes too, which no project is in; here they are refused.
pub async fn update_class(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    let fields = Fields::of(&body, "quota_class_set")?;
    let known: Vec<&str> = entries_of_class(&call).map(|entry| entry.name).collect();
    fields.only(&known)?;
    let id = call.param("id");
    if id != QuotaClass::DEFAULT {
        return Err(Fault::Invalid(format!(
            "No project is in the quota class {}: only the class '{}' can be set.",
            id.chars().take(255).collect::<String>(),
            QuotaClass::DEFAULT
        )));
    }
    let mut limits = Vec::new();
    for entry in entries_of_class(&call) {
        let Some(value) = fields.integer(entry.name, -1, i64::from(i32::MAX))? else { continue };
        limits.push((entry.stated_as().to_owned(), u64::try_from(value).ok()));
    }
    let changed = call.cloud.store.transact(|snapshot| {
        let mut class = QuotaClass { id: QuotaClass::DEFAULT.to_owned(), limits: QuotaClass::limits(snapshot) };
        class.limits.extend(limits.iter().cloned());
        let mut change = Change::new();
        for quota in snapshot.all::<Quota>().filter(|quota| quota.defaults != class.limits) {
            change.edit(quota, |quota| quota.defaults.clone_from(&class.limits));
        }
        match snapshot.get::<QuotaClass>(QuotaClass::DEFAULT) {
            Some(entry) => change.update(entry, class.clone()),
            None => change.create(class.clone()),
        };
        Ok((change, class.limits))
    });
    let quota = Quota { defaults: changed.await?, ..Quota::new("") };
    Ok(class(&call, &quota, None))
}

/// `GET /limits`
pub async fn limits(call: Call) -> Result<Reply, Fault> {
    let who = call.who()?;
    let project = match call.query("tenant_id").filter(|id| who.project_id() != Some(id)) {
        None => who.project()?,
        Some(id) if who.is_admin() => id,
        Some(_) => {
            return Err(Fault::Forbidden(
                "Policy doesn't allow os_compute_api:limits:other_project to be performed.".into(),
            ));
        }
    };
    let quota = row(&call.snapshot, project);
    let mut absolute = Map::new();
    let mut put = |until: (u16, u16), entry: &str, most: &str, used: &str| {
        if call.version > until {
            return;
        }
        if let Some(entry) = QuotaItem::named(entry) {
            absolute.insert(most.to_owned(), json!(number(entry.limit(&quota))));
            if !used.is_empty() {
                absolute.insert(used.to_owned(), json!(entry.used(&call, project)));
            }
        }
    };
    put(ALWAYS, "instances", "maxTotalInstances", "totalInstancesUsed");
    put(ALWAYS, "cores", "maxTotalCores", "totalCoresUsed");
    put(ALWAYS, "ram", "maxTotalRAMSize", "totalRAMUsed");
    put(ALWAYS, "server_groups", "maxServerGroups", "totalServerGroupsUsed");
    put(ALWAYS, "metadata_items", "maxServerMeta", "");
    put((2, 38), "metadata_items", "maxImageMeta", "");
    put(ALWAYS, "key_pairs", "maxTotalKeypairs", "");
    put(ALWAYS, "server_group_members", "maxServerGroupMembers", "");
    put(PROXY, "floating_ips", "maxTotalFloatingIps", "totalFloatingIpsUsed");
    put(PROXY, "security_groups", "maxSecurityGroups", "totalSecurityGroupsUsed");
    put(PROXY, "security_group_rules", "maxSecurityGroupRules", "");
    put(INJECTED, "injected_files", "maxPersonality", "");
    put(INJECTED, "injected_file_content_bytes", "maxPersonalitySize", "");
    Ok(Reply::ok(json!({"limits": {"rate": [], "absolute": absolute}})))
}
