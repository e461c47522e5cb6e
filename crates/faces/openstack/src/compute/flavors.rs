//! Flavors, their extra specs and who may use them.

use std::cmp::Ordering;

use gate::View;
use model::{Change, Entry, Fault, Flavor, Kind};
use serde_json::{Value, json};

use super::body::{self, Fields, bad};
use super::fault::missing;
use super::schema::{self, Is, Property, Schema, property};
use super::wire::{bookmark, links, list, page};
use crate::attrs::{Answers, Attr, Check, Filter, Shown, Test, attr};
use crate::call::{Call, Reply};
use crate::json::Json;
use crate::lists::{self, Filters};

const DETAILED: Answers = Answers::DETAILED;

/// Nova's largest integers in the database.
const MOST: i64 = 0x7fff_ffff;

/// The caller may use the flavor.
pub fn usable(view: &View<'_>, flavor: &Flavor) -> bool {
    view.sees(flavor) || view.who.project_id().is_some_and(|id| flavor.access.iter().any(|project| project == id))
}

/// The flavor with this id, if the caller may use it.
pub fn find<'a>(view: &View<'a>, id: &str) -> Result<Entry<'a, Flavor>, Fault> {
    let found = view.snapshot.get::<Flavor>(id).filter(|flavor| usable(view, flavor));
    found.ok_or_else(|| missing(format!("Flavor {id} could not be found.")))
}

/// A flavor inside a server since 2.47.
pub fn embedded(flavor: &Flavor) -> Json<'_> {
    Json::object([
        ("disk", flavor.disk.into()),
        ("ephemeral", flavor.ephemeral.into()),
        ("extra_specs", (&flavor.extra_specs).into()),
        ("original_name", (&flavor.name).into()),
        ("ram", flavor.ram.into()),
        ("swap", flavor.swap.into()),
        ("vcpus", flavor.vcpus.into()),
    ])
}

/// What nothing is sorted by, though a key says so.
fn same(_: &&Flavor, _: &&Flavor) -> Ordering {
    Ordering::Equal
}

impl Shown for Flavor {
    type Of<'a> = &'a Flavor;
    const ONE: &'static str = "flavor";
    const ATTRS: &'static [Attr<Self>] = &[
        attr::<Self>("id", |_, flavor| (&flavor.id).into()).sorts(&["flavorid", "id"], |a, b| a.id.cmp(&b.id)),
        attr::<Self>("name", |_, flavor| (&flavor.name).into())
            .filtered(&[Filter::<Self>::by(&["name"], Test::Equal(|flavor| Some(&flavor.name))).since(2, 102)])
            .sorts(&["name"], |a, b| a.name.cmp(&b.name)),
        attr::<Self>("links", |call, flavor| links(&call.url(""), &format!("/flavors/{}", flavor.id))),
        attr::<Self>("description", |_, flavor| (&flavor.description).into())
            .since(2, 55)
            .sorts(&["description"], |a, b| a.description.cmp(&b.description)),
        attr::<Self>("ram", |_, flavor| flavor.ram.into())
            .only(DETAILED)
            .filtered(&[Filter::<Self>::by(&["minRam"], Test::AtLeast(|flavor| flavor.ram))])
            .sorts(&["memory_mb"], |a, b| a.ram.cmp(&b.ram)),
        attr::<Self>("disk", |_, flavor| flavor.disk.into())
            .only(DETAILED)
            .filtered(&[Filter::<Self>::by(&["minDisk"], Test::AtLeast(|flavor| flavor.disk))])
            .sorts(&["root_gb"], |a, b| a.disk.cmp(&b.disk)),
        attr::<Self>("vcpus", |_, flavor| flavor.vcpus.into())
            .only(DETAILED)
            .sorts(&["vcpus"], |a, b| a.vcpus.cmp(&b.vcpus)),
        attr::<Self>("swap", |call, flavor| match flavor.swap {
            0 if call.version < (2, 75) => "".into(),
            swap => swap.into(),
        })
        .only(DETAILED)
        .sorts(&["swap"], |a, b| a.swap.cmp(&b.swap)),
        attr::<Self>("OS-FLV-EXT-DATA:ephemeral", |_, flavor| flavor.ephemeral.into())
            .only(DETAILED)
            .sorts(&["ephemeral_gb"], |a, b| a.ephemeral.cmp(&b.ephemeral)),
        attr::<Self>("os-flavor-access:is_public", |_, flavor| flavor.is_public.into())
            .only(DETAILED)
            .filtered(&[Filter::<Self>::by(
                &["is_public"],
                Test::Own("boolean or `none`; true unless given", |call| public(call)),
            )
            .admin()])
            .sorts(&["is_public"], |a, b| a.is_public.cmp(&b.is_public)),
        attr::<Self>("OS-FLV-DISABLED:disabled", |_, _| false.into())
            .only(DETAILED)
            .until(2, 101)
            .sorts(&["disabled"], same),
        attr::<Self>("rxtx_factor", |_, flavor| json!(flavor.rxtx_factor).into())
            .only(DETAILED)
            .until(2, 101)
            .sorts(&["rxtx_factor"], |a, b| a.rxtx_factor.total_cmp(&b.rxtx_factor)),
        attr::<Self>("extra_specs", |_, flavor| (&flavor.extra_specs).into()).only(DETAILED).since(2, 61),
        // Nova's database has them of flavors, and its API sorts by them.
        attr::<Self>("created_at", |_, _| Json::Null)
            .only(Answers::NONE)
            .sorts(&["created_at", "updated_at", "vcpu_weight"], same),
    ];
}

