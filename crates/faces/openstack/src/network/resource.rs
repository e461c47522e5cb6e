//! What all of Neutron's resources have in common: list, show, create (one or many), update, delete, tags. A resource
//! declares its attributes and what is particular to it; everything else is here once.

use gate::{Ref, View};
use model::{Entry, Fault, Index, Key, Object, RbacPolicy, Realm, Resource};
use serde_json::Value;

use super::attrs::{Attr, Item, Updated};
use super::body::Attributes;
use super::error::{NeutronError, found, refers_to_nothing};
use super::list::{self, Listed, Rendered};
use super::request::{Plan, Request, project_for};
use super::sharing;
use crate::call::{Call, Reply};
use crate::json::{Json, Named};

/// The most resources that one request may create.
const MAX_BULK: usize = 1000;

/// A resource of Neutron.
pub trait NeutronResource: Resource + Into<Object> + Updated {
    /// `network`
    const ONE: &'static str;
    /// `networks`
    const MANY: &'static str;
    const ATTRS: &'static [Attr<Self>];
    /// Rows are found by their network.
    const OF_NETWORK: bool = false;

    /// The caller may know of the row. Whoever owns it does.
    fn sees(view: &View<'_>, value: &Self) -> bool {
        view.sees(value)
    }
    /// It is as if the row were not there, for everybody.
    fn is_gone(_view: &View<'_>, _value: &Self) -> bool {
        false
    }
    /// The row is below the one that the request's path names.
    fn below(_request: &Request, _value: &Self) -> bool {
        true
    }
    /// The caller may change the row.
    fn changes(view: &View<'_>, value: &Self) -> bool {
        view.who.is_admin() || view.owns(value)
    }
    /// The caller may delete the row.
    fn deletes(view: &View<'_>, value: &Self) -> bool {
        Self::changes(view, value)
    }
    /// What must be there before the caller's list is looked at.
    fn before_list(_plan: &mut Plan, _request: &Request) -> Result<(), NeutronError> {
        Ok(())
    }

    /// The policies that an update takes from whom they give something; see [`sharing::withdraw`].
    fn withdrawn(_plan: &Plan, _value: &Self, _body: &Attributes) -> Vec<Key> {
        Vec::new()
    }
    /// The same of a deletion of the row itself. What refers to a shared row keeps it anyway.
    fn withdrawn_with(_value: &Self) -> Vec<Key> {
        Vec::new()
    }

    /// The new row: [`Attributes::fill`] puts the plain attributes into it.
    fn create(plan: &mut Plan, request: &Request, project: String, body: &Attributes) -> Result<Self, NeutronError>;
    /// What the rules say of a row into which the plain attributes have been put.
    fn update(_plan: &mut Plan, _request: &Request, _value: &mut Self, _body: &Attributes) -> Result<(), NeutronError> {
        Ok(())
    }
    fn delete(plan: &mut Plan, request: &Request, value: Self) -> Result<(), NeutronError>;
}

impl Attributes {
    /// The row with the plain attributes that were given.
    pub fn fill<T: NeutronResource>(&self, mut row: T) -> T {
        for attr in T::ATTRS {
            if let (Some(put), Some(given)) = (attr.put, self.value(attr.name)) {
                put(&mut row, given);
            }
        }
        row
    }
}

/// The row, if the caller may know of it.
pub fn get<'a, T: NeutronResource>(view: &View<'a>, id: &str) -> Result<Entry<'a, T>, NeutronError> {
    found(view.snapshot.get::<T>(id).filter(|entry| T::sees(view, entry.value) && !T::is_gone(view, entry.value)), id)
}

/// What the caller sees of rows, as a part of another one.
pub fn objects<'a, T: NeutronResource>(view: &View<'a>, entries: impl Iterator<Item = Entry<'a, T>>) -> Json<'a> {
    let attrs = list::visible(T::ATTRS, view.who.is_admin());
    let object = |entry: Entry<'a, T>| attrs.iter().map(|attr| (attr.name, attr.of(view, entry.into()))).collect();
    Json::List(entries.map(|entry| Json::Object(object(entry))).collect())
}

/// A row as JSON, with some of its attributes.
fn one<'l, 'a, T: NeutronResource>(
    view: &'l View<'a>,
    entry: Entry<'a, T>,
    attrs: &'l [&'static Attr<T>],
) -> Rendered<'l, 'a, T> {
    Rendered { view, attrs, item: entry.into() }
}

