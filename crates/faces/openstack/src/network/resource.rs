//! What all of Neutron's resources have in common: list, show, create (one or many), update, delete, tags. A resource
//! declares its attributes and what is particular to it; everything else is here once.

use gate::{Principal, Ref, View};
use model::{Entry, Fault, Index, Key, Object, RbacPolicy, Resource, Snapshot, Time, seconds};
use serde_json::{Map, Value, json};

use super::ask::{Ask, Plan, project_for};
use super::attrs::{Attr, Body};
use super::list;
use super::rbac_policies;
use super::trouble::{Trouble, found, refers_to_nothing};
use crate::call::{Call, Reply};

/// The most resources that one request may create.
const MAX_BULK: usize = 1000;

/// The rows, as somebody sees them.
#[derive(Clone, Copy)]
pub struct Look<'a> {
    pub rows: &'a Snapshot,
    pub who: &'a Principal,
}

impl<'a> Look<'a> {
    pub fn view(&self) -> View<'a> {
        View::new(self.rows, self.who)
    }

    /// The row, if the caller may know of it.
    pub fn get<T: Noun>(&self, id: &str) -> Result<Entry<'a, T>, Trouble>
    where
        Object: From<T>,
    {
        found(self.rows.get::<T>(id).filter(|entry| T::sees(self, entry.value)), id)
    }

    /// The row to which a request refers, if the caller may know of it.
    pub fn refer<T: Noun>(&self, id: &Ref<T>) -> Result<Entry<'a, T>, Trouble>
    where
        Object: From<T>,
    {
        self.view().refer_if(id, |value| T::sees(self, value)).map_err(|_| refers_to_nothing(id))
    }
}

/// A resource of Neutron.
pub trait Noun: Resource
where
    Object: From<Self>,
{
    /// `network`
    const ONE: &'static str;
    /// `networks`
    const MANY: &'static str;
    /// Rows are found by their network.
    const OF_NETWORK: bool = false;
    /// Neutron keeps no description, no moments and no revision for it.
    const PLAIN: bool = false;

    fn attrs() -> &'static [Attr];
    /// The attributes that every resource of Neutron has are added by [`standard`].
    fn show(look: &Look<'_>, value: &Self, into: &mut Map<String, Value>);
    fn standard(&self) -> Standard<'_>;
    /// `None`: it has none.
    fn tags_mut(&mut self) -> Option<&mut Vec<String>> {
        None
    }
    fn updated_mut(&mut self) -> &mut Time;

    /// The caller may know of the row.
    fn sees(look: &Look<'_>, value: &Self) -> bool {
        look.view().sees(value)
    }
    /// The row is below the one that the request's path names.
    fn below(_ask: &Ask, _value: &Self) -> bool {
        true
    }
    /// The caller may change the row.
    fn changes(look: &Look<'_>, value: &Self) -> bool {
        look.who.is_admin() || look.view().owns(value)
    }
    /// The caller may delete the row.
    fn deletes(look: &Look<'_>, value: &Self) -> bool {
        Self::changes(look, value)
    }
    /// What must be there before the caller's list is looked at.
    fn before_list(_plan: &mut Plan, _ask: &Ask) -> Result<(), Trouble> {
        Ok(())
    }

    /// The policies that an update takes from whom they give something; see [`rbac_policies::withdraw`].
    fn withdrawn(_plan: &Plan, _value: &Self, _body: &Body) -> Vec<Key> {
        Vec::new()
    }
    /// The same of a deletion of the row itself. What refers to a shared row keeps it anyway.
    fn withdrawn_with(_value: &Self) -> Vec<Key> {
        Vec::new()
    }

    fn create(plan: &mut Plan, ask: &Ask, project: String, body: &Body) -> Result<Self, Trouble>;
    fn update(plan: &mut Plan, ask: &Ask, value: &mut Self, body: &Body) -> Result<(), Trouble>;
    fn delete(plan: &mut Plan, ask: &Ask, value: Self) -> Result<(), Trouble>;
}

/// The attributes that all resources have.
pub struct Standard<'a> {
    pub id: &'a str,
    pub project_id: &'a str,
    pub name: Option<&'a str>,
    pub description: &'a str,
    pub tags: Option<&'a [String]>,
    pub created_at: Time,
    pub updated_at: Time,
}