/// `GET /flavors`
pub async fn index(call: Call) -> Result<Reply, Fault> {
    listing(call, Answers::BRIEF)
}

/// `GET /flavors/detail`
pub async fn index_detail(call: Call) -> Result<Reply, Fault> {
    listing(call, Answers::LIST)
}

/// Which flavors an administrator is shown: public ones, unless they ask for others or for all.
fn public(call: &Call) -> Result<Option<Check<'static, Flavor>>, Fault> {
    let text = call.query("is_public").map_or("true".to_owned(), str::to_lowercase);
    let wanted = match text.as_str() {
        "none" => return Ok(None),
        "true" | "t" | "1" | "yes" | "on" => true,
        "false" | "f" | "0" | "no" | "off" => false,
        _ => return Err(Fault::Invalid(format!("Invalid is_public filter [{text}]"))),
    };
    Ok(Some(Box::new(move |flavor| flavor.is_public == wanted)))
}

fn listing(call: Call, answer: Answers) -> Result<Reply, Fault> {
    let view = call.view()?;
    let filters = Filters::<Flavor>::read(&call)?;
    let flavors = view.snapshot.all::<Flavor>().map(|entry| entry.value);
    let mut flavors: Vec<&Flavor> = flavors.filter(|flavor| usable(&view, flavor) && filters.pass(flavor)).collect();
    lists::sort::<Flavor>(&call, &mut flavors, "flavorid", false)?;
    let page = page(&call, flavors, |f| f.id.clone())?;
    let next = page.more.then(|| page.items.last().map(|f| f.id.clone())).flatten();
    let items = page.items.into_iter().map(|f| json!(Flavor::shown(&call, &f, answer))).collect();
    Ok(Reply::ok(list(&call, "flavors", items, next)))
}

/// `GET /flavors/{id}`
pub async fn show(call: Call) -> Result<Reply, Fault> {
    let view = call.view()?;
    let flavor = find(&view, call.param("id"))?;
    Ok(Reply::ok(json!({"flavor": Flavor::shown(&call, &&*flavor, Answers::ONE)})))
}

const DESCRIPTION: Property<Flavor> = property::<Flavor>("description", Is::Text(65535))
    .since(2, 55)
    .nullable()
    .put(|flavor, value| flavor.description = schema::text_or_none(value));

/// What `POST /flavors` says.
pub const NEW: Schema<Flavor> = Schema {
    name: "flavor",
    properties: &[
        property::<Flavor>("name", Is::Name).required().put(|flavor, value| flavor.name = schema::text(value)),
        property("id", Is::Own(flavor_id)),
        property::<Flavor>("ram", Is::Int(1, MOST)).required().put(|flavor, value| flavor.ram = schema::count(value)),
        property::<Flavor>("vcpus", Is::Int(1, MOST))
            .required()
            .put(|flavor, value| flavor.vcpus = schema::count(value)),
        property::<Flavor>("disk", Is::Int(0, MOST)).required().put(|flavor, value| flavor.disk = schema::count(value)),
        property::<Flavor>("swap", Is::Int(0, MOST)).put(|flavor, value| flavor.swap = schema::count(value)),
        property::<Flavor>("OS-FLV-EXT-DATA:ephemeral", Is::Int(0, MOST))
            .put(|flavor, value| flavor.ephemeral = schema::count(value)),
        property::<Flavor>("os-flavor-access:is_public", Is::Flag)
            .put(|flavor, value| flavor.is_public = value == true),
        property::<Flavor>("rxtx_factor", Is::Own(rxtx_factor))
            .until(2, 101)
            .put(|flavor, value| flavor.rxtx_factor = value.as_f64().unwrap_or(1.0)),
        DESCRIPTION,
    ],
};