/// `GET /networks`
pub async fn list<T: NeutronResource>(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, false).await?;
        let mut plan = Plan::new(request.store.book());
        T::before_list(&mut plan, &request)?;
        let rows = if plan.is_empty() {
            plan.rows
        } else {
            request.commit(|plan| T::before_list(plan, &request)).await?;
            request.store.snapshot()
        };
        let view = View::new(&rows, &request.who);
        let listed = Listed { kind: T::KIND, many: T::MANY, attrs: T::ATTRS };
        let filters = listed.filters(&request)?;
        let found: Box<dyn Iterator<Item = Entry<'_, T>> + Send> = match (filters.ids(), filters.values("network_id")) {
            (Some(ids), _) => Box::new(ids.iter().filter_map(|id| rows.get::<T>(id))),
            (None, Some(ids)) if T::OF_NETWORK => {
                Box::new(ids.iter().flat_map(|id| rows.find::<T>(Index::Network, id)))
            }
            _ => Box::new(rows.all::<T>()),
        };
        let own = request.who.project_id().map(Realm::project);
        let sees = |entry: &Entry<'_, T>| own.as_ref() == Some(&entry.row.key.realm) || T::sees(&view, entry.value);
        let seen = found.filter(|entry| T::below(&request, entry.value) && !T::is_gone(&view, entry.value));
        let seen = seen.filter(sees);
        listed.reply(&request, &view, &filters, seen.map(Item::from))
    })
    .await
}

/// `GET /networks/{id}`
pub async fn show<T: NeutronResource>(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, false).await?;
        let view = View::new(&request.snapshot, &request.who);
        let id = request.param("id");
        let entry = found(get::<T>(&view, id).ok().filter(|entry| T::below(&request, entry.value)), id)?;
        let attrs = list::chosen(&request, T::ATTRS);
        Ok(Reply::ok(Named(T::ONE, one(&view, entry, &attrs))))
    })
    .await
}

/// `POST /networks`
pub async fn create<T: NeutronResource>(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, true).await?;
        let admin = request.who.is_admin();
        let check = |one: &Value| -> Result<(String, Attributes), NeutronError> {
            let body = Attributes::post(T::ATTRS, T::ONE, one, admin)?;
            Ok((project_for(&request.who, body.project().as_deref())?, body))
        };
        let (bodies, bulk) = match (request.body.get(T::MANY), request.body.get(T::ONE)) {
            (Some(Value::Array(many)), _) if many.is_empty() => {
                return Err(NeutronError::http_bad("Resources required"));
            }
            (Some(Value::Array(many)), _) if many.len() > MAX_BULK => {
                return Err(NeutronError::http_bad(format!("At most {MAX_BULK} resources can be created at once")));
            }
            (Some(Value::Array(many)), _) => {
                (many.iter().map(|one| check(bare(one, T::ONE))).collect::<Result<Vec<_>, _>>()?, true)
            }
            (_, Some(one)) => (vec![check(one)?], false),
            _ => return Err(NeutronError::http_bad(format!("Unable to find '{}' in request body", T::ONE))),
        };
        let ids = make::<T>(&request, &bodies).await?;
        let rows = request.store.snapshot();
        let view = View::new(&rows, &request.who);
        let attrs = list::chosen(&request, T::ATTRS);
        let items = ids.iter().map(|id| Ok(one(&view, found(rows.get::<T>(id), id)?, &attrs)));
        let items = items.collect::<Result<Vec<_>, NeutronError>>()?;
        match (bulk, items.as_slice()) {
            (false, [item]) => Ok(Reply::json(201, &Named(T::ONE, item))),
            _ => Ok(Reply::json(201, &Named(T::MANY, items))),
        }
    })
    .await
}

/// Makes resources, each of a project, in one commit; their ids.
pub async fn make<T: NeutronResource>(
    request: &Request,
    bodies: &[(String, Attributes)],
) -> Result<Vec<String>, NeutronError> {
    let one = |plan: &mut Plan, (project, body): &(String, Attributes)| {
        let value = T::create(plan, request, project.clone(), body)?;
        let id = value.name();
        plan.put(value);
        Ok(id)
    };
    request.commit(|plan| bodies.iter().map(|body| one(plan, body)).collect()).await
}

/// One of many, which clients of old put under its name.
fn bare<'a>(one: &'a Value, name: &str) -> &'a Value {
    one.as_object().filter(|object| object.len() == 1).and_then(|object| object.get(name)).unwrap_or(one)
}

/// `PUT /networks/{id}`
pub async fn update<T: NeutronResource>(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, true).await?;
        let id = request.param("id").to_owned();
        let given = request.body.get(T::ONE).unwrap_or(&Value::Null);
        let body = Attributes::put(T::ATTRS, T::ONE, given, request.who.is_admin())?;
        change::<T>(&request, &id, &body).await?;
        shown::<T>(&request, &id)
    })
    .await
}