/// The [`Standard`] attributes of a row that has all of them, under their own names.
macro_rules! standard {
    () => {
        fn standard(&self) -> $crate::network::noun::Standard<'_> {
            $crate::network::noun::Standard {
                id: &self.id,
                project_id: &self.project_id,
                name: Some(&self.name),
                description: &self.description,
                tags: Some(&self.tags),
                created_at: self.created_at,
                updated_at: self.updated_at,
            }
        }

        fn tags_mut(&mut self) -> Option<&mut Vec<String>> {
            Some(&mut self.tags)
        }

        fn updated_mut(&mut self) -> &mut model::Time {
            &mut self.updated_at
        }
    };
}
pub(super) use standard;

/// A resource as JSON, with everything that the caller may see.
pub fn render<T: Noun>(look: &Look<'_>, entry: Entry<'_, T>) -> Map<String, Value>
where
    Object: From<T>,
{
    let mut map = render_to_filter(look, entry);
    list::hide(T::attrs(), &mut map);
    map
}

/// A resource as JSON, with what lists are filtered by.
fn render_to_filter<T: Noun>(look: &Look<'_>, entry: Entry<'_, T>) -> Map<String, Value>
where
    Object: From<T>,
{
    let mut map = Map::new();
    let standard = entry.value.standard();
    map.insert("id".into(), json!(standard.id));
    if let Some(name) = standard.name {
        map.insert("name".into(), json!(name));
    }
    map.insert("project_id".into(), json!(standard.project_id));
    map.insert("tenant_id".into(), json!(standard.project_id));
    if !T::PLAIN {
        map.insert("description".into(), json!(standard.description));
    }
    if let Some(tags) = standard.tags {
        map.insert("tags".into(), json!(tags));
    }
    if !T::PLAIN {
        map.insert("created_at".into(), json!(seconds(standard.created_at)));
        map.insert("updated_at".into(), json!(seconds(standard.updated_at)));
        map.insert("revision_number".into(), json!(entry.row.modified));
    }
    T::show(look, entry.value, &mut map);
    if !look.who.is_admin() {
        for attr in T::attrs().iter().filter(|a| a.admin_sees) {
            map.remove(attr.name);
        }
    }
    map
}

/// `GET /networks`
pub async fn list<T: Noun>(call: Call) -> Result<Reply, Fault>
where
    Object: From<T>,
{
    answer(async {
        let ask = Ask::read(call, false).await?;
        let mut plan = Plan::new(ask.snapshot.clone());
        T::before_list(&mut plan, &ask)?;
        let rows = if plan.is_empty() {
            ask.snapshot.clone()
        } else {
            ask.commit(|plan| T::before_list(plan, &ask)).await?;
            ask.store.snapshot()
        };
        let look = Look { rows: &rows, who: &ask.who };
        let filters = list::filters(&ask, T::attrs())?;
        let found: Box<dyn Iterator<Item = Entry<'_, T>> + Send> = match (filters.ids(), filters.values("network_id")) {
            (Some(ids), _) => Box::new(ids.iter().filter_map(|id| rows.get::<T>(id))),
            (None, Some(ids)) if T::OF_NETWORK => {
                Box::new(ids.iter().flat_map(|id| rows.find::<T>(Index::Network, id)))
            }
            _ => Box::new(rows.all::<T>()),
        };
        let seen = found.filter(|entry| T::below(&ask, entry.value) && T::sees(&look, entry.value));
        let seen = seen.map(|entry| (entry.value.standard().id, entry)).collect();
        list::page(&ask, (T::KIND, T::MANY, T::attrs()), &filters, seen, |entry| render_to_filter(&look, entry))
    })
    .await
}

/// `GET /networks/{id}`
pub async fn show<T: Noun>(call: Call) -> Result<Reply, Fault>
where
    Object: From<T>,
{
    answer(async {
        let ask = Ask::read(call, false).await?;
        let look = Look { rows: &ask.snapshot, who: &ask.who };
        let id = ask.param("id");
        let entry = found(look.get::<T>(id).ok().filter(|entry| T::below(&ask, entry.value)), id)?;
        let mut item = render(&look, entry);
        list::keep_fields(&ask, &mut item);
        Ok(Reply::ok(json!({ T::ONE: item })))
    })
    .await
}

