//! Server groups: servers that shall be together or apart.

use model::{Change, Entry, Fault, Realm, Server, ServerGroup, Snapshot};
use serde_json::{Value, json};

use super::body::{Fields, bad};
use super::schema::{Is, Schema, property};
use super::wire::{list, page};
use crate::attrs::{Answers, Attr, Shown, attr};
use crate::call::{Call, Reply};
use crate::json::Json;

const POLICIES: &[&str] = &["anti-affinity", "affinity", "soft-anti-affinity", "soft-affinity"];

/// Ids of the servers in a group.
pub fn members(snapshot: &Snapshot, group: &ServerGroup) -> Vec<String> {
    let realm = Realm::project(&group.project_id);
    snapshot
        .within::<Server>(&realm)
        .filter(|server| server.server_group_id.as_deref() == Some(&group.id) && !server.deleting)
        .map(|server| server.id.clone())
        .collect()
}

impl Shown for ServerGroup {
    type Of<'a> = &'a ServerGroup;
    const ONE: &'static str = "server_group";
    const ATTRS: &'static [Attr<Self>] = &[
        attr::<Self>("id", |_, group| (&group.id).into()),
        attr::<Self>("name", |_, group| (&group.name).into()),
        attr::<Self>("members", |call, group| Json::list(members(&call.snapshot, group))),
        attr::<Self>("policy", |_, group| (&group.policy).into()).since(2, 64),
        attr::<Self>("rules", |_, group| {
            Json::Object(group.max_server_per_host.iter().map(|most| ("max_server_per_host", most.into())).collect())
        })
        .since(2, 64),
        attr::<Self>("policies", |_, group| Json::list([&group.policy])).until(2, 63),
        attr::<Self>("metadata", |_, _| Json::object([])).until(2, 63),
        attr::<Self>("project_id", |_, group| (&group.project_id).into()).since(2, 13),
        attr::<Self>("user_id", |_, group| (&group.user_id).into()).since(2, 13),
    ];
}

/// `GET /os-server-groups`
pub async fn index(call: Call) -> Result<Reply, Fault> {
    let view = call.view()?;
    let groups: Vec<Entry<'_, ServerGroup>> = if call.query("all_projects").is_some() && view.who.is_admin() {
        view.all::<ServerGroup>().collect()
    } else {
        view.mine::<ServerGroup>().collect()
    };
    let mut groups = groups;
    let offset = call.query("offset").map(str::parse::<usize>).transpose();
    let offset = offset.map_err(|_| Fault::Invalid("offset must be a whole number".into()))?.unwrap_or(0);
    groups.drain(..offset.min(groups.len()));
    let page = page(&call, groups, |group| group.id.clone())?;
    let items =
        page.items.into_iter().map(|group| json!(ServerGroup::shown(&call, &group.value, Answers::LIST))).collect();
    Ok(Reply::ok(list(&call, "server_groups", items, None)))
}

/// `GET /os-server-groups/{id}`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    let view = call.view()?;
    let group = view.get::<ServerGroup>(call.param("id"))?;
    Ok(Reply::ok(json!({"server_group": ServerGroup::shown(&call, &&*group, Answers::ONE)})))
}

/// What `POST /os-server-groups` says.
pub const GROUP: Schema = Schema {
    name: "server_group",
    properties: &[
        property("name", Is::Name).required(),
        property("policies", Is::Any).until(2, 63).required(),
        property("policy", Is::Any).since(2, 64).required(),
        property("rules", Is::Any).since(2, 64),
    ],
};
const RULES: Schema =
    Schema { name: "rules", properties: &[property("max_server_per_host", Is::Int(1, i32::MAX as i64))] };

/// `POST /os-server-groups`
pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    let given = GROUP.read(call.version, &body)?;
    let (policy, value) = if call.version >= (2, 64) {
        let value = given.get("policy").unwrap_or(&Value::Null);
        (value.as_str(), value)
    } else {
        let value = given.get("policies").unwrap_or(&Value::Null);
        let one = value.as_array().filter(|list| list.len() == 1).and_then(|list| list[0].as_str());
        (one, value)
    };
    let soft = call.version >= (2, 15);
    let policy = policy.filter(|p| POLICIES.contains(p) && (soft || !p.starts_with("soft-")));
    let policy = policy.ok_or_else(|| bad("policy", value, &format!("It is not one of {POLICIES:?}")))?;
    let mut max_server_per_host = None;
    if let Some(rules) = given.get("rules") {
        let rules = RULES.take(call.version, &Fields::new("rules", rules)?)?;
        max_server_per_host = rules.int("max_server_per_host").map(|n| n as u64);
        if max_server_per_host.is_some() && policy != "anti-affinity" {
            return Err(Fault::Invalid("Only anti-affinity policy supports rules.".into()));
        }
    }
    let who = call.who()?;
    let group = ServerGroup {
        id: uuid::Uuid::new_v4().to_string(),
        project_id: who.project()?.to_owned(),
        user_id: who.user_id.clone(),
        name: given.text("name").unwrap_or_default().to_owned(),
        policy: policy.to_owned(),
        max_server_per_host,
    };
    call.cloud.store.transact(|_| Ok((Change::from(group.clone()), ()))).await?;
    Ok(Reply::ok(json!({"server_group": ServerGroup::shown(&call, &&group, Answers::ONE)})))
}

/// `DELETE /os-server-groups/{id}`: its servers stay, without the group.
pub async fn delete(call: Call) -> Result<Reply, Fault> {
    let (who, id) = (call.who()?, call.param("id"));
    call.cloud
        .store
        .transact(|snapshot| {
            let group = gate::View::new(snapshot, who).own::<ServerGroup>(id)?;
            let mut change = Change::new();
            for server in snapshot.within::<Server>(&Realm::project(&group.project_id)) {
                if server.server_group_id.as_deref() == Some(id) {
                    change.edit(server, |s| s.server_group_id = None);
                }
            }
            change.delete(group);
            Ok((change, ()))
        })
        .await?;
    Ok(Reply::empty(204))
}