/// Changes a resource.
pub async fn change<T: NeutronResource>(request: &Request, id: &str, body: &Attributes) -> Result<(), NeutronError> {
    let which = |plan: &Plan| Ok(T::withdrawn(plan, &changeable::<T>(plan, request, id, "update")?, body));
    let write = |plan: &mut Plan| {
        let mut value = body.fill(changeable::<T>(plan, request, id, "update")?);
        T::update(plan, request, &mut value, body)?;
        *value.updated_mut() = request.now;
        plan.put(value);
        Ok(())
    };
    sharing::withdraw(request, which, write).await
}

/// `DELETE /networks/{id}`
pub async fn delete<T: NeutronResource>(call: Call) -> Result<Reply, Fault> {
    answer(async {
        let request = Request::read(call, false).await?;
        remove::<T>(&request, request.param("id")).await?;
        Ok(Reply::empty(204))
    })
    .await
}

/// Removes a resource.
pub async fn remove<T: NeutronResource>(request: &Request, id: &str) -> Result<(), NeutronError> {
    let which = |plan: &Plan| Ok(T::withdrawn_with(&changeable::<T>(plan, request, id, "delete")?));
    let write = |plan: &mut Plan| {
        let value = changeable::<T>(plan, request, id, "delete")?;
        let key = value.key();
        T::delete(plan, request, value)?;
        sharing::remove_about(plan, &key);
        plan.remove(&key);
        Ok(())
    };
    sharing::withdraw(request, which, write).await
}

/// A resource after a change.
pub fn shown<T: NeutronResource>(request: &Request, id: &str) -> Result<Reply, NeutronError> {
    let rows = request.store.snapshot();
    let view = View::new(&rows, &request.who);
    let attrs = list::visible(T::ATTRS, request.who.is_admin());
    Ok(Reply::ok(Named(T::ONE, one(&view, found(rows.get::<T>(id), id)?, &attrs))))
}

/// A copy of the row if the caller may change it and it is at the revision that the caller asks for.
pub fn changeable<T: NeutronResource>(plan: &Plan, request: &Request, id: &str, verb: &str) -> Result<T, NeutronError> {
    let view = View::new(&plan.rows, &request.who);
    let entry = found(get::<T>(&view, id).ok().filter(|entry| T::below(request, entry.value)), id)?;
    let may = if verb == "delete" { T::deletes(&view, entry.value) } else { T::changes(&view, entry.value) };
    if !may {
        return Err(NeutronError::policy(&format!("rule:{verb}_{}", T::ONE)));
    }
    if let Some(asked) = asked_revision(request)?
        && asked != entry.row.modified
    {
        return Err(NeutronError::precondition(format!(
            "Constrained to {asked}, but current revision is {}",
            entry.row.modified
        )));
    }
    Ok(entry.value.clone())
}

/// `If-Match: revision_number=7`
fn asked_revision(request: &Request) -> Result<Option<u64>, NeutronError> {
    let Some(header) = request.headers.get(http::header::IF_MATCH) else { return Ok(None) };
    let text = header.to_str().unwrap_or("").trim().trim_matches('"');
    let number = text.strip_prefix("revision_number=").and_then(|n| n.parse().ok());
    number
        .map(Some)
        .ok_or_else(|| NeutronError::http_bad("Revision number etag must be in the format of revision_number=<int>"))
}

/// Turns the error of a handler into its reply.
pub async fn answer(handler: impl Future<Output = Result<Reply, NeutronError>> + Send) -> Result<Reply, Fault> {
    match handler.await {
        Ok(reply) => Ok(reply),
        Err(error) => error.reply(),
    }
}

/// A row to which another one refers, if the caller may know of it.
pub fn referred<T: NeutronResource>(plan: &mut Plan, request: &Request, id: &Ref<T>) -> Result<T, NeutronError> {
    let view = View::new(&plan.rows, &request.who);
    let value = view
        .refer_if(id, |value| T::sees(&view, value) && !T::is_gone(&view, value))
        .map_err(|_| refers_to_nothing(id))?
        .value
        .clone();
    // Access that is taken back meanwhile was never used.
    if !(request.who.is_admin() || view.owns(&value)) {
        let given: Vec<String> = view.policies(&value).map(|policy| policy.id.clone()).collect();
        given.iter().for_each(|id| plan.hold::<RbacPolicy>(id));
    }
    Ok(value)
}

/// The same for a row that the caller may change; of others' nothing is said.
pub fn referred_own<T: NeutronResource>(plan: &mut Plan, request: &Request, id: &Ref<T>) -> Result<T, NeutronError> {
    let value: T = referred(plan, request, id)?;
    match T::changes(&View::new(&plan.rows, &request.who), &value) {
        true => Ok(value),
        false => Err(refers_to_nothing(id)),
    }
}