/// `POST /networks`
pub async fn create<T: Noun>(call: Call) -> Result<Reply, Fault>
where
    Object: From<T>,
{
    answer(async {
        let ask = Ask::read(call, true).await?;
        let admin = ask.who.is_admin();
        let check = |one: &Value| -> Result<(String, Body), Trouble> {
            let body = Body::post(T::attrs(), T::ONE, one, admin)?;
            Ok((project_for(&ask.who, body.project().as_deref())?, body))
        };
        let (bodies, bulk) = match (ask.body.get(T::MANY), ask.body.get(T::ONE)) {
            (Some(Value::Array(many)), _) if many.is_empty() => return Err(Trouble::http_bad("Resources required")),
            (Some(Value::Array(many)), _) if many.len() > MAX_BULK => {
                return Err(Trouble::http_bad(format!("At most {MAX_BULK} resources can be created at once")));
            }
            (Some(Value::Array(many)), _) => {
                (many.iter().map(|one| check(bare(one, T::ONE))).collect::<Result<Vec<_>, _>>()?, true)
            }
            (_, Some(one)) => (vec![check(one)?], false),
            _ => return Err(Trouble::http_bad(format!("Unable to find '{}' in request body", T::ONE))),
        };
        let ids = make::<T>(&ask, &bodies).await?;
        let rows = ask.store.snapshot();
        let look = Look { rows: &rows, who: &ask.who };
        let mut items = Vec::with_capacity(ids.len());
        for id in &ids {
            let mut item = render(&look, found(rows.get::<T>(id), id)?);
            list::keep_fields(&ask, &mut item);
            items.push(item);
        }
        match (bulk, items.len()) {
            (false, 1) => Ok(Reply::json(201, &json!({ T::ONE: items[0] }))),
            _ => Ok(Reply::json(201, &json!({ T::MANY: items }))),
        }
    })
    .await
}

/// Makes resources, each of a project, in one commit; their ids.
pub async fn make<T: Noun>(ask: &Ask, bodies: &[(String, Body)]) -> Result<Vec<String>, Trouble>
where
    Object: From<T>,
{
    let one = |plan: &mut Plan, (project, body): &(String, Body)| {
        let value = T::create(plan, ask, project.clone(), body)?;
        let id = value.name();
        plan.put(value);
        Ok(id)
    };
    ask.commit(|plan| bodies.iter().map(|body| one(plan, body)).collect()).await
}

/// One of many, which clients of old put under its name.
fn bare<'a>(one: &'a Value, name: &str) -> &'a Value {
    one.as_object().filter(|object| object.len() == 1).and_then(|object| object.get(name)).unwrap_or(one)
}

/// `PUT /networks/{id}`
pub async fn update<T: Noun>(call: Call) -> Result<Reply, Fault>
where
    Object: From<T>,
{
    answer(async {
        let ask = Ask::read(call, true).await?;
        let id = ask.param("id").to_owned();
        let given = ask.body.get(T::ONE).unwrap_or(&Value::Null);
        let body = Body::put(T::attrs(), T::ONE, given, ask.who.is_admin())?;
        change::<T>(&ask, &id, &body).await?;
        shown::<T>(&ask, &id)
    })
    .await
}

/// Changes a resource.
pub async fn change<T: Noun>(ask: &Ask, id: &str, body: &Body) -> Result<(), Trouble>
where
    Object: From<T>,
{
    let which = |plan: &Plan| Ok(T::withdrawn(plan, &changeable::<T>(plan, ask, id, "update")?, body));
    let write = |plan: &mut Plan| {
        let mut value = changeable::<T>(plan, ask, id, "update")?;
        T::update(plan, ask, &mut value, body)?;
        *value.updated_mut() = ask.now;
        plan.put(value);
        Ok(())
    };
    rbac_policies::withdraw(ask, which, write).await
}