/// What `PUT /flavors/{id}` says.
pub const CHANGE: Schema<Flavor> = Schema { name: "flavor", properties: &[DESCRIPTION.required()] };

const TENANT: &[Property] = &[property("tenant", Is::Text(255)).required().refers_to(&[(Kind::Project, r#""$""#)])];
pub const GRANT: Schema = Schema { name: "addTenantAccess", properties: TENANT };
pub const REVOKE: Schema = Schema { name: "removeTenantAccess", properties: TENANT };

/// `POST /flavors`
pub async fn create(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    let given = NEW.read(call.version, &body)?;
    let id = given.text("id").map_or_else(new_id, str::to_owned);
    let mut flavor = Flavor::new(id, "", 0, 0, 0);
    given.put(&mut flavor);
    let made = call
        .cloud
        .store
        .transact(|snapshot| {
            if snapshot.get::<Flavor>(&flavor.id).is_some() {
                return Err(Fault::Conflict(format!("Flavor with ID {} already exists.", flavor.id)));
            }
            if snapshot.all::<Flavor>().any(|f| f.name == flavor.name) {
                return Err(Fault::Conflict(format!("Flavor with name {} already exists.", flavor.name)));
            }
            Ok((Change::from(flavor.clone()), flavor.clone()))
        })
        .await?;
    Ok(Reply::ok(json!({"flavor": Flavor::shown(&call, &&made, Answers::ONE)})))
}

/// Nova's factor of bandwidth, which none of its drivers heeds any more: it is kept and shown. From 0 to the largest
/// number that its database holds.
fn rxtx_factor(_: (u16, u16), name: &str, value: &Value) -> Result<Value, Fault> {
    const MOST: f64 = 3.402_823_466_385_288_6e38;
    let number = value.as_f64().or_else(|| value.as_str()?.parse().ok());
    let fine = number.filter(|number| *number > 0.0 && *number <= MOST);
    fine.map(Value::from).ok_or_else(|| bad(name, value, "It is not a number above 0 and at most 3.40282e+38"))
}

fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn flavor_id(_: (u16, u16), name: &str, value: &Value) -> Result<Value, Fault> {
    let text = match value {
        Value::Number(n) => n.to_string(),
        Value::String(text) if text == "auto" => new_id(),
        Value::String(text) => text.clone(),
        _ => return Err(bad(name, value, "It is not of type 'string', 'number', 'null'")),
    };
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_. ".contains(c);
    if text.is_empty() || text.len() > 255 || text.trim() != text || !text.chars().all(fine) {
        return Err(bad(name, value, "Flavor ids are 1 to 255 letters, digits, spaces, '-', '_' and '.'"));
    }
    Ok(text.into())
}

/// Changes the flavor of the path in one transaction.
async fn edit(call: &Call, edit: impl Fn(&mut Flavor) -> Result<(), Fault>) -> Result<Flavor, Fault> {
    let who = call.who()?;
    let id = call.param("id");
    call.cloud
        .store
        .transact(|snapshot| {
            let entry = find(&View::new(snapshot, who), id)?;
            let mut flavor = entry.value.clone();
            edit(&mut flavor)?;
            let mut change = Change::new();
            if flavor != *entry.value {
                change.update(entry, flavor.clone());
            }
            Ok((change, flavor))
        })
        .await
}

/// `PUT /flavors/{id}` since 2.55
pub async fn update(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    let given = CHANGE.read(call.version, &body)?;
    let flavor = edit(&call, |flavor| {
        given.put(flavor);
        Ok(())
    })
    .await?;
    Ok(Reply::ok(json!({"flavor": Flavor::shown(&call, &&flavor, Answers::ONE)})))
}

/// `DELETE /flavors/{id}`
pub async fn delete(call: Call) -> Result<Reply, Fault> {
    let (who, id) = (call.who()?, call.param("id"));
    let gone = |snapshot: &model::Snapshot| {
        let mut change = Change::new();
        change.delete(find(&View::new(snapshot, who), id)?);
        Ok((change, ()))
    };
    call.cloud.store.transact(gone).await?;
    Ok(Reply::empty(202))
}

// Extra specs

/// `GET /flavors/{id}/os-extra_specs`
pub async fn specs(call: Call) -> Result<Reply, Fault> {
    let view = call.view()?;
    let flavor = find(&view, call.param("id"))?;
    Ok(Reply::ok(json!({"extra_specs": flavor.extra_specs})))
}

/// `GET /flavors/{id}/os-extra_specs/{key}`
pub async fn spec(call: Call) -> Result<Reply, Fault> {
    let view = call.view()?;
    let (id, key) = (call.param("id"), call.param("key"));
    let flavor = find(&view, id)?;
    let value = flavor.extra_specs.get(key).ok_or_else(|| no_spec(id, key))?;
    Ok(Reply::ok(json!({key: value})))
}

fn no_spec(id: &str, key: &str) -> Fault {
    missing(format!("Flavor {id} has no extra specs with key {key}."))
}

/// Extra specs as a body gives them; values may be numbers.
fn spec_texts(value: &Value) -> Result<Vec<(String, String)>, Fault> {
    let mut value = value.clone();
    for text in value.as_object_mut().into_iter().flat_map(|map| map.values_mut()) {
        if text.is_number() {
            *text = json!(text.to_string());
        }
    }
    body::texts("extra_specs", &value)
}

/// `POST /flavors/{id}/os-extra_specs`
pub async fn create_specs(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    let fields = Fields::new("body", &body)?;
    fields.only(&["extra_specs"])?;
    let specs = spec_texts(fields.required("extra_specs")?)?;
    edit(&call, |flavor| {
        flavor.extra_specs.extend(specs.iter().cloned());
        Ok(())
    })
    .await?;
    Ok(Reply::ok(json!({"extra_specs": specs.into_iter().collect::<std::collections::BTreeMap<_, _>>()})))
}

/// `PUT /flavors/{id}/os-extra_specs/{key}`
pub async fn update_spec(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    let specs = spec_texts(&body)?;
    let [(key, value)] = specs.as_slice() else {
        return Err(Fault::Invalid("Request body contains too many items".into()));
    };
    if key != call.param("key") {
        return Err(Fault::Invalid("Request body and URI mismatch".into()));
    }
    edit(&call, |flavor| {
        flavor.extra_specs.insert(key.clone(), value.clone());
        Ok(())
    })
    .await?;
    Ok(Reply::ok(json!({key: value})))
}

/// `DELETE /flavors/{id}/os-extra_specs/{key}`
pub async fn delete_spec(call: Call) -> Result<Reply, Fault> {
    let (id, key) = (call.param("id"), call.param("key"));
    edit(&call, |flavor| flavor.extra_specs.remove(key).map(drop).ok_or_else(|| no_spec(id, key))).await?;
    Ok(Reply::empty(200))
}

// Access

fn access_view(flavor: &Flavor) -> Reply {
    let list: Vec<Value> =
        flavor.access.iter().map(|project| json!({"flavor_id": flavor.id, "tenant_id": project})).collect();
    Reply::ok(json!({"flavor_access": list}))
}

/// `GET /flavors/{id}/os-flavor-access`
pub async fn access(call: Call) -> Result<Reply, Fault> {
    let view = call.view()?;
    let flavor = find(&view, call.param("id"))?;
    if flavor.is_public {
        return Err(missing("Access list not available for public flavors."));
    }
    Ok(access_view(&flavor))
}

/// `POST /flavors/{id}/action`
pub async fn action(mut call: Call) -> Result<Reply, Fault> {
    let body = call.json().await?;
    let (schema, grant) = match body.as_object().and_then(|map| map.keys().next()).map(String::as_str) {
        Some("addTenantAccess") => (&GRANT, true),
        Some("removeTenantAccess") => (&REVOKE, false),
        other => return Err(Fault::Invalid(format!("There is no such action: {}", other.unwrap_or("")))),
    };
    let tenant = schema.read(call.version, &body)?.text("tenant").unwrap_or("").to_owned();
    if grant && call.snapshot.get::<model::Project>(&tenant).is_none() {
        return Err(Fault::Invalid(format!("Project ID {tenant} is not a valid project.")));
    }
    let flavor = edit(&call, |flavor| {
        let at = flavor.access.iter().position(|project| *project == tenant);
        match (grant, at) {
            (true, _) if flavor.is_public => Err(Fault::Conflict("Can not add access to a public flavor.".into())),
            (true, Some(_)) => Err(Fault::Conflict(format!(
                "Flavor access already exists for flavor {} and project {tenant} combination.",
                flavor.id
            ))),
            (true, None) => {
                flavor.access.push(tenant.clone());
                Ok(())
            }
            (false, Some(at)) => {
                flavor.access.remove(at);
                Ok(())
            }
            (false, None) => Err(missing(format!("Flavor access not found for {} / {tenant} combination.", flavor.id))),
        }
    })
    .await?;
    Ok(access_view(&flavor))
}

/// The flavor of a server before 2.47.
pub fn reference<'a>(base: &str, flavor: &'a Flavor) -> Json<'a> {
    let links = Json::List(vec![bookmark(base, &format!("/flavors/{}", flavor.id))]);
    Json::object([("id", (&flavor.id).into()), ("links", links)])
}