/// `DELETE /networks/{id}`
pub async fn delete<T: Noun>(call: Call) -> Result<Reply, Fault>
where
    Object: From<T>,
{
    answer(async {
        let ask = Ask::read(call, false).await?;
        remove::<T>(&ask, ask.param("id")).await?;
        Ok(Reply::empty(204))
    })
    .await
}

/// Removes a resource.
pub async fn remove<T: Noun>(ask: &Ask, id: &str) -> Result<(), Trouble>
where
    Object: From<T>,
{
    let which = |plan: &Plan| Ok(T::withdrawn_with(&changeable::<T>(plan, ask, id, "delete")?));
    let write = |plan: &mut Plan| {
        let value = changeable::<T>(plan, ask, id, "delete")?;
        let key = value.key();
        T::delete(plan, ask, value)?;
        rbac_policies::remove_about(plan, &key);
        plan.remove(&key);
        Ok(())
    };
    rbac_policies::withdraw(ask, which, write).await
}

/// A resource after a change.
pub fn shown<T: Noun>(ask: &Ask, id: &str) -> Result<Reply, Trouble>
where
    Object: From<T>,
{
    let rows = ask.store.snapshot();
    let look = Look { rows: &rows, who: &ask.who };
    let item = render(&look, found(rows.get::<T>(id), id)?);
    Ok(Reply::ok(json!({ T::ONE: item })))
}

/// A copy of the row if the caller may change it and it is at the revision that the caller asks for.
pub fn changeable<T: Noun>(plan: &Plan, ask: &Ask, id: &str, verb: &str) -> Result<T, Trouble>
where
    Object: From<T>,
{
    let look = Look { rows: &plan.rows, who: &ask.who };
    let entry = found(look.get::<T>(id).ok().filter(|entry| T::below(ask, entry.value)), id)?;
    let may = if verb == "delete" { T::deletes(&look, entry.value) } else { T::changes(&look, entry.value) };
    if !may {
        return Err(Trouble::policy(&format!("rule:{verb}_{}", T::ONE)));
    }
    if let Some(asked) = asked_revision(ask)?
        && asked != entry.row.modified
    {
        return Err(Trouble::precondition(format!(
            "Constrained to {asked}, but current revision is {}",
            entry.row.modified
        )));
    }
    Ok(entry.value.clone())
}

/// `If-Match: revision_number=7`
fn asked_revision(ask: &Ask) -> Result<Option<u64>, Trouble> {
    let Some(header) = ask.headers.get(http::header::IF_MATCH) else { return Ok(None) };
    let text = header.to_str().unwrap_or("").trim().trim_matches('"');
    let number = text.strip_prefix("revision_number=").and_then(|n| n.parse().ok());
    number
        .map(Some)
        .ok_or_else(|| Trouble::http_bad("Revision number etag must be in the format of revision_number=<int>"))
}

/// Turns the trouble of a handler into its reply.
pub async fn answer(handler: impl Future<Output = Result<Reply, Trouble>> + Send) -> Result<Reply, Fault> {
    match handler.await {
        Ok(reply) => Ok(reply),
        Err(trouble) => trouble.reply(),
    }
}

/// A row to which another one refers, if the caller may know of it.
pub fn referred<T: Noun>(plan: &mut Plan, ask: &Ask, id: &Ref<T>) -> Result<T, Trouble>
where
    Object: From<T>,
{
    let look = Look { rows: &plan.rows, who: &ask.who };
    let value = look.refer(id)?.value.clone();
    // Access that is taken back meanwhile was never used.
    let view = look.view();
    if !(ask.who.is_admin() || view.owns(&value)) {
        let given: Vec<String> = view.policies(&value).map(|policy| policy.id.clone()).collect();
        given.iter().for_each(|id| plan.hold::<RbacPolicy>(id));
    }
    Ok(value)
}

/// The same for a row that the caller may change; of others' nothing is said.
pub fn referred_own<T: Noun>(plan: &mut Plan, ask: &Ask, id: &Ref<T>) -> Result<T, Trouble>
where
    Object: From<T>,
{
    let value: T = referred(plan, ask, id)?;
    match T::changes(&Look { rows: &plan.rows, who: &ask.who }, &value) {
        true => Ok(value),
        false => Err(refers_to_nothing(id)),
    }
}
